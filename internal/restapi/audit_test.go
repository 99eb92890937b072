package restapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/access"
)

// event is a line of the audit log.
type event struct {
	UserIdentity struct {
		Type, ARN, AccountID, AccessKeyID, UserName string
	}
	EventSource, EventName, AWSRegion, SourceIPAddress, UserAgent string
	ErrorCode, ErrorMessage                                       string
	RequestParameters, ResponseElements                           json.RawMessage
	RequestID                                                     string
	ReadOnly                                                      bool
	Resources                                                     []struct{ ARN, AccountID, Type string }
	RecipientAccountID                                            string
}

// events returns the audit log's lines, in order.
func (p *plane) events(tb testing.TB) []event {
	tb.Helper()
	var out []event
	for line := range strings.Lines(p.auditLog(tb)) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			tb.Fatalf("%v: %s", err, line)
		}
		out = append(out, e)
	}
	return out
}

// TestAudit holds that every request leaves an event, allowed or refused, and what is in
// it.
func TestAudit(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	for _, c := range []struct {
		name, method, path, body string
		forged                   bool
		want                     event
	}{
		{
			"write", "PUT", "/v20190125/meshes", "{\n \"clientToken\": \"t1\", \"meshName\":\"shop\",\"spec\":{\"egressFilter\":{\"type\":\"ALLOW_ALL\"}},\"tags\":[]}", false,
			event{EventName: "CreateMesh", RequestParameters: json.RawMessage(`{"clientToken":"t1","meshName":"shop","spec":{"egressFilter":{"type":"ALLOW_ALL"}},"tags":[]}`)},
		},
		{
			"read", "GET", "/v20190125/meshes/shop/virtualServices/a%2Fb%22?meshOwner=000000000001", "", false,
			event{EventName: "DescribeVirtualService", ReadOnly: true, ErrorCode: "NotFoundException", RequestParameters: json.RawMessage(`{"meshName":"shop","meshOwner":"000000000001","virtualServiceName":"a/b\""}`)},
		},
		{"list", "GET", "/v20190125/meshes/shop/virtualNodes?limit=5", "", false, event{EventName: "ListVirtualNodes", ReadOnly: true, RequestParameters: json.RawMessage(`{"limit":"5","meshName":"shop"}`)}},
		{"bad", "PUT", "/v20190125/meshes", `{"meshName":"..","spec":7}`, false, event{EventName: "CreateMesh", ErrorCode: "BadRequestException", RequestParameters: json.RawMessage(`{"meshName":"..","spec":7}`)}},
		{"no JSON", "PUT", "/v20190125/meshes", `{`, false, event{EventName: "CreateMesh", ErrorCode: "BadRequestException", RequestParameters: json.RawMessage(`{}`)}},
		{"tags", "PUT", "/v20190125/tag?resourceArn=arn:aws:appmesh:us-east-1:000000000001:mesh/shop", `{"tags":[{"key":"a","value":"b"}]}`, false, event{EventName: "TagResource", RequestParameters: json.RawMessage(`{"resourceArn":"arn:aws:appmesh:us-east-1:000000000001:mesh/shop","tags":[{"key":"a","value":"b"}]}`)}},
		{"our own", "PUT", "/v1/users", `{"userName":"ann"}`, false, event{EventSource: "fairlead", EventName: "CreateUser", RequestParameters: json.RawMessage(`{"userName":"ann"}`)}},
		{"our own, bad", "PUT", "/v1/users", `{"userName":" "}`, false, event{EventSource: "fairlead", EventName: "CreateUser", ErrorCode: "BadRequestException", RequestParameters: json.RawMessage(`{"userName":" "}`)}},
		{"unknown", "GET", "/v20190125/none", "", false, event{EventName: "Unknown", ErrorCode: "UnknownOperationException"}},
		{"our own, unknown", "GET", "/v1/none", "", false, event{EventSource: "fairlead", EventName: "Unknown", ErrorCode: "UnknownOperationException"}},
		{"forged", "DELETE", "/v20190125/meshes/shop", "", true, event{EventName: "DeleteMesh", ErrorCode: "InvalidSignatureException"}},
		{"our own, forged", "DELETE", "/v1/users/ann", "", true, event{EventSource: "fairlead", EventName: "DeleteUser", ErrorCode: "InvalidSignatureException"}},
		{"too large", "PUT", "/v20190125/meshes", strings.Repeat(" ", 1<<20+1), false, event{EventName: "CreateMesh", ErrorCode: "RequestEntityTooLargeException"}},
	} {
		before := len(p.events(t))
		creds := p.admin
		if c.forged {
			creds.SecretAccessKey += "x"
		}
		req := p.signed(t, creds, testRegion, c.method, c.path, c.body)
		req.Header.Set("User-Agent", "tester/1")
		a := send(t, p.srv, req)
		all := p.events(t)
		if len(all) != before+1 {
			t.Errorf("%s: %d events, want one", c.name, len(all)-before)
			continue
		}
		got := all[before]
		if got.RequestID != a.Header.Get("X-Amzn-Requestid") || got.SourceIPAddress != "127.0.0.1" || got.UserAgent != "tester/1" {
			t.Errorf("%s: %+v", c.name, got)
		}
		if known := !c.forged && got.EventName != "Unknown" && c.name != "too large"; known != (got.UserIdentity.AccessKeyID == p.admin.AccessKeyID) ||
			known != (got.UserIdentity.ARN == "arn:aws:iam::000000000001:user/administrator") || known != (got.RecipientAccountID == testAccount) || known != (got.AWSRegion == testRegion) {
			t.Errorf("%s: who is %+v, %s, %s", c.name, got.UserIdentity, got.RecipientAccountID, got.AWSRegion)
		}
		if (got.ErrorMessage != "") != (c.want.ErrorCode != "") {
			t.Errorf("%s: message %q", c.name, got.ErrorMessage)
		}
		if c.want.EventSource == "" {
			c.want.EventSource = "appmesh.amazonaws.com"
		}
		if c.want.RequestParameters == nil {
			c.want.RequestParameters = json.RawMessage("null")
		}
		c.want.RequestID, c.want.SourceIPAddress, c.want.UserAgent, c.want.ErrorMessage = got.RequestID, got.SourceIPAddress, got.UserAgent, got.ErrorMessage
		c.want.UserIdentity, c.want.RecipientAccountID, c.want.AWSRegion = got.UserIdentity, got.RecipientAccountID, got.AWSRegion
		c.want.ResponseElements, c.want.Resources = got.ResponseElements, got.Resources
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		checkElements(t, c.name, got, a)
	}
}

