package envoy

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// The ports of guarded.
const (
	guardedPort = 8450 + iota
	guardedTCP
	guardedGRPC
	bannerTCP
)

// guardedStage is a node whose clients prove who they are, or do not.
type guardedStage struct {
	*inboundStage
	pool    *x509.CertPool
	callers map[string]*tls.Config // nil for plain text
	signer  *corporate
}

// ownTrust has a listener take both, and ask for a certificate of the mesh's authority.
const ownTrust = `,"tls":{"mode":"PERMISSIVE","certificate":` + acmCertificate + `,"validation":{"trust":{"sds":{"secretName":"fairlead:trust"}}}}`

// guarded starts the node, and knows the callers "front", "other" (virtual nodes), "edge" (a
// virtual gateway), "plain" (no TLS).
func guarded(t *testing.T) *guardedStage {
	t.Helper()
	s := &guardedStage{inboundStage: newInbound(t), signer: newCorporate(t)}
	chain, key := s.signer.pem()
	s.authority("test", chain, key)
	s.serveHTTP(guardedPort, false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "in") }))
	s.serveTCP(guardedTCP, echo)
	s.serveTCP(bannerTCP, func(c net.Conn) { _, _ = io.WriteString(c, "hello\n"); echo(c) })
	s.serveGRPC(guardedGRPC, &emptyService{})
	s.define("", listener(guardedPort, "http", ownTrust), listener(guardedTCP, "tcp", ownTrust), listener(guardedGRPC, "grpc", ownTrust), listener(bannerTCP, "tcp", ownTrust))
	w := s.workload("test", "virtualNode/target")
	s.start(w.bootstrap)
	s.pool = s.anchors("test")
	s.callers = map[string]*tls.Config{
		"front": s.proving(s.signer.leaf(spiffeOf("test", "virtualNode/front"))),
		"other": s.proving(s.signer.leaf(spiffeOf("test", "virtualNode/other"))),
		"edge":  s.proving(s.signer.leaf(spiffeOf("test", "virtualGateway/edge"))),
		"plain": nil,
	}
	return s
}

// emptyService answers empty calls.
type emptyService struct {
	grpc_testing.UnimplementedTestServiceServer
}

func spiffeOf(mesh, resource string) string {
	return "spiffe://fairlead.internal/" + meshtest.Account + "/" + mesh + "/" + resource
}

// authority gives a mesh the test's own root.
func (s *stage) authority(mesh, chain, key string) {
	s.t.Helper()
	body, err := json.Marshal(map[string]string{"certificate": chain, "privateKey": key})
	if err != nil {
		s.t.Fatal(err)
	}
	s.plane.Signed(s.t).Want(s.t, http.MethodPut, "/v1/meshes/"+mesh+"/authority/root", string(body), nil)
}

// proving is how a client speaks TLS to the node; whose certificate the node has is not what
// is asked here.
func (s *guardedStage) proving(certificates ...tls.Certificate) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, Certificates: certificates} //nolint:gosec // see above
}

