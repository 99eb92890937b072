package restapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	contract "github.com/fairlead-mesh/fairlead/api"
	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
	"github.com/fairlead-mesh/fairlead/internal/replica"
	"github.com/fairlead-mesh/fairlead/internal/restapi"
	v1 "github.com/fairlead-mesh/fairlead/internal/restapi/v1"
)

// TestOwnContract does the requests of each file in testdata/v1 on a server of its own,
// and compares the answers with those in the file. Each answer, and each request that
// succeeds, is checked against the OpenAPI document too.
//
// A file holds requests and answers in turn. A request is a line "METHOD PATH", or "as
// WHO: METHOD PATH", and a body. WHO is the management account's administrator unless it
// is said: a user for whom an access key was made before, an account that was made
// before (its administrator), "role" or "session" (the temporary credentials made last),
// or "nobody" (no signature). {key} in a path is the access key made last, {serial} the
// serial number of the certificate issued last; {csr} in a body is a certificate request,
// {certificate} and {privateKey} are an authority's.
func TestOwnContract(t *testing.T) {
	t.Parallel()
	check := newOpenAPICheck(t)
	golden.Run(t, "testdata/v1/*.txtar", func(t *testing.T, c *golden.Case) {
		p := newPlane(t, knownProxies)
		s := &ownScript{plane: p, check: check, who: map[string]access.Credentials{"": p.admin}}
		if strings.HasPrefix(c.Name, "AssumeRoleWith") {
			s.vouched = vouch(t, p)
		}
		exchanges(t, c, func(request string) string { return s.exchange(t, request) })
	})
}

// TestOwnContractIsWhole holds that each operation has a golden answer. That each succeeds
// is held by TestOwnPermissions.
func TestOwnContractIsWhole(t *testing.T) {
	t.Parallel()
	if len(v1.Operations) != 60 {
		t.Errorf("the table has %d operations", len(v1.Operations))
	}
	for _, op := range v1.Operations {
		b, err := os.ReadFile("testdata/v1/" + op.Name + ".txtar")
		if err != nil || !strings.Contains(string(b), "\n200\n") || !strings.Contains(string(b), op.Method+" /v1/") {
			t.Errorf("%s has no golden answer: %v", op.Name, err)
		}
	}
	for _, name := range []string{"CreatePolicy", "DescribePolicy", "ListPolicies", "UpdatePolicy", "DeletePolicy"} {
		if b, err := os.ReadFile("testdata/v1/" + name + ".txtar"); err != nil || !strings.Contains(string(b), "/v1/meshes/shop/policies") {
			t.Errorf("%s has no golden answer: %v", name, err)
		}
	}
}

// knownProxies puts what is known of proxies into a server's settings.
func knownProxies(cfg *restapi.Config) {
	since := time.Date(2026, 11, 23, 8, 15, 30, 250e6, time.UTC)
	arn := func(account, name string) string {
		return "arn:aws:appmesh:us-east-1:" + account + ":mesh/shop" + map[bool]string{true: "@" + testAccount}[account != testAccount] + "/virtualNode/" + name
	}
	cfg.Proxies = func(_ context.Context, l restapi.Look) restapi.Known[restapi.ProxyStatus] {
		if l.Account != testAccount || l.Mesh != "shop" {
			return restapi.Known[restapi.ProxyStatus]{Missing: []string{"10.0.0.9:9083"}}
		}
		return cut(l, func(p restapi.ProxyStatus) string { return p.ARN }, []restapi.ProxyStatus{
			{ARN: arn("000000000002", "till"), Connection: "c3", Peer: "10.0.0.3:3", Protocol: "sotw", ConnectedAt: since},
			{ARN: arn(testAccount, "cart"), Connection: "c2", Peer: "10.0.0.2:2", Version: "1.40.0", Protocol: "delta", ConnectedAt: since, Rejected: "the listener cannot be bound", Caller: "arn:aws:iam::000000000001:user/proxy"},
			{ARN: arn(testAccount, "cart"), Connection: "c1", Peer: "10.0.0.1:1", Version: "1.40.0", Protocol: "delta", ConnectedAt: since, InSync: true, Caller: "arn:aws:iam::000000000001:user/proxy"},
		})
	}
	cfg.Configuration = func(_ context.Context, id mesh.ID, connection string) (restapi.Configuration, bool, error) {
		if id.Name != "cart" || connection != "" && connection != "c1" {
			return restapi.Configuration{}, false, nil
		}
		return restapi.Configuration{
			ARN: id.ARN(testAccount), Placement: "bound to 127.0.0.2", Connection: "c1",
			Resources:   []restapi.Resource{{Type: "Cluster", Name: "c", Content: json.RawMessage(`{"name":"c"}`)}},
			Explanation: []restapi.Explanation{{Text: "targets"}, {Depth: 1, Text: "c: 10.0.0.1:80", Object: "virtualNode/cart"}},
			Problems:    []restapi.Problem{{ARN: id.ARN(testAccount), Object: "virtualNode/cart", Field: "listeners[0]", Message: "it is closed"}},
		}, true, nil
	}
	cfg.QuotaUsage = func(_ context.Context, policy mesh.ID) (restapi.QuotaUsage, error) {
		if policy.Name == "new" {
			return restapi.QuotaUsage{}, mesh.Errorf(mesh.ErrServiceUnavailable, "the policy is not known here yet, try again")
		}
		begin := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
		return restapi.QuotaUsage{Requests: 100, Begins: begin, Ends: begin.Add(time.Hour), Keys: map[string]int64{"acme": 90, "other|10.0.0.7": 104, "": 1}}, nil
	}
	cfg.Propagation = func(_ context.Context, q restapi.PropagationQuery) (restapi.Propagation, error) {
		return propagationOf(arn, since, q)
	}
	cfg.BundleStreams = func(_ context.Context, m mesh.MeshID) restapi.BundleStreams {
		if m.Name != "shop" {
			return restapi.BundleStreams{}
		}
		return restapi.BundleStreams{Connected: 3, Current: 2}
	}
	cfg.Problems = func(_ context.Context, l restapi.Look) restapi.Known[restapi.Problem] {
		if l.Account != testAccount || l.Mesh != "shop" {
			return restapi.Known[restapi.Problem]{}
		}
		return cut(l, func(p restapi.Problem) string { return p.ARN }, []restapi.Problem{
			{ARN: arn("000000000002", "till"), Object: "virtualNode/till", Message: "the file is missing"},
			{ARN: arn(testAccount, "cart"), Object: "virtualRouter/cart/route/all", Field: "httpRoute.match", Message: "the regular expression is not valid"},
			{ARN: arn(testAccount, "cart"), Object: "virtualRouter/cart/route/all", Field: "httpRoute.match", Message: "the regular expression is not valid"},
		})
	}
}

