package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
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
// turns by 16 connections that wait for each answer. It reports requests a second and
// the percentiles of both, the processor time of each Envoy for a request, and the mean
// of the ratios of the pairs of turns with half the width of its 95 % confidence interval.
func BenchmarkGateway(b *testing.B) {
	app := startApp(b)
	one, two := onePassGateway(b, app), twoPassGateway(b, app)
	for b.Loop() {
		compareGateways(b, one, two)
	}
}

// gatewayEnvoy is an Envoy under load.
type gatewayEnvoy struct {
	addr     string
	pid      int
	requests int
	spent    time.Duration // of the processor
	took     []time.Duration
	rates    []float64 // of each turn
}

func compareGateways(b *testing.B, one, two *gatewayEnvoy) {
	b.Helper()
	one.rates, two.rates = nil, nil
	for i := range gatewayPairs {
		turns := []*gatewayEnvoy{one, two}
		if i%2 == 1 {
			slices.Reverse(turns)
		}
		for _, e := range turns {
			e.turn(b)
		}
	}
	ratios := make([]float64, gatewayPairs)
	for i := range ratios {
		ratios[i] = one.rates[i] / two.rates[i]
	}
	mean, half := confidence(ratios)
	b.ReportMetric(mean, "rate-ratio")
	b.ReportMetric(half, "rate-ratio±")
	b.ReportMetric(two.perRequest()/one.perRequest(), "cpu-ratio")
	for name, e := range map[string]*gatewayEnvoy{"one": one, "two": two} {
		rate, _ := confidence(e.rates)
		b.ReportMetric(rate, name+"-req/s")
		b.ReportMetric(e.perRequest(), name+"-cpu-µs/req")
		report(b, e.took, name+"-p50-ms", 50)
		report(b, e.took, name+"-p99-ms", 99)
	}
}

func (e *gatewayEnvoy) perRequest() float64 {
	return float64(e.spent.Microseconds()) / float64(e.requests)
}

// turn loads an Envoy for a while.
func (e *gatewayEnvoy) turn(b *testing.B) {
	b.Helper()
	var wg sync.WaitGroup
	took, errs := make([][]time.Duration, gatewayConns), make([]error, gatewayConns)
	before, began := cpuOf(b, e.pid), time.Now()
	for i := range gatewayConns {
		wg.Go(func() { took[i], errs[i] = loadUntil(e.addr, began.Add(gatewayTurn)) })
	}
	wg.Wait()
	passed := time.Since(began)
	e.spent += cpuOf(b, e.pid) - before
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
	all := slices.Concat(took...)
	e.took = append(e.took, all...)
	e.requests += len(all)
	e.rates = append(e.rates, float64(len(all))/passed.Seconds())
}

const gatewayRequest = "GET /shop/cart/items?a=b HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: bench\r\n\r\n"

// loadUntil sends requests over one connection, each once the last is answered, until a
// deadline, and returns how long each took.
func loadUntil(addr string, deadline time.Time) ([]time.Duration, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	var took []time.Duration
	for at := time.Now(); at.Before(deadline); {
		if _, err := io.WriteString(conn, gatewayRequest); err != nil {
			return nil, err
		}
		if err := readAnswer(in); err != nil {
			return nil, err
		}
		now := time.Now()
		took = append(took, now.Sub(at))
		at = now
	}
	return took, nil
}

// readAnswer reads the application's answer.
func readAnswer(in *bufio.Reader) error {
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("answered %q", line)
		}
		if len(line) == 2 {
			_, err := in.Discard(len(appBody))
			return err
		}
	}
}

const appBody = "ok"

// startApp runs an application that does as little as it can, and returns its address.
func startApp(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", meshtest.Address(b)+":8080")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", len(appBody), appBody))
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					for line := []byte("-"); len(line) != 2; {
						if line, err = in.ReadSlice('\n'); err != nil {
							return
						}
					}
					if _, err := conn.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// onePassGateway runs a gateway of a control plane.
func onePassGateway(b *testing.B, app string) *gatewayEnvoy {
	b.Helper()
	host, _, _ := net.SplitHostPort(app)
	p := meshtest.Start(b)
	p.Put(b, "/meshes", `{"meshName":"bench"}`)
	p.Node(b, "bench", "blue", host, 8080)
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
	m := started.FindStringSubmatch(x.Log.String())
	if m == nil {
		b.Fatal("the agent does not say which process its Envoy is")
	}
	pid, err := strconv.Atoi(m[1])
	if err != nil {
		b.Fatal(err)
	}
	return answering(b, &gatewayEnvoy{addr: x.Bind + ":8080", pid: pid})
}

// twoPassGateway runs an Envoy as App Mesh configured it.
func twoPassGateway(b *testing.B, app string) *gatewayEnvoy {
	b.Helper()
	bind := meshtest.Address(b)
	host, _, _ := net.SplitHostPort(app)
	file := filepath.Join(b.TempDir(), "envoy.yaml")
	if err := os.WriteFile(file, []byte(strings.NewReplacer("BIND", bind, "APP", host).Replace(twoPasses)), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(meshtest.EnvoyPath(b), "-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "error")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // how it ends does not matter
	})
	return answering(b, &gatewayEnvoy{addr: bind + ":8080", pid: cmd.Process.Pid})
}

// answering waits until an Envoy passes a request on.
func answering(b *testing.B, e *gatewayEnvoy) *gatewayEnvoy {
	b.Helper()
	meshtest.Eventually(b, e.addr+" answers", func() error {
		took, err := loadUntil(e.addr, time.Now().Add(time.Millisecond))
		if err == nil && len(took) == 0 {
			err = errors.New("no answer came")
		}
		return err
	})
	return e
}

// started finds the process of an Envoy in the log of its agent.
var started = regexp.MustCompile(`msg="Envoy started".* pid=(\d+)`)

// cpuOf returns the processor time that a process has had.
func cpuOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// The name may hold anything; what follows its bracket does not.
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	user, err := strconv.Atoi(f[11])
	if err != nil {
		b.Fatal(err)
	}
	system, err := strconv.Atoi(f[12])
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // Linux counts in hundredths of a second
}

// confidence returns the mean of values and half the width of its 95 % confidence
// interval.
func confidence(v []float64) (mean, half float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	var squares float64
	for _, x := range v {
		squares += (x - mean) * (x - mean)
	}
	const t9 = 2.262 // Student's t for ten values
	return mean, t9 * math.Sqrt(squares/float64(len(v)-1)/float64(len(v)))
}

// twoPasses is App Mesh's configuration of a gateway: every route of the way in leads to
// the Envoy's own way out, with the virtual service as host.
const twoPasses = `
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
