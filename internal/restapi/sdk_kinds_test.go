package restapi_test

import (
	"context"
	"encoding/json"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/aws-sdk-go-v2/service/appmesh/types"
	"github.com/google/go-cmp/cmp"
)

// sdkObject is what the tests look at of an object of any kind.
type sdkObject struct {
	name, arn, uid, owner, status string
	version                       int64
	created, updated              time.Time
	spec                          string // as JSON
}

// cmpSDK compares sdkObjects.
var cmpSDK = cmp.AllowUnexported(sdkObject{})

// sdkKind is how the SDK spells what is done with objects of one kind.
type sdkKind struct {
	kind  string
	names []string

	create, describe, update, remove func(ctx context.Context, name string) (sdkObject, error)
	list                             func(ctx context.Context, limit int32, token *string) (names []string, next *string, err error)
}

var (
	sdkMesh   = aws.String("shop")
	sdkParent = aws.String("one")
	sdkTagged = []types.TagRef{{Key: aws.String("created"), Value: aws.String("yes")}}
)

// object puts together an object from the parts that all kinds have.
func object(name *string, m *types.ResourceMetadata, status string, spec any) sdkObject {
	b, err := json.Marshal(spec)
	if err != nil {
		panic(err)
	}
	return sdkObject{
		name: *name, arn: *m.Arn, uid: *m.Uid, owner: *m.ResourceOwner, status: status,
		version: *m.Version, created: *m.CreatedAt, updated: *m.LastUpdatedAt, spec: string(b),
	}
}

// take returns the object in an operation's output.
func take[O any](out *O, err error, data func(*O) sdkObject) (sdkObject, error) {
	if err != nil {
		return sdkObject{}, err
	}
	return data(out), nil
}

// nameList returns the names in a page.
func nameList[R any](refs []R, name func(R) *string) (names []string) {
	for _, r := range refs {
		names = append(names, *name(r))
	}
	return names
}

// sdkKinds are the kinds in the order in which they can be created.
func sdkKinds(c *appmesh.Client) []sdkKind {
	return []sdkKind{
		sdkMeshes(c), sdkVirtualNodes(c), sdkVirtualRouters(c), sdkRoutes(c),
		sdkVirtualServices(c), sdkVirtualGateways(c), sdkGatewayRoutes(c),
	}
}

func sdkMeshes(c *appmesh.Client) sdkKind {
	data := func(d *types.MeshData) sdkObject {
		return object(d.MeshName, d.Metadata, string(d.Status.Status), d.Spec)
	}
	return sdkKind{
		kind: "mesh", names: []string{"shop", "shop2"},
		create: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.CreateMesh(ctx, &appmesh.CreateMeshInput{MeshName: &name, Tags: sdkTagged, Spec: &types.MeshSpec{}})
			return take(out, err, func(o *appmesh.CreateMeshOutput) sdkObject { return data(o.Mesh) })
		},
		describe: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.DescribeMesh(ctx, &appmesh.DescribeMeshInput{MeshName: &name})
			return take(out, err, func(o *appmesh.DescribeMeshOutput) sdkObject { return data(o.Mesh) })
		},
		update: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.UpdateMesh(ctx, &appmesh.UpdateMeshInput{MeshName: &name, Spec: &types.MeshSpec{EgressFilter: &types.EgressFilter{Type: types.EgressFilterTypeAllowAll}}})
			return take(out, err, func(o *appmesh.UpdateMeshOutput) sdkObject { return data(o.Mesh) })
		},
		remove: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.DeleteMesh(ctx, &appmesh.DeleteMeshInput{MeshName: &name})
			return take(out, err, func(o *appmesh.DeleteMeshOutput) sdkObject { return data(o.Mesh) })
		},
		list: func(ctx context.Context, limit int32, token *string) ([]string, *string, error) {
			out, err := c.ListMeshes(ctx, &appmesh.ListMeshesInput{Limit: &limit, NextToken: token})
			if err != nil {
				return nil, nil, err
			}
			return nameList(out.Meshes, func(r types.MeshRef) *string { return r.MeshName }), out.NextToken, nil
		},
	}
}

