package main

import (
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/service/appmesh"
)

// The names of what there is one of in the wanted state.
var router, gateway, gatewayRoute = aws.String("router"), aws.String("gate"), aws.String("shop")

func (w *world) reconcileMesh() {
	found, err := w.DescribeMeshWithContext(w.ctx, &appmesh.DescribeMeshInput{MeshName: &w.Mesh})
	switch {
	case absent(err):
		made := must(w.CreateMeshWithContext(w.ctx, &appmesh.CreateMeshInput{MeshName: &w.Mesh, Spec: w.mesh})).Mesh
		w.owned(made.Metadata, made.Status.Status)
	case !equal(w.mesh, found.Mesh.Spec):
		must(w.UpdateMeshWithContext(w.ctx, &appmesh.UpdateMeshInput{MeshName: &w.Mesh, Spec: w.mesh}))
	}
}

func (w *world) reconcileNode(name *string, spec *appmesh.VirtualNodeSpec) {
	found, err := w.DescribeVirtualNodeWithContext(w.ctx, &appmesh.DescribeVirtualNodeInput{MeshName: &w.Mesh, VirtualNodeName: name})
	switch {
	case absent(err):
		made := must(w.CreateVirtualNodeWithContext(w.ctx, &appmesh.CreateVirtualNodeInput{MeshName: &w.Mesh, VirtualNodeName: name, Spec: spec})).VirtualNode
		w.owned(made.Metadata, made.Status.Status)
	case !equal(spec, found.VirtualNode.Spec):
		must(w.UpdateVirtualNodeWithContext(w.ctx, &appmesh.UpdateVirtualNodeInput{MeshName: &w.Mesh, VirtualNodeName: name, Spec: spec}))
	}
}

// reconcileRouter is the one that is not simple. Routes that would be in the way of the new listeners go before they change, all others after.
func (w *world) reconcileRouter() {
	found, err := w.DescribeVirtualRouterWithContext(w.ctx, &appmesh.DescribeVirtualRouterInput{MeshName: &w.Mesh, VirtualRouterName: router})
	if absent(err) {
		made := must(w.CreateVirtualRouterWithContext(w.ctx, &appmesh.CreateVirtualRouterInput{MeshName: &w.Mesh, VirtualRouterName: router, Spec: w.router})).VirtualRouter
		w.owned(made.Metadata, made.Status.Status)
		w.reconcileRoutes(nil)
		return
	}
	spec := found.VirtualRouter.Spec
	for _, name := range w.routeNames() {
		if w.routes[name] == nil || w.tainted(w.routes[name], spec) {
			_, err := w.DeleteRouteWithContext(w.ctx, &appmesh.DeleteRouteInput{MeshName: &w.Mesh, VirtualRouterName: router, RouteName: &name})
			absent(err)
		}
	}
	if !equal(w.router, spec) {
		must(w.UpdateVirtualRouterWithContext(w.ctx, &appmesh.UpdateVirtualRouterInput{
			MeshName: found.VirtualRouter.MeshName, MeshOwner: found.VirtualRouter.Metadata.MeshOwner, VirtualRouterName: router, Spec: w.router,
		}))
	}
	w.reconcileRoutes(w.routeNames())
}

// tainted tells whether a wanted route has a port whose listener speaks another protocol now.
func (w *world) tainted(wanted *appmesh.RouteSpec, actual *appmesh.VirtualRouterSpec) bool {
	var at *int64
	var protocol string
	switch {
	case wanted.HttpRoute != nil:
		at, protocol = wanted.HttpRoute.Match.Port, "http"
	case wanted.Http2Route != nil:
		at, protocol = wanted.Http2Route.Match.Port, "http2"
	}
	return at != nil && slices.ContainsFunc(actual.Listeners, func(l *appmesh.VirtualRouterListener) bool {
		return *l.PortMapping.Port == *at && *l.PortMapping.Protocol != protocol
	})
}

// routeNames lists the routes that there are, page by page.
func (w *world) routeNames() []string {
	var all []string
	must(0, w.ListRoutesPagesWithContext(w.ctx, &appmesh.ListRoutesInput{MeshName: &w.Mesh, VirtualRouterName: router}, func(o *appmesh.ListRoutesOutput, _ bool) bool {
		all = append(all, names(o.Routes, func(v *appmesh.RouteRef) *string { return v.RouteName })...)
		return true
	}))
	return all
}

// reconcileRoutes makes the routes that are missing, then looks at those that are there.
func (w *world) reconcileRoutes(there []string) {
	for _, name := range slices.Sorted(maps.Keys(w.routes)) {
		if !slices.Contains(there, name) {
			must(w.CreateRouteWithContext(w.ctx, &appmesh.CreateRouteInput{MeshName: &w.Mesh, VirtualRouterName: router, RouteName: &name, Spec: w.routes[name]}))
		}
	}
	for _, name := range there {
		found := must(w.DescribeRouteWithContext(w.ctx, &appmesh.DescribeRouteInput{
			MeshName: &w.Mesh, MeshOwner: &w.Account, VirtualRouterName: router, RouteName: &name,
		})).Route
		if !equal(w.routes[name], found.Spec) {
			must(w.UpdateRouteWithContext(w.ctx, &appmesh.UpdateRouteInput{
				MeshName: &w.Mesh, MeshOwner: &w.Account, VirtualRouterName: router, RouteName: &name, Spec: w.routes[name],
			}))
		}
	}
}

