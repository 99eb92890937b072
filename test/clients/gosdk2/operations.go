package main

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/aws-sdk-go-v2/service/appmesh/types"
	"golang.org/x/sync/errgroup"
)

func sorted(set map[string]bool) []string {
	return slices.Sorted(maps.Keys(set))
}

// model returns the operations that the client has: its methods that take an input.
func model() []string {
	var names []string
	client := reflect.TypeFor[*appmesh.Client]()
	for m := range client.Methods() {
		if t := m.Type; t.NumIn() == 4 && t.In(2).Kind() == reflect.Pointer && t.In(2).Elem().Name() == m.Name+"Input" {
			names = append(names, m.Name)
		}
	}
	return names
}

// operations makes two objects of each kind, and describes, lists, changes, tags and deletes them.
func (r *run) operations() {
	var provoking errgroup.Group
	provoking.Go(r.provoke)
	arn := r.meshes()
	r.nodes()
	r.routers()
	r.routes()
	r.services()
	r.gateways()
	r.gatewayRoutes()
	r.tags(arn)
	r.refusals(arn)
	r.deletes()
	if err := provoking.Wait(); err != nil {
		fail("%w", err)
	}
}

// made checks what is said of an object that was just made, and returns the same of it for later.
func (r *run) made(m *types.ResourceMetadata, status, path string) types.ResourceMetadata {
	r.same("status", "ACTIVE", status)
	r.same("ARN", "arn:aws:appmesh:"+r.Region+":"+r.Account+":mesh/"+r.Mesh+path, *m.Arn)
	r.same("version", int64(1), *m.Version)
	r.same("owners", []string{r.Account, r.Account}, []string{*m.MeshOwner, *m.ResourceOwner})
	r.holds(len(*m.Uid) == 36, "the uid is %q", *m.Uid)
	r.holds(time.Since(*m.CreatedAt).Abs() < 10*time.Minute, "createdAt is %v", m.CreatedAt)
	r.holds(m.LastUpdatedAt.Equal(*m.CreatedAt), "made at %v, updated at %v", m.CreatedAt, m.LastUpdatedAt)
	r.holds(m.CreatedAt.Nanosecond()%1e6 == 0, "createdAt is %v, finer than milliseconds", m.CreatedAt)
	return *m
}

// changed checks what is said of an object after its next version was made.
func (r *run) changed(before types.ResourceMetadata, after *types.ResourceMetadata) {
	r.holds(!after.LastUpdatedAt.Before(*before.LastUpdatedAt), "updated at %v, then at %v", before.LastUpdatedAt, after.LastUpdatedAt)
	before.Version = aws.Int64(*before.Version + 1)
	before.LastUpdatedAt = after.LastUpdatedAt
	r.same("metadata after an update", before, *after)
}

// A pager is one of the SDK's paginators.
type pager[O any] interface {
	HasMorePages() bool
	NextPage(context.Context, ...func(*appmesh.Options)) (*O, error)
}

// pages reads a list to its end, and returns what was on each page.
func pages[O, T any](r *run, p pager[O], items func(*O) []T) [][]T {
	var all [][]T
	for p.HasMorePages() {
		all = append(all, items(must(p.NextPage(r.ctx))))
	}
	return all
}

// listed checks a list that was read in pages of one.
func (r *run) listed(got [][]string, want ...string) {
	for _, page := range got {
		r.holds(len(page) == 1, "a page with limit 1 has %d", len(page))
	}
	r.same("list", want, slices.Concat(got...))
}