func sdkVirtualNodes(c *appmesh.Client) sdkKind {
	data := func(d *types.VirtualNodeData) sdkObject {
		return object(d.VirtualNodeName, d.Metadata, string(d.Status.Status), d.Spec)
	}
	return sdkKind{
		kind: "virtualNode", names: []string{"one", "two"},
		create: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.CreateVirtualNode(ctx, &appmesh.CreateVirtualNodeInput{MeshName: sdkMesh, VirtualNodeName: &name, Tags: sdkTagged, Spec: &types.VirtualNodeSpec{}})
			return take(out, err, func(o *appmesh.CreateVirtualNodeOutput) sdkObject { return data(o.VirtualNode) })
		},
		describe: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.DescribeVirtualNode(ctx, &appmesh.DescribeVirtualNodeInput{MeshName: sdkMesh, VirtualNodeName: &name})
			return take(out, err, func(o *appmesh.DescribeVirtualNodeOutput) sdkObject { return data(o.VirtualNode) })
		},
		update: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.UpdateVirtualNode(ctx, &appmesh.UpdateVirtualNodeInput{MeshName: sdkMesh, VirtualNodeName: &name, Spec: &types.VirtualNodeSpec{
				Backends: []types.Backend{&types.BackendMemberVirtualService{Value: types.VirtualServiceBackend{VirtualServiceName: aws.String("later")}}},
				Listeners: []types.Listener{{
					PortMapping:    &types.PortMapping{Port: aws.Int32(80), Protocol: types.PortProtocolGrpc},
					ConnectionPool: &types.VirtualNodeConnectionPoolMemberGrpc{Value: types.VirtualNodeGrpcConnectionPool{MaxRequests: aws.Int32(9)}},
				}},
				ServiceDiscovery: &types.ServiceDiscoveryMemberDns{Value: types.DnsServiceDiscovery{Hostname: aws.String("one.local")}},
			}})
			return take(out, err, func(o *appmesh.UpdateVirtualNodeOutput) sdkObject { return data(o.VirtualNode) })
		},
		remove: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.DeleteVirtualNode(ctx, &appmesh.DeleteVirtualNodeInput{MeshName: sdkMesh, VirtualNodeName: &name})
			return take(out, err, func(o *appmesh.DeleteVirtualNodeOutput) sdkObject { return data(o.VirtualNode) })
		},
		list: func(ctx context.Context, limit int32, token *string) ([]string, *string, error) {
			out, err := c.ListVirtualNodes(ctx, &appmesh.ListVirtualNodesInput{MeshName: sdkMesh, Limit: &limit, NextToken: token})
			if err != nil {
				return nil, nil, err
			}
			return nameList(out.VirtualNodes, func(r types.VirtualNodeRef) *string { return r.VirtualNodeName }), out.NextToken, nil
		},
	}
}

