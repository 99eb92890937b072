package restapi

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
)

// The API of AWS's STS, as far as there are operations of /v1 that do the same: AWS's
// clients fetch and renew credentials by it without a line of code. It is AWS's query
// protocol: every operation is a POST to / of a form, named in the form, and answered in
// XML. Nothing but that form is here: what a form says becomes the input of the operation
// of /v1, and that operation's output becomes XML.

const (
	stsVersion   = "2011-06-15"
	stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"
	// stsService is the service that signatures must be scoped to.
	stsService = "sts"

	formType = "application/x-www-form-urlencoded"
	xmlType  = "text/xml"
)

// stsOperation is an operation of the query API.
type stsOperation struct {
	// own is the operation of /v1 that does it.
	own string
	// members are those of own's input, by the names of parameters.
	members map[string]string
	// required are parameters that own's input can do without, and AWS's cannot.
	required []string
}

var stsOperations = map[string]stsOperation{
	"AssumeRole": {
		own:     "AssumeRole",
		members: map[string]string{"RoleArn": "roleArn", "RoleSessionName": "sessionName", "DurationSeconds": "durationSeconds", "Policy": "policy"},
	},
	"AssumeRoleWithWebIdentity": {
		own: "AssumeRoleWithWebIdentity",
		members: map[string]string{
			"RoleArn": "roleArn", "RoleSessionName": "sessionName", "DurationSeconds": "durationSeconds", "Policy": "policy",
			"WebIdentityToken": "webIdentityToken",
		},
		required: []string{"RoleSessionName"},
	},
	"GetCallerIdentity": {own: "GetCallerIdentity"},
	"GetSessionToken":   {own: "CreateSession", members: map[string]string{"DurationSeconds": "durationSeconds"}},
}

// isSTS reports whether a request is one of the query API.
func isSTS(r *http.Request, path string) bool {
	if path != "/" || r.Method != http.MethodPost || r.Header.Get(targetHeader) != "" {
		return false
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == formType
}

// newSTSRoutes returns the routes of the query API's operations, by their names.
func newSTSRoutes() map[string]*route {
	routes := map[string]*route{}
	for name, op := range stsOperations {
		i := slices.IndexFunc(v1.Operations, func(o v1.Operation) bool { return o.Name == op.own })
		routes[name] = &route{own: &v1.Operations[i], sts: &op, operation: name}
	}
	return routes
}

// matchSTS reads the form that a body is and returns its operation's route.
func (h *handler) matchSTS(body []byte) (url.Values, *route, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, nil, mesh.Errorf(mesh.ErrBadRequest, "the body cannot be read as a form: allowed are percent-encoded NAME=VALUE pairs with & between them")
	}
	for _, name := range slices.Sorted(maps.Keys(form)) {
		if n := len(form[name]); n > 1 {
			return nil, nil, mesh.Errorf(mesh.ErrBadRequest, "%s must be given once, %d were given", v1.Clip(name), n)
		}
	}
	rt := h.sts[form.Get("Action")]
	if rt == nil || form.Get("Version") != stsVersion {
		return nil, nil, mesh.Errorf(mesh.ErrUnknownOperation, "Could not find operation %s for version %s: allowed are %s for version %s",
			v1.Clip(form.Get("Action")), v1.Clip(form.Get("Version")), strings.Join(slices.Sorted(maps.Keys(stsOperations)), ", "), stsVersion)
	}
	return form, rt, nil
}

// input turns a form into the body of a request of /v1. A parameter without a value is
// as good as absent.
func (o *stsOperation) input(action string, form url.Values) ([]byte, error) {
	body := map[string]json.RawMessage{}
	for _, name := range slices.Sorted(maps.Keys(form)) {
		value := form.Get(name)
		if name == "Action" || name == "Version" || value == "" {
			continue
		}
		// What is not known may be a restriction, so it cannot be passed over.
		member, ok := o.members[name]
		switch {
		case !ok:
			return nil, mesh.Errorf(mesh.ErrBadRequest, "%s is not a parameter of %s here%s", v1.Clip(name), action, o.allowed())
		case name == "Policy" && !json.Valid([]byte(value)):
			return nil, fmt.Errorf("%w: %w", mesh.Errorf(mesh.ErrBadRequest, "Policy is not valid JSON"), access.ErrSessionPolicy)
		case name == "Policy":
			body[member] = json.RawMessage(value)
		case name == "DurationSeconds" && isWhole(value):
			body[member] = json.RawMessage(value)
		default:
			text, err := encode(value)
			if err != nil {
				return nil, err
			}
			body[member] = text
		}
	}
	for _, name := range o.required {
		if form.Get(name) == "" {
			return nil, mesh.Errorf(mesh.ErrBadRequest, "%s is required", name)
		}
	}
	if len(o.members) == 0 {
		return nil, nil
	}
	return encode(body)
}

// isWhole reports whether a value is a whole number as JSON writes it.
func isWhole(s string) bool {
	_, err := strconv.ParseInt(s, 10, 64)
	return err == nil && json.Valid([]byte(s))
}

func (o *stsOperation) allowed() string {
	if len(o.members) == 0 {
		return ", it has none"
	}
	return ", allowed are " + strings.Join(slices.Sorted(maps.Keys(o.members)), ", ")
}

// named puts the names of parameters in place of those of /v1's members.
func (o *stsOperation) named(bad mesh.Violations) mesh.Violations {
	out := slices.Clone(bad)
	for i := range out {
		for name, member := range o.members {
			if out[i].Path == member {
				out[i].Path = name
			}
		}
	}
	return out
}

// stsAnswer is the body of an answer. The elements are called after the operation.
type stsAnswer struct {
	XMLName   xml.Name
	Namespace string `xml:"xmlns,attr"`
	Result    any
	RequestID string `xml:"ResponseMetadata>RequestId"`
}

