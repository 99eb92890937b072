package envoy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// startLoad calls a path of the gateway at 200 requests a second.
func (d *door) startLoad(path string) *load {
	address := fmt.Sprintf("http://%s:%d%s", d.proxy.Bind, port, path)
	return startLoad(d.t, func(int) (int, string, error) { return meshtest.Get(d.client, address) })
}

func TestGatewayEditsFailNoRequest(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.app("green", named("green")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	s.leadsTo("green.local", "green")
	d := s.startGateway(s.defineGateway(onPort("http")))
	s.gatewayRoute("all", `{"prefix":"/x"}`, service, "")
	d.await("GET a /x/y", "blue")
	edit := func(match, service, rewrite string) {
		s.plane.Put(t, "/meshes/test/virtualGateway/edge/gatewayRoutes/all", `{"spec":`+gatewayRouteSpec("httpRoute", match, service, rewrite)+`}`)
	}
	l := d.startLoad("/x/y")

	// Another service, whose cluster is new to the gateway, and back.
	edit(`{"prefix":"/x"}`, "green.local", "")
	l.awaitShift(t, "green", "blue")
	edit(`{"prefix":"/x"}`, service, `{"prefix":{"value":"/v/"}}`)
	l.awaitShift(t, "blue", "green")
	// Another target behind the service.
	s.route(meshtest.Weights("green", 1))
	l.awaitShift(t, "green", "blue")
	s.route(meshtest.Weights("blue", 1))
	l.awaitShift(t, "blue", "green")
	// From one pass to two and back: an internal listener that is new, and then goes.
	routes := "/meshes/test/virtualRouter/colour/routes"
	for range 3 {
		s.plane.Put(t, routes, `{"routeName":"second","spec":`+matching(1, `{"path":{"regex":".*y"}}`, "green")+`}`)
		l.awaitShift(t, "green", "blue")
		s.plane.Delete(t, routes+"/second")
		l.awaitShift(t, "blue", "green")
	}
	// A route that takes the requests away from this one, and everything in a row.
	s.gatewayRoute("exact", `{"path":{"exact":"/x/y"}}`, "green.local", "")
	l.awaitShift(t, "green", "blue")
	s.plane.Delete(t, "/meshes/test/virtualGateway/edge/gatewayRoutes/exact")
	l.awaitShift(t, "blue", "green")
	for i := range 20 {
		edit(`{"prefix":"/x"}`, []string{service, "green.local"}[i%2], []string{"", `{"hostname":{"defaultTargetHostname":"DISABLED"}}`}[i/2%2])
		s.route(meshtest.Weights("blue", i, "green", 20-i))
	}
	s.route(meshtest.Weights("blue", 1))
	edit(`{"prefix":"/"}`, service, "")
	l.awaitShift(t, "blue", "green")
	// The gateway itself.
	s.plane.Put(t, "/meshes/test/virtualGateways/edge", `{"spec":{"listeners":[{"portMapping":{"port":8080,"protocol":"http"},`+
		`"connectionPool":{"http":{"maxConnections":1000}}}],"logging":{"accessLog":{"file":{"path":"/dev/null"}}}}}`)
	meshtest.Eventually(t, "the gateway has its new listener", func() error {
		dump, err := d.proxy.Admin("/config_dump?resource=dynamic_listeners")
		if err == nil && (!strings.Contains(dump, "/dev/null") || strings.Contains(dump, "draining_state")) {
			err = errors.New("it has the old one")
		}
		return err
	})
	l.awaitShift(t, "blue", "green")
	l.end(t)
}