// propagationOf answers with proxies of two accounts, one of which rejects something. It
// says in a reason what it was asked.
func propagationOf(arn func(account, name string) string, since time.Time, q restapi.PropagationQuery) (restapi.Propagation, error) {
	if q.Revision == 503 {
		return restapi.Propagation{}, mesh.Errorf(mesh.ErrServiceUnavailable, "the control plane is shutting down: ask again")
	}
	asked := fmt.Sprintf("wait %s resource %q object %q account %q most %d", q.Wait, q.Resource, q.Object, q.Account, q.Most)
	counts := restapi.PropagationCounts{Proxies: 3, Current: 1, Pending: 1, Rejected: 1}
	return restapi.Propagation{
		Revision: max(q.Revision, 7), PropagationCounts: restapi.PropagationCounts{Proxies: 500, Current: 498, Pending: 1, Rejected: 1}, Unconnected: 2,
		Resources: []restapi.ResourcePropagation{{ARN: arn(testAccount, "cart"), PropagationCounts: counts}},
		Behind: []restapi.ProxyBehind{
			{ARN: arn(testAccount, "cart"), Connection: "c2", Peer: "10.0.0.2:2", Rejected: true, Reason: "Listener lds: no such port", Since: since},
			{ARN: arn(testAccount, "cart"), Connection: "c3", Reason: asked},
		},
		Incomplete: []restapi.ReplicaFailure{{Replica: "10.0.0.7:9083", Reason: "it cannot be reached"}},
	}, nil
}

// cut returns the page of what is known that is looked for.
func cut[T interface{ Key() string }](l restapi.Look, arn func(T) string, all []T) restapi.Known[T] {
	all = slices.DeleteFunc(all, func(item T) bool { return !l.Shows(arn(item)) })
	items, more := replica.Merge([][]T{replica.Cut(all, T.Key, l.After, l.Limit)}, T.Key, l.Limit)
	return restapi.Known[T]{Items: items, More: more}
}

// openAPICheck checks requests and answers against the OpenAPI document.
type openAPICheck struct{ validator.Validator }

