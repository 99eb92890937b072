//go:build linux

package redirected

import (
	"flag"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

var editCount = flag.Int("edits", 2, "how many edits of each kind TestEditsUnderLoad makes")

// load calls the service at a steady rate, over connections that are kept and over new
// ones in turn, until it is ended.
type load struct {
	stop chan struct{}
	wg   sync.WaitGroup

	mu     sync.Mutex
	sent   int
	failed []string
}

// startLoad makes 100 calls a second.
func (s *stage) startLoad() *load {
	l := &load{stop: make(chan struct{})}
	clients := []*http.Client{s.front.HTTP("tcp4"), fresh(s.front, "tcp4")}
	l.wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-l.stop:
				return
			case <-tick.C:
				l.wg.Go(func() { l.one(clients[i%2], i%2 == 1) })
			}
		}
	})
	return l
}

func (l *load) one(c *http.Client, isNew bool) {
	err := answers(c, serviceURL, http.StatusOK, "")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	if err != nil {
		l.failed = append(l.failed, fmt.Sprintf("over a new connection %t: %v", isNew, err))
	}
}

func (l *load) state() (sent int, failed []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent, l.failed
}

// more waits for more answers.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	had, _ := l.state()
	meshtest.Eventually(t, fmt.Sprintf("%d more calls are answered", n), func() error {
		if sent, _ := l.state(); sent < had+n {
			return fmt.Errorf("%d were", sent-had)
		}
		return nil
	})
}

func (l *load) end() {
	close(l.stop)
	l.wg.Wait()
}

// editKinds are the edits that change listeners of redirected proxies; what changes
// routes and clusters only is the same for bound ones. The IP preference is not among
// them: it changes the address of the listeners, and with the old ones' sockets go the
// connections that Envoy had not accepted yet.
var editKinds = []struct {
	name string
	do   func(s *stage, i int)
}{
	{"backend on another port", func(s *stage, i int) {
		s.edit("front", frontSpec([]string{service, "more.test.local"}[:1+(i+1)%2]...))
	}},
	{"egress filter", func(s *stage, i int) {
		s.editMesh(fmt.Sprintf(`{"egressFilter":{"type":%q}}`, []string{"ALLOW_ALL", "DROP_ALL"}[i%2]))
	}},
	{"another listener", func(s *stage, i int) {
		more := []string{`,{"portMapping":{"port":8081,"protocol":"http"}}`, ""}[i%2]
		s.edit("blue", strings.Replace(meshtest.NodeSpec("blue", port), `}}]`, `}}`+more+`]`, 1))
	}},
	{"access log of the caller", func(s *stage, i int) {
		s.edit("front", strings.Replace(frontSpec(service), "/dev/stdout", []string{"/dev/null", "/dev/stdout"}[i%2], 1))
	}},
}

func (s *stage) editMesh(spec string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test", `{"spec":`+spec+`}`)
}

func (s *stage) edit(node, spec string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualNodes/"+node, `{"spec":`+spec+`}`)
}

// Edits that change the listeners of redirected proxies fail no request, be its connection
// new or old. More of them: -edits 200.
func TestEditsUnderLoad(t *testing.T) {
	t.Parallel()
	s := newStage(t, `{}`)
	_, blue := s.app("blue", named("blue"))
	s.plane.Routed(t, "test", service, "colour", port,
		strings.Replace(meshtest.Weights("blue", 1), `"weight":1`, `"weight":1,"port":8080`, 1)) // as several listeners need
	s.node("more", meshtest.NodeSpec("blue", 9090))
	s.plane.Put(t, "/meshes/test/virtualServices", `{"virtualServiceName":"more.test.local","spec":{"provider":{"virtualNode":{"virtualNodeName":"more"}}}}`)
	s.caller(service)
	await(t, s.front.HTTP("tcp"), serviceURL, http.StatusOK, "blue")
	l := s.startLoad()
	defer l.end()
	for _, kind := range editKinds {
		t.Run(kind.name, func(t *testing.T) {
			s.t = t
			l.more(t, 10)
			_, failed := l.state()
			before := len(failed)
			for i := range *editCount {
				given := listenersGiven(t, s.proxy) + listenersGiven(t, blue)
				kind.do(s, i)
				meshtest.Eventually(t, "an Envoy has new listeners", func() error {
					if listenersGiven(t, s.proxy)+listenersGiven(t, blue) == given {
						return errStill
					}
					return nil
				})
				l.more(t, 20)
			}
			l.check(t, before)
		})
	}
	s.t = t
	// What was replaced is drained, and then closed.
	for _, x := range []*meshtest.Proxy{s.proxy, blue} {
		settle(t, x)
	}
	l.more(t, 10)
	l.check(t, 0)
}

// check fails the test if calls have failed, but for some that are known.
func (l *load) check(t *testing.T, known int) {
	t.Helper()
	if sent, failed := l.state(); len(failed) > known {
		t.Errorf("%d of %d calls failed, the first %s", len(failed)-known, sent, failed[known])
	}
}

// listenersGiven counts what an Envoy has taken of listeners.
func listenersGiven(t *testing.T, x *meshtest.Proxy) int {
	return count(t, x, "listener_manager.lds.update_success")
}

// settle waits until an Envoy has neither listeners nor filter chains that it drains.
func settle(t *testing.T, x *meshtest.Proxy) {
	t.Helper()
	meshtest.Eventually(t, "nothing is drained", func() error {
		if n := count(t, x, "listener_manager.total_listeners_draining") + count(t, x, "listener_manager.total_filter_chains_draining"); n > 0 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}
