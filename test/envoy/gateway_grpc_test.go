package envoy

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// callGRPC makes a request that looks like a call of gRPC, and returns the body of its
// answer: a call that no route takes has none.
func (d *door) callGRPC(host, path string, headers ...string) string {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, fmt.Sprintf("http://%s:%d%s", d.proxy.Bind, d.port, path), http.NoBody)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Host = host
	req.Header.Set("content-type", "application/grpc")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	status, body, err := meshtest.Do(d.client, req)
	if err != nil {
		d.t.Fatal(err)
	}
	if status != http.StatusOK {
		return ""
	}
	return body
}

// A gateway route for gRPC matches the service, its metadata and the host, and nothing
// but gRPC.
func TestGatewayGRPCConditions(t *testing.T) {
	t.Parallel()
	covers(t,
		"GatewayRoute.grpcRoute.match.{serviceName,hostname.exact,hostname.suffix,metadata.name,metadata.invert}",
		"GatewayRoute.grpcRoute.match.metadata.match.{exact,prefix,suffix,regex,range}",
		"GatewayRoute.grpcRoute.action.{rewrite.hostname.defaultTargetHostname,target.virtualService.virtualServiceName}",
	)
	s := newStage(t)
	for _, name := range []string{"yes", "no"} {
		s.straight(name, "grpc", "", echoing(name))
		s.leadsTo(name+".local", name)
	}
	c := s.defineGateway(onPort("grpc"))
	route := func(name, match, service, rewrite string) {
		s.gatewayRouteOf("grpcRoute", name, match, service, rewrite)
	}
	route("cart", `{"serviceName":"shop.Cart"}`, "no.local", "")
	route("whole", `{"hostname":{"exact":"shop.example.com"}}`, "yes.local", "")
	route("suffix", `{"hostname":{"suffix":".example.org"}}`, "yes.local", "")
	route("kept", `{"serviceName":"shop.Kept"}`, "yes.local", `{"hostname":{"defaultTargetHostname":"DISABLED"}}`)
	forms := []struct{ name, match, meets, fails string }{
		{"exact", `"match":{"exact":"a-value"}`, "a-value", "a"},
		{"prefix", `"match":{"prefix":"a-"}`, "a-value", "b"},
		{"suffix", `"match":{"suffix":"-value"}`, "a-value", "b"},
		{"regex", `"match":{"regex":"a-[a-z]+"}`, "a-value", "a-1"},
		{"range", `"match":{"range":{"start":1,"end":10}}`, "1", "10"},
	}
	for _, f := range forms {
		for prefix, invert := range map[string]bool{"is-": false, "not-": true} {
			match := fmt.Sprintf(`{"serviceName":"shop.Cart","metadata":[{"name":%q,"invert":%t,%s}]}`, prefix+f.name, invert, f.match)
			route(prefix+f.name, match, "yes.local", "")
		}
	}
	d := s.startGateway(c)
	d.client.Transport = http2Only()
	check := func(want, host, path string, headers ...string) {
		t.Helper()
		if got := d.callGRPC(host, path, headers...); got != want {
			t.Errorf("a call of %s at %s with %v: %q, want %q", path, host, headers, got, want)
		}
	}
	yes, no := "yes yes.local /shop.Cart/Add", "no no.local /shop.Cart/Add"
	for _, f := range forms {
		check(yes, "a", "/shop.Cart/Add", "is-"+f.name, f.meets)
		check(no, "a", "/shop.Cart/Add", "is-"+f.name, f.fails)
		check(no, "a", "/shop.Cart/Add", "not-"+f.name, f.meets)
		check(yes, "a", "/shop.Cart/Add", "not-"+f.name, f.fails)
	}
	check("", "a", "/shop.Carts/Add")
	check("", "a", "/shop.Cart/Add", "content-type", "text/plain")
	check("no no.local /shop.Cart/Add", "a", "/shop.Cart/Add", "content-type", "application/grpc+proto")
	check("yes yes.local /other/Call", "shop.example.com", "/other/Call")
	check("", "www.example.com", "/other/Call")
	check("yes yes.local /other/Call", "www.example.org", "/other/Call")
	check("", "example.org", "/other/Call")
	check("yes kept.example:8080 /shop.Kept/Call", "kept.example:8080", "/shop.Kept/Call")
}
