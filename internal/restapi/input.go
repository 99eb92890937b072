package restapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	v1 "github.com/fairlead-mesh/fairlead/internal/restapi/v1"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// defaultLimit is how many results a page has at most if the caller does not say.
const defaultLimit = 100

// tokenPattern is what a client token may look like.
var tokenPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,36}$`)

// input is a request, decoded and checked. Which fields are set depends on the
// operation.
type input struct {
	op *Operation
	// id is the object that is meant. Of a list, it is what the listed objects
	// have in common: its name is empty.
	id mesh.ID
	// resourceOwner is the account that id's ARN names, where an ARN was sent.
	resourceOwner string

	spec    any             // typed
	stored  json.RawMessage // as it is to be stored
	tags    []mesh.TagRef
	tagKeys []string
	token   string // the client token
	limit   int
	next    string // the page token

	// The request as it was sent, for the audit log.
	route  *route
	labels *params
	query  url.Values
	body   map[string]json.RawMessage
}

// decode reads what an operation's members are from a request, and checks them.
// All that is wrong is said in one *mesh.Error with ErrBadRequest: first what the
// service model forbids, then what other rules do. The input is returned then too: it
// holds what could be read, for the audit log.
func decode(rt *route, labels *params, rawQuery string, body []byte, caller store.Caller) (*input, error) {
	d := decoder{
		input:  input{op: rt.op, limit: rt.op.defaultLimit(), route: rt, labels: labels},
		caller: caller,
	}
	d.id.Kind = rt.op.Kind
	d.id.Mesh = mesh.MeshID{Account: caller.Account, Region: caller.Region}
	d.readQuery(rawQuery)
	d.readBody(body)
	for _, m := range rt.op.Members {
		if m.Role != RoleSpec {
			d.member(m)
		}
	}
	if m, ok := rt.op.member(RoleSpec); ok {
		d.member(m) // last, since it is checked by more than the model
	}
	if d.id.Kind == mesh.KindMesh && d.id.Mesh.Name == "" {
		d.id.Mesh.Name = d.id.Name
	}
	if len(d.bad) > 0 {
		return &d.input, mesh.Errorf(mesh.ErrBadRequest, "%s", d.bad.Error())
	}
	return &d.input, nil
}

// defaultLimit returns the length of a page of the operation, if it has pages.
func (o *Operation) defaultLimit() int {
	m, ok := o.member(RoleLimit)
	if !ok {
		return 0
	}
	return min(defaultLimit, m.Max)
}

// decoder fills an input and collects what is wrong with the request.
type decoder struct {
	input
	bad    mesh.Violations
	caller store.Caller
	noBody bool // there was none, and that has been said
}

func (d *decoder) fail(path, format string, args ...any) {
	d.bad = append(d.bad, mesh.Violation{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (d *decoder) readQuery(raw string) {
	if raw == "" {
		return
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		d.fail("query string", "cannot be read, allowed are percent-encoded NAME=VALUE pairs with & between them")
	}
	d.query = query
	if !d.op.Kind.Own() {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !slices.ContainsFunc(d.op.Members, func(m Member) bool { return m.In == InQuery && m.Name == name }) {
			d.fail(shorten(name), "is not a parameter of %s", d.op.Name)
		}
	}
}

// failRule is fail for what the service model does not forbid.
func (d *decoder) failRule(path, format string, args ...any) {
	d.bad = append(d.bad, mesh.Violation{Path: path, Message: fmt.Sprintf(format, args...), Rule: true})
}

// readBody splits the body into its members, if the operation has any there.
func (d *decoder) readBody(body []byte) {
	var members, required []string
	for _, m := range d.op.Members {
		if m.In == InBody {
			members = append(members, m.Name)
			if m.Required {
				required = append(required, m.Name)
			}
		}
	}
	switch {
	case len(members) == 0 || len(body) == 0 && len(required) == 0:
	case len(body) == 0:
		d.noBody = true
		d.fail("request body", "is required: a JSON object with %s", strings.Join(required, ", "))
	case !utf8.Valid(body):
		d.noBody = true
		d.fail("request body", "must be JSON in UTF-8, it has bytes that are not")
	default:
		d.parseBody(body)
		d.strangers(members)
	}
}

// strangers refuses members of the body that there are not, in requests about Fairlead's own
// kinds. App Mesh passes over them.
func (d *decoder) strangers(members []string) {
	if !d.op.Kind.Own() {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(d.body)) {
		if !slices.Contains(members, name) {
			d.fail(shorten(name), "is not a member of %s's body, allowed are %s", d.op.Name, strings.Join(members, ", "))
		}
	}
}

func (d *decoder) parseBody(body []byte) {
	err := json.Unmarshal(body, &d.body)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		d.noBody = true
		d.fail("request body", "is not valid JSON: %v (at byte %d)", syntax, syntax.Offset)
	case err != nil || d.body == nil:
		d.noBody = true
		d.fail("request body", "must be a JSON object")
	}
}

// member reads and checks one member.
func (d *decoder) member(m Member) {
	switch m.In {
	case InPath:
		d.text(m, d.route.value(d.labels, m.Name))
	case InQuery:
		d.queryMember(m)
	case InBody:
		raw := d.body[m.Name]
		given := len(raw) > 0 && string(raw) != "null"
		switch {
		case given:
			d.bodyMember(m, raw)
		case m.Required && !d.noBody:
			d.fail(m.Name, "is required")
		case m.Role == RoleSpec && !m.Required:
			d.readSpec(m, []byte(`{}`))
		}
	}
}

func (d *decoder) queryMember(m Member) {
	switch values := d.query[m.Name]; {
	case len(values) > 1:
		d.fail(m.Name, "must be given once, %d were given", len(values))
	case len(values) == 1:
		d.text(m, values[0])
	case m.Required:
		d.fail(m.Name, "is required")
	}
}

func (d *decoder) bodyMember(m Member, raw json.RawMessage) {
	switch m.Role {
	case RoleSpec:
		d.readSpec(m, raw)
	case RoleTags:
		d.readTags(m, raw)
	case RoleTagKeys:
		d.readTagKeys(m, raw)
	default:
		s, ok := parseText(raw)
		if !ok {
			d.fail(m.Name, "must be a string, %s was given", describe(raw))
			return
		}
		d.text(m, s)
	}
}

// parseText reads a JSON value that is a string. Most need no reading.
func parseText(raw json.RawMessage) (s string, ok bool) {
	if raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// text checks a member that is text and puts it where its role says.
func (d *decoder) text(m Member, s string) {
	switch m.Role {
	case RoleName:
		d.checkName(m, d.op.Kind, s)
		d.id.Name = s
	case RoleParent:
		d.checkName(m, d.op.Kind.Parent(), s)
		d.id.Parent = s
	case RoleMesh:
		d.checkName(m, mesh.KindMesh, s)
		d.id.Mesh.Name = s
	case RoleMeshOwner:
		if !mesh.ValidAccount(s) {
			d.failText(m, s, "must be twelve digits, %s was given", shorten(s))
		}
		d.id.Mesh.Account = s
	case RoleClientToken:
		if !tokenPattern.MatchString(s) {
			d.failText(m, s, "must be 1 to 36 letters, digits, hyphens and underscores, %s was given", shorten(s))
		}
		d.token = s
	case RoleLimit:
		d.readLimit(m, s)
	case RoleNextToken:
		d.next = s // checked where the list is known
	case RoleResourceArn:
		d.readARN(m, s)
	}
}

// failText is fail for a text, or failRule if its length is within the model's bounds.
func (d *decoder) failText(m Member, s, format string, args ...any) {
	if n := utf8.RuneCountInString(s); n >= m.Min && (m.Max == 0 || n <= m.Max) {
		d.failRule(m.Name, format, args...)
		return
	}
	d.fail(m.Name, format, args...)
}

// checkName checks the name of an object.
func (d *decoder) checkName(m Member, kind mesh.Kind, name string) {
	if err := mesh.CheckName(kind, name); err != nil {
		d.failText(m, name, "%s", strings.TrimPrefix(err.Error(), kind.NameMember()+" "))
	}
}

func (d *decoder) readLimit(m Member, s string) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || int(n) < m.Min || int(n) > m.Max {
		d.fail(m.Name, "must be a whole number from %d to %d, %s was given", m.Min, m.Max, shorten(s))
		return
	}
	d.limit = int(n)
}

// readARN reads which resource the operations on tags mean, in the region that the
// request is signed for.
func (d *decoder) readARN(m Member, s string) {
	id, owner, err := mesh.ParseARN(s, d.caller.Account, d.caller.Region)
	switch {
	case !strings.HasPrefix(s, "arn:"):
		d.fail(m.Name, "must be a whole ARN, %s was given", shorten(s))
	case err != nil:
		d.fail(m.Name, "cannot be used: %v", err)
	case id.Mesh.Region != d.caller.Region:
		d.fail(m.Name, "is in region %s, allowed is the one that the request is signed for, %s", shorten(id.Mesh.Region), d.caller.Region)
	case id.ARN(owner) != s:
		d.fail(m.Name, "is not how a resource here is written, %s is", id.ARN(owner))
	}
	d.id, d.resourceOwner = id, owner
}

func (d *decoder) readSpec(m Member, raw []byte) {
	spec, stored, bad := mesh.Decode(d.op.Kind, m.Name, raw)
	d.spec, d.stored, d.bad = spec, stored, append(d.bad, bad...)
}

func (d *decoder) readTags(m Member, raw []byte) {
	tags, bad := mesh.DecodeTags(m.Name, raw)
	d.bad = append(d.bad, bad...)
	if len(tags) > m.Max {
		d.fail(m.Name, "must have %d to %d members, %d were given", m.Min, m.Max, len(tags))
		return
	}
	for i, t := range tags {
		path := fmt.Sprintf("%s[%d].key", m.Name, i)
		if first := slices.IndexFunc(tags, func(o mesh.TagRef) bool { return o.Key == t.Key }); first < i {
			d.failRule(path, "must differ from the other tags, %s is also %s[%d]'s", shorten(t.Key), m.Name, first)
		}
		if len(t.Key) >= 4 && strings.EqualFold(t.Key[:4], "aws:") {
			d.failRule(path, `must not begin with "aws:", which is reserved, %s was given`, shorten(t.Key))
		}
	}
	d.tags = tags
}

func (d *decoder) readTagKeys(m Member, raw []byte) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		d.fail(m.Name, "must be a list, %s was given", describe(raw))
		return
	}
	if len(list) > m.Max {
		d.fail(m.Name, "must have %d to %d members, %d were given", m.Min, m.Max, len(list))
		return
	}
	for i, one := range list {
		var key *string
		err := json.Unmarshal(one, &key)
		switch path := fmt.Sprintf("%s[%d]", m.Name, i); {
		case err != nil || key == nil:
			d.fail(path, "must be a string, %s was given", describe(one))
		case *key == "" || utf8.RuneCountInString(*key) > 128:
			d.fail(path, "must have 1 to 128 characters, %s was given", shorten(*key))
		default:
			d.tagKeys = append(d.tagKeys, *key)
		}
	}
}

// describe words a JSON value of the wrong type.
func describe(raw json.RawMessage) string {
	switch s := string(raw); {
	case s[0] == '{':
		return "an object"
	case s[0] == '[':
		return "a list"
	case s[0] == '"':
		return "a string"
	case s == "null", s == "true", s == "false":
		return s
	default:
		return "the number " + v1.Clip(s)
	}
}

// shorten quotes text that a caller sent, for a message, and bounds its length.
func shorten(s string) string {
	if short := v1.Clip(s); short != s {
		return strconv.Quote(strings.TrimSuffix(short, "…")) + fmt.Sprintf("… (%d bytes)", len(s))
	}
	return strconv.Quote(s)
}