func (r *run) meshes() (arn string) {
	spec := &types.MeshSpec{
		EgressFilter:     &types.EgressFilter{Type: types.EgressFilterTypeAllowAll},
		ServiceDiscovery: &types.MeshServiceDiscovery{IpPreference: types.IpPreferenceIPv4Only},
	}
	made := must(r.CreateMesh(r.ctx, &appmesh.CreateMeshInput{MeshName: &r.Mesh, Spec: spec, Tags: tags("team", "blue", "empty", "")})).Mesh
	before := r.made(made.Metadata, string(made.Status.Status), "")
	r.same("spec", spec, made.Spec)
	r.same("described", made, must(r.DescribeMesh(r.ctx, &appmesh.DescribeMeshInput{MeshName: &r.Mesh, MeshOwner: &r.Account})).Mesh)

	spec = &types.MeshSpec{EgressFilter: &types.EgressFilter{Type: types.EgressFilterTypeDropAll}}
	updated := must(r.UpdateMesh(r.ctx, &appmesh.UpdateMeshInput{MeshName: &r.Mesh, Spec: spec})).Mesh
	r.same("spec", spec, updated.Spec)
	r.changed(before, updated.Metadata)

	found := pages(r, appmesh.NewListMeshesPaginator(r.Client, &appmesh.ListMeshesInput{Limit: aws.Int32(1)}),
		func(o *appmesh.ListMeshesOutput) []types.MeshRef { return o.Meshes })
	i := slices.IndexFunc(found, func(page []types.MeshRef) bool { return len(page) == 1 && *page[0].MeshName == r.Mesh })
	r.holds(i >= 0, "the mesh is not in the list of meshes")
	m := updated.Metadata
	r.same("the mesh in the list", types.MeshRef{
		MeshName: &r.Mesh, Arn: m.Arn, MeshOwner: m.MeshOwner, ResourceOwner: m.ResourceOwner,
		Version: m.Version, CreatedAt: m.CreatedAt, LastUpdatedAt: m.LastUpdatedAt,
	}, found[i][0])
	return *m.Arn
}

func (r *run) nodes() {
	blue := nodeSpec()
	made := must(r.CreateVirtualNode(r.ctx, &appmesh.CreateVirtualNodeInput{MeshName: &r.Mesh, VirtualNodeName: aws.String("blue"), Spec: blue})).VirtualNode
	r.made(made.Metadata, string(made.Status.Status), "/virtualNode/blue")
	r.same("port of the health check", aws.Int32(8080), made.Spec.Listeners[0].HealthCheck.Port)
	blue.Listeners[0].HealthCheck.Port = aws.Int32(8080)
	r.same("spec", blue, made.Spec)
	r.same("described", made, must(r.DescribeVirtualNode(r.ctx, &appmesh.DescribeVirtualNodeInput{
		MeshName: &r.Mesh, VirtualNodeName: aws.String("blue"), MeshOwner: &r.Account,
	})).VirtualNode)

	green := cloudMapSpec()
	made = must(r.CreateVirtualNode(r.ctx, &appmesh.CreateVirtualNodeInput{MeshName: &r.Mesh, VirtualNodeName: aws.String("green"), Spec: green})).VirtualNode
	r.same("spec", green, made.Spec)
	green.ServiceDiscovery = &types.ServiceDiscoveryMemberDns{Value: types.DnsServiceDiscovery{Hostname: aws.String("green.internal")}}
	updated := must(r.UpdateVirtualNode(r.ctx, &appmesh.UpdateVirtualNodeInput{MeshName: &r.Mesh, VirtualNodeName: aws.String("green"), Spec: green})).VirtualNode
	r.same("spec", green, updated.Spec)
	r.changed(*made.Metadata, updated.Metadata)

	r.listed(pages(r, appmesh.NewListVirtualNodesPaginator(r.Client, &appmesh.ListVirtualNodesInput{MeshName: &r.Mesh, Limit: aws.Int32(1)}),
		func(o *appmesh.ListVirtualNodesOutput) []string {
			return names(o.VirtualNodes, func(v types.VirtualNodeRef) *string { return v.VirtualNodeName })
		}), "blue", "green")
}

