package envoy

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	neturl "net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// registering is a stage whose virtual node colour is discovered by the plane's own Cloud
// Map, where agents register their instances.
type registering struct {
	*stage
	namespace string // the id of test.local
	service   string // the ARN of its service colour
}

func newRegistering(t *testing.T, o meshtest.Options) *registering {
	t.Helper()
	meshtest.EnvoyPath(t) // skips before anything is started
	r := &registering{stage: &stage{t: t, plane: meshtest.StartWith(t, o)}}
	r.plane.Put(t, "/meshes", `{"meshName":"test"}`)
	r.namespace = r.plane.MakeNamespace(t, "test.local")
	r.service = r.plane.MakeService(t, r.namespace, "colour")
	return r
}

// define defines the virtual node, and the service that leads to it.
func (r *registering) define() {
	r.t.Helper()
	r.plane.Put(r.t, "/meshes/test/virtualNodes", `{"virtualNodeName":"colour","spec":`+mappedSpec("", "")+`}`)
	r.plane.Routed(r.t, "test", service, "colour", port, meshtest.Weights("colour", 1))
}

// agent starts an application behind an Envoy whose agent registers it.
func (r *registering) agent(name string, env ...string) *meshtest.Proxy {
	r.t.Helper()
	return r.plane.Proxy(r.t, meshtest.ProxyConfig{
		ARN: meshtest.ARN("test", "colour"), Bind: meshtest.Address(r.t), App: meshtest.Serve(r.t, port, named(name)),
		Env: append([]string{"FAIRLEAD_API_ENDPOINT=" + r.plane.URL(), "FAIRLEAD_REGISTER_SERVICE=test.local/colour", "FAIRLEAD_REGISTER_LEASE_SECONDS=10"}, env...),
	})
}

// registered returns the instance of a proxy, and whether it is registered.
func (r *registering) registered(x *meshtest.Proxy) (mesh.Instance, bool) {
	all, _ := r.plane.Server().Registry().Instances(colours)
	for _, i := range all {
		if i.IPv4 == x.Bind {
			return i, true
		}
	}
	return mesh.Instance{}, false
}

// await waits until a proxy's instance is registered, or is not.
func (r *registering) await(x *meshtest.Proxy, want bool) {
	r.t.Helper()
	meshtest.Eventually(r.t, fmt.Sprintf("the instance at %s is registered: %v", x.Bind, want), func() error {
		if _, got := r.registered(x); got != want {
			return fmt.Errorf("it is: %v", got)
		}
		return nil
	})
}

// awaitLog waits for a text in a proxy's log.
func (r *registering) awaitLog(x *meshtest.Proxy, text string) {
	r.t.Helper()
	meshtest.Eventually(r.t, fmt.Sprintf("the log says %q", text), func() error {
		if !strings.Contains(x.Log.String(), text) {
			return errors.New("it does not")
		}
		return nil
	})
}

// callIn calls a proxy's listener, as its peers do. closes says that the listener asks them
// to come no more.
func callIn(x *meshtest.Proxy) (closes bool, err error) {
	return askProxy(x, http.MethodGet, port, "/")
}

// askProxy makes a request to a port of a proxy, which must be answered with 200.
func askProxy(x *meshtest.Proxy, method string, port int, path string) (closes bool, err error) {
	req, err := http.NewRequest(method, fmt.Sprintf("http://%s:%d%s", x.Bind, port, path), nil)
	if err != nil {
		return false, err
	}
	c := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("answered %s", resp.Status)
	}
	return resp.Close, nil
}

// barrier stands before a plane's API and holds the calls of an operation back.
type barrier struct {
	url string

	mu   sync.Mutex
	held string        // the operation
	came chan struct{} // closed when a call is held
	open chan struct{} // closed to let it pass
}