// stsCredentials is the result of the operations that give credentials.
type stsCredentials struct {
	XMLName     xml.Name
	Subject     string `xml:"SubjectFromWebIdentityToken,omitempty"`
	Audience    string `xml:",omitempty"`
	Provider    string `xml:",omitempty"`
	AssumedRole *stsAssumedRole
	Credentials struct {
		AccessKeyID     string `xml:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      string
	}
}

type stsAssumedRole struct {
	XMLName xml.Name `xml:"AssumedRoleUser"`
	ID      string   `xml:"AssumedRoleId"`
	ARN     string   `xml:"Arn"`
}

// stsIdentity is the result of GetCallerIdentity.
type stsIdentity struct {
	XMLName xml.Name
	ARN     string `xml:"Arn"`
	UserID  string `xml:"UserId"`
	Account string
}

// stsBody returns the answer of an operation as XML; out is what the operation of /v1
// answered.
func stsBody(x *exchange, out any) ([]byte, error) {
	name := xml.Name{Local: x.route.operation + "Result"}
	var result any
	switch out := out.(type) {
	case v1.GetCallerIdentityOutput:
		result = stsIdentity{XMLName: name, ARN: out.ARN, UserID: out.PrincipalID, Account: out.Account}
	case v1.AssumeRoleOutput:
		result = newSTSCredentials(x, name, out.Credentials)
	case v1.AssumeRoleWithWebIdentityOutput:
		result = newSTSCredentials(x, name, out.Credentials)
	case v1.CreateSessionOutput:
		result = newSTSCredentials(x, name, out.Credentials)
	}
	return xml.Marshal(stsAnswer{XMLName: xml.Name{Local: x.route.operation + "Response"}, Namespace: stsNamespace, Result: result, RequestID: x.id})
}

func newSTSCredentials(x *exchange, name xml.Name, c v1.Credentials) stsCredentials {
	out := stsCredentials{XMLName: name, Subject: x.voucher.Subject, Audience: x.voucher.Audience, Provider: x.voucher.Provider}
	out.Credentials.AccessKeyID, out.Credentials.SecretAccessKey, out.Credentials.SessionToken = c.AccessKeyID, c.SecretAccessKey, c.SessionToken
	out.Credentials.Expiration = time.Time(c.Expiration).UTC().Format(time.RFC3339)
	if p := x.assumed; p.ID != "" {
		out.AssumedRole = &stsAssumedRole{ID: p.ID, ARN: p.ARN}
	}
	return out
}

// stsRefusal is the body of a refusal.
type stsRefusal struct {
	XMLName   xml.Name `xml:"ErrorResponse"`
	Namespace string   `xml:"xmlns,attr"`
	Error     struct {
		Type, Code, Message string
	}
	RequestID string `xml:"RequestId"`
}

// stsCodes are the words of AWS's STS and its front door for refusals.
var stsCodes = map[mesh.Code]struct {
	code   mesh.Code
	status int
}{
	mesh.ErrBadRequest:            {"ValidationError", http.StatusBadRequest},
	mesh.ErrForbidden:             {"AccessDenied", http.StatusForbidden},
	mesh.ErrAccessDenied:          {"AccessDenied", http.StatusForbidden},
	mesh.ErrExpiredToken:          {"ExpiredToken", http.StatusForbidden},
	mesh.ErrIncompleteSignature:   {"IncompleteSignature", http.StatusBadRequest},
	mesh.ErrInvalidSignature:      {"SignatureDoesNotMatch", http.StatusForbidden},
	mesh.ErrMissingAuthentication: {"MissingAuthenticationToken", http.StatusForbidden},
	mesh.ErrUnrecognizedClient:    {"InvalidClientTokenId", http.StatusForbidden},
	mesh.ErrUnknownOperation:      {"InvalidAction", http.StatusBadRequest},
	mesh.ErrTooManyRequests:       {"Throttling", http.StatusBadRequest},
	mesh.ErrServiceUnavailable:    {"ServiceUnavailable", http.StatusServiceUnavailable},
	mesh.ErrRequestTooLarge:       {"RequestEntityTooLarge", http.StatusRequestEntityTooLarge},
}

// unprovenCodes are the same where it is not proven who asks. All have status 400 in AWS.
var unprovenCodes = map[mesh.Code]mesh.Code{
	mesh.ErrBadRequest:         "InvalidIdentityToken",
	mesh.ErrForbidden:          "InvalidIdentityToken",
	mesh.ErrExpiredToken:       mesh.ErrExpiredToken,
	mesh.ErrServiceUnavailable: "IDPCommunicationError",
}

// stsWords turns a refusal into STS's words, and returns its status and body too.
func stsWords(x *exchange, err error, refusal *mesh.Error) (own *mesh.Error, status int, body []byte) {
	to, ok := stsCodes[refusal.Code]
	if !ok {
		to.code, to.status = "InternalFailure", http.StatusInternalServerError
	}
	code, unproven := unprovenCodes[refusal.Code]
	switch {
	case errors.Is(err, access.ErrSessionPolicy):
		to.code = "MalformedPolicyDocument"
	case unproven && errors.Is(err, access.ErrNotProven):
		to.code, to.status = code, http.StatusBadRequest
	}
	out := stsRefusal{Namespace: stsNamespace, RequestID: x.id}
	out.Error.Type, out.Error.Code, out.Error.Message = "Sender", string(to.code), refusal.Message
	if to.status >= http.StatusInternalServerError {
		out.Error.Type = "Receiver"
	}
	body, err = xml.Marshal(out)
	if err != nil {
		body = nil // text and a name: this cannot be
	}
	return &mesh.Error{Code: to.code, Message: refusal.Message}, to.status, body
}