// checkElements holds that writes that succeed leave their answer, wrapped by kind, and
// what the object is.
func checkElements(t *testing.T, name string, got event, a answer) {
	t.Helper()
	want := map[string]string{
		"write":   fmt.Sprintf(`{"mesh":%s}`, a.Body),
		"our own": a.Body,
	}[name]
	if want == "" {
		want = "null"
	}
	if string(got.ResponseElements) != want {
		t.Errorf("%s: response elements %s, want %s", name, got.ResponseElements, want)
	}
	var arn string
	if len(got.Resources) > 0 {
		arn = got.Resources[0].ARN
	}
	const shop = "arn:aws:appmesh:us-east-1:000000000001:mesh/shop"
	if want := map[string]string{"write": shop, "read": shop + `/virtualService/a/b"`, "list": shop, "tags": shop, "our own": "arn:aws:iam::000000000001:user/ann", "bad": "arn:aws:appmesh:us-east-1:000000000001:mesh/.."}[name]; arn != want {
		t.Errorf("%s: resource %q, want %q", name, arn, want)
	}
}

// TestAuditOfSharedMesh holds whose trail an event belongs to: a consumer's call in a
// shared mesh is in the owner's too, and a stranger's is not.
func TestAuditOfSharedMesh(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	second, third := p.account(t, "000000000002"), p.account(t, "000000000003")
	p.must(t, p.admin, http.MethodPut, "/v20190125/meshes", `{"meshName":"shop"}`)
	p.must(t, p.admin, http.MethodPut, "/v1/meshes/shop/shares", `{"accountId":"000000000002"}`)
	const nodes = "/v20190125/meshes/shop/virtualNodes?meshOwner=000000000001"
	p.must(t, second, http.MethodPut, nodes, `{"virtualNodeName":"till","spec":{}}`)
	wantRefusal(t, p.do(t, third, http.MethodPut, nodes, `{"virtualNodeName":"thief","spec":{}}`), 403, "ForbiddenException", "000000000003")
	seen := func(c access.Credentials) (names []string) {
		for e, err := range p.client(t, c).AllEvents(t.Context(), &client.ListEventsInput{EventName: "CreateVirtualNode"}) {
			if err != nil {
				t.Fatal(err)
			}
			var one event
			if err := json.Unmarshal(e, &one); err != nil {
				t.Fatal(err)
			}
			names = append(names, one.UserIdentity.Type+" "+one.UserIdentity.AccountID+" "+one.Resources[0].ARN)
		}
		return names
	}
	const till = "000000000002 arn:aws:appmesh:us-east-1:000000000002:mesh/shop@000000000001/virtualNode/till"
	if diff := cmp.Diff([]string{"AWSAccount " + till}, seen(p.admin)); diff != "" {
		t.Errorf("the owner (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"IAMUser " + till}, seen(second)); diff != "" {
		t.Errorf("the consumer (-want +got):\n%s", diff)
	}
	if got := seen(third); len(got) != 1 || !strings.Contains(got[0], "thief") {
		t.Errorf("the stranger sees %v", got)
	}
}

// TestAuditHasNoSecrets does everything that hands out secrets, and looks for each of
// them in the audit log and in the server's own.
func TestAuditHasNoSecrets(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	c, ctx := p.client(t, p.admin), t.Context()
	secrets := []string{p.admin.SecretAccessKey}
	keep := func(creds client.Credentials, err error) access.Credentials {
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, creds.SecretAccessKey)
		if creds.SessionToken != "" {
			secrets = append(secrets, creds.SessionToken)
		}
		return access.Credentials{AccessKeyID: creds.AccessKeyID, SecretAccessKey: creds.SecretAccessKey, SessionToken: creds.SessionToken}
	}
	account, err := c.CreateAccount(ctx, &client.CreateAccountInput{AccountName: "other"})
	if err != nil {
		t.Fatal(err)
	}
	keep(account.Credentials, nil)
	ann := p.user(t, p.admin, "ann", administrator)
	secrets = append(secrets, ann.SecretAccessKey)
	if _, err := c.CreateRole(ctx, &client.CreateRoleInput{RoleName: "r", TrustPolicy: client.Document(trustUs), Policies: map[string]client.Document{"p": client.Document(administrator)}}); err != nil {
		t.Fatal(err)
	}
	role, err := c.AssumeRole(ctx, &client.AssumeRoleInput{RoleARN: "arn:aws:iam::000000000001:role/r", SessionName: "one"})
	if err != nil {
		t.Fatal(err)
	}
	session, err := p.client(t, ann).CreateSession(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, creds := range []client.Credentials{role.Credentials, session.Credentials} {
		if _, err := p.client(t, keep(creds, nil)).GetCallerIdentity(ctx, nil); err != nil {
			t.Fatal(err)
		}
		forged := keep(creds, nil)
		forged.SecretAccessKey = p.admin.SecretAccessKey
		if _, err := p.client(t, forged).GetCallerIdentity(ctx, nil); client.CodeOf(err) != "InvalidSignatureException" {
			t.Errorf("forged: %v", err)
		}
	}
	log := p.auditLog(t)
	for _, name := range []string{"CreateAccount", "CreateAccessKey", "AssumeRole", "CreateSession", "GetCallerIdentity"} {
		if !strings.Contains(log, `"eventName":"`+name+`"`) {
			t.Errorf("the log has no %s", name)
		}
	}
	if !strings.Contains(log, `"responseElements":{"assumedRoleArn":"arn:aws:sts::000000000001:assumed-role/r/one","credentials":{"accessKeyId":"`+role.Credentials.AccessKeyID+`"`) {
		t.Errorf("the log does not say which key was handed out:\n%s", log)
	}
	for i, s := range secrets {
		if len(s) < 20 || strings.Contains(log, s) {
			t.Errorf("secret %d of %d bytes is in the audit log", i, len(s))
		}
	}
}
