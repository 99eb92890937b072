package main

import (
	"slices"
	"time"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/service/appmesh"
)

// operations makes two objects of each kind, and describes, lists, changes, tags and deletes them.
func (r *run) operations() {
	r.AppMesh = r.client(r.login)
	provoking := make(chan error, 1)
	go func() { provoking <- r.provoke() }()
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
	if err := <-provoking; err != nil {
		fail("%w", err)
	}
}

// made checks what is said of an object that was just made.
func (r *run) made(m *appmesh.ResourceMetadata, status *string, path string) {
	r.same("status", "ACTIVE", *status)
	r.same("ARN", "arn:aws:appmesh:"+r.Region+":"+r.Account+":mesh/"+r.Mesh+path, *m.Arn)
	r.same("version", int64(1), *m.Version)
	r.same("owners", []string{r.Account, r.Account}, []string{*m.MeshOwner, *m.ResourceOwner})
	r.holds(len(*m.Uid) == 36, "the uid is %q", *m.Uid)
	r.holds(time.Since(*m.CreatedAt).Abs() < 10*time.Minute, "createdAt is %v", m.CreatedAt)
	r.holds(m.LastUpdatedAt.Equal(*m.CreatedAt), "made at %v, updated at %v", m.CreatedAt, m.LastUpdatedAt)
}

// changed checks what is said of an object after its next version was made.
func (r *run) changed(before, after *appmesh.ResourceMetadata) {
	r.holds(!after.LastUpdatedAt.Before(*before.LastUpdatedAt), "updated at %v, then at %v", before.LastUpdatedAt, after.LastUpdatedAt)
	want := *before
	want.Version = aws.Int64(*before.Version + 1)
	want.LastUpdatedAt = after.LastUpdatedAt
	r.same("metadata after an update", want, *after)
}

// A list gathers what is on the pages of a list.
type list struct {
	r     *run
	names []string
}

// page takes a page, which must have one entry.
func (l *list) page(names ...string) bool {
	l.r.holds(len(names) == 1, "a page with limit 1 has %d", len(names))
	l.names = append(l.names, names...)
	return true
}

// listed checks a list when it was read.
func (l *list) listed(err error, want ...string) {
	must(0, err)
	l.r.same("list", want, l.names)
}

func names[T any](refs []T, name func(T) *string) []string {
	var all []string
	for _, ref := range refs {
		all = append(all, *name(ref))
	}
	return all
}

func (r *run) meshes() (arn string) {
	spec := &appmesh.MeshSpec{
		EgressFilter:     &appmesh.EgressFilter{Type: aws.String(appmesh.EgressFilterTypeAllowAll)},
		ServiceDiscovery: &appmesh.MeshServiceDiscovery{IpPreference: aws.String(appmesh.IpPreferenceIpv4Only)},
	}
	made := must(r.CreateMesh(&appmesh.CreateMeshInput{MeshName: &r.Mesh, Spec: spec, Tags: tags("team", "blue", "empty", "")})).Mesh
	r.made(made.Metadata, made.Status.Status, "")
	r.same("spec", spec, made.Spec)
	r.same("described", made, must(r.DescribeMesh(&appmesh.DescribeMeshInput{MeshName: &r.Mesh, MeshOwner: &r.Account})).Mesh)

	spec = &appmesh.MeshSpec{EgressFilter: &appmesh.EgressFilter{Type: aws.String(appmesh.EgressFilterTypeDropAll)}}
	updated := must(r.UpdateMesh(&appmesh.UpdateMeshInput{MeshName: &r.Mesh, Spec: spec})).Mesh
	r.same("spec", spec, updated.Spec)
	r.changed(made.Metadata, updated.Metadata)

	var found []*appmesh.MeshRef
	must(0, r.ListMeshesPages(&appmesh.ListMeshesInput{Limit: aws.Int64(1)}, func(o *appmesh.ListMeshesOutput, _ bool) bool {
		r.same("meshes on a page", 1, len(o.Meshes))
		found = append(found, o.Meshes...)
		return true
	}))
	i := slices.IndexFunc(found, func(ref *appmesh.MeshRef) bool { return *ref.MeshName == r.Mesh })
	r.holds(i >= 0, "the mesh is not in the list of meshes")
	m := updated.Metadata
	r.same("the mesh in the list", &appmesh.MeshRef{
		MeshName: &r.Mesh, Arn: m.Arn, MeshOwner: m.MeshOwner, ResourceOwner: m.ResourceOwner,
		Version: m.Version, CreatedAt: m.CreatedAt, LastUpdatedAt: m.LastUpdatedAt,
	}, found[i])
	return *m.Arn
}