func (r *run) routers() {
	spec := &types.VirtualRouterSpec{Listeners: []types.VirtualRouterListener{{PortMapping: port(8080, types.PortProtocolHttp)}}}
	made := must(r.CreateVirtualRouter(r.ctx, &appmesh.CreateVirtualRouterInput{MeshName: &r.Mesh, VirtualRouterName: aws.String("router"), Spec: spec})).VirtualRouter
	r.made(made.Metadata, string(made.Status.Status), "/virtualRouter/router")
	r.same("spec", spec, made.Spec)
	r.same("described", made, must(r.DescribeVirtualRouter(r.ctx, &appmesh.DescribeVirtualRouterInput{
		MeshName: &r.Mesh, VirtualRouterName: aws.String("router"), MeshOwner: &r.Account,
	})).VirtualRouter)

	made = must(r.CreateVirtualRouter(r.ctx, &appmesh.CreateVirtualRouterInput{MeshName: &r.Mesh, VirtualRouterName: aws.String("spare"), Spec: spec})).VirtualRouter
	spec.Listeners = append(spec.Listeners, types.VirtualRouterListener{PortMapping: port(9090, types.PortProtocolGrpc)})
	updated := must(r.UpdateVirtualRouter(r.ctx, &appmesh.UpdateVirtualRouterInput{MeshName: &r.Mesh, VirtualRouterName: aws.String("spare"), Spec: spec})).VirtualRouter
	r.same("spec", spec, updated.Spec)
	r.changed(*made.Metadata, updated.Metadata)

	r.listed(pages(r, appmesh.NewListVirtualRoutersPaginator(r.Client, &appmesh.ListVirtualRoutersInput{MeshName: &r.Mesh, Limit: aws.Int32(1)}),
		func(o *appmesh.ListVirtualRoutersOutput) []string {
			return names(o.VirtualRouters, func(v types.VirtualRouterRef) *string { return v.VirtualRouterName })
		}), "router", "spare")
}

func (r *run) routes() {
	router, spec := aws.String("router"), routeSpec()
	made := must(r.CreateRoute(r.ctx, &appmesh.CreateRouteInput{MeshName: &r.Mesh, VirtualRouterName: router, RouteName: aws.String("r1"), Spec: spec})).Route
	r.made(made.Metadata, string(made.Status.Status), "/virtualRouter/router/route/r1")
	r.same("spec", spec, made.Spec)
	r.same("described", made, must(r.DescribeRoute(r.ctx, &appmesh.DescribeRouteInput{
		MeshName: &r.Mesh, VirtualRouterName: router, RouteName: aws.String("r1"), MeshOwner: &r.Account,
	})).Route)

	made = must(r.CreateRoute(r.ctx, &appmesh.CreateRouteInput{MeshName: &r.Mesh, VirtualRouterName: router, RouteName: aws.String("r2"), Spec: spec})).Route
	spec.HttpRoute.Action.WeightedTargets = []types.WeightedTarget{
		{VirtualNode: aws.String("green"), Weight: 100},
		{VirtualNode: aws.String("blue"), Weight: 0},
	}
	spec.Priority = aws.Int32(0)
	updated := must(r.UpdateRoute(r.ctx, &appmesh.UpdateRouteInput{MeshName: &r.Mesh, VirtualRouterName: router, RouteName: aws.String("r2"), Spec: spec})).Route
	r.same("spec", spec, updated.Spec)
	r.changed(*made.Metadata, updated.Metadata)

	r.listed(pages(r, appmesh.NewListRoutesPaginator(r.Client, &appmesh.ListRoutesInput{MeshName: &r.Mesh, VirtualRouterName: router, Limit: aws.Int32(1)}),
		func(o *appmesh.ListRoutesOutput) []string {
			return names(o.Routes, func(v types.RouteRef) *string { return v.RouteName })
		}), "r1", "r2")
}

func (r *run) services() {
	spec := &types.VirtualServiceSpec{Provider: &types.VirtualServiceProviderMemberVirtualRouter{
		Value: types.VirtualRouterServiceProvider{VirtualRouterName: aws.String("router")},
	}}
	made := must(r.CreateVirtualService(r.ctx, &appmesh.CreateVirtualServiceInput{MeshName: &r.Mesh, VirtualServiceName: aws.String("shop.local"), Spec: spec})).VirtualService
	r.made(made.Metadata, string(made.Status.Status), "/virtualService/shop.local")
	r.same("spec", spec, made.Spec)
	r.same("described", made, must(r.DescribeVirtualService(r.ctx, &appmesh.DescribeVirtualServiceInput{
		MeshName: &r.Mesh, VirtualServiceName: aws.String("shop.local"), MeshOwner: &r.Account,
	})).VirtualService)

	odd := aws.String("a/b c:8@x+")
	spec = &types.VirtualServiceSpec{}
	made = must(r.CreateVirtualService(r.ctx, &appmesh.CreateVirtualServiceInput{MeshName: &r.Mesh, VirtualServiceName: odd, Spec: spec})).VirtualService
	r.same("spec", spec, made.Spec)
	spec.Provider = &types.VirtualServiceProviderMemberVirtualNode{Value: types.VirtualNodeServiceProvider{VirtualNodeName: aws.String("blue")}}
	updated := must(r.UpdateVirtualService(r.ctx, &appmesh.UpdateVirtualServiceInput{MeshName: &r.Mesh, VirtualServiceName: odd, Spec: spec})).VirtualService
	r.same("spec", spec, updated.Spec)
	r.changed(*made.Metadata, updated.Metadata)

	r.listed(pages(r, appmesh.NewListVirtualServicesPaginator(r.Client, &appmesh.ListVirtualServicesInput{MeshName: &r.Mesh, Limit: aws.Int32(1)}),
		func(o *appmesh.ListVirtualServicesOutput) []string {
			return names(o.VirtualServices, func(v types.VirtualServiceRef) *string { return v.VirtualServiceName })
		}), *odd, "shop.local")
}

