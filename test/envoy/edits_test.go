package envoy

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

var editCount = flag.Int("edits", 3, "how many edits of each kind TestEditsUnderLoad makes")

// editLate is how late names are resolved during every other edit.
const editLate = 300 * time.Millisecond

// A kind of edit: do makes the i-th one, which differs from the one before. Where seen
// is not nil, the edit is waited for until the Envoy that it returns was given something
// new; do may wait for more.
type editKind struct {
	name string
	do   func(e *edits, i int)
	seen func(e *edits) *meshtest.Proxy
}

// editKinds are all that people edit in a mesh that runs. Each starts from what edits.spec
// and newEdits set, and begin takes it back there.
var editKinds = []editKind{
	{"route", func(e *edits, i int) {
		e.route(strings.Replace(e.weights, `"retryPolicy"`, fmt.Sprintf(`"timeout":{"perRequest":{"unit":"s","value":%d}},"retryPolicy"`, 10+i%5), 1))
	}, atFront},
	{"another route", func(e *edits, i int) {
		if i%2 == 1 {
			e.plane.Delete(e.t, "/meshes/test/virtualRouter/colour/routes/more")
			return
		}
		e.plane.Put(e.t, "/meshes/test/virtualRouter/colour/routes", `{"routeName":"more","spec":`+
			strings.Replace(meshtest.Weights("green", 1), `{"prefix":"/"}`, `{"prefix":"/","method":"GET"}`, 1)+`}`)
	}, atFront},
	{"route target", func(e *edits, i int) {
		to, from := "green", "blue"
		if i%2 == 1 {
			to, from = from, to
		}
		e.route(meshtest.Weights(to, 1))
		e.awaitShift(e.t, to, from)
	}, nil},
	{"weights", func(e *edits, i int) { e.route(meshtest.Weights("blue", 50+i%40, "green", 50)) }, atFront},
	{"health check", func(e *edits, i int) {
		e.node("blue", nodeEdit{health: []string{
			healthCheck("/", 5000), healthCheck("/health", 5000), healthCheck("/health", 6000), "",
		}[i%4]})
	}, atFront},
	{"health check of a target of two", func(e *edits, i int) {
		if i == 0 {
			e.route(meshtest.Weights("blue", 1, "green", 1))
		}
		e.node("green", nodeEdit{health: []string{healthCheck("/", 5000), healthCheck("/", 7000), ""}[i%3]})
	}, atFront},
	{"outlier detection", func(e *edits, i int) {
		e.node("blue", nodeEdit{outliers: []string{outliers(5), outliers(7), ""}[i%3]})
	}, atFront},
	{"listener timeout", func(e *edits, i int) {
		e.node("blue", nodeEdit{timeout: fmt.Sprintf(`{"http":{"perRequest":{"unit":"s","value":%d}}}`, 10+i%5)})
	}, atBlue},
	{"connection pool", func(e *edits, i int) {
		e.node("blue", nodeEdit{pool: fmt.Sprintf(`{"http":{"maxConnections":%d}}`, 100+i%5)})
	}, atBlue},
	{"access log of a target", func(e *edits, i int) {
		e.node("blue", nodeEdit{log: accessLog(fmt.Sprintf("edit %d %%RESPONSE_CODE%%\\n", i%5))})
	}, atBlue},
	{"access log of the caller", func(e *edits, i int) {
		e.caller(fmt.Sprintf("%s %d", frontLog, i%5), service)
	}, atFront},
	{"host name", func(e *edits, i int) {
		e.node("blue", nodeEdit{host: []string{"blue2.test", "blue.test"}[i%2]})
	}, atFront},
	{"response type", func(e *edits, i int) {
		e.node("blue", nodeEdit{dns: []string{`,"responseType":"ENDPOINTS"`, `,"responseType":"LOADBALANCER"`, `,"ipPreference":"IPv4_ONLY"`}[i%3]})
	}, atFront},
	{"service provider", func(e *edits, i int) {
		e.provider([]string{`{"virtualNode":{"virtualNodeName":"green"}}`, viaRouter}[i%2])
		to, from := "green", "blue"
		if i%2 == 1 {
			to, from = from, to
		}
		e.awaitShift(e.t, to, from)
	}, nil},
	{"backend", func(e *edits, i int) {
		if i%2 == 0 {
			e.caller(frontLog, service, "other.test.local")
		} else {
			e.caller(frontLog, service)
		}
	}, atFront},
	{"router listener", func(e *edits, i int) {
		if i == 0 { // with several listeners a route must say which is meant
			e.route(strings.Replace(e.weights, `{"prefix":"/"}`, `{"prefix":"/","port":8080}`, 1))
		}
		e.router([]string{`,{"portMapping":{"port":8081,"protocol":"http"}}`, ""}[i%2])
	}, atFront},
	{"virtual node comes and goes", func(e *edits, i int) {
		e.plane.Put(e.t, "/meshes/test/virtualNodes", fmt.Sprintf(`{"virtualNodeName":"passing","spec":%s}`, nodeEdit{host: "green.test"}.spec("")))
		e.route(meshtest.Weights("passing", 1))
		e.awaitShift(e.t, "green", "blue")
		e.route(meshtest.Weights("blue", 1))
		e.plane.Delete(e.t, "/meshes/test/virtualNodes/passing")
		e.awaitShift(e.t, "blue", "green")
	}, nil},
	{"endpoint comes and goes", (*edits).instances, nil},
}