func (r *run) nodes() {
	blue := nodeSpec()
	made := must(r.CreateVirtualNode(&appmesh.CreateVirtualNodeInput{MeshName: &r.Mesh, VirtualNodeName: aws.String("blue"), Spec: blue})).VirtualNode
	r.made(made.Metadata, made.Status.Status, "/virtualNode/blue")
	r.same("port of the health check", aws.Int64(8080), made.Spec.Listeners[0].HealthCheck.Port)
	blue.Listeners[0].HealthCheck.Port = aws.Int64(8080)
	r.same("spec", blue, made.Spec)
	r.same("described", made, must(r.DescribeVirtualNode(&appmesh.DescribeVirtualNodeInput{
		MeshName: &r.Mesh, VirtualNodeName: aws.String("blue"), MeshOwner: &r.Account,
	})).VirtualNode)

	green := cloudMapSpec()
	made = must(r.CreateVirtualNode(&appmesh.CreateVirtualNodeInput{MeshName: &r.Mesh, VirtualNodeName: aws.String("green"), Spec: green})).VirtualNode
	r.same("spec", green, made.Spec)
	green.ServiceDiscovery = &appmesh.ServiceDiscovery{Dns: &appmesh.DnsServiceDiscovery{Hostname: aws.String("green.internal")}}
	updated := must(r.UpdateVirtualNode(&appmesh.UpdateVirtualNodeInput{MeshName: &r.Mesh, VirtualNodeName: aws.String("green"), Spec: green})).VirtualNode
	r.same("spec", green, updated.Spec)
	r.changed(made.Metadata, updated.Metadata)

	l := list{r: r}
	l.listed(r.ListVirtualNodesPages(&appmesh.ListVirtualNodesInput{MeshName: &r.Mesh, Limit: aws.Int64(1)}, func(o *appmesh.ListVirtualNodesOutput, _ bool) bool {
		return l.page(names(o.VirtualNodes, func(v *appmesh.VirtualNodeRef) *string { return v.VirtualNodeName })...)
	}), "blue", "green")
}

func (r *run) routers() {
	spec := &appmesh.VirtualRouterSpec{Listeners: []*appmesh.VirtualRouterListener{{PortMapping: port(8080, "http")}}}
	made := must(r.CreateVirtualRouter(&appmesh.CreateVirtualRouterInput{MeshName: &r.Mesh, VirtualRouterName: aws.String("router"), Spec: spec})).VirtualRouter
	r.made(made.Metadata, made.Status.Status, "/virtualRouter/router")
	r.same("spec", spec, made.Spec)
	r.same("described", made, must(r.DescribeVirtualRouter(&appmesh.DescribeVirtualRouterInput{
		MeshName: &r.Mesh, VirtualRouterName: aws.String("router"), MeshOwner: &r.Account,
	})).VirtualRouter)

	made = must(r.CreateVirtualRouter(&appmesh.CreateVirtualRouterInput{MeshName: &r.Mesh, VirtualRouterName: aws.String("spare"), Spec: spec})).VirtualRouter
	spec.Listeners = append(spec.Listeners, &appmesh.VirtualRouterListener{PortMapping: port(9090, "grpc")})
	updated := must(r.UpdateVirtualRouter(&appmesh.UpdateVirtualRouterInput{MeshName: &r.Mesh, VirtualRouterName: aws.String("spare"), Spec: spec})).VirtualRouter
	r.same("spec", spec, updated.Spec)
	r.changed(made.Metadata, updated.Metadata)

	l := list{r: r}
	l.listed(r.ListVirtualRoutersPages(&appmesh.ListVirtualRoutersInput{MeshName: &r.Mesh, Limit: aws.Int64(1)}, func(o *appmesh.ListVirtualRoutersOutput, _ bool) bool {
		return l.page(names(o.VirtualRouters, func(v *appmesh.VirtualRouterRef) *string { return v.VirtualRouterName })...)
	}), "router", "spare")
}

