package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// callTime bounds one call.
	callTime = 10 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes, and maxFile of a file.
	maxAnswer = 64 << 10
	maxFile   = 64 << 10
)

// Credentials are what an exchange gave.
type Credentials struct {
	Key     aws.Credentials
	ARN     string // of the session
	Expires time.Time
}

// Refusal is what the control plane answered in place of credentials.
type Refusal struct {
	Status        int
	Code, Message string
}

// Error returns code and message.
func (e *Refusal) Error() string { return e.Code + ": " + e.Message }

// exchange gets credentials for what proves who this is. What proves it is read anew each
// time.
func (s *Source) exchange(ctx context.Context) (Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*callTime)
	defer cancel()
	set := s.cfg.Settings
	in := map[string]any{"roleArn": set.RoleARN}
	if set.Session != "" {
		in["sessionName"] = set.Session
	}
	if set.Duration > 0 {
		in["durationSeconds"] = int(set.Duration / time.Second)
	}
	var certificate *tls.Certificate
	way := ""
	switch set.Kind {
	case WebIdentity:
		token, err := readFile(set.TokenFile)
		if err != nil {
			return Credentials{}, fmt.Errorf("reading the token (%s): %w", tokenVariables[0], err)
		}
		way, in["webIdentityToken"] = "webIdentity", strings.TrimSpace(string(token))
	case Certificate:
		pair, err := tls.LoadX509KeyPair(set.CertFile, set.KeyFile)
		if err != nil {
			return Credentials{}, fmt.Errorf("reading the client certificate (%s, %s): %w", certVariable, keyVariable, err)
		}
		way, certificate = "certificate", &pair
	case AWS:
		key, err := s.amazonKey(ctx)
		if err != nil {
			return Credentials{}, err
		}
		request, err := callerIdentity(ctx, key, set.Amazon, s.now())
		if err != nil {
			return Credentials{}, err
		}
		way, in["request"] = "awsIdentity", request
	default:
		return Credentials{}, fmt.Errorf("the identity %s is not exchanged", set.Kind)
	}
	return s.ask(ctx, way, in, certificate)
}

// readFile reads a small file.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", path, err)
	case len(b) > maxFile:
		return nil, fmt.Errorf("%s is longer than %d bytes", path, maxFile)
	case len(bytes.TrimSpace(b)) == 0:
		return nil, fmt.Errorf("%s is empty", path)
	}
	return b, nil
}

// ask calls the control plane, over a connection of its own: certificates and roots may
// have changed.
func (s *Source) ask(ctx context.Context, way string, in map[string]any, certificate *tls.Certificate) (Credentials, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return Credentials{}, fmt.Errorf("writing the request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.cfg.Settings.Endpoint+"/v1/assumedRoles/"+way, bytes.NewReader(body))
	if err != nil {
		return Credentials{}, fmt.Errorf("making the request (%s): %w", endpointVariable, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "fairlead-agent")
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if certificate != nil {
		// Whatever authorities the server names: it is to see this one.
		secure.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	if file := s.cfg.Settings.CAFile; file != "" {
		if secure.RootCAs, err = readRoots(file); err != nil {
			return Credentials{}, err
		}
	}
	client := newClient(secure)
	defer client.CloseIdleConnections()
	status, header, answer, err := send(client, req)
	if err != nil {
		return Credentials{}, fmt.Errorf("asking the control plane: %w", err)
	}
	if status != http.StatusOK {
		return Credentials{}, refusal(status, header, answer)
	}
	return readCredentials(answer)
}

func readRoots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading FAIRLEAD_API_CA_FILE: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading FAIRLEAD_API_CA_FILE: no PEM certificate in %s", file)
	}
	return pool, nil
}

// newClient returns a client for a few calls, without a proxy and redirects.
func newClient(secure *tls.Config) *http.Client {
	return &http.Client{
		Timeout:       callTime,
		Transport:     &http.Transport{TLSClientConfig: secure, DialContext: (&net.Dialer{Timeout: callTime / 2}).DialContext, MaxIdleConns: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// send sends a request and reads the answer.
func send(c *http.Client, req *http.Request) (status int, header http.Header, body []byte, err error) {
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, nil, err // says the method and the URL
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	return resp.StatusCode, resp.Header, body, err
}

func refusal(status int, header http.Header, body []byte) error {
	e := &Refusal{Status: status, Code: header.Get("x-amzn-ErrorType")}
	var said struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &said) == nil {
		e.Message = said.Message
	}
	if e.Code == "" {
		e.Code, e.Message = fmt.Sprintf("HTTP status %d", status), "is "+endpointVariable+" where Fairlead's API is?"
	}
	return e
}

func readCredentials(answer []byte) (Credentials, error) {
	var out struct {
		Credentials struct {
			AccessKeyID, SecretAccessKey, SessionToken string
			Expiration                                 time.Time
		}
		AssumedRoleARN string `json:"assumedRoleArn"`
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return Credentials{}, errors.New("the control plane's answer cannot be read")
	}
	c := Credentials{
		Key: aws.Credentials{
			AccessKeyID: out.Credentials.AccessKeyID, SecretAccessKey: out.Credentials.SecretAccessKey, SessionToken: out.Credentials.SessionToken,
		},
		ARN: out.AssumedRoleARN, Expires: out.Credentials.Expiration,
	}
	if !plain(c.Key) || c.Expires.IsZero() {
		return Credentials{}, errors.New("the control plane's answer has no credentials")
	}
	return c, nil
}

// plain reports whether a key is whole and can stand in a credentials file.
func plain(k aws.Credentials) bool {
	bad := func(s string) bool {
		return s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
	}
	return !bad(k.AccessKeyID) && !bad(k.SecretAccessKey) && !bad(k.SessionToken)
}