func (r *run) gateways() {
	spec := gatewaySpec()
	made := must(r.CreateVirtualGateway(r.ctx, &appmesh.CreateVirtualGatewayInput{MeshName: &r.Mesh, VirtualGatewayName: aws.String("gate"), Spec: spec})).VirtualGateway
	r.made(made.Metadata, string(made.Status.Status), "/virtualGateway/gate")
	r.same("spec", spec, made.Spec)
	r.same("described", made, must(r.DescribeVirtualGateway(r.ctx, &appmesh.DescribeVirtualGatewayInput{
		MeshName: &r.Mesh, VirtualGatewayName: aws.String("gate"), MeshOwner: &r.Account,
	})).VirtualGateway)

	made = must(r.CreateVirtualGateway(r.ctx, &appmesh.CreateVirtualGatewayInput{MeshName: &r.Mesh, VirtualGatewayName: aws.String("spare"), Spec: spec})).VirtualGateway
	spec.Logging = nil
	updated := must(r.UpdateVirtualGateway(r.ctx, &appmesh.UpdateVirtualGatewayInput{MeshName: &r.Mesh, VirtualGatewayName: aws.String("spare"), Spec: spec})).VirtualGateway
	r.same("spec", spec, updated.Spec)
	r.changed(*made.Metadata, updated.Metadata)

	r.listed(pages(r, appmesh.NewListVirtualGatewaysPaginator(r.Client, &appmesh.ListVirtualGatewaysInput{MeshName: &r.Mesh, Limit: aws.Int32(1)}),
		func(o *appmesh.ListVirtualGatewaysOutput) []string {
			return names(o.VirtualGateways, func(v types.VirtualGatewayRef) *string { return v.VirtualGatewayName })
		}), "gate", "spare")
}

func (r *run) gatewayRoutes() {
	gateway, spec := aws.String("gate"), gatewayRouteSpec()
	made := must(r.CreateGatewayRoute(r.ctx, &appmesh.CreateGatewayRouteInput{MeshName: &r.Mesh, VirtualGatewayName: gateway, GatewayRouteName: aws.String("g1"), Spec: spec})).GatewayRoute
	r.made(made.Metadata, string(made.Status.Status), "/virtualGateway/gate/gatewayRoute/g1")
	r.same("spec", spec, made.Spec)
	r.same("described", made, must(r.DescribeGatewayRoute(r.ctx, &appmesh.DescribeGatewayRouteInput{
		MeshName: &r.Mesh, VirtualGatewayName: gateway, GatewayRouteName: aws.String("g1"), MeshOwner: &r.Account,
	})).GatewayRoute)

	made = must(r.CreateGatewayRoute(r.ctx, &appmesh.CreateGatewayRouteInput{MeshName: &r.Mesh, VirtualGatewayName: gateway, GatewayRouteName: aws.String("g2"), Spec: spec})).GatewayRoute
	spec.HttpRoute.Match.Hostname = &types.GatewayRouteHostnameMatch{Suffix: aws.String(".example.com")}
	updated := must(r.UpdateGatewayRoute(r.ctx, &appmesh.UpdateGatewayRouteInput{MeshName: &r.Mesh, VirtualGatewayName: gateway, GatewayRouteName: aws.String("g2"), Spec: spec})).GatewayRoute
	r.same("spec", spec, updated.Spec)
	r.changed(*made.Metadata, updated.Metadata)

	r.listed(pages(r, appmesh.NewListGatewayRoutesPaginator(r.Client, &appmesh.ListGatewayRoutesInput{MeshName: &r.Mesh, VirtualGatewayName: gateway, Limit: aws.Int32(1)}),
		func(o *appmesh.ListGatewayRoutesOutput) []string {
			return names(o.GatewayRoutes, func(v types.GatewayRouteRef) *string { return v.GatewayRouteName })
		}), "g1", "g2")
}