func (r *run) routes() {
	router, spec := aws.String("router"), routeSpec()
	made := must(r.CreateRoute(&appmesh.CreateRouteInput{MeshName: &r.Mesh, VirtualRouterName: router, RouteName: aws.String("r1"), Spec: spec})).Route
	r.made(made.Metadata, made.Status.Status, "/virtualRouter/router/route/r1")
	r.same("spec", spec, made.Spec)
	r.same("described", made, must(r.DescribeRoute(&appmesh.DescribeRouteInput{
		MeshName: &r.Mesh, VirtualRouterName: router, RouteName: aws.String("r1"), MeshOwner: &r.Account,
	})).Route)

	made = must(r.CreateRoute(&appmesh.CreateRouteInput{MeshName: &r.Mesh, VirtualRouterName: router, RouteName: aws.String("r2"), Spec: spec})).Route
	spec.HttpRoute.Action.WeightedTargets = []*appmesh.WeightedTarget{
		{VirtualNode: aws.String("green"), Weight: aws.Int64(100)},
		{VirtualNode: aws.String("blue"), Weight: aws.Int64(0)},
	}
	spec.Priority = aws.Int64(0)
	updated := must(r.UpdateRoute(&appmesh.UpdateRouteInput{MeshName: &r.Mesh, VirtualRouterName: router, RouteName: aws.String("r2"), Spec: spec})).Route
	r.same("spec", spec, updated.Spec)
	r.changed(made.Metadata, updated.Metadata)

	l := list{r: r}
	l.listed(r.ListRoutesPages(&appmesh.ListRoutesInput{MeshName: &r.Mesh, VirtualRouterName: router, Limit: aws.Int64(1)}, func(o *appmesh.ListRoutesOutput, _ bool) bool {
		return l.page(names(o.Routes, func(v *appmesh.RouteRef) *string { return v.RouteName })...)
	}), "r1", "r2")
}

func (r *run) services() {
	spec := &appmesh.VirtualServiceSpec{Provider: &appmesh.VirtualServiceProvider{
		VirtualRouter: &appmesh.VirtualRouterServiceProvider{VirtualRouterName: aws.String("router")},
	}}
	made := must(r.CreateVirtualService(&appmesh.CreateVirtualServiceInput{MeshName: &r.Mesh, VirtualServiceName: aws.String("shop.local"), Spec: spec})).VirtualService
	r.made(made.Metadata, made.Status.Status, "/virtualService/shop.local")
	r.same("spec", spec, made.Spec)
	r.same("described", made, must(r.DescribeVirtualService(&appmesh.DescribeVirtualServiceInput{
		MeshName: &r.Mesh, VirtualServiceName: aws.String("shop.local"), MeshOwner: &r.Account,
	})).VirtualService)

	odd := aws.String("a/b c:8@x+")
	spec = &appmesh.VirtualServiceSpec{}
	made = must(r.CreateVirtualService(&appmesh.CreateVirtualServiceInput{MeshName: &r.Mesh, VirtualServiceName: odd, Spec: spec})).VirtualService
	r.same("spec", spec, made.Spec)
	spec.Provider = &appmesh.VirtualServiceProvider{VirtualNode: &appmesh.VirtualNodeServiceProvider{VirtualNodeName: aws.String("blue")}}
	updated := must(r.UpdateVirtualService(&appmesh.UpdateVirtualServiceInput{MeshName: &r.Mesh, VirtualServiceName: odd, Spec: spec})).VirtualService
	r.same("spec", spec, updated.Spec)
	r.changed(made.Metadata, updated.Metadata)

	l := list{r: r}
	l.listed(r.ListVirtualServicesPages(&appmesh.ListVirtualServicesInput{MeshName: &r.Mesh, Limit: aws.Int64(1)}, func(o *appmesh.ListVirtualServicesOutput, _ bool) bool {
		return l.page(names(o.VirtualServices, func(v *appmesh.VirtualServiceRef) *string { return v.VirtualServiceName })...)
	}), *odd, "shop.local")
}

