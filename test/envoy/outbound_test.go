package envoy

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// The tests of the way out of a virtual node: what a client's Envoy makes of routes,
// targets and policies. Their applications have no Envoy of their own; a virtual node
// leads straight to each, so that it sees what the client's Envoy sends.

// nodeSpec returns the spec of a virtual node without backends, with one listener on the
// port of all applications; more is added to the listener.
func nodeSpec(host, protocol, more string) string {
	return fmt.Sprintf(`{"listeners":[{"portMapping":{"port":%d,"protocol":%q}%s}],"serviceDiscovery":{"dns":{"hostname":%q}}}`, port, protocol, more, host)
}

// node defines a virtual node.
func (s *stage) node(name, spec string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualNodes", fmt.Sprintf(`{"virtualNodeName":%q,"spec":%s}`, name, spec))
}

// updateNode replaces the spec of a virtual node.
func (s *stage) updateNode(name, spec string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualNodes/"+name, `{"spec":`+spec+`}`)
}

// provided defines a virtual service that a virtual node provides.
func (s *stage) provided(name, node string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualServices", fmt.Sprintf(
		`{"virtualServiceName":%q,"spec":{"provider":{"virtualNode":{"virtualNodeName":%q}}}}`, name, node))
}

// routed defines the service behind a router "colour" with one listener.
func (s *stage) routed(protocol string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualRouters", fmt.Sprintf(
		`{"virtualRouterName":"colour","spec":{"listeners":[{"portMapping":{"port":%d,"protocol":%q}}]}}`, port, protocol))
	s.plane.Put(s.t, "/meshes/test/virtualServices", fmt.Sprintf(
		`{"virtualServiceName":%q,"spec":{"provider":{"virtualRouter":{"virtualRouterName":"colour"}}}}`, service))
}

// addRoute adds a route of a kind to the router "colour". The rest begins with a comma,
// or is empty.
func (s *stage) addRoute(name, kind, match, rest string, namesAndWeights ...any) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualRouter/colour/routes",
		fmt.Sprintf(`{"routeName":%q,"spec":%s}`, name, routeSpec(kind, match, rest, namesAndWeights...)))
}

// setRoute replaces the spec of a route of the router "colour".
func (s *stage) setRoute(name, kind, match, rest string, namesAndWeights ...any) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualRouter/colour/routes/"+name,
		fmt.Sprintf(`{"spec":%s}`, routeSpec(kind, match, rest, namesAndWeights...)))
}

func routeSpec(kind, match, rest string, namesAndWeights ...any) string {
	var targets []string
	for i := 0; i+1 < len(namesAndWeights); i += 2 {
		targets = append(targets, fmt.Sprintf(`{"virtualNode":%q,"weight":%d}`, namesAndWeights[i], namesAndWeights[i+1]))
	}
	return fmt.Sprintf(`{%q:{"match":%s,"action":{"weightedTargets":[%s]}%s}}`, kind, match, strings.Join(targets, ","), rest)
}

// withPriority adds a priority to a route's spec, given as the rest of its kind.
func withPriority(priority int, spec string) string {
	return fmt.Sprintf(`{"priority":%d,%s`, priority, spec[1:])
}

// callerOf is caller for several services, with more in the spec of front.
func (s *stage) callerOf(more string, backends ...string) {
	s.t.Helper()
	s.startFront(s.defineCaller(more, backends...))
}

func (s *stage) defineCaller(more string, backends ...string) meshtest.ProxyConfig {
	s.t.Helper()
	spec := strings.TrimSuffix(meshtest.NodeSpec("", 0, backends...), "}") +
		`,"logging":{"accessLog":{"file":{"path":"/dev/stdout"}}}` + more + `}`
	s.node("front", spec)
	return meshtest.ProxyConfig{ARN: meshtest.ARN("test", "front"), Bind: meshtest.Address(s.t), App: meshtest.Address(s.t)}
}

// zone is a name server of a test, whose names have the addresses that the test says.
type zone struct {
	port int

	mu    sync.Mutex
	names map[string][]net.IP
	late  time.Duration
}

// newZone starts a name server until the test ends. It answers late.
func newZone(t *testing.T, late time.Duration) *zone {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	z := &zone{port: conn.LocalAddr().(*net.UDPAddr).Port, names: map[string][]net.IP{}, late: late}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := z.answer(buf[:n]); answer != nil {
				time.AfterFunc(z.late, func() { _, _ = conn.WriteTo(answer, from) })
			}
		}
	}()
	return z
}

// set gives a name its addresses.
func (z *zone) set(name string, addrs ...string) {
	var ips []net.IP
	for _, a := range addrs {
		ips = append(ips, net.ParseIP(a))
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.names[name+"."] = ips
}

func (z *zone) answer(question []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	m.Response = true
	q := m.Questions[0]
	z.mu.Lock()
	ips := z.names[q.Name.String()]
	z.mu.Unlock()
	for _, ip := range ips {
		header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
		switch v4 := ip.To4(); {
		case v4 != nil && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: [4]byte(v4)}})
		case v4 == nil && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: [16]byte(ip)}})
		}
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}

// resolver has an Envoy ask the name server.
func (z *zone) resolver(bootstrap map[string]any) {
	bootstrap["typed_dns_resolver_config"] = map[string]any{
		"name": "envoy.network.dns_resolver.cares",
		"typed_config": map[string]any{
			"@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
			"resolvers": []any{map[string]any{"socket_address": map[string]any{
				"protocol": "UDP", "address": "127.0.0.1", "port_value": z.port,
			}}},
		},
	}
}

// stat returns the value of one of an Envoy's counters or gauges, 0 if it has none.
func stat(x *meshtest.Proxy, name string) (int, error) {
	text, err := x.Admin("/stats?format=json&filter=^" + name + "$")
	if err != nil {
		return 0, err
	}
	var page struct {
		Stats []struct {
			Name  string
			Value json.Number
		}
	}
	if err := json.Unmarshal([]byte(text), &page); err != nil {
		return 0, fmt.Errorf("%w in %s", err, text)
	}
	for _, s := range page.Stats {
		if s.Name == name {
			n, err := s.Value.Int64()
			return int(n), err
		}
	}
	return 0, nil
}

// want makes a call of the service and compares status and body.
func (s *stage) want(req *http.Request, status int, body string) {
	s.t.Helper()
	got, text, err := meshtest.Do(s.http, req)
	if err != nil || got != status || body != "" && text != body {
		s.t.Errorf("%s %s %v: %d %q %v, want %d %q", req.Method, req.URL, req.Header, got, text, err, status, body)
	}
}

// request returns a request of the service, with headers given as names and values.
func (s *stage) request(method, path string, headers ...string) *http.Request {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, url(path), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}