func sdkVirtualRouters(c *appmesh.Client) sdkKind {
	data := func(d *types.VirtualRouterData) sdkObject {
		return object(d.VirtualRouterName, d.Metadata, string(d.Status.Status), d.Spec)
	}
	return sdkKind{
		kind: "virtualRouter", names: []string{"two", "one"},
		create: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.CreateVirtualRouter(ctx, &appmesh.CreateVirtualRouterInput{MeshName: sdkMesh, VirtualRouterName: &name, Tags: sdkTagged, Spec: &types.VirtualRouterSpec{}})
			return take(out, err, func(o *appmesh.CreateVirtualRouterOutput) sdkObject { return data(o.VirtualRouter) })
		},
		describe: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.DescribeVirtualRouter(ctx, &appmesh.DescribeVirtualRouterInput{MeshName: sdkMesh, VirtualRouterName: &name})
			return take(out, err, func(o *appmesh.DescribeVirtualRouterOutput) sdkObject { return data(o.VirtualRouter) })
		},
		update: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.UpdateVirtualRouter(ctx, &appmesh.UpdateVirtualRouterInput{MeshName: sdkMesh, VirtualRouterName: &name, Spec: &types.VirtualRouterSpec{Listeners: []types.VirtualRouterListener{
				{PortMapping: &types.PortMapping{Port: aws.Int32(80), Protocol: types.PortProtocolGrpc}},
			}}})
			return take(out, err, func(o *appmesh.UpdateVirtualRouterOutput) sdkObject { return data(o.VirtualRouter) })
		},
		remove: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.DeleteVirtualRouter(ctx, &appmesh.DeleteVirtualRouterInput{MeshName: sdkMesh, VirtualRouterName: &name})
			return take(out, err, func(o *appmesh.DeleteVirtualRouterOutput) sdkObject { return data(o.VirtualRouter) })
		},
		list: func(ctx context.Context, limit int32, token *string) ([]string, *string, error) {
			out, err := c.ListVirtualRouters(ctx, &appmesh.ListVirtualRoutersInput{MeshName: sdkMesh, Limit: &limit, NextToken: token})
			if err != nil {
				return nil, nil, err
			}
			return nameList(out.VirtualRouters, func(r types.VirtualRouterRef) *string { return r.VirtualRouterName }), out.NextToken, nil
		},
	}
}

func sdkRoutes(c *appmesh.Client) sdkKind {
	data := func(d *types.RouteData) sdkObject {
		return object(d.RouteName, d.Metadata, string(d.Status.Status), d.Spec)
	}
	return sdkKind{
		kind: "route", names: []string{"one", "two"},
		create: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.CreateRoute(ctx, &appmesh.CreateRouteInput{MeshName: sdkMesh, VirtualRouterName: sdkParent, RouteName: &name, Tags: sdkTagged, Spec: sdkRoute(100)})
			return take(out, err, func(o *appmesh.CreateRouteOutput) sdkObject { return data(o.Route) })
		},
		describe: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.DescribeRoute(ctx, &appmesh.DescribeRouteInput{MeshName: sdkMesh, VirtualRouterName: sdkParent, RouteName: &name})
			return take(out, err, func(o *appmesh.DescribeRouteOutput) sdkObject { return data(o.Route) })
		},
		update: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.UpdateRoute(ctx, &appmesh.UpdateRouteInput{MeshName: sdkMesh, VirtualRouterName: sdkParent, RouteName: &name, Spec: sdkRoute(0)})
			return take(out, err, func(o *appmesh.UpdateRouteOutput) sdkObject { return data(o.Route) })
		},
		remove: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.DeleteRoute(ctx, &appmesh.DeleteRouteInput{MeshName: sdkMesh, VirtualRouterName: sdkParent, RouteName: &name})
			return take(out, err, func(o *appmesh.DeleteRouteOutput) sdkObject { return data(o.Route) })
		},
		list: func(ctx context.Context, limit int32, token *string) ([]string, *string, error) {
			out, err := c.ListRoutes(ctx, &appmesh.ListRoutesInput{MeshName: sdkMesh, VirtualRouterName: sdkParent, Limit: &limit, NextToken: token})
			if err != nil {
				return nil, nil, err
			}
			return nameList(out.Routes, func(r types.RouteRef) *string { return r.RouteName }), out.NextToken, nil
		},
	}
}

