package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// firstWait and longestWait bound the waits between attempts: a random part of a
	// time that doubles.
	firstWait   = 100 * time.Millisecond
	longestWait = 5 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes, unless Config says otherwise.
	maxAnswer = 64 << 20
)

// call is one call of an operation.
type call struct {
	operation  string
	method     string
	repeatable bool // doing it twice comes to the same
	unsigned   bool // the request needs no signature
	path       string
	query      url.Values
	body       any // nil for none
	missing    []string
}

// literal appends literal segments to the path.
func (r *call) literal(segments string) { r.path += segments }

// label appends a segment to the path that stands for a member.
func (r *call) label(name, value string) {
	if value == "" {
		r.missing = append(r.missing, name)
	}
	r.path += "/" + escape(value)
}

// escape writes text as one segment of a path: everything but letters, digits, hyphen,
// dot, underscore and tilde is percent-encoded.
func escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

func (r *call) queryString(name, value string) {
	if value == "" {
		return
	}
	if r.query == nil {
		r.query = url.Values{}
	}
	r.query.Set(name, value)
}

func (r *call) queryInt(name string, value int) {
	if value != 0 {
		r.queryString(name, strconv.Itoa(value))
	}
}

func (r *call) queryTime(name string, value time.Time) {
	if !value.IsZero() {
		r.queryString(name, value.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
	}
}

// do calls an operation, as often as it takes and is allowed, and decodes the answer
// into out.
func (c *Client) do(ctx context.Context, r *call, out any) error {
	if len(r.missing) > 0 {
		return fmt.Errorf("%s: missing: %s", r.operation, strings.Join(r.missing, ", "))
	}
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return fmt.Errorf("%s: writing the request: %w", r.operation, err)
		}
	}
	for attempt := 1; ; attempt++ {
		again, err := c.attempt(ctx, r, body, out)
		if err == nil || !again || attempt >= c.attempts || ctx.Err() != nil {
			return err
		}
		if wait(ctx, attempt) != nil {
			return err
		}
	}
}

// wait waits before the next attempt, or until ctx ends.
func wait(ctx context.Context, attempt int) error {
	most := min(firstWait<<min(attempt, 16), longestWait)
	t := time.NewTimer(rand.N(most)) // spread, so that clients that failed together do not come back together
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// attempt sends a request once. again says whether it may be sent once more.
func (c *Client) attempt(ctx context.Context, r *call, body []byte, out any) (again bool, err error) {
	req, err := c.request(ctx, r, body)
	if err != nil {
		return false, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return r.repeatable || neverSent(err), fmt.Errorf("%s: %w", r.operation, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, c.maxAnswer+1))
	switch {
	case err != nil:
		return r.repeatable, fmt.Errorf("%s: reading the answer: %w", r.operation, err)
	case int64(len(answer)) > c.maxAnswer:
		return false, fmt.Errorf("%s: reading the answer: it is longer than %d bytes", r.operation, c.maxAnswer)
	case resp.StatusCode != http.StatusOK:
		return resp.StatusCode == http.StatusTooManyRequests || r.repeatable && resp.StatusCode >= http.StatusInternalServerError,
			refusal(r.operation, resp, answer)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return false, fmt.Errorf("%s: reading the answer: %w", r.operation, err)
	}
	return false, nil
}

// neverSent reports whether a request failed before a connection was made.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// request returns a request, signed if it has to be.
func (c *Client) request(ctx context.Context, r *call, body []byte) (*http.Request, error) {
	target := c.endpoint + r.path
	if len(r.query) > 0 {
		target += "?" + strings.ReplaceAll(r.query.Encode(), "+", "%20")
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s: making the request: %w", r.operation, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", c.userAgent)
	if r.unsigned {
		return req, nil
	}
	if c.credentials == nil {
		return nil, fmt.Errorf("%s: the client has no credentials to sign with", r.operation)
	}
	creds, err := c.credentials.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: getting credentials: %w", r.operation, err)
	}
	hash := sha256.Sum256(body)
	if err := c.signer.SignHTTP(ctx, creds, req, hex.EncodeToString(hash[:]), Service, c.region, time.Now()); err != nil {
		return nil, fmt.Errorf("%s: signing the request: %w", r.operation, err)
	}
	return req, nil
}

// refusal returns the error that an answer stands for.
func refusal(operation string, resp *http.Response, answer []byte) *Error {
	e := &Error{
		Operation: operation, Status: resp.StatusCode,
		Code:      resp.Header.Get("x-amzn-ErrorType"),
		RequestID: resp.Header.Get("x-amzn-RequestId"),
	}
	var body struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &body) == nil && body.Message != "" {
		e.Message = body.Message
	} else {
		e.Message = http.StatusText(resp.StatusCode)
	}
	return e
}
