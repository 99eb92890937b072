package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/awserr"
	"github.com/aws/aws-sdk-go/aws/endpoints"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/appmesh"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// cloud makes the client as the controller does: there is no endpoint to give. The SDK makes
// it of the region; the key and the authority to trust come from the environment.
// The name is looked up with the name server at dns. Where the cluster's service leads port
// 443 to the port of the control plane, here the dialer does.
func (r *run) cloud(dns string) *appmesh.AppMesh {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, dns)
	}}
	dialer := &net.Dialer{Resolver: resolver}
	_, port, err := net.SplitHostPort(r.Endpoint)
	must(0, err)
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		host, asked, err := net.SplitHostPort(address)
		if err == nil && asked != "443" {
			err = errors.New("the SDK asked for port " + asked)
		}
		if err != nil {
			return nil, err
		}
		return dialer.DialContext(ctx, network, net.JoinHostPort(host, port))
	}}
	sess := must(session.NewSession(aws.NewConfig().WithHTTPClient(&http.Client{Transport: transport})))
	return r.noted(appmesh.New(sess.Copy(&aws.Config{
		Region:              &r.Region,
		STSRegionalEndpoint: endpoints.RegionalSTSEndpoint,
	})))
}

// controller installs a mesh as AWS's Kubernetes controller would, reconciles it until nothing is left to do, changes it and removes it.
func (r *run) controller() {
	dns := must(serveDNS("appmesh."+r.Region+".amazonaws.com.", r.Endpoint))
	defer dns.close()
	r.AppMesh = r.cloud(dns.address)
	r.same("the SDK's endpoint", "https://appmesh."+r.Region+".amazonaws.com", r.AppMesh.Endpoint)
	r.distrusts(dns)

	w := r.wanted()
	r.same("calls that change something, at the first reconcile", 12, w.reconcile())
	for range 2 {
		r.same("calls that change something, at a reconcile without changes", 0, w.reconcile())
	}
	r.holds(dns.asked.Load() > 0, "the name server was not asked")

	// More routes than a page has, then none of them again.
	for _, name := range numbered(120) {
		w.routes[name] = w.routes["all"]
	}
	r.same("changes", 120, w.reconcile())
	r.same("changes", 0, w.reconcile())
	for _, name := range numbered(120) {
		delete(w.routes, name)
	}
	r.same("changes", 120, w.reconcile())

	for _, spec := range w.routes {
		spec.HttpRoute.Match.Port = aws.Int64(8080)
	}
	r.same("changes", 2, w.reconcile())

	// Another protocol on the router's port: its routes go first, then the router changes, then they come as other routes.
	w.router.Listeners[0].PortMapping.Protocol = aws.String("http2")
	for _, name := range []string{"blue", "green"} {
		w.nodes[name].Listeners[0].PortMapping.Protocol = aws.String("http2")
	}
	for name, spec := range w.routes {
		w.routes[name] = &appmesh.RouteSpec{Http2Route: spec.HttpRoute}
	}
	r.same("changes", 7, w.reconcile())
	r.same("changes", 0, w.reconcile())
	w.cleanup()
}

// distrusts checks that without the authority, and by another name than the certificate's, there is no connection.
func (r *run) distrusts(dns *nameServer) {
	bundle := os.Getenv("AWS_CA_BUNDLE")
	must(0, os.Unsetenv("AWS_CA_BUNDLE"))
	_, err := r.cloud(dns.address).DescribeMesh(&appmesh.DescribeMeshInput{MeshName: &r.Mesh})
	var unknown x509.UnknownAuthorityError
	r.holds(errors.As(origin(err), &unknown), "without AWS_CA_BUNDLE: %v", err)
	must(0, os.Setenv("AWS_CA_BUNDLE", bundle))
}

// origin returns the error below the SDK's, which does not unwrap.
func origin(err error) error {
	var wrapped awserr.Error
	for errors.As(err, &wrapped) && wrapped.OrigErr() != nil {
		err = wrapped.OrigErr()
	}
	return err
}

// numbered returns so many names for routes.
func numbered(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("route-%03d", i))
	}
	return all
}

// A world is what the cluster's objects ask for, by name.
type world struct {
	*run
	mesh         *appmesh.MeshSpec
	nodes        map[string]*appmesh.VirtualNodeSpec
	router       *appmesh.VirtualRouterSpec
	routes       map[string]*appmesh.RouteSpec
	services     map[string]*appmesh.VirtualServiceSpec
	gateway      *appmesh.VirtualGatewaySpec
	gatewayRoute *appmesh.GatewayRouteSpec
}