func newOpenAPICheck(tb testing.TB) openAPICheck {
	tb.Helper()
	doc, err := libopenapi.NewDocument(contract.OpenAPI)
	if err != nil {
		tb.Fatal(err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		tb.Fatal(errs)
	}
	return openAPICheck{v}
}

// ownScript runs one file.
type ownScript struct {
	*plane
	check openAPICheck
	who   map[string]access.Credentials
	key   string // the id of the access key made last
	// vouched is who is let into the role "vouched"; {token} and {signed} in a request are
	// its proofs.
	vouched *vouched
	// serial is that of the certificate issued last.
	serial string
}

// exchange does one request and returns the masked answer.
func (s *ownScript) exchange(t *testing.T, text string) string {
	t.Helper()
	line, body, _ := strings.Cut(text, "\n")
	who := ""
	if rest, ok := strings.CutPrefix(line, "as "); ok {
		who, line, _ = strings.Cut(rest, ": ")
	}
	method, path, ok := strings.Cut(strings.NewReplacer("{key}", s.key, "{serial}", s.serial).Replace(line), " ")
	if !ok {
		t.Fatalf("request line %q is not METHOD PATH", line)
	}
	creds, known := s.who[who]
	if !known && who != "nobody" {
		t.Fatalf("nobody knows who %q is", who)
	}
	body = certificateTexts(t).Replace(s.vouched.fill(strings.TrimSpace(body)))
	req := s.signed(t, creds, testRegion, method, path, body)
	if who == "nobody" {
		req.Header.Del("Authorization")
	}
	a := send(t, s.srv, req)
	s.checkOpenAPI(t, req, a, body)
	s.learn(t, path, a)
	return s.format(t, a)
}

// checkOpenAPI holds that the answer is as the document says, and the request too if it
// succeeded.
func (s *ownScript) checkOpenAPI(t *testing.T, req *http.Request, a answer, body string) {
	t.Helper()
	if !strings.HasPrefix(req.URL.Path, "/v1/") || a.Status == http.StatusNotFound && a.code() == "UnknownOperationException" {
		return
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Body = io.NopCloser(strings.NewReader(body))
	resp := &http.Response{StatusCode: a.Status, Header: a.Header, Body: io.NopCloser(strings.NewReader(a.Body)), Request: req}
	if ok, bad := s.check.ValidateHttpResponse(req, resp); !ok {
		for _, b := range bad {
			t.Errorf("%s %s: the answer does not fit the OpenAPI document: %s %s %+v", req.Method, req.URL.Path, b.Message, b.Reason, b.SchemaValidationErrors)
		}
	}
	if a.Status != http.StatusOK {
		return
	}
	if ok, bad := s.check.ValidateHttpRequest(req); !ok {
		for _, b := range bad {
			t.Errorf("%s %s: the request does not fit the OpenAPI document: %s %s", req.Method, req.URL.Path, b.Message, b.Reason)
		}
	}
}

// learn remembers credentials that an answer has.
func (s *ownScript) learn(t *testing.T, path string, a answer) {
	t.Helper()
	var out struct {
		Account     struct{ AccountID string }
		Serial      string `json:"serialNumber"`
		AccessKey   struct{ AccessKeyID, UserName string }
		Secret      string `json:"secretAccessKey"`
		Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	}
	if a.Status != http.StatusOK || json.Unmarshal([]byte(a.Body), &out) != nil {
		return
	}
	made := access.Credentials{AccessKeyID: out.Credentials.AccessKeyID, SecretAccessKey: out.Credentials.SecretAccessKey, SessionToken: out.Credentials.SessionToken}
	switch {
	case out.Serial != "":
		s.serial = out.Serial
	case out.Secret != "":
		s.key = out.AccessKey.AccessKeyID
		s.who[out.AccessKey.UserName] = access.Credentials{AccessKeyID: s.key, SecretAccessKey: out.Secret}
	case made.SecretAccessKey == "":
	case out.Account.AccountID != "":
		s.who[out.Account.AccountID] = made
	case path == "/v1/assumedRoles":
		s.who["role"] = made
	default:
		s.who["session"] = made
	}
}

func (s *ownScript) format(t *testing.T, a answer) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", a.Status)
	for _, h := range []string{"Content-Type", "X-Amzn-Errortype", "X-Amzn-Requestid", "X-Fairlead-Revision"} {
		if v := a.Header.Get(h); v != "" {
			fmt.Fprintf(&b, "%s: %s\n", strings.ToLower(h), v)
		}
	}
	b.WriteString("\n")
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(a.Body), "", "  "); err != nil {
		t.Errorf("the body is not JSON: %v\n%s", err, a.Body)
	}
	text := maskOwn(b.String() + pretty.String() + "\n")
	return strings.ReplaceAll(text, s.srv.Listener.Addr().String(), "SERVER")
}

var ownMasks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`"(userId|roleId|principalId|eventID|secretAccessKey|sessionToken)": "[^"]+"`), `"$1": "MASKED"`},
	{regexp.MustCompile(`"(serialNumber|rootId|revision|sealKeyId|version|certificate|certificates|certificateChain|crl)": "[^"]+"`), `"$1": "MASKED"`},
	{regexp.MustCompile(`\bFLA[KS][A-Z0-9]{16}\b`), "ACCESSKEY"},
	{regexp.MustCompile(`\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ`), "TIME"},
	{regexp.MustCompile(`\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
}

func maskOwn(s string) string {
	for _, m := range ownMasks {
		s = m.pattern.ReplaceAllString(s, m.with)
	}
	return mask(s)
}

// TestOpenAPIDocumentIsServed holds that anybody may read it.
func TestOpenAPIDocumentIsServed(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	req := request(t, p.srv, http.MethodGet, "/v1/openapi.json", "")
	req.Header.Del("Authorization")
	a := send(t, p.srv, req)
	if a.Status != http.StatusOK || a.Body != string(contract.OpenAPI) || a.Header.Get("Content-Type") != "application/json" || a.Header.Get("X-Amzn-Requestid") == "" {
		t.Errorf("got %d, %d bytes, %v", a.Status, len(a.Body), a.Header)
	}
	req = request(t, p.srv, http.MethodPut, "/v1/openapi.json", "")
	wantRefusal(t, send(t, p.srv, req), 404, "UnknownOperationException", "is not an operation of Fairlead's own API")
}
