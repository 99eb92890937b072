package restapi

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// audit writes the event of a request that is about to be answered: with out, whose
// encoding is body, or with a refusal.
func (h *handler) audit(x *exchange, out any, body []byte, refusal *mesh.Error) {
	if h.events == nil {
		return
	}
	p := &x.caller.Principal
	e := audit.Event{
		Time: x.start, RequestID: x.id, Account: x.caller.Account, Region: x.caller.Region,
		Principal: audit.Identity{
			Type: p.Type, ID: p.ID, ARN: x.caller.ARN, Account: x.caller.Account, KeyID: x.caller.KeyID,
			User: p.User, Role: p.Role, RoleARN: p.RoleARN, RoleID: p.RoleID, Session: p.Session,
		},
		UserAgent: x.r.UserAgent(), Request: x.parameters, Owner: h.meshOwner(x), Checked: x.in != nil,
	}
	if v := x.voucher; v.Type != "" {
		e.Account, e.Region = v.Account, v.Region
		e.Principal = audit.Identity{Type: v.Type, ID: v.Provider + ":" + v.Subject, Account: v.Account, User: v.Subject}
	}
	if x.addr.IsValid() {
		e.SourceIP = x.addr.String()
	}
	switch {
	case x.route != nil:
		e.Name, e.Source, e.ReadOnly = x.route.name(), x.route.source(), x.route.readOnly()
	case x.target != nil:
		e.Source = x.target.Source
	case x.sts:
		e.Source = audit.STS
	case ownPath(x.r.URL.EscapedPath()):
		e.Source = audit.Fairlead
	default:
		e.Source = audit.AppMesh
	}
	if x.route != nil && x.route.own != nil {
		e.Request = without(x.parameters, requestSecrets)
	}
	if x.in != nil {
		e.Request = x.in.parameters()
		e.Resources = resources(x.in, x.caller.Account, out)
	} else if x.resource != "" {
		e.Resources = []audit.Resource{{ARN: x.resource, Account: accountOf(x.resource)}}
	}
	switch {
	case refusal != nil:
		e.ErrorCode, e.ErrorMessage = string(refusal.Code), refusal.Message
	case !e.ReadOnly:
		e.Response = responseElements(x.route, body)
	}
	h.events.Write(e)
}

// meshOwner returns the other account whose trail a request belongs to: the owner of the
// mesh that is meant, if the mesh is shared with the caller. A stranger who names a mesh
// is not shown to its owner.
func (h *handler) meshOwner(x *exchange) string {
	m := x.mesh
	if x.in != nil {
		m = x.in.id.Mesh
	}
	if m.Name == "" || m.Account == "" || m.Account == x.caller.Account || x.caller.Account == "" || !h.store.Shared(m, x.caller.Account) {
		return ""
	}
	return m.Account
}

// parameters returns the members of a request as they were sent.
func (in *input) parameters() json.RawMessage {
	size := 256
	for _, raw := range in.body {
		size += len(raw)
	}
	b := append(make([]byte, 0, size), '{')
	for _, m := range in.op.Members {
		var text string
		var raw json.RawMessage
		switch m.In {
		case InPath:
			text = in.route.value(in.labels, m.Name)
		case InQuery:
			text = in.query.Get(m.Name)
		case InBody:
			raw = in.body[m.Name]
		}
		if text == "" && raw == nil {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = appendText(b, m.Name)
		b = append(b, ':')
		if raw != nil {
			b = append(b, raw...)
		} else {
			b = appendText(b, text)
		}
	}
	return append(b, '}')
}

// resources returns what a request of the App Mesh API is about: the object, or what
// the listed objects live in.
func resources(in *input, caller string, out any) []audit.Resource {
	id, owner := in.id, caller
	switch d, ok := out.(data); {
	case ok:
		return []audit.Resource{{ARN: d.object.ARN(), Account: d.object.ResourceOwner, Type: resourceType(id.Kind)}}
	case in.op.Verb == VerbList && id.Parent != "":
		id = id.Mesh.Object(id.Kind.Parent(), "", id.Parent)
	case in.op.Verb == VerbList:
		id = id.Mesh.MeshObject()
	case in.resourceOwner != "":
		owner = in.resourceOwner
	}
	if id.Name == "" || id.Kind == 0 {
		return nil
	}
	if id.Kind == mesh.KindMesh {
		owner = id.Mesh.Account
	}
	return []audit.Resource{{ARN: id.ARN(owner), Account: owner, Type: resourceType(id.Kind)}}
}

// resourceType names a kind as CloudFormation does.
func resourceType(k mesh.Kind) string { return "AWS::AppMesh::" + k.Title() }

// accountOf returns the account in an ARN.
func accountOf(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return ""
	}
	return parts[4]
}

// responseElements returns what the audit log keeps of an answer to a write: the object
// in a member of its kind, as CloudTrail has it, and no secret.
func responseElements(rt *route, body []byte) json.RawMessage {
	if rt.own != nil {
		body = without(body, answerBulk)
	}
	if rt.op == nil {
		return withoutSecrets(body)
	}
	if rt.op.Kind == 0 {
		return nil // tags: the answer is empty
	}
	if rt.op.Kind.Own() {
		return body
	}
	b := append(make([]byte, 0, len(body)+32), '{')
	b = appendText(b, rt.op.Kind.String())
	b = append(b, ':')
	b = append(b, body...)
	return append(b, '}')
}

// secretMembers are the members of answers that nobody but the caller may ever see.
var secretMembers = []string{"secretAccessKey", "sessionToken"}

// requestSecrets are the members of requests of /v1 that are secrets, by their paths: what
// else a caller names as it likes, a policy for example, is to be seen. A certificate
// request is none, but long, and nobody needs it.
var requestSecrets = [][]string{{"privateKey"}, {"vault", "token"}, {"vault", "secretId"}, {"csr"}}

// answerBulk are the members of answers that are only long: of a certificate its serial
// number is enough, and a trust bundle can be asked for.
var answerBulk = [][]string{{"certificateChain"}, {"trustBundle"}, {"authority", "trustBundle"}, {"authority", "roots"}}

// without returns a JSON object without the members at some paths.
func without(object json.RawMessage, paths [][]string) json.RawMessage {
	// The outer names are written by ourselves, those within as the caller spells them.
	if !slices.ContainsFunc(paths, func(path []string) bool { return bytes.Contains(object, []byte(`"`+path[0]+`"`)) }) {
		return object
	}
	return take(object, paths)
}

// take is without for an object that has some of the members.
func take(object json.RawMessage, paths [][]string) json.RawMessage {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		return nil // better nothing than a secret
	}
	for _, path := range paths {
		inner, ok := members[path[0]]
		switch {
		case ok && len(path) == 1:
			delete(members, path[0])
		case ok:
			members[path[0]] = take(inner, [][]string{path[1:]})
		}
	}
	clean, err := encode(members)
	if err != nil {
		return nil
	}
	return clean
}

// withoutSecrets returns an answer without its secrets, however deep they lie.
func withoutSecrets(body []byte) json.RawMessage {
	secret := false
	for _, name := range secretMembers {
		secret = secret || bytes.Contains(body, []byte(name))
	}
	if !secret {
		return body
	}
	var answer any
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil
	}
	clean, err := encode(strip(answer))
	if err != nil {
		return nil
	}
	return clean
}

// strip removes the secret members of a JSON value.
func strip(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range secretMembers {
			delete(v, name)
		}
		for _, member := range v {
			strip(member)
		}
	case []any:
		for _, member := range v {
			strip(member)
		}
	}
	return v
}
