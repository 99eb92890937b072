package envoy

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// propagation is how far a change has come, as the API has it.
type propagation struct {
	Revision                                         int64
	Proxies, Current, Pending, Rejected, Unconnected int
	Behind                                           []struct{ ARN, ConnectionID, Address, State, Reason string }
	Incomplete                                       []any
}

// await waits until nothing of a revision is pending, as the API does it; 0 is the newest.
func (s *stage) await(revision string) propagation {
	s.t.Helper()
	var answer struct{ Propagation propagation }
	s.plane.Signed(s.t).Want(s.t, http.MethodGet, "/v1/meshes/test/propagation?wait=60&revision="+revision, "", &answer)
	return answer.Propagation
}

// Of two Envoys of a node one cannot take a change, for another program has the port. The
// API says so, and why, as soon as both have answered; and that the other has it.
func TestHowFarAChangeHasCome(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	good, bad := meshtest.Address(t), meshtest.Address(t)
	s.plane.Node(t, "test", "idle", meshtest.Address(t), port)
	s.plane.Node(t, "test", "blue", good, port)
	arn, app := meshtest.ARN("test", "blue"), meshtest.Serve(t, port, named("blue"))
	for _, bind := range []string{good, bad} {
		s.plane.Proxy(t, meshtest.ProxyConfig{ARN: arn, Bind: bind, App: app})
	}
	meshtest.Eventually(t, "both have all", func() error {
		if p := s.await("0"); p.Current != 2 || p.Proxies != 2 || p.Unconnected != 1 {
			return fmt.Errorf("the API says %+v", p)
		}
		return nil
	})

	taken, err := net.Listen("tcp", fmt.Sprintf("%s:%d", bad, port+1))
	if err != nil {
		t.Fatal(err)
	}
	moved := s.edit("blue", meshtest.NodeSpec(good, port+1))
	p := s.await(moved)
	if fmt.Sprint(p.Revision) != moved || p.Proxies != 2 || p.Current != 1 || p.Rejected != 1 || p.Pending != 0 || len(p.Behind) != 1 || len(p.Incomplete) > 0 {
		t.Fatalf("of revision %s the API says %+v", moved, p)
	}
	if b := p.Behind[0]; b.ARN != arn || b.State != "REJECTED" || !strings.Contains(b.Reason, "Address already in use") || b.Address == "" || b.ConnectionID == "" {
		t.Errorf("behind is %+v", b)
	}

	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	back := s.edit("blue", strings.TrimSuffix(meshtest.NodeSpec(good, port+1), "}")+`,"logging":{"accessLog":{"file":{"path":"/dev/stdout"}}}}`)
	if p := s.await(back); p.Proxies != 2 || p.Current != 2 || len(p.Behind) > 0 {
		t.Errorf("of revision %s the API says %+v", back, p)
	}
	if p := s.await(moved); p.Current != 2 {
		t.Errorf("of revision %s, which is followed by one that is good, the API says %+v", moved, p)
	}
}

// edit gives a virtual node another spec, and returns the revision that the answer has.
func (s *stage) edit(node, spec string) string {
	s.t.Helper()
	a, err := s.plane.Signed(s.t).Do(s.t.Context(), http.MethodPut, "/v20190125/meshes/test/virtualNodes/"+node, `{"spec":`+spec+`}`)
	if err != nil || a.Status != http.StatusOK {
		s.t.Fatalf("changing %s: %s %v", node, a, err)
	}
	revision := a.Header.Get("x-fairlead-revision")
	if revision == "" {
		s.t.Fatalf("the answer has no revision: %v", a.Header)
	}
	return revision
}
