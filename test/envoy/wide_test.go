package envoy

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// manyServices is more than a route configuration holds by itself: beyond, virtual hosts
// are resources of their own.
const manyServices = 101

// wideService names a service of a node that has many.
func wideService(i int) string { return fmt.Sprintf("s%03d.test.local", i) }

// wide defines applications blue and green and many services that blue provides, and
// returns the services' names.
func (s *stage) wide() []string {
	s.t.Helper()
	s.app("blue", named("blue")).Ready(s.t)
	s.app("green", named("green")).Ready(s.t)
	names := make([]string, manyServices)
	for i := range names {
		names[i] = wideService(i)
		s.provided(names[i], "blue")
	}
	return names
}

// provide has another node provide a service.
func (s *stage) provide(service, node string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualServices/"+service, fmt.Sprintf(`{"spec":{"provider":{"virtualNode":{"virtualNodeName":%q}}}}`, node))
}

// answerOf calls a service.
func (s *stage) answerOf(service string) (int, string, error) {
	return meshtest.Get(s.http, fmt.Sprintf("http://%s:%d/", service, port))
}

// awaitServices waits until services answer with a status, and one of 200 with a name.
func (s *stage) awaitServices(status int, body string, services ...string) {
	s.t.Helper()
	for _, service := range services {
		meshtest.Eventually(s.t, fmt.Sprintf("%s answers %d %s", service, status, body), func() error {
			got, said, err := s.answerOf(service)
			if err == nil && (got != status || status == http.StatusOK && said != body) {
				return fmt.Errorf("answered %d %q", got, said)
			}
			return err
		})
	}
}

// apart returns how many times the routes' virtual hosts have come as resources of their own.
func (s *stage) apart() int {
	s.t.Helper()
	return sum(s.t, s.front, "vhds.*config_reload")
}

// A node with very many services has their virtual hosts one by one: each change is obeyed
// as it is elsewhere.
func TestManyServices(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	names := s.wide()
	s.callerOf("", names...)
	s.awaitServices(http.StatusOK, "blue", names...)
	if s.apart() == 0 {
		t.Fatal("the virtual hosts came as parts of their route configuration")
	}
	last := names[len(names)-1]

	s.provide(last, "green")
	s.awaitServices(http.StatusOK, "green", last)
	s.awaitServices(http.StatusOK, "blue", names[:len(names)-1]...)

	// One goes and another comes, in one edit of the node.
	s.provided("new.test.local", "green")
	s.updateNode("front", meshtest.NodeSpec("", 0, append([]string{"new.test.local"}, names[1:]...)...))
	s.awaitServices(http.StatusOK, "green", "new.test.local", last)
	s.awaitServices(http.StatusNotFound, "", names[0])

	// It comes again, the same as it was.
	s.updateNode("front", meshtest.NodeSpec("", 0, names...))
	s.awaitServices(http.StatusOK, "blue", names[0])
	s.awaitServices(http.StatusNotFound, "", "new.test.local")
}

// Whether virtual hosts come by themselves follows from how many they are. A change to and
// fro costs no request.
func TestFewServicesBecomeMany(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	names := s.wide()
	few, last := names[:len(names)-1], names[len(names)-1]
	s.callerOf("", few...)
	s.awaitServices(http.StatusOK, "blue", few...)
	if s.apart() != 0 {
		t.Fatal("the virtual hosts came by themselves")
	}
	l := startLoad(t, func(n int) (int, string, error) { return s.answerOf(few[n%len(few)]) })
	for range 3 {
		s.updateNode("front", meshtest.NodeSpec("", 0, names...))
		s.awaitServices(http.StatusOK, "blue", last)
		if s.apart() == 0 {
			t.Error("the virtual hosts did not come by themselves")
		}
		s.updateNode("front", meshtest.NodeSpec("", 0, few...))
		s.awaitServices(http.StatusNotFound, "", last)
	}
	l.end(t)
}

// An Envoy that starts while the control plane is away has all hosts from its relay's copy,
// of each of its listeners' ports.
func TestManyServicesWithoutTheControlPlane(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	names := s.wide()
	c := s.defineCaller("", names...)
	cache := shortDir(t)
	c.Env = []string{"FAIRLEAD_CACHE_DIR=" + cache}
	s.startFront(c)
	s.awaitServices(http.StatusOK, "blue", names...)
	meshtest.Eventually(t, "the copy is written", func() error {
		if all, _ := filepath.Glob(filepath.Join(cache, "copies", "*.xds")); len(all) != 1 {
			return fmt.Errorf("there are %v", all)
		}
		return nil
	})
	s.plane.Stop(t)
	s.front.Kill()
	s.startFront(c)
	s.awaitServices(http.StatusOK, "blue", names...)
	s.plane.Run(t)
	s.provide(names[1], "green")
	s.awaitServices(http.StatusOK, "green", names[1])
	s.awaitServices(http.StatusOK, "blue", names[2:]...)
}
