package restapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Target is an API of another room in AWS's protocol awsJson1.1: every operation is a
// POST to / and is named in the header X-Amz-Target. Signatures, rates, the audit log
// and the bounds on requests are those of this package's own APIs.
type Target struct {
	// Prefix is what the header has in front of a dot and the operation's name.
	Prefix string
	// Service is the service that signatures must be scoped to.
	Service string
	// Source is what the audit log calls the API.
	Source string
	// ReadOnly reports whether an operation changes nothing. ok is false if there is none
	// of that name.
	ReadOnly func(operation string) (readOnly, ok bool)
	// Call does an operation and returns its answer, and the ARN of what it was about, ""
	// if that is not known. What it refuses has a *mesh.Error among what it wraps.
	Call func(ctx context.Context, c store.Caller, operation string, body []byte) (out any, arn string, err error)
	// Refusal puts an error into the API's own words: of it refusal was found, or made up.
	// members are what the body has beside the code and the message.
	Refusal func(operation string, err error, refusal *mesh.Error) (status int, code mesh.Code, members map[string]string)
}

// targetHeader names the operation of a Target.
const targetHeader = "X-Amz-Target"

const (
	jsonType   = "application/json"
	targetType = "application/x-amz-json-1.1"
)

// matchTarget returns the target that a request is for, nil for none, and the route of
// its operation, nil if there is none of that name.
func (h *handler) matchTarget(r *http.Request, path string) (*Target, *route) {
	if path != "/" || r.Method != http.MethodPost {
		return nil, nil
	}
	prefix, operation, _ := strings.Cut(r.Header.Get(targetHeader), ".")
	for i := range h.targets {
		t := &h.targets[i]
		if t.Prefix != prefix {
			continue
		}
		if read, ok := t.ReadOnly(operation); ok {
			return t, &route{target: t, operation: operation, read: read}
		}
		return t, nil
	}
	return nil, nil
}

// serveTarget does what a request of a target asks for.
func (h *handler) serveTarget(ctx context.Context, x *exchange, body []byte) (any, error) {
	x.parameters = body
	out, arn, err := x.target.Call(ctx, x.caller.Caller, x.route.operation, body)
	x.resource = arn
	return out, err
}

// inWordsOf turns a refusal into a target's own, and returns its status and body too.
func (t *Target) inWordsOf(x *exchange, err error, refusal *mesh.Error) (own *mesh.Error, status int, body any) {
	status, code, members := t.Refusal(x.operation(), err, refusal)
	fields := map[string]string{"__type": string(code), "Message": refusal.Message}
	for name, value := range members {
		fields[name] = value
	}
	return &mesh.Error{Code: code, Message: refusal.Message}, status, fields
}