func sdkVirtualServices(c *appmesh.Client) sdkKind {
	data := func(d *types.VirtualServiceData) sdkObject {
		return object(d.VirtualServiceName, d.Metadata, string(d.Status.Status), d.Spec)
	}
	return sdkKind{
		kind: "virtualService", names: []string{"one", "two.local/x y"},
		create: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.CreateVirtualService(ctx, &appmesh.CreateVirtualServiceInput{MeshName: sdkMesh, VirtualServiceName: &name, Tags: sdkTagged, Spec: &types.VirtualServiceSpec{
				Provider: &types.VirtualServiceProviderMemberVirtualRouter{Value: types.VirtualRouterServiceProvider{VirtualRouterName: sdkParent}},
			}})
			return take(out, err, func(o *appmesh.CreateVirtualServiceOutput) sdkObject { return data(o.VirtualService) })
		},
		describe: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.DescribeVirtualService(ctx, &appmesh.DescribeVirtualServiceInput{MeshName: sdkMesh, VirtualServiceName: &name})
			return take(out, err, func(o *appmesh.DescribeVirtualServiceOutput) sdkObject { return data(o.VirtualService) })
		},
		update: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.UpdateVirtualService(ctx, &appmesh.UpdateVirtualServiceInput{MeshName: sdkMesh, VirtualServiceName: &name, Spec: &types.VirtualServiceSpec{}})
			return take(out, err, func(o *appmesh.UpdateVirtualServiceOutput) sdkObject { return data(o.VirtualService) })
		},
		remove: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.DeleteVirtualService(ctx, &appmesh.DeleteVirtualServiceInput{MeshName: sdkMesh, VirtualServiceName: &name})
			return take(out, err, func(o *appmesh.DeleteVirtualServiceOutput) sdkObject { return data(o.VirtualService) })
		},
		list: func(ctx context.Context, limit int32, token *string) ([]string, *string, error) {
			out, err := c.ListVirtualServices(ctx, &appmesh.ListVirtualServicesInput{MeshName: sdkMesh, Limit: &limit, NextToken: token})
			if err != nil {
				return nil, nil, err
			}
			return nameList(out.VirtualServices, func(r types.VirtualServiceRef) *string { return r.VirtualServiceName }), out.NextToken, nil
		},
	}
}

func sdkVirtualGateways(c *appmesh.Client) sdkKind {
	data := func(d *types.VirtualGatewayData) sdkObject {
		return object(d.VirtualGatewayName, d.Metadata, string(d.Status.Status), d.Spec)
	}
	return sdkKind{
		kind: "virtualGateway", names: []string{"one", "two"},
		create: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.CreateVirtualGateway(ctx, &appmesh.CreateVirtualGatewayInput{MeshName: sdkMesh, VirtualGatewayName: &name, Tags: sdkTagged, Spec: &types.VirtualGatewaySpec{Listeners: []types.VirtualGatewayListener{}}})
			return take(out, err, func(o *appmesh.CreateVirtualGatewayOutput) sdkObject { return data(o.VirtualGateway) })
		},
		describe: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.DescribeVirtualGateway(ctx, &appmesh.DescribeVirtualGatewayInput{MeshName: sdkMesh, VirtualGatewayName: &name})
			return take(out, err, func(o *appmesh.DescribeVirtualGatewayOutput) sdkObject { return data(o.VirtualGateway) })
		},
		update: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.UpdateVirtualGateway(ctx, &appmesh.UpdateVirtualGatewayInput{MeshName: sdkMesh, VirtualGatewayName: &name, Spec: &types.VirtualGatewaySpec{Listeners: []types.VirtualGatewayListener{
				{PortMapping: &types.VirtualGatewayPortMapping{Port: aws.Int32(80), Protocol: types.VirtualGatewayPortProtocolHttp}},
			}}})
			return take(out, err, func(o *appmesh.UpdateVirtualGatewayOutput) sdkObject { return data(o.VirtualGateway) })
		},
		remove: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.DeleteVirtualGateway(ctx, &appmesh.DeleteVirtualGatewayInput{MeshName: sdkMesh, VirtualGatewayName: &name})
			return take(out, err, func(o *appmesh.DeleteVirtualGatewayOutput) sdkObject { return data(o.VirtualGateway) })
		},
		list: func(ctx context.Context, limit int32, token *string) ([]string, *string, error) {
			out, err := c.ListVirtualGateways(ctx, &appmesh.ListVirtualGatewaysInput{MeshName: sdkMesh, Limit: &limit, NextToken: token})
			if err != nil {
				return nil, nil, err
			}
			return nameList(out.VirtualGateways, func(r types.VirtualGatewayRef) *string { return r.VirtualGatewayName }), out.NextToken, nil
		},
	}
}