// call sends a request as a caller.
func (s *guardedStage) call(caller, method, path string, headers ...string) (int, error) {
	c, ok := s.callers[caller]
	if !ok {
		return 0, fmt.Errorf("nobody is called %s", caller)
	}
	scheme := "https"
	if c == nil {
		scheme = "http"
	}
	r, err := http.NewRequestWithContext(limited(s.t), method, scheme+"://"+s.at(guardedPort)+"/", nil)
	if err != nil {
		return 0, err
	}
	r.URL.Opaque = "//" + s.at(guardedPort) + path // as it is spelt
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{Timeout: deadline, Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}

// awaitAccess waits until a caller's request is answered so.
func (s *guardedStage) awaitAccess(want int, caller, method, path string, headers ...string) {
	s.t.Helper()
	meshtest.Eventually(s.t, fmt.Sprintf("%s %s by %s is answered %d", method, path, caller, want), func() error {
		got, err := s.call(caller, method, path, headers...)
		if err == nil && got != want {
			err = fmt.Errorf("answered %d", got)
		}
		return err
	})
}

// rule is one access policy of TestAccessTable.
type rule struct {
	Deny           bool
	From           string // "" for all
	Method, Prefix string // "" for all
}

func (r rule) spec() string {
	parts := []string{`"target":{"virtualNode":{"virtualNodeName":"target"}}`}
	if r.From != "" {
		parts = append(parts, `"from":[`+map[string]string{
			"front": `{"virtualNode":"front"}`, "other": `{"virtualNode":"other"}`, "edge": `{"virtualGateway":"edge"}`,
			"account": `{"account":"` + meshtest.Account + `"}`, "spiffe": `{"spiffeId":"` + spiffeOf("test", "virtualNode/*") + `"}`,
			"elsewhere": `{"ipRanges":["192.0.2.0/24"]}`, "here": `{"ipRanges":["192.0.2.1","127.0.0.0/8"]}`,
		}[r.From]+`]`)
	}
	var match []string
	if r.Method != "" {
		match = append(match, fmt.Sprintf(`"method":%q`, r.Method))
	}
	if r.Prefix != "" {
		match = append(match, fmt.Sprintf(`"prefix":%q`, r.Prefix))
	}
	if match != nil {
		parts = append(parts, `"match":{`+strings.Join(match, ",")+`}`)
	}
	action := "allow"
	if r.Deny {
		action = "deny"
	}
	return `{` + strings.Join(parts, ",") + `,"action":{"access":{"rule":"` + action + `"}}}`
}

// is reports whether a rule is for a caller's request, as the guide says: whoever does not say
// who he is may be anybody that is denied, and nobody that is allowed.
func (r rule) is(caller, method, path string) bool {
	who := map[string][]string{
		"": {"front", "other", "edge", "plain"}, "here": {"front", "other", "edge", "plain"}, "elsewhere": {},
		"front": {"front"}, "other": {"other"}, "edge": {"edge"}, "account": {"front", "other", "edge"}, "spiffe": {"front", "other"},
	}[r.From]
	asksName := !slices.Contains([]string{"", "here", "elsewhere"}, r.From)
	meant := slices.Contains(who, caller) || r.Deny && caller == "plain" && asksName
	return meant && (r.Method == "" || r.Method == method) && strings.HasPrefix(path, r.Prefix)
}

// status is how a request is to be answered.
func decide(rules []rule, closed bool, caller, method, path string) int {
	allowed := !closed
	for _, r := range rules {
		switch {
		case !r.is(caller, method, path):
		case r.Deny:
			return http.StatusForbidden
		default:
			allowed = true
		}
	}
	if !allowed {
		return http.StatusForbidden
	}
	return http.StatusOK
}

// TestAccessTable holds every caller, method and path against rules that are made up, with the
// default open and closed.
func TestAccessTable(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.action.access.{rule,default}", "Policy.from.{virtualNode,virtualGateway,account,spiffeId,ipRanges}")
	s := guarded(t)
	seed := uint64(time.Now().UnixNano())
	chance := rand.New(rand.NewPCG(seed, 8)) //nolint:gosec // chance, not secrets
	pick := func(from ...string) string { return from[chance.IntN(len(from))] }
	// Each kind of client by itself first, then by chance.
	fixed := [][]rule{
		{{From: "edge", Prefix: "/a"}, {From: "account", Prefix: "/c"}, {From: "spiffe", Prefix: "/d"}},
		{{From: "front", Method: "GET"}, {From: "here", Prefix: "/c"}, {From: "elsewhere", Prefix: "/d"}, {Deny: true, From: "other", Prefix: "/c"}},
	}
	for round := range 6 {
		closed := round%3 != 2
		rules := make([]rule, 1+chance.IntN(5))
		for i := range rules {
			rules[i] = rule{chance.IntN(3) == 0, pick("", "front", "other", "edge", "account", "spiffe", "here", "elsewhere"), pick("", "GET", "POST"), pick("", "/a", "/a/b", "/c")}
		}
		if round < len(fixed) {
			rules = fixed[round]
		}
		for i := range rules {
			s.policy(fmt.Sprintf("rule-%d-%d", round, i), rules[i].spec())
		}
		if closed {
			s.policy("default", `{"target":{"mesh":{}},"action":{"access":{"default":"closed"}}}`)
		}
		meshtest.Eventually(t, fmt.Sprintf("seed %d, round %d: %+v, closed: %v", seed, round, rules, closed), func() error { return s.holds(rules, closed) })
		for i := range rules {
			s.dropPolicy(fmt.Sprintf("rule-%d-%d", round, i))
		}
		if closed {
			s.dropPolicy("default")
		}
	}
	meshtest.Eventually(t, "nothing is refused any more", func() error { return s.holds(nil, false) })
}

// holds compares what is answered to what is to be.
func (s *guardedStage) holds(rules []rule, closed bool) error {
	type row struct{ caller, method, path string }
	var rows []row
	for caller := range s.callers {
		for _, method := range []string{"GET", "POST"} {
			for _, path := range []string{"/a", "/a/b?c", "/c", "/d"} {
				rows = append(rows, row{caller, method, path})
			}
		}
	}
	var wait sync.WaitGroup
	errs := make([]error, len(rows))
	for i, r := range rows {
		wait.Go(func() {
			got, err := s.call(r.caller, r.method, r.path)
			if want := decide(rules, closed, r.caller, r.method, r.path); err != nil || got != want {
				errs[i] = fmt.Errorf("%s %s by %s: %d %w, want %d", r.method, r.path, r.caller, got, err, want)
			}
		})
	}
	wait.Wait()
	return cmp.Or(errs...)
}

// TestAccessProof shows whose word is not taken: an expired certificate's, another mesh's with
// the right name, one of the right authority with another mesh's name.
func TestAccessProof(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	s.policy("default", `{`+onTarget+`,"action":{"access":{"default":"closed"}}}`)
	s.policy("front", `{`+onTarget+`,"from":[{"virtualNode":"front"}],"action":{"access":{"rule":"allow"}}}`)
	s.awaitAccess(403, "other", "GET", "/")
	s.awaitAccess(200, "front", "GET", "/")
	stranger := newCorporate(t)
	for name, config := range map[string]*tls.Config{
		"expired":  s.proving(s.signer.expired(spiffeOf("test", "virtualNode/front"))),
		"stranger": s.proving(stranger.leaf(spiffeOf("test", "virtualNode/front"))),
		"nobody":   s.proving(),
	} {
		s.callers[name] = config
		if got, err := s.call(name, "GET", "/"); err == nil {
			t.Errorf("%s was answered %d, want no answer", name, got)
		}
	}
	for name, uri := range map[string]string{
		"other mesh": spiffeOf("tests", "virtualNode/front"), "longer": spiffeOf("test", "virtualNode/frontier"),
		"other domain": "spiffe://fairleadxinternal/" + meshtest.Account + "/test/virtualNode/front", "deeper": spiffeOf("test", "virtualNode/front/x"),
	} {
		s.callers[name] = s.proving(s.signer.leaf(uri))
		if got, err := s.call(name, "GET", "/"); err != nil || got != http.StatusForbidden {
			t.Errorf("%s was answered %d, %v, want 403", name, got, err)
		}
	}
}

const onTarget = `"target":{"virtualNode":{"virtualNodeName":"target"}}`

// TestAccessPaths shows that no other spelling of a path gets round a rule.
func TestAccessPaths(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	s.policy("deny", `{`+onTarget+`,"match":{"prefix":"/admin"},"action":{"access":{"rule":"deny"}}}`)
	s.awaitAccess(403, "front", "GET", "/admin")
	odd := []string{"//admin", "/./admin", "/x/../admin", "/%61dmin", "/x/%2e%2e/admin", `/x\..\admin`, "/x/..", "/x%2fadmin", "/x/..?a"}
	plain := []string{"/", "/x", "/x/.hidden", "/x..y/z", "/%20x", "/x?a=//b/../c", "/%c3%a4"}
	for _, path := range odd {
		s.awaitAccess(403, "front", "GET", path)
	}
	for _, path := range plain {
		s.awaitAccess(200, "front", "GET", path)
	}
	s.dropPolicy("deny")
	s.policy("default", `{`+onTarget+`,"action":{"access":{"default":"closed"}}}`)
	s.policy("allow", `{`+onTarget+`,"match":{"prefix":"/"},"action":{"access":{"rule":"allow"}}}`)
	s.awaitAccess(403, "front", "GET", "/x/../y")
	for _, path := range plain {
		s.awaitAccess(200, "front", "GET", path)
	}
}

// TestAccessConnections shows access to ports without requests, where a server speaks first
// too, and by gRPC.
func TestAccessConnections(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	for _, port := range []int{guardedTCP, bannerTCP} {
		target := fmt.Sprintf(`"target":{"virtualNode":{"virtualNodeName":"target","port":%d}}`, port)
		s.policy(fmt.Sprintf("closed-%d", port), `{`+target+`,"action":{"access":{"default":"closed"}}}`)
		s.policy(fmt.Sprintf("front-%d", port), `{`+target+`,"from":[{"virtualNode":"front"}],"action":{"access":{"rule":"allow"}}}`)
	}
	for caller, want := range map[string]bool{"front": true, "other": false, "plain": false} {
		s.awaitConnection(caller, guardedTCP, "ping\n", "ping\n", want)
		s.awaitConnection(caller, bannerTCP, "ping\n", "hello\nping\n", want)
	}
	s.policy("grpc", fmt.Sprintf(`{"target":{"virtualNode":{"virtualNodeName":"target","port":%d}},"from":[{"virtualNode":"other"}],"match":{"path":{"exact":"/grpc.testing.TestService/EmptyCall"}},"action":{"access":{"rule":"deny"}}}`, guardedGRPC))
	for caller, want := range map[string]codes.Code{"front": codes.Unimplemented, "other": codes.PermissionDenied} {
		client := s.callGRPC(guardedGRPC, credentials.NewTLS(s.callers[caller].Clone()))
		meshtest.Eventually(t, fmt.Sprintf("gRPC by %s: %s", caller, want), func() error {
			_, err := client.EmptyCall(limited(t), &grpc_testing.Empty{})
			if status.Code(err) != want {
				return fmt.Errorf("answered %w", err)
			}
			return nil
		})
	}
}

// awaitConnection waits until what is said on a connection is answered so, or is not.
func (s *guardedStage) awaitConnection(caller string, port int, say, want string, open bool) {
	s.t.Helper()
	meshtest.Eventually(s.t, fmt.Sprintf("port %d is open to %s: %v", port, caller, open), func() error {
		got, err := s.exchange(caller, port, say, len(want))
		if (got == want) != open {
			return fmt.Errorf("%q, %w", got, err)
		}
		return nil
	})
}

// exchange says something on a connection, and returns what is answered.
func (s *guardedStage) exchange(caller string, port int, say string, n int) (string, error) {
	var c net.Conn = s.dial(port)
	defer func() { _ = c.Close() }()
	if config := s.callers[caller]; config != nil {
		c = tls.Client(c, config)
	}
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := io.WriteString(c, say); err != nil {
		return "", err
	}
	got := make([]byte, n)
	read, err := io.ReadFull(c, got)
	return string(got[:read]), err
}

// TestAccessDryRun shows that what is tried refuses nobody, is counted and is logged.
func TestAccessDryRun(t *testing.T) {
	t.Parallel()
	covers(t, "Policy.action.access.dryRun")
	s := guarded(t)
	s.policy("later", `{`+onTarget+`,"match":{"prefix":"/old"},"action":{"access":{"rule":"deny","dryRun":true}}}`)
	s.policy("closed", `{`+onTarget+`,"action":{"access":{"default":"closed","dryRun":true}}}`)
	s.policy("front", `{`+onTarget+`,"from":[{"virtualNode":"front"}],"action":{"access":{"rule":"allow"}}}`)
	meshtest.Eventually(t, "the dry run is logged", func() error {
		for _, caller := range []string{"front", "other"} {
			for _, path := range []string{"/old?hidden", "/new"} {
				if got, err := s.call(caller, "GET", path); err != nil || got != 200 {
					t.Fatalf("%s by %s was answered %d %v", path, caller, got, err)
				}
			}
		}
		log := s.proxy.Log.String()
		for _, want := range []string{`"policy":"later"`, `"path":"/old"`, `"client":"` + spiffeOf("test", "virtualNode/front") + `"`, `"path":"/new"`} {
			if !strings.Contains(log, want) {
				return fmt.Errorf("the log has no %s", want)
			}
		}
		if strings.Contains(log, "hidden") {
			t.Error("the log has a query")
		}
		return nil
	})
	stats, err := s.proxy.Admin("/stats?usedonly&filter=rbac")
	for _, name := range []string{"later", "closed"} {
		if counter := fmt.Sprintf("http.ingress.http.%d.rbac.policy.%s.shadow_denied: ", guardedPort, name); err != nil || !strings.Contains(stats, counter) {
			t.Errorf("no counter %s in %q, %v", counter, stats, err)
		}
	}
	s.setPolicy("closed", `{`+onTarget+`,"action":{"access":{"default":"closed"}}}`)
	s.awaitAccess(403, "other", "GET", "/new")
	s.awaitAccess(200, "front", "GET", "/new")
	// The port may be open again.
	s.policy("open", fmt.Sprintf(`{"target":{"virtualNode":{"virtualNodeName":"target","port":%d}},"action":{"access":{"default":"open"}}}`, guardedPort))
	s.awaitAccess(200, "other", "GET", "/new")
}

// TestAccessOut shows who may ask for what where requests go out.
func TestAccessOut(t *testing.T) {
	t.Parallel()
	s := faulty(t)
	s.policy("deny", `{`+onRouter+`,"from":[{"virtualNode":"front","headers":[{"name":"x-a","match":{"exact":"1"}}]}],"match":{"prefix":"/deny"},"action":{"access":{"rule":"deny"}}}`)
	s.eventually(403, "/deny", "x-a", "1")
	s.eventually(200, "/deny")
	s.eventually(200, "/", "x-a", "1")
	s.policy("closed", `{"target":{"virtualService":{"virtualServiceName":"`+service+`"}},"action":{"access":{"default":"closed"}}}`)
	s.eventually(403, "/")
	s.policy("allow", `{`+onRoute+`,"from":[{"virtualNode":"front"}],"action":{"access":{"rule":"allow"}}}`)
	s.eventually(200, "/")
	s.eventually(403, "/deny", "x-a", "1")
	s.setPolicy("allow", `{`+onRoute+`,"from":[{"virtualNode":"other"}],"action":{"access":{"rule":"allow"}}}`)
	s.eventually(403, "/")
	// A fault splits the route, and each part is still closed.
	s.policy("fault", `{`+onRouter+`,"match":{"prefix":"/fault"},`+aborting(100, 501)+`}`)
	s.eventually(501, "/fault")
	s.eventually(403, "/")
	s.dropPolicy("closed")
	s.eventually(200, "/")
}

// TestAccessConnectionsOut shows that callers' proxies close connections to a service for TCP
// that they refuse, before its server has said a word.
func TestAccessConnectionsOut(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.node("blue", nodeSpec(serveTCP(t, "blue"), "tcp", ""))
	s.routed("tcp")
	s.addRoute("all", "tcpRoute", `{}`, "", "blue", 1)
	s.caller()
	await := func(what, want string) {
		t.Helper()
		meshtest.Eventually(t, what, func() error {
			if got, err := s.hello(port); got != want {
				return fmt.Errorf("%q, %w", got, err)
			}
			return nil
		})
	}
	await("open", "blue")
	s.policy("others", `{`+onRoute+`,"from":[{"virtualNode":"other"},{"headers":[{"name":"x"}]}],"action":{"access":{"rule":"deny"}}}`)
	s.policy("front", `{`+onRoute+`,"from":[{"virtualNode":"front"}],"action":{"access":{"rule":"deny"}}}`)
	await("denied", "")
	s.dropPolicy("front")
	await("open but for others", "blue")
	s.policy("closed", `{`+onRouter+`,"action":{"access":{"default":"closed"}}}`)
	await("closed", "")
	s.policy("allow", `{`+onRouter+`,"from":[{"virtualNode":"front"}],"action":{"access":{"rule":"allow"}}}`)
	await("allowed", "blue")
}
