package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/fairlead-mesh/fairlead/api/client"
)

// UsageError is an error in how a command was called, as opposed to one in what it did.
type UsageError struct{ Err error }

// Error returns the error's text.
func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the error.
func (e UsageError) Unwrap() error { return e.Err }

func usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// ErrDifferent says that a diff found differences, which are its output and no failure.
var ErrDifferent = errors.New("there are differences")

var errInterrupted = errors.New("interrupted")

// Refusals that commands act on.
const (
	codeNotFound = "NotFoundException"
	codeLimit    = "LimitExceededException"
)

// code returns the name of the API's refusal, "" if err is none.
func code(err error) string {
	var answer smithy.APIError
	if errors.As(err, &answer) {
		return answer.ErrorCode()
	}
	return client.CodeOf(err)
}

func isNotFound(err error) bool { return code(err) == codeNotFound }

// advice are the lines that tell what to do about a refusal of the caller as such.
var advice = map[string]string{
	"UnrecognizedClientException": "the server does not know this access key; is it another server's, inactive or deleted? see --profile and --credentials-file",
	"InvalidSignatureException":   "does the secret belong to the access key, and is --region one of the server's?",
	"ExpiredTokenException":       "ask for new temporary credentials",
}

// explain turns what a call came back with into one line for a person: the API's own words,
// or why the server could not be asked.
func (s *Session) explain(err error) error {
	if answer, ok := readAnswer(err); ok {
		return s.explainAnswer(err, answer)
	}
	var known *ConnectionError
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.Is(err, context.Canceled):
		return errInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return &ConnectionError{s.endpoint, fmt.Errorf("it took longer than %s", s.timeout)}
	}
	var netErr net.Error
	var dns *net.DNSError
	var transport *smithyhttp.RequestSendError
	if errors.As(err, &netErr) || errors.As(err, &dns) || errors.As(err, &transport) {
		return &ConnectionError{s.endpoint, root(err)}
	}
	return errors.New(oneLine(err.Error()))
}

// answer is what the server said instead of what it was asked for.
type answer struct {
	code, message, request string
	status                 int
}

// readAnswer reads a refusal of the App Mesh API or of /v1; false if err is none.
func readAnswer(err error) (answer, bool) {
	var own *client.Error
	if errors.As(err, &own) {
		return answer{own.Code, own.Message, own.RequestID, own.Status}, true
	}
	var a answer
	var api smithy.APIError
	said := errors.As(err, &api)
	if said && api.ErrorCode() != "UnknownError" {
		a.code, a.message = api.ErrorCode(), api.ErrorMessage()
	}
	var response *smithyhttp.ResponseError
	answered := errors.As(err, &response) && response.Response != nil && response.HTTPStatusCode() != 0
	if answered {
		a.status, a.request = response.HTTPStatusCode(), response.Response.Header.Get("x-amzn-RequestId")
	}
	return a, said || answered
}

func (s *Session) explainAnswer(err error, a answer) error {
	text := a.code
	if a.message != "" {
		text += ": " + oneLine(a.message)
	}
	if hint := advice[a.code]; hint != "" {
		text += " (" + hint + ")"
	}
	switch {
	case a.code == "":
		text = fmt.Sprintf("%s answers %d without saying why; is it a Fairlead server?", s.endpoint, a.status)
	case a.status >= 500 && a.request != "":
		text += " (request " + a.request + ")"
	}
	return &refusal{text: text, cause: err}
}

// refusal is the API's answer in one line; what it was made of is still there for errors.As.
type refusal struct {
	text  string
	cause error
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.cause }

// ConnectionError says that the server could not be asked.
type ConnectionError struct {
	Endpoint string
	Err      error
}

// Error says what happened and what to do about it.
func (e *ConnectionError) Error() string {
	return fmt.Sprintf("no answer from %s: %s; is the server running there? give its address by --endpoint or FAIRLEAD_ENDPOINT", e.Endpoint, oneLine(e.Err.Error()))
}

// Unwrap returns the cause.
func (e *ConnectionError) Unwrap() error { return e.Err }

// root returns the innermost error that still says something of its own.
func root(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	return err
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
