package bench

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// What a turn of BenchmarkGateway is.
const (
	gatewayTurn  = 2 * time.Second
	gatewayPairs = 10
	gatewayConns = 16
)

// BenchmarkGateway compares a virtual gateway in one pass through a connection manager,
// as Fairlead configures it, with the two passes that App Mesh made: the first hands
// each request over loopback to a second listener of the same Envoy. Both Envoys have
// one worker, the same routes, no access log and the same application; they are loaded in
// turns by 16 connections that wait for each answer (comparePairs says what is reported).
func BenchmarkGateway(b *testing.B) {
	meshtest.EnvoyPath(b)
	app := meshtest.Address(b)
	responder(b, net.JoinHostPort(app, "8080"), 2)
	one := gatewaySide(b, "one-pass", onePassGateway(b, app))
	two := gatewaySide(b, "two-passes", twoPassGateway(b, app), one.envoys...)
	comparePairs(b, one, two, gatewayPairs, gatewayTurn)
}

// gatewaySide is an Envoy that was started after others, ready for load.
func gatewaySide(b *testing.B, name, addr string, others ...int) *side {
	b.Helper()
	s := &side{name: name, addr: addr, request: request("GET /shop/cart/items?a=b", "shop.example.com"), envoys: envoys(b, others...)}
	if len(s.envoys) != 1 {
		b.Fatalf("%s has the Envoys %v, want one", s.name, s.envoys)
	}
	awaitAnswer(b, s)
	s.open(b, gatewayConns)
	return s
}

// onePassGateway runs a gateway of a control plane, and returns where it listens.
func onePassGateway(b *testing.B, app string) string {
	b.Helper()
	p := meshtest.Start(b)
	p.Put(b, "/meshes", `{"meshName":"bench"}`)
	p.Node(b, "bench", "blue", app, 8080)
	p.Routed(b, "bench", "cart.local", "cart", 8080,
		`{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":"blue","weight":1}]}}}`)
	p.Put(b, "/meshes/bench/virtualRouter/cart/routes",
		`{"routeName":"admin","spec":{"httpRoute":{"match":{"prefix":"/admin"},"action":{"weightedTargets":[{"virtualNode":"blue","weight":1}]}}}}`)
	p.Put(b, "/meshes/bench/virtualGateways", `{"virtualGatewayName":"edge","spec":{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}]}}`)
	p.Put(b, "/meshes/bench/virtualGateway/edge/gatewayRoutes",
		`{"gatewayRouteName":"cart","spec":{"httpRoute":{"match":{"prefix":"/shop/cart"},"action":{"target":{"virtualService":{"virtualServiceName":"cart.local"}}}}}}`)
	x := p.Proxy(b, meshtest.ProxyConfig{
		ARN:  "arn:aws:appmesh:" + meshtest.Region + ":" + meshtest.Account + ":mesh/bench/virtualGateway/edge",
		Bind: meshtest.Address(b), App: meshtest.Address(b),
	})
	x.Ready(b)
	return net.JoinHostPort(x.Bind, "8080")
}

// twoPassGateway runs an Envoy as App Mesh configured it, and returns where it listens.
func twoPassGateway(b *testing.B, app string) string {
	b.Helper()
	bind := meshtest.Address(b)
	file := filepath.Join(b.TempDir(), "envoy.yaml")
	meshtest.WriteFile(b, file, []byte(strings.NewReplacer("BIND", bind, "APP", app).Replace(twoPasses)))
	runEnvoy(b, bind, file)
	return net.JoinHostPort(bind, "8080")
}

// twoPasses is App Mesh's configuration of a gateway: every route of the way in leads to
// the Envoy's own way out, with the virtual service as host.
const twoPasses = `
admin:
  address: {socket_address: {address: BIND, port_value: 9901}}
static_resources:
  listeners:
  - name: lds_ingress_0.0.0.0_8080
    address: {socket_address: {address: BIND, port_value: 8080}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          normalize_path: true
          merge_slashes: true
          upgrade_configs: [{upgrade_type: websocket}]
          http_filters: &filters
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            name: rds_ingress_http_8080
            virtual_hosts:
            - name: self_redirect
              domains: ["*"]
              routes:
              - match: {prefix: /shop/cart/}
                route: &redirect {cluster: self_redirect, prefix_rewrite: /, host_rewrite_literal: cart.local, timeout: 15s}
              - match: {prefix: /shop/cart}
                route: *redirect
  - name: lds_egress_0.0.0.0_15001
    address: {socket_address: {address: BIND, port_value: 15001}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: egress
          upgrade_configs: [{upgrade_type: websocket}]
          http_filters: *filters
          route_config:
            name: rds_egress_http_15001
            virtual_hosts:
            - name: cart.local
              domains: [cart.local, "cart.local:15001"]
              routes:
              - match: {prefix: /admin}
                route: &target
                  cluster: cds_egress_bench_blue_http_8080
                  timeout: 15s
                  idle_timeout: 300s
                  retry_policy:
                    retry_on: connect-failure,refused-stream,reset,unavailable,retriable-status-codes
                    retriable_status_codes: [503]
                    num_retries: 2
                    retry_host_predicate:
                    - name: envoy.retry_host_predicates.previous_hosts
                      typed_config: {"@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}
                    host_selection_retry_max_attempts: 5
              - match: {prefix: /}
                route: *target
  clusters:
  - name: self_redirect
    type: STATIC
    connect_timeout: 0.25s
    circuit_breakers: &open
      thresholds: [{max_connections: 2147483647, max_pending_requests: 2147483647, max_requests: 2147483647, max_retries: 2147483647}]
    load_assignment:
      cluster_name: self_redirect
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: BIND, port_value: 15001}}}}]}]
  - name: cds_egress_bench_blue_http_8080
    type: STATIC
    connect_timeout: 1s
    circuit_breakers: *open
    load_assignment:
      cluster_name: cds_egress_bench_blue_http_8080
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: APP, port_value: 8080}}}}]}]
`