func (w *world) reconcileService(name *string, spec *appmesh.VirtualServiceSpec) {
	found, err := w.DescribeVirtualServiceWithContext(w.ctx, &appmesh.DescribeVirtualServiceInput{MeshName: &w.Mesh, VirtualServiceName: name})
	switch {
	case absent(err):
		made := must(w.CreateVirtualServiceWithContext(w.ctx, &appmesh.CreateVirtualServiceInput{MeshName: &w.Mesh, VirtualServiceName: name, Spec: spec})).VirtualService
		w.owned(made.Metadata, made.Status.Status)
	case !equal(spec, found.VirtualService.Spec):
		must(w.UpdateVirtualServiceWithContext(w.ctx, &appmesh.UpdateVirtualServiceInput{MeshName: &w.Mesh, VirtualServiceName: name, Spec: spec}))
	}
}

func (w *world) reconcileGateway() {
	found, err := w.DescribeVirtualGatewayWithContext(w.ctx, &appmesh.DescribeVirtualGatewayInput{MeshName: &w.Mesh, VirtualGatewayName: gateway})
	switch {
	case absent(err):
		made := must(w.CreateVirtualGatewayWithContext(w.ctx, &appmesh.CreateVirtualGatewayInput{MeshName: &w.Mesh, VirtualGatewayName: gateway, Spec: w.gateway})).VirtualGateway
		w.owned(made.Metadata, made.Status.Status)
	case !equal(w.gateway, found.VirtualGateway.Spec):
		must(w.UpdateVirtualGatewayWithContext(w.ctx, &appmesh.UpdateVirtualGatewayInput{MeshName: &w.Mesh, VirtualGatewayName: gateway, Spec: w.gateway}))
	}
}

func (w *world) reconcileGatewayRoute() {
	found, err := w.DescribeGatewayRouteWithContext(w.ctx, &appmesh.DescribeGatewayRouteInput{MeshName: &w.Mesh, VirtualGatewayName: gateway, GatewayRouteName: gatewayRoute})
	switch {
	case absent(err):
		made := must(w.CreateGatewayRouteWithContext(w.ctx, &appmesh.CreateGatewayRouteInput{
			MeshName: &w.Mesh, VirtualGatewayName: gateway, GatewayRouteName: gatewayRoute, Spec: w.gatewayRoute,
		})).GatewayRoute
		w.owned(made.Metadata, made.Status.Status)
	case !equal(w.gatewayRoute, found.GatewayRoute.Spec):
		must(w.UpdateGatewayRouteWithContext(w.ctx, &appmesh.UpdateGatewayRouteInput{
			MeshName: &w.Mesh, VirtualGatewayName: gateway, GatewayRouteName: gatewayRoute, Spec: w.gatewayRoute,
		}))
	}
}

// cleanup removes everything: describe, and delete what was found.
func (w *world) cleanup() {
	w.routes = map[string]*appmesh.RouteSpec{}
	w.same("the gateway route's deletion", "DELETED", *must(w.DeleteGatewayRouteWithContext(w.ctx, &appmesh.DeleteGatewayRouteInput{
		MeshName: &w.Mesh, VirtualGatewayName: gateway, GatewayRouteName: gatewayRoute,
	})).GatewayRoute.Status.Status)
	must(w.DeleteVirtualGatewayWithContext(w.ctx, &appmesh.DeleteVirtualGatewayInput{MeshName: &w.Mesh, VirtualGatewayName: gateway}))
	for name := range w.services {
		must(w.DeleteVirtualServiceWithContext(w.ctx, &appmesh.DeleteVirtualServiceInput{MeshName: &w.Mesh, VirtualServiceName: &name}))
	}
	for _, name := range w.routeNames() {
		must(w.DeleteRouteWithContext(w.ctx, &appmesh.DeleteRouteInput{MeshName: &w.Mesh, VirtualRouterName: router, RouteName: &name}))
	}
	must(w.DeleteVirtualRouterWithContext(w.ctx, &appmesh.DeleteVirtualRouterInput{MeshName: &w.Mesh, VirtualRouterName: router}))
	for name := range w.nodes {
		must(w.DeleteVirtualNodeWithContext(w.ctx, &appmesh.DeleteVirtualNodeInput{MeshName: &w.Mesh, VirtualNodeName: &name}))
	}
	must(w.DeleteMeshWithContext(w.ctx, &appmesh.DeleteMeshInput{MeshName: &w.Mesh}))
	_, err := w.DescribeMeshWithContext(w.ctx, &appmesh.DescribeMeshInput{MeshName: &w.Mesh})
	w.holds(absent(err), "the mesh is still there")
}
