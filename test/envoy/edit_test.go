package envoy

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// load sends requests at a steady rate until stopped.
type load struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	sent   int
	failed []string
	bodies map[string]int
}

// startLoad calls the service at 200 requests a second.
func (s *stage) startLoad() *load {
	return startLoad(s.t, func(int) (int, string, error) { return meshtest.Get(s.http, url("/")) })
}

// startLoad makes 200 calls a second, each with its number.
func startLoad(t *testing.T, call func(n int) (status int, body string, err error)) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{stop: cancel, bodies: map[string]int{}}
	l.wg.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				l.wg.Go(func() { l.one(call(n)) })
			}
		}
	})
	return l
}

func (l *load) one(status int, body string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	if err != nil || status != http.StatusOK {
		l.failed = append(l.failed, fmt.Sprintf("%s: %d %q %v", time.Now().Format("15:04:05.000"), status, body, err))
		return
	}
	l.bodies[body]++
}

// answers returns how many answers had a body so far.
func (l *load) answers(body string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bodies[body]
}

// end stops the load and fails the test if a request failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	if len(l.failed) > 0 {
		t.Errorf("%d of %d requests failed, the first: %s", len(l.failed), l.sent, strings.Join(l.failed[:min(len(l.failed), 10)], "\n"))
	}
	t.Logf("%d requests, answers: %v", l.sent, l.bodies)
}

// awaitShift waits until a version answers, and the others have stopped to.
func (l *load) awaitShift(t *testing.T, to string, from ...string) {
	t.Helper()
	meshtest.Eventually(t, "all requests go to "+to, func() error {
		before := map[string]int{}
		for _, f := range from {
			before[f] = l.answers(f)
		}
		had := l.answers(to)
		meshtest.Eventually(t, "20 more answers of "+to, func() error {
			if n := l.answers(to) - had; n < 20 {
				return fmt.Errorf("%d came", n)
			}
			return nil
		})
		for _, f := range from {
			if l.answers(f) != before[f] {
				return fmt.Errorf("%s still answers", f)
			}
		}
		return nil
	})
}

// badFlags are Envoy's response flags that mean that the mesh, not the application,
// failed a request.
var badFlags = regexp.MustCompile(`HTTP/1\.1" \d+ [A-Z,]*\b(NR|NC|UH|UF|UC)\b`)

// noMeshFailures fails the test if the front's access log shows a request that the mesh
// failed.
func (s *stage) noMeshFailures() {
	s.t.Helper()
	lines := 0
	for line := range strings.Lines(s.front.Log.String()) {
		if !strings.Contains(line, `"GET / HTTP/1.1"`) {
			continue
		}
		lines++
		if badFlags.MatchString(line) {
			s.t.Errorf("the mesh failed a request: %s", line)
		}
	}
	if lines == 0 {
		s.t.Error("the access log of front holds no request")
	}
}

func TestEditsFailNoRequest(t *testing.T) {
	t.Parallel()
	covers(t,
		"Route.httpRoute.action.weightedTargets.virtualNode",
		"VirtualNode.serviceDiscovery.dns.hostname",
		"VirtualNode.backends.virtualService.virtualServiceName",
		"VirtualNode.listeners.portMapping.{port,protocol}",
		"VirtualNode.logging.accessLog.file.path",
		"VirtualService.provider.{virtualNode.virtualNodeName,virtualRouter.virtualRouterName}",
		"VirtualRouter.listeners.portMapping.{port,protocol}",
	)
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.app("green", named("green")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	s.caller()
	s.awaitAnswer("/", http.StatusOK)
	offset := len(s.front.Log.String())
	l := s.startLoad()

	// To a target whose cluster is new to the caller, whose old cluster then goes.
	s.route(meshtest.Weights("green", 1))
	l.awaitShift(t, "green", "blue")
	// Back, through a split.
	s.route(meshtest.Weights("blue", 50, "green", 50))
	s.route(meshtest.Weights("blue", 1))
	l.awaitShift(t, "blue", "green")
	// A new version appears, takes all, and the old virtual node is deleted.
	s.app("red", named("red")).Ready(t)
	s.route(meshtest.Weights("red", 1))
	l.awaitShift(t, "red", "blue", "green")
	s.plane.Delete(t, "/meshes/test/virtualNodes/green")
	// A target found by a name that must be resolved first.
	redHost := hostOf(t, s, "red")
	s.plane.Node(t, "test", "named", "localhost", port)
	s.plane.Put(t, "/meshes/test/virtualNodes/named", `{"spec":`+meshtest.NodeSpec(redHost, port)+`}`)
	s.route(meshtest.Weights("named", 1))
	// The service changes its provider from the router to a node and back.
	s.plane.Put(t, "/meshes/test/virtualServices/"+service, `{"spec":{"provider":{"virtualNode":{"virtualNodeName":"blue"}}}}`)
	l.awaitShift(t, "blue", "red")
	s.plane.Put(t, "/meshes/test/virtualServices/"+service, `{"spec":{"provider":{"virtualRouter":{"virtualRouterName":"colour"}}}}`)
	l.awaitShift(t, "red", "blue")
	// Many edits in a row.
	for i := range 30 {
		s.route(meshtest.Weights("blue", i, "red", 30-i, "named", 1))
	}
	s.route(meshtest.Weights("blue", 1))
	l.awaitShift(t, "blue", "red")
	l.end(t)
	if strings.Contains(s.front.Log.String()[offset:], "gRPC config for") && strings.Contains(s.front.Log.String()[offset:], "rejected") {
		t.Error("Envoy refused a configuration")
	}
	s.noMeshFailures()
}

// An Envoy that speaks the older, state-of-the-world form of the protocol is moved from
// one cluster to another without a failed request as well.
func TestStateOfTheWorldEditsFailNoRequest(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.app("green", named("green")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	s.callerWith(func(bootstrap map[string]any) {
		bootstrap["dynamic_resources"].(map[string]any)["ads_config"].(map[string]any)["api_type"] = "GRPC"
	})
	s.awaitAnswer("/", http.StatusOK)
	l := s.startLoad()
	for range 3 {
		s.route(meshtest.Weights("green", 1))
		l.awaitShift(t, "green", "blue")
		s.route(meshtest.Weights("blue", 1))
		l.awaitShift(t, "blue", "green")
	}
	l.end(t)
	s.noMeshFailures()
	if log := s.plane.Log.String(); !strings.Contains(log, "delta=false") {
		t.Error("no proxy spoke state-of-the-world")
	}
}

// hostOf returns the address that a virtual node is found at.
func hostOf(t *testing.T, s *stage, node string) string {
	t.Helper()
	_, answer, err := s.plane.Call(t.Context(), http.MethodGet, "/meshes/test/virtualNodes/"+node, "")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`"hostname":"([^"]+)"`).FindStringSubmatch(answer)
	if m == nil {
		t.Fatalf("no hostname in %s", answer)
	}
	return m[1]
}