func sdkGatewayRoutes(c *appmesh.Client) sdkKind {
	data := func(d *types.GatewayRouteData) sdkObject {
		return object(d.GatewayRouteName, d.Metadata, string(d.Status.Status), d.Spec)
	}
	return sdkKind{
		kind: "gatewayRoute", names: []string{"one", "two"},
		create: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.CreateGatewayRoute(ctx, &appmesh.CreateGatewayRouteInput{MeshName: sdkMesh, VirtualGatewayName: sdkParent, GatewayRouteName: &name, Tags: sdkTagged, Spec: sdkGatewayRoute("/")})
			return take(out, err, func(o *appmesh.CreateGatewayRouteOutput) sdkObject { return data(o.GatewayRoute) })
		},
		describe: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.DescribeGatewayRoute(ctx, &appmesh.DescribeGatewayRouteInput{MeshName: sdkMesh, VirtualGatewayName: sdkParent, GatewayRouteName: &name})
			return take(out, err, func(o *appmesh.DescribeGatewayRouteOutput) sdkObject { return data(o.GatewayRoute) })
		},
		update: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.UpdateGatewayRoute(ctx, &appmesh.UpdateGatewayRouteInput{MeshName: sdkMesh, VirtualGatewayName: sdkParent, GatewayRouteName: &name, Spec: sdkGatewayRoute("/x")})
			return take(out, err, func(o *appmesh.UpdateGatewayRouteOutput) sdkObject { return data(o.GatewayRoute) })
		},
		remove: func(ctx context.Context, name string) (sdkObject, error) {
			out, err := c.DeleteGatewayRoute(ctx, &appmesh.DeleteGatewayRouteInput{MeshName: sdkMesh, VirtualGatewayName: sdkParent, GatewayRouteName: &name})
			return take(out, err, func(o *appmesh.DeleteGatewayRouteOutput) sdkObject { return data(o.GatewayRoute) })
		},
		list: func(ctx context.Context, limit int32, token *string) ([]string, *string, error) {
			out, err := c.ListGatewayRoutes(ctx, &appmesh.ListGatewayRoutesInput{MeshName: sdkMesh, VirtualGatewayName: sdkParent, Limit: &limit, NextToken: token})
			if err != nil {
				return nil, nil, err
			}
			return nameList(out.GatewayRoutes, func(r types.GatewayRouteRef) *string { return r.GatewayRouteName }), out.NextToken, nil
		},
	}
}

// sdkRoute is a gRPC route with a metadata match. A weight of 0 is sent as such.
func sdkRoute(weight int32) *types.RouteSpec {
	return &types.RouteSpec{GrpcRoute: &types.GrpcRoute{
		Match: &types.GrpcRouteMatch{Metadata: []types.GrpcRouteMetadata{{
			Name: aws.String("X-Testing1"), Match: &types.GrpcRouteMetadataMatchMethodMemberExact{Value: "y"},
		}}},
		Action: &types.GrpcRouteAction{WeightedTargets: []types.WeightedTarget{
			{VirtualNode: sdkParent, Weight: weight}, {VirtualNode: aws.String("two"), Weight: 1},
		}},
	}}
}

func sdkGatewayRoute(prefix string) *types.GatewayRouteSpec {
	return &types.GatewayRouteSpec{HttpRoute: &types.HttpGatewayRoute{
		Match: &types.HttpGatewayRouteMatch{Prefix: &prefix},
		Action: &types.HttpGatewayRouteAction{Target: &types.GatewayRouteTarget{
			VirtualService: &types.GatewayRouteVirtualService{VirtualServiceName: aws.String("two.local/x y")},
		}},
	}}
}