func atFront(e *edits) *meshtest.Proxy { return e.front }
func atBlue(e *edits) *meshtest.Proxy  { return e.blue }

const viaRouter = `{"virtualRouter":{"virtualRouterName":"colour"}}`

// frontLog is the format of front's access log: Envoy's own, as far as badFlags reads it.
const frontLog = `"%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_CLUSTER%`

// edits is a mesh under load that is edited: front calls the service, which blue answers.
type edits struct {
	*stage
	*load
	names   *meshtest.Names
	hosts   map[string]netip.Addr
	blue    *meshtest.Proxy
	weights string
	flushes int
	mapped  string // the service of the instances that come and go
	// frontMore are more members of front's spec, with a comma in front.
	frontMore string
}

func newEdits(t *testing.T) *edits {
	s := newStage(t)
	e := &edits{stage: s, names: meshtest.NewNames(), hosts: map[string]netip.Addr{}, weights: meshtest.Weights("blue", 1)}
	for _, name := range []string{"blue", "green"} {
		proxy := s.app(name, named(name))
		e.hosts[name] = netip.MustParseAddr(proxy.Bind)
		if name == "blue" {
			e.blue = proxy
		}
		e.node(name, nodeEdit{})
	}
	e.late(0)
	s.plane.Routed(t, "test", service, "colour", port, e.weights)
	s.plane.Put(t, "/meshes/test/virtualServices", `{"virtualServiceName":"other.test.local","spec":{"provider":{"virtualNode":{"virtualNodeName":"green"}}}}`)
	s.callerAsking(e.names)
	e.caller(frontLog, service)
	s.awaitAnswer("/", http.StatusOK)
	e.load = s.startLoad()
	e.awaitShift(t, "blue", "green")
	return e
}

// late has all names resolved with a delay.
func (e *edits) late(d time.Duration) {
	for name, addr := range e.hosts {
		e.names.SetLate(d, name+".test", addr)
		e.names.SetLate(d, name+"2.test", addr)
	}
}

// nodeEdit is what edits change of a virtual node; empty for what it has at first.
type nodeEdit struct {
	host, dns, health, outliers, timeout, pool, log string
}

// spec returns the spec of a node.
func (n nodeEdit) spec(name string) string {
	if n.host == "" {
		n.host = name + ".test"
	}
	listener := fmt.Sprintf(`{"portMapping":{"port":%d,"protocol":"http"}`, port)
	for field, value := range map[string]string{
		"healthCheck": n.health, "outlierDetection": n.outliers, "timeout": n.timeout, "connectionPool": n.pool,
	} {
		if value != "" {
			listener += fmt.Sprintf(`,%q:%s`, field, value)
		}
	}
	return fmt.Sprintf(`{"listeners":[%s}],"serviceDiscovery":{"dns":{"hostname":%q%s}}%s}`, listener, n.host, n.dns, n.log)
}

func (e *edits) node(name string, n nodeEdit) {
	e.t.Helper()
	e.plane.Put(e.t, "/meshes/test/virtualNodes/"+name, `{"spec":`+n.spec(name)+`}`)
}

func (e *edits) caller(format string, backends ...string) {
	e.t.Helper()
	e.plane.Put(e.t, "/meshes/test/virtualNodes/front",
		`{"spec":`+strings.TrimSuffix(meshtest.NodeSpec("", 0, backends...), "}")+
			accessLog(strings.ReplaceAll(format, `"`, `\"`)+`\n`)+e.frontMore+`}}`)
}

// router replaces the listeners of the service's router: the one on port, and more.
func (e *edits) router(more string) {
	e.t.Helper()
	e.plane.Put(e.t, "/meshes/test/virtualRouters/colour", fmt.Sprintf(`{"spec":{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}}%s]}}`, port, more))
}

func (e *edits) provider(provider string) {
	e.t.Helper()
	e.plane.Put(e.t, "/meshes/test/virtualServices/"+service, `{"spec":{"provider":`+provider+`}}`)
}

func accessLog(format string) string {
	return `,"logging":{"accessLog":{"file":{"path":"/dev/stdout","format":{"text":"` + format + `"}}}}`
}

func healthCheck(path string, interval int) string {
	return fmt.Sprintf(`{"protocol":"http","path":%q,"healthyThreshold":2,"unhealthyThreshold":2,"timeoutMillis":2000,"intervalMillis":%d}`, path, interval)
}

func outliers(errors int) string {
	return fmt.Sprintf(`{"maxServerErrors":%d,"interval":{"unit":"s","value":1},"baseEjectionDuration":{"unit":"s","value":1},"maxEjectionPercent":50}`, errors)
}

