package client

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Service is the service that requests are signed for.
const Service = "appmesh"

const (
	// DefaultAttempts is how often a request is sent at most, the first time included.
	DefaultAttempts = 4
	// attemptTime bounds one attempt of a client that was given no HTTP client.
	attemptTime = 30 * time.Second
)

// Config says which server a Client calls, and as whom.
type Config struct {
	// Endpoint is the server's URL: http:// or https://, host and port, and a path if
	// something in between expects one. Required.
	Endpoint string
	// Region is the region to call in, which signatures name. Required with credentials.
	Region string
	// Credentials give the access key. They are asked again when they expire. Nil for a
	// client of the operations that need no signature: those that exchange what somebody
	// else vouches for, for credentials.
	Credentials aws.CredentialsProvider
	// HTTPClient sends the requests. Nil for one of the client's own that gives an
	// attempt 30 seconds and follows no redirects.
	HTTPClient *http.Client
	// MaxAttempts is how often a request is sent at most; 0 for DefaultAttempts.
	MaxAttempts int
	// UserAgent names the program that calls; it is sent before the client's own name.
	UserAgent string
	// MaxAnswer bounds what is read of an answer, in bytes; 0 for 64 MiB.
	MaxAnswer int64
}

// Client calls /v1. Its methods may be called from several goroutines.
type Client struct {
	endpoint    string // without a slash at its end
	region      string
	credentials aws.CredentialsProvider
	http        *http.Client
	attempts    int
	userAgent   string
	maxAnswer   int64
	signer      *v4.Signer
}

// New returns a client. It reads nothing of the environment and sends nothing.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("making client: endpoint is %q, allowed is a URL such as https://HOST:PORT", cfg.Endpoint)
	}
	if cfg.Region == "" && cfg.Credentials != nil {
		return nil, errors.New("making client: the region is missing")
	}
	c := &Client{
		endpoint:  strings.TrimSuffix(cfg.Endpoint, "/"),
		region:    cfg.Region,
		http:      cfg.HTTPClient,
		attempts:  cfg.MaxAttempts,
		userAgent: strings.TrimSpace(cfg.UserAgent + " fairlead-client/" + version()),
		maxAnswer: cmp.Or(cfg.MaxAnswer, maxAnswer),
		signer:    v4.NewSigner(),
	}
	if cfg.Credentials != nil {
		c.credentials = aws.NewCredentialsCache(cfg.Credentials)
	}
	if c.http == nil {
		c.http = &http.Client{Timeout: attemptTime, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if c.attempts <= 0 {
		c.attempts = DefaultAttempts
	}
	return c, nil
}

// version returns the version of Fairlead's module in this program.
var version = sync.OnceValue(func() string {
	const module = "github.com/fairlead-mesh/fairlead"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path == module && m.Version != "" {
			return strings.Trim(m.Version, "()")
		}
	}
	return "devel"
})

// Error is a refusal: what the server answered instead of what was asked for.
type Error struct {
	Operation string // for example "CreateUser"
	Status    int    // of HTTP
	// Code is the name of the exception: one of the constants of this package, or one
	// of AWS's for signatures that do not hold, for example "ExpiredTokenException". It
	// is "" if what answered is no Fairlead.
	Code      string
	Message   string
	RequestID string // "" if there was none
}

// Error returns all of it in one line.
func (e *Error) Error() string {
	s := e.Operation + ": "
	if e.Code != "" {
		s += e.Code + ": "
	} else {
		s += fmt.Sprintf("HTTP status %d: ", e.Status)
	}
	s += e.Message
	if e.RequestID != "" {
		s += " (request id " + e.RequestID + ")"
	}
	return s
}

// CodeOf returns the code of the refusal that an error is or wraps, "" if it is none.
func CodeOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Document is a JSON object whose members the API does not fix.
type Document = json.RawMessage

// pages goes through a list, page after page.
func pages[T any](page func(token string) ([]T, string, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for token := ""; ; {
			list, next, err := page(token)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, one := range list {
				if !yield(one, nil) {
					return
				}
			}
			if token = next; token == "" {
				return
			}
		}
	}
}
