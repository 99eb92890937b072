//go:build linux

package redirected

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// The ports of a redirected proxy have routes each. Where services are many, the virtual
// hosts of either come by themselves, also those of a port that comes later.
func TestManyServicesOnTwoPorts(t *testing.T) {
	t.Parallel()
	const many, secondPort = 101, port + 1
	s := newStage(t, `{"egressFilter":{"type":"DROP_ALL"}}`)
	_, blue := s.app("blue", echo("blue"))
	blue.Ready(t)
	for _, at := range []int{port, secondPort} {
		s.plane.Put(t, "/meshes/test/virtualRouters", fmt.Sprintf(`{"virtualRouterName":"to-%d","spec":{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}}]}}`, at, at))
		s.plane.Put(t, fmt.Sprintf("/meshes/test/virtualRouter/to-%d/routes", at), `{"routeName":"all","spec":`+meshtest.Weights("blue", 1)+`}`)
	}
	var first, both []string
	for i := range many {
		for _, at := range []int{port, secondPort} {
			name := fmt.Sprintf("s%03d-%d.test.local", i, at)
			s.serviceName(name)
			s.plane.Put(t, "/meshes/test/virtualServices", fmt.Sprintf(`{"virtualServiceName":%q,"spec":{"provider":{"virtualRouter":{"virtualRouterName":"to-%d"}}}}`, name, at))
			both = append(both, name)
			if at == port {
				first = append(first, name)
			}
		}
	}
	s.caller(first...)
	calls := s.front.HTTP("tcp")
	check := func(at int) {
		t.Helper()
		for i := range many {
			host := fmt.Sprintf("s%03d-%d.test.local:%d", i, at, at)
			await(t, calls, "http://"+host+"/", http.StatusOK, "blue: GET "+host)
		}
	}
	check(port)
	s.plane.Put(t, "/meshes/test/virtualNodes/front", `{"spec":`+frontSpec(both...)+`}`)
	check(secondPort)
	check(port)
	s.plane.Put(t, "/meshes/test/virtualNodes/front", `{"spec":`+frontSpec(first...)+`}`)
	check(port)
	s.plane.Put(t, "/meshes/test/virtualNodes/front", `{"spec":`+frontSpec(both...)+`}`)
	check(secondPort)
}