func (r *run) wanted() *world {
	green := cloudMapSpec()
	green.ServiceDiscovery = &appmesh.ServiceDiscovery{Dns: &appmesh.DnsServiceDiscovery{Hostname: aws.String("green.shop.svc.cluster.local")}}
	green.Backends = []*appmesh.Backend{} // as the controller converts an object without backends
	blue := nodeSpec()
	blue.Listeners[0].ConnectionPool, blue.Listeners[0].Timeout = nil, nil
	gateway := gatewaySpec()
	gateway.Listeners[0].HealthCheck = &appmesh.VirtualGatewayHealthCheckPolicy{
		HealthyThreshold: aws.Int64(2), UnhealthyThreshold: aws.Int64(2), IntervalMillis: aws.Int64(5000), TimeoutMillis: aws.Int64(2000),
		Protocol: aws.String("http"), Port: aws.Int64(8443),
	}
	all := routeSpec()
	all.HttpRoute.Match = &appmesh.HttpRouteMatch{Prefix: aws.String("/")}
	return &world{
		run:    r,
		mesh:   &appmesh.MeshSpec{EgressFilter: &appmesh.EgressFilter{Type: aws.String("DROP_ALL")}},
		nodes:  map[string]*appmesh.VirtualNodeSpec{"blue": blue, "green": green, "front": {}},
		router: &appmesh.VirtualRouterSpec{Listeners: []*appmesh.VirtualRouterListener{{PortMapping: port(8080, "http")}}},
		routes: map[string]*appmesh.RouteSpec{"all": all, "match": routeSpec()},
		services: map[string]*appmesh.VirtualServiceSpec{
			"shop.local": {Provider: &appmesh.VirtualServiceProvider{VirtualRouter: &appmesh.VirtualRouterServiceProvider{VirtualRouterName: aws.String("router")}}},
			"blue.local": {Provider: &appmesh.VirtualServiceProvider{VirtualNode: &appmesh.VirtualNodeServiceProvider{VirtualNodeName: aws.String("blue")}}},
			"none.local": {},
		},
		gateway: gateway, gatewayRoute: gatewayRouteSpec(),
	}
}

// equal compares specs as the controller does: empty and absent are the same, and a health check's port that is not asked for may be anything.
func equal(desired, actual any) bool {
	unset := cmp.FilterPath(func(path cmp.Path) bool {
		field, ok := path.Last().(cmp.StructField)
		if !ok || field.Name() != "Port" || !isHealthCheck(path) {
			return false
		}
		mine, _ := field.Values()
		return mine.IsNil()
	}, cmp.Ignore())
	return cmp.Equal(desired, actual, cmpopts.EquateEmpty(), unset)
}

func isHealthCheck(path cmp.Path) bool {
	switch path.Index(-2).Type().Name() {
	case "HealthCheckPolicy", "VirtualGatewayHealthCheckPolicy":
		return true
	}
	return false
}

// absent tells whether a describe call found nothing. The controller looks at the code alone, and not at wrapped errors.
func absent(err error) bool {
	if failure, ok := err.(awserr.Error); ok && failure.Code() == "NotFoundException" {
		return true
	}
	must(0, err)
	return false
}

// owned checks what makes the controller leave an object alone, and that it takes it for active.
func (w *world) owned(m *appmesh.ResourceMetadata, status *string) {
	w.same("resourceOwner", w.Account, *m.ResourceOwner)
	w.same("status", "ACTIVE", *status)
}

// changes returns how many calls so far were to change something.
func (w *world) changes() int {
	total := 0
	for name, n := range w.called {
		if strings.HasPrefix(name, "Create") || strings.HasPrefix(name, "Update") || strings.HasPrefix(name, "Delete") {
			total += n
		}
	}
	return total
}

// reconcile brings everything into the wanted state, and returns how many calls were to change something.
func (w *world) reconcile() int {
	before := w.changes()
	w.reconcileMesh()
	for name, spec := range w.nodes {
		w.reconcileNode(&name, spec)
	}
	w.reconcileRouter()
	for name, spec := range w.services {
		w.reconcileService(&name, spec)
	}
	w.reconcileGateway()
	w.reconcileGatewayRoute()
	return w.changes() - before
}