func (r *run) gateways() {
	spec := gatewaySpec()
	made := must(r.CreateVirtualGateway(&appmesh.CreateVirtualGatewayInput{MeshName: &r.Mesh, VirtualGatewayName: aws.String("gate"), Spec: spec})).VirtualGateway
	r.made(made.Metadata, made.Status.Status, "/virtualGateway/gate")
	r.same("spec", spec, made.Spec)
	r.same("described", made, must(r.DescribeVirtualGateway(&appmesh.DescribeVirtualGatewayInput{
		MeshName: &r.Mesh, VirtualGatewayName: aws.String("gate"), MeshOwner: &r.Account,
	})).VirtualGateway)

	made = must(r.CreateVirtualGateway(&appmesh.CreateVirtualGatewayInput{MeshName: &r.Mesh, VirtualGatewayName: aws.String("spare"), Spec: spec})).VirtualGateway
	spec.Logging = nil
	updated := must(r.UpdateVirtualGateway(&appmesh.UpdateVirtualGatewayInput{MeshName: &r.Mesh, VirtualGatewayName: aws.String("spare"), Spec: spec})).VirtualGateway
	r.same("spec", spec, updated.Spec)
	r.changed(made.Metadata, updated.Metadata)

	l := list{r: r}
	l.listed(r.ListVirtualGatewaysPages(&appmesh.ListVirtualGatewaysInput{MeshName: &r.Mesh, Limit: aws.Int64(1)}, func(o *appmesh.ListVirtualGatewaysOutput, _ bool) bool {
		return l.page(names(o.VirtualGateways, func(v *appmesh.VirtualGatewayRef) *string { return v.VirtualGatewayName })...)
	}), "gate", "spare")
}

func (r *run) gatewayRoutes() {
	gateway, spec := aws.String("gate"), gatewayRouteSpec()
	made := must(r.CreateGatewayRoute(&appmesh.CreateGatewayRouteInput{MeshName: &r.Mesh, VirtualGatewayName: gateway, GatewayRouteName: aws.String("g1"), Spec: spec})).GatewayRoute
	r.made(made.Metadata, made.Status.Status, "/virtualGateway/gate/gatewayRoute/g1")
	r.same("spec", spec, made.Spec)
	r.same("described", made, must(r.DescribeGatewayRoute(&appmesh.DescribeGatewayRouteInput{
		MeshName: &r.Mesh, VirtualGatewayName: gateway, GatewayRouteName: aws.String("g1"), MeshOwner: &r.Account,
	})).GatewayRoute)

	made = must(r.CreateGatewayRoute(&appmesh.CreateGatewayRouteInput{MeshName: &r.Mesh, VirtualGatewayName: gateway, GatewayRouteName: aws.String("g2"), Spec: spec})).GatewayRoute
	spec.HttpRoute.Match.Hostname = &appmesh.GatewayRouteHostnameMatch{Suffix: aws.String(".example.com")}
	updated := must(r.UpdateGatewayRoute(&appmesh.UpdateGatewayRouteInput{MeshName: &r.Mesh, VirtualGatewayName: gateway, GatewayRouteName: aws.String("g2"), Spec: spec})).GatewayRoute
	r.same("spec", spec, updated.Spec)
	r.changed(made.Metadata, updated.Metadata)

	l := list{r: r}
	l.listed(r.ListGatewayRoutesPages(&appmesh.ListGatewayRoutesInput{MeshName: &r.Mesh, VirtualGatewayName: gateway, Limit: aws.Int64(1)}, func(o *appmesh.ListGatewayRoutesOutput, _ bool) bool {
		return l.page(names(o.GatewayRoutes, func(v *appmesh.GatewayRouteRef) *string { return v.GatewayRouteName })...)
	}), "g1", "g2")
}

