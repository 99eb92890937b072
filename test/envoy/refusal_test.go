package envoy

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// problem is something that is not served as written in the mesh, as the API has it.
type problem struct{ ARN, Object, Field, Message string }

func (s *stage) problems() []problem {
	s.t.Helper()
	var answer struct{ Problems []problem }
	s.plane.Signed(s.t).Want(s.t, http.MethodGet, "/v1/meshes/test/problems", "", &answer)
	return answer.Problems
}

// What an Envoy refuses is a problem of the object that caused it, in Envoy's own words,
// until there is something that it accepts. Here another program has the port of a listener.
func TestARefusalIsAProblem(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	bind := meshtest.Address(t)
	taken, err := net.Listen("tcp", fmt.Sprintf("%s:%d", bind, port))
	if err != nil {
		t.Fatal(err)
	}
	s.plane.Node(t, "test", "blue", bind, port)
	s.plane.Proxy(t, meshtest.ProxyConfig{ARN: meshtest.ARN("test", "blue"), Bind: bind, App: meshtest.Serve(t, port, named("blue"))})
	meshtest.Eventually(t, "the refusal is a problem", func() error {
		all := s.problems()
		if len(all) != 1 {
			return fmt.Errorf("there are %+v", all)
		}
		return nil
	})
	p := s.problems()[0]
	if p.ARN != meshtest.ARN("test", "blue") || p.Object != "virtualNode/blue" ||
		!strings.HasPrefix(p.Message, "a proxy (Envoy 1.") || !strings.Contains(p.Message, "Address already in use") {
		t.Errorf("the problem is %+v", p)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	spec := strings.TrimSuffix(meshtest.NodeSpec(bind, port), "}") + `,"logging":{"accessLog":{"file":{"path":"/dev/stdout"}}}}`
	s.plane.Put(t, "/meshes/test/virtualNodes/blue", `{"spec":`+spec+`}`)
	meshtest.Eventually(t, "the problem is gone", func() error {
		if all := s.problems(); len(all) > 0 {
			return fmt.Errorf("there are %+v", all)
		}
		return nil
	})
}