// Edits of every kind under steady load fail no request, without a retry, while names are
// resolved late in every other of them. More of them: -edits 200.
func TestEditsUnderLoad(t *testing.T) {
	t.Parallel()
	e := newEdits(t)
	for _, kind := range editKinds {
		t.Run(kind.name, func(t *testing.T) { e.run(t, kind) })
	}
	e.t = t
	e.end(t)
}

// run makes the edits of a kind, and checks the requests of that time.
func (e *edits) run(t *testing.T, kind editKind) {
	e.t = t
	e.begin()
	failed, logged := len(e.failures()), len(e.flushed())
	for i := range *editCount {
		e.late(time.Duration(i%2) * editLate)
		e.edit(kind, i)
		if t.Failed() {
			break
		}
	}
	meshtest.Eventually(t, "the caller's clusters are all warm", func() error {
		if n := sum(t, e.front, `cluster_manager.warming_clusters$`); n > 0 {
			return fmt.Errorf("%d are not", n)
		}
		return nil
	})
	e.more(20)
	if f := e.failures()[failed:]; len(f) > 0 {
		t.Errorf("%d requests failed, the first: %s", len(f), f[0])
	}
	var flagged, refused []string
	for line := range strings.Lines(e.flushed()[logged:]) {
		switch {
		case badFlags.MatchString(line):
			flagged = append(flagged, line)
		case strings.Contains(line, "rejected"):
			refused = append(refused, line)
		}
	}
	if len(flagged) > 0 {
		t.Errorf("the mesh failed %d requests, the first: %s", len(flagged), flagged[0])
	}
	if len(refused) > 0 {
		t.Errorf("Envoy refused a configuration: %s", refused[0])
	}
	for name, what := range map[string]string{"upstream_rq_retry": "were tried again", "lb_healthy_panic": "found no healthy host"} {
		if n := sum(t, e.front, `cluster\..*\.`+name+`$`); n > 0 {
			t.Errorf("%d requests %s", n, what)
		}
	}
}

// flushed returns front's log with all that was written to it by now: Envoy keeps lines
// back for seconds.
func (e *edits) flushed() string {
	e.t.Helper()
	e.flushes++
	mark := fmt.Sprintf("/flushed/%d", e.flushes)
	if status, body := e.get(mark); status != http.StatusOK {
		e.t.Fatalf("%s: %d %q", mark, status, body)
	}
	meshtest.Eventually(e.t, "the access log is written", func() error {
		if err := e.front.Post("/reopen_logs"); err != nil {
			return err
		}
		if !strings.Contains(e.front.Log.String(), mark) {
			return errors.New("not yet")
		}
		return nil
	})
	return e.front.Log.String()
}

// begin brings the mesh back to where every kind starts.
func (e *edits) begin() {
	e.t.Helper()
	e.late(0)
	e.node("blue", nodeEdit{})
	e.node("green", nodeEdit{})
	e.caller(frontLog, service)
	e.provider(viaRouter)
	e.router("")
	e.route(e.weights)
	if status, _, _ := e.plane.Call(e.t.Context(), http.MethodGet, "/meshes/test/virtualRouter/colour/routes/more", ""); status == http.StatusOK {
		e.plane.Delete(e.t, "/meshes/test/virtualRouter/colour/routes/more")
	}
	e.awaitShift(e.t, "blue", "green")
}

// edit makes one edit and waits until it has come to Envoy, and requests with it.
func (e *edits) edit(kind editKind, i int) {
	e.t.Helper()
	if kind.seen == nil {
		kind.do(e, i)
		return
	}
	x := kind.seen(e)
	before := sum(e.t, x, given)
	kind.do(e, i)
	meshtest.Eventually(e.t, fmt.Sprintf("edit %d has come to Envoy", i), func() error {
		if sum(e.t, x, given) == before {
			return fmt.Errorf("it has taken %d updates", before)
		}
		return nil
	})
	e.more(20)
}

// given are the statistics that count what an Envoy takes from its control plane.
const given = `(cluster_manager.cds|listener_manager.lds|\.rds\..*)\.update_success$`

// sum returns the sum of an Envoy's statistics whose names match.
func sum(t *testing.T, x *meshtest.Proxy, names string) (total int) {
	t.Helper()
	text, err := x.Admin("/stats?filter=" + strings.ReplaceAll(names, `\`, "%5C"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		var n int
		if _, value, ok := strings.Cut(line, ": "); ok {
			if _, err := fmt.Sscan(value, &n); err != nil {
				t.Fatalf("statistic %q: %v", line, err)
			}
		}
		total += n
	}
	return total
}

// more waits for answers that began after now.
func (l *load) more(n int) {
	had := l.total()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for l.total() < had+n {
		select {
		case <-tick.C:
		case <-deadline.C:
			return // the requests have failed, which is reported
		}
	}
}

// total returns how many requests have been answered or have failed.
func (l *load) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

// failures returns the requests that have failed so far.
func (l *load) failures() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}