func (r *run) tags(arn string) {
	must(r.TagResource(&appmesh.TagResourceInput{ResourceArn: &arn, Tags: tags("team", "green", "stage", "test")}))
	var all []*appmesh.TagRef
	must(0, r.ListTagsForResourcePages(&appmesh.ListTagsForResourceInput{ResourceArn: &arn, Limit: aws.Int64(1)}, func(o *appmesh.ListTagsForResourceOutput, _ bool) bool {
		r.same("tags on a page", 1, len(o.Tags))
		all = append(all, o.Tags...)
		return true
	}))
	r.same("tags", tags("team", "green", "empty", "", "stage", "test"), all)
	must(r.UntagResource(&appmesh.UntagResourceInput{ResourceArn: &arn, TagKeys: aws.StringSlice([]string{"empty", "never there"})}))
	left := must(r.ListTagsForResource(&appmesh.ListTagsForResourceInput{ResourceArn: &arn}))
	r.same("tags", tags("team", "green", "stage", "test"), left.Tags)
	r.holds(left.NextToken == nil, "the last page has a token")
}

// deletes removes everything, what refers to something before what it refers to.
func (r *run) deletes() {
	mesh := &r.Mesh
	gone := func(status *string) { r.same("status", "DELETED", *status) }
	for _, name := range []string{"g1", "g2"} {
		gone(must(r.DeleteGatewayRoute(&appmesh.DeleteGatewayRouteInput{
			MeshName: mesh, VirtualGatewayName: aws.String("gate"), GatewayRouteName: &name,
		})).GatewayRoute.Status.Status)
	}
	for _, name := range []string{"gate", "spare"} {
		gone(must(r.DeleteVirtualGateway(&appmesh.DeleteVirtualGatewayInput{MeshName: mesh, VirtualGatewayName: &name})).VirtualGateway.Status.Status)
	}
	for _, name := range []string{"shop.local", "a/b c:8@x+"} {
		gone(must(r.DeleteVirtualService(&appmesh.DeleteVirtualServiceInput{MeshName: mesh, VirtualServiceName: &name})).VirtualService.Status.Status)
	}
	for _, name := range []string{"r1", "r2"} {
		gone(must(r.DeleteRoute(&appmesh.DeleteRouteInput{MeshName: mesh, VirtualRouterName: aws.String("router"), RouteName: &name})).Route.Status.Status)
	}
	for _, name := range []string{"router", "spare"} {
		gone(must(r.DeleteVirtualRouter(&appmesh.DeleteVirtualRouterInput{MeshName: mesh, VirtualRouterName: &name})).VirtualRouter.Status.Status)
	}
	for _, name := range []string{"blue", "green"} {
		deleted := must(r.DeleteVirtualNode(&appmesh.DeleteVirtualNodeInput{MeshName: mesh, VirtualNodeName: &name})).VirtualNode
		gone(deleted.Status.Status)
		r.holds(*deleted.Metadata.Version > 1, "deleting a node does not count its version on")
	}
	gone(must(r.DeleteMesh(&appmesh.DeleteMeshInput{MeshName: mesh})).Mesh.Status.Status)
}
