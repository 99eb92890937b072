package meshtest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Call makes one signed call of the REST API with a JSON body, or none if it is empty.
// The path begins behind "/v20190125".
func (p *Plane) Call(ctx context.Context, method, path, body string) (status int, answer string, err error) {
	a, err := p.signed().Do(ctx, method, "/v20190125"+path, body)
	return a.Status, a.Body, err
}

// Put makes a PUT call and fails the test unless it is answered with 200.
func (p *Plane) Put(t testing.TB, path, body string) {
	t.Helper()
	status, answer, err := p.Call(context.Background(), http.MethodPut, path, body)
	if err != nil || status != http.StatusOK {
		t.Fatalf("PUT %s %s: %d %s %v", path, body, status, answer, err)
	}
}

// Delete makes a DELETE call and fails the test unless it is answered with 200.
func (p *Plane) Delete(t testing.TB, path string) {
	t.Helper()
	status, answer, err := p.Call(context.Background(), http.MethodDelete, path, "")
	if err != nil || status != http.StatusOK {
		t.Fatalf("DELETE %s: %d %s %v", path, status, answer, err)
	}
}

// Node defines a virtual node with an http listener, if port is not 0, that is found at
// a host, and with the services as backends.
func (p *Plane) Node(t testing.TB, mesh, name, host string, port int, backends ...string) {
	t.Helper()
	p.Put(t, "/meshes/"+mesh+"/virtualNodes", fmt.Sprintf(`{"virtualNodeName":%q,"spec":%s}`, name, NodeSpec(host, port, backends...)))
}

// NodeSpec returns the spec that Node sends.
func NodeSpec(host string, port int, backends ...string) string {
	var parts []string
	if port != 0 {
		parts = append(parts,
			fmt.Sprintf(`"listeners":[{"portMapping":{"port":%d,"protocol":"http"}}]`, port),
			fmt.Sprintf(`"serviceDiscovery":{"dns":{"hostname":%q}}`, host))
	}
	var list []string
	for _, b := range backends {
		list = append(list, fmt.Sprintf(`{"virtualService":{"virtualServiceName":%q}}`, b))
	}
	parts = append(parts, `"backends":[`+strings.Join(list, ",")+`]`)
	return "{" + strings.Join(parts, ",") + "}"
}

// Routed defines a virtual service behind a router of its own that listens for http on
// a port, with one route "all" of the given spec.
func (p *Plane) Routed(t testing.TB, mesh, service, router string, port int, route string) {
	t.Helper()
	p.Put(t, "/meshes/"+mesh+"/virtualRouters", fmt.Sprintf(
		`{"virtualRouterName":%q,"spec":{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}}]}}`, router, port))
	p.Put(t, "/meshes/"+mesh+"/virtualRouter/"+router+"/routes", fmt.Sprintf(`{"routeName":"all","spec":%s}`, route))
	p.Put(t, "/meshes/"+mesh+"/virtualServices", fmt.Sprintf(
		`{"virtualServiceName":%q,"spec":{"provider":{"virtualRouter":{"virtualRouterName":%q}}}}`, service, router))
}

// Weights returns the spec of a route that splits all requests by weight, without
// retries. Arguments are names and weights in turn.
func Weights(namesAndWeights ...any) string {
	var targets []string
	for i := 0; i+1 < len(namesAndWeights); i += 2 {
		targets = append(targets, fmt.Sprintf(`{"virtualNode":%q,"weight":%d}`, namesAndWeights[i], namesAndWeights[i+1]))
	}
	return `{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[` + strings.Join(targets, ",") + `]},` +
		`"retryPolicy":{"maxRetries":0,"perRetryTimeout":{"unit":"s","value":1},"httpRetryEvents":["server-error"]}}}`
}

// ARN returns the full ARN of a virtual node of the plane's account.
func ARN(mesh, node string) string {
	return "arn:aws:appmesh:" + Region + ":" + Account + ":mesh/" + mesh + "/virtualNode/" + node
}
