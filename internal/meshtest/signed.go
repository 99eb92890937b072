package meshtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Signed is a light client of the API: it signs and sends requests as they are, checks
// nothing and tries nothing twice, but for a wrong clock where it is told to. It is for tests that need many calls, or such as no
// SDK would make. It may be used by several goroutines.
type Signed struct {
	// Endpoint is where the API is, for example http://127.0.0.1:9080.
	Endpoint string
	// Creds sign; with an empty AccessKeyID nothing is signed.
	Creds aws.Credentials
	// Region is what is signed for; "" is Region.
	Region string
	// FollowClock has it sign by the server's clock once the server has refused its own, as
	// AWS's SDKs do. It is set before the first call.
	FollowClock bool

	ahead  atomic.Int64 // how far the server's clock is, in nanoseconds
	client *http.Client
	signer *v4.Signer
}

// NewSigned returns a client with connections of its own, as many as calls run at once.
func NewSigned(endpoint string, creds aws.Credentials) *Signed {
	return &Signed{
		Endpoint: endpoint, Creds: creds, signer: v4.NewSigner(),
		client: &http.Client{Timeout: wait, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
}

// As returns a client of the same server with other credentials and connections.
func (s *Signed) As(creds aws.Credentials) *Signed { return NewSigned(s.Endpoint, creds) }

// Answer is what came back of a call.
type Answer struct {
	Status int
	// Code is the exception's name, "" for none.
	Code   string
	Header http.Header
	Body   string
}

// String says it in one line.
func (a Answer) String() string { return fmt.Sprintf("%d %s %s", a.Status, a.Code, a.Body) }

// Do makes a call; path is escaped and begins with a slash, and may have a query. The
// error is one of the connection.
func (s *Signed) Do(ctx context.Context, method, path, body string) (Answer, error) {
	used := s.Ahead()
	a, err := s.once(ctx, method, path, body, used)
	if err == nil && s.FollowClock && a.Code == "InvalidSignatureException" && s.follow(a.Header.Get("Date"), used) {
		return s.once(ctx, method, path, body, s.Ahead())
	}
	return a, err
}

// follow takes over the time that an answer says, and reports whether it is another one than
// the call was signed by: other calls may have taken it over meanwhile.
func (s *Signed) follow(date string, used time.Duration) bool {
	at, err := http.ParseTime(date)
	if err != nil {
		return false
	}
	ahead := time.Until(at)
	s.ahead.Store(int64(ahead))
	return (ahead - used).Abs() > time.Minute
}

// Ahead returns how far the server's clock was found to be ahead of this machine's.
func (s *Signed) Ahead() time.Duration { return time.Duration(s.ahead.Load()) }

func (s *Signed) once(ctx context.Context, method, path, body string, ahead time.Duration) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.Endpoint+path, strings.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if err := s.sign(req, body, ahead); err != nil {
		return Answer{}, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return Answer{resp.StatusCode, resp.Header.Get("x-amzn-ErrorType"), resp.Header, string(b)}, err
}

func (s *Signed) sign(req *http.Request, body string, ahead time.Duration) error {
	if s.Creds.AccessKeyID == "" {
		return nil
	}
	region := s.Region
	if region == "" {
		region = Region
	}
	sum := sha256.Sum256([]byte(body))
	return s.signer.SignHTTP(req.Context(), s.Creds, req, hex.EncodeToString(sum[:]), "appmesh", region, time.Now().Add(ahead))
}

// Close ends the client's idle connections.
func (s *Signed) Close() { s.client.CloseIdleConnections() }