func (r *run) tags(arn string) {
	must(r.TagResource(r.ctx, &appmesh.TagResourceInput{ResourceArn: &arn, Tags: tags("team", "green", "stage", "test")}))
	all := pages(r, appmesh.NewListTagsForResourcePaginator(r.Client, &appmesh.ListTagsForResourceInput{ResourceArn: &arn, Limit: aws.Int32(1)}),
		func(o *appmesh.ListTagsForResourceOutput) []types.TagRef { return o.Tags })
	r.same("pages of tags", 3, len(all))
	r.same("tags", tags("team", "green", "empty", "", "stage", "test"), slices.Concat(all...))
	must(r.UntagResource(r.ctx, &appmesh.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"empty", "never there"}}))
	left := must(r.ListTagsForResource(r.ctx, &appmesh.ListTagsForResourceInput{ResourceArn: &arn}))
	r.same("tags", tags("team", "green", "stage", "test"), left.Tags)
	r.holds(left.NextToken == nil, "the last page has a token")
}

// deletes removes everything, what refers to something before what it refers to.
func (r *run) deletes() {
	mesh := &r.Mesh
	for _, name := range []string{"g1", "g2"} {
		r.same("status", types.GatewayRouteStatusCodeDeleted, must(r.DeleteGatewayRoute(r.ctx, &appmesh.DeleteGatewayRouteInput{
			MeshName: mesh, VirtualGatewayName: aws.String("gate"), GatewayRouteName: &name,
		})).GatewayRoute.Status.Status)
	}
	for _, name := range []string{"gate", "spare"} {
		r.same("status", types.VirtualGatewayStatusCodeDeleted, must(r.DeleteVirtualGateway(r.ctx, &appmesh.DeleteVirtualGatewayInput{
			MeshName: mesh, VirtualGatewayName: &name,
		})).VirtualGateway.Status.Status)
	}
	for _, name := range []string{"shop.local", "a/b c:8@x+"} {
		r.same("status", types.VirtualServiceStatusCodeDeleted, must(r.DeleteVirtualService(r.ctx, &appmesh.DeleteVirtualServiceInput{
			MeshName: mesh, VirtualServiceName: &name,
		})).VirtualService.Status.Status)
	}
	for _, name := range []string{"r1", "r2"} {
		r.same("status", types.RouteStatusCodeDeleted, must(r.DeleteRoute(r.ctx, &appmesh.DeleteRouteInput{
			MeshName: mesh, VirtualRouterName: aws.String("router"), RouteName: &name,
		})).Route.Status.Status)
	}
	for _, name := range []string{"router", "spare"} {
		r.same("status", types.VirtualRouterStatusCodeDeleted, must(r.DeleteVirtualRouter(r.ctx, &appmesh.DeleteVirtualRouterInput{
			MeshName: mesh, VirtualRouterName: &name,
		})).VirtualRouter.Status.Status)
	}
	for _, name := range []string{"blue", "green"} {
		deleted := must(r.DeleteVirtualNode(r.ctx, &appmesh.DeleteVirtualNodeInput{MeshName: mesh, VirtualNodeName: &name})).VirtualNode
		r.same("status", types.VirtualNodeStatusCodeDeleted, deleted.Status.Status)
		r.holds(*deleted.Metadata.Version > 1, "deleting a node does not count its version on")
	}
	r.same("status", types.MeshStatusCodeDeleted, must(r.DeleteMesh(r.ctx, &appmesh.DeleteMeshInput{MeshName: mesh})).Mesh.Status.Status)
}