func newBarrier(t *testing.T, plane *meshtest.Plane) *barrier {
	t.Helper()
	g := &barrier{came: make(chan struct{}), open: make(chan struct{})}
	to, err := neturl.Parse(plane.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	l := listen(t, "127.0.0.1", 0)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		g.pass(req)
		proxy.ServeHTTP(w, req)
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	g.url = "http://" + l.Addr().String()
	return g
}

// hold holds the next call of an operation back until release.
func (g *barrier) hold(operation string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = operation
}

func (g *barrier) release() { close(g.open) }

func (g *barrier) pass(req *http.Request) {
	g.mu.Lock()
	held := g.held != "" && path.Ext(req.Header.Get("X-Amz-Target")) == "."+g.held
	if held {
		g.held = ""
		close(g.came)
	}
	g.mu.Unlock()
	if !held {
		return
	}
	select {
	case <-g.open:
	case <-req.Context().Done():
	}
}

// An agent registers its instance when Envoy serves and not before, and takes it out before
// Envoy begins to drain.
func TestAgentRegistersWhileItServes(t *testing.T) {
	t.Parallel()
	r := newRegistering(t, meshtest.Options{})
	served := make(chan error, 8)
	var x *meshtest.Proxy
	started := make(chan struct{})
	stop := r.plane.Server().Registry().Subscribe(func(mesh.InstancesKey) {
		go func() {
			<-started
			_, err := callIn(x)
			served <- err
		}()
	})
	defer stop()
	g := newBarrier(t, r.plane)
	// There is no virtual node yet, so that Envoy gets nothing.
	x = r.agent("blue", "FAIRLEAD_API_ENDPOINT="+g.url, "FAIRLEAD_REGISTER_PORT=8080", "FAIRLEAD_REGISTER_ATTRIBUTES=version=1,stage=live", "FAIRLEAD_AVAILABILITY_ZONE=us-east-1a")
	close(started)
	r.awaitLog(x, "refuses the stream")
	if i, ok := r.registered(x); ok {
		t.Fatalf("registered before Envoy has a configuration: %+v", i)
	}
	r.define()
	r.await(x, true)
	if err := <-served; err != nil {
		t.Errorf("when it was registered, Envoy did not serve: %v", err)
	}
	i, _ := r.registered(x)
	if i.Port != port || i.Zone != "us-east-1a" || i.Attributes["version"] != "1" || i.Attributes["stage"] != "live" ||
		!strings.HasPrefix(i.ID, "colour.") || !strings.HasSuffix(i.ID, x.Bind) {
		t.Errorf("registered as %+v", i)
	}
	r.caller()
	r.awaitAnswer("/", http.StatusOK)

	g.hold("DeregisterInstance")
	x.Drain()
	<-g.came
	for range 3 {
		if closes, err := callIn(x); err != nil || closes {
			t.Errorf("before it is deregistered Envoy does not serve as ever: %v, closes: %v", err, closes)
		}
	}
	if strings.Contains(x.Log.String(), "draining Envoy") {
		t.Error("Envoy drains before the instance is deregistered")
	}
	g.release()
	r.await(x, false)
	r.awaitLog(x, "draining Envoy")
	if _, err := callIn(x); err != nil {
		t.Errorf("while it drains: %v", err)
	}
	<-x.Ended()
	if n := strings.Count(x.Log.String(), "this instance is"); n != 2 {
		t.Errorf("the log has %d lines of the registration, want one a change: 2", n)
	}
}

// An end is not held up for long by an API that does not answer.
func TestDeregistrationIsWaitedForOnlyAWhile(t *testing.T) {
	t.Parallel()
	r := newRegistering(t, meshtest.Options{})
	r.define()
	g := newBarrier(t, r.plane)
	x := r.agent("blue", "FAIRLEAD_API_ENDPOINT="+g.url)
	r.await(x, true)
	r.plane.Stop(t)
	g.hold("DeregisterInstance")
	x.Drain()
	<-g.came
	r.awaitLog(x, "draining Envoy")
	meshtest.Eventually(t, "the agent has ended", func() error {
		select {
		case <-x.Ended():
			return nil
		default:
			return errors.New("it runs")
		}
	})
	if !strings.Contains(x.Log.String(), "this instance could not be deregistered") {
		t.Error("the log does not say that the instance is still registered")
	}
	g.release()
}

// An instance whose agent is killed goes when its lease is over; others, which renew
// theirs, stay.
func TestKilledAgentsInstanceGoes(t *testing.T) {
	t.Parallel()
	r := newRegistering(t, meshtest.Options{})
	r.define()
	stays := r.agent("stays")
	r.await(stays, true) // the earlier one, which would go first if it did not renew its lease
	killed := r.agent("killed")
	r.await(killed, true)
	r.caller()
	l := r.startLoad()
	l.awaitShift(t, "killed")
	l.awaitShift(t, "stays")
	killed.Kill()
	if _, ok := r.registered(killed); !ok {
		t.Error("the killed instance was deregistered by someone")
	}
	r.await(killed, false)
	l.awaitShift(t, "stays", "killed")
	if _, ok := r.registered(stays); !ok {
		t.Error("the other instance has gone too")
	}
	l.stop()
	l.wg.Wait()
}

// While the control plane is away the agent goes on trying, and is heard when it is back.
func TestRegistrationOutlivesTheControlPlane(t *testing.T) {
	t.Parallel()
	r := newRegistering(t, meshtest.Options{TLS: true})
	r.define()
	x := r.agent("blue")
	r.await(x, true)
	i, _ := r.registered(x)
	r.plane.Stop(t)
	r.awaitLog(x, "cannot be registered now")
	r.plane.Run(t)
	if _, ok := r.registered(x); !ok {
		t.Error("the instance was lost with the server's restart")
	}
	id := path.Base(r.service)
	_, err := r.plane.CloudMap().DeregisterInstance(t.Context(), &servicediscovery.DeregisterInstanceInput{ServiceId: &id, InstanceId: &i.ID})
	if err != nil {
		t.Fatal(err)
	}
	r.await(x, true)
	if n := strings.Count(x.Log.String(), "cannot be registered now"); n != 1 {
		t.Errorf("the log says %d times that the control plane is away, want 1", n)
	}
}

var envoyPID = regexp.MustCompile(`msg="Envoy started".* pid=(\d+)`)

// An Envoy that hangs, or is told to fail its health check, is taken out and comes back.
func TestInstanceFollowsEnvoysHealth(t *testing.T) {
	t.Parallel()
	r := newRegistering(t, meshtest.Options{})
	r.define()
	x := r.agent("blue")
	r.await(x, true)
	post(t, x, "/healthcheck/fail")
	r.await(x, false)
	r.awaitLog(x, `reason="Envoy is not ready any more"`) // and not because its lease was over
	post(t, x, "/healthcheck/ok")
	r.await(x, true)
	m := envoyPID.FindStringSubmatch(x.Log.String())
	if m == nil {
		t.Fatal("the log does not say which process Envoy is")
	}
	pid, _ := strconv.Atoi(m[1])
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.await(x, false)
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.await(x, true)
}

// post tells an Envoy's admin interface to do something.
func post(t *testing.T, x *meshtest.Proxy, path string) {
	t.Helper()
	if _, err := askProxy(x, http.MethodPost, 9901, path); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// A refusal is said clearly and harms Envoy in nothing; when its reason is gone, the
// instance is registered.
func TestRefusedRegistration(t *testing.T) {
	t.Parallel()
	r := newRegistering(t, meshtest.Options{})
	r.define()
	admin := r.plane.Signed(t)
	key := func(c aws.Credentials) string { return "AWS_ACCESS_KEY_ID=" + c.AccessKeyID }
	secret := func(c aws.Credentials) string { return "AWS_SECRET_ACCESS_KEY=" + c.SecretAccessKey }
	const stream = `{"Effect":"Allow","Action":"appmesh:StreamAggregatedResources","Resource":"*"}`
	poor := admin.User(t, "poor", `{"Version":"2012-10-17","Statement":[`+stream+`]}`)
	enough := admin.User(t, "enough", fmt.Sprintf(`{"Version":"2012-10-17","Statement":[%s,{"Effect":"Allow",`+
		`"Action":["servicediscovery:RegisterInstance","servicediscovery:DeregisterInstance"],"Resource":%q}]}`, stream, r.service))

	early := r.agent("early", "FAIRLEAD_REGISTER_SERVICE=test.local/later")
	forbidden := r.agent("forbidden", key(poor), secret(poor), "FAIRLEAD_REGISTER_SERVICE="+path.Base(r.service))
	allowed := r.agent("allowed", key(enough), secret(enough), "FAIRLEAD_REGISTER_SERVICE="+r.service)
	for x, says := range map[*meshtest.Proxy][]string{
		early:     {"refuses to register this instance", `there is no service \"later\" in namespace \"test.local\"`, "FAIRLEAD_REGISTER_SERVICE"},
		forbidden: {"refuses to register this instance", "AccessDeniedException", "servicediscovery:RegisterInstance", "policies"},
	} {
		for _, text := range says {
			r.awaitLog(x, text)
		}
		if _, err := callIn(x.Ready(t)); err != nil {
			t.Errorf("Envoy does not serve: %v", err)
		}
	}
	r.await(allowed, true)
	r.plane.MakeService(t, r.namespace, "later")
	meshtest.Eventually(t, "the instance is registered with the new service", func() error {
		if all, _ := r.plane.Server().Registry().Instances(meshtest.Key("test.local", "later")); len(all) != 1 {
			return fmt.Errorf("there are %v", all)
		}
		return nil
	})
	for _, x := range []*meshtest.Proxy{early, forbidden} {
		if n := strings.Count(x.Log.String(), "refuses to register"); n != 1 {
			t.Errorf("the refusal is said %d times, want once", n)
		}
	}
	allowed.Drain()
	r.await(allowed, false)
}
