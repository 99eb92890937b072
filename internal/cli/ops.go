package cli

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/aws-sdk-go-v2/service/appmesh/types"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// option is an option of one call.
type option = func(*appmesh.Options)

// operations are the calls of the API on one kind. The answers are read by withBody.
type operations struct {
	create   func(ctx context.Context, c *appmesh.Client, r Ref, tags []types.TagRef, opts ...option) error
	describe func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error
	update   func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error
	remove   func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error
	// list asks for one page of the kind in r's mesh or, for a child, under r's parent.
	list func(ctx context.Context, c *appmesh.Client, r Ref, next *string, opts ...option) error
}

// pageSize is how many objects a page of a list has: as many as the API allows.
const pageSize = 100

// owner is the parameter meshOwner: absent for the caller's own mesh.
func (r Ref) owner() *string {
	if r.Owner == "" {
		return nil
	}
	return aws.String(r.Owner)
}

// ops has the operations of each kind. A spec that the SDK insists on is replaced by withSpec.
var ops = map[mesh.Kind]operations{
	mesh.KindMesh: {
		create: func(ctx context.Context, c *appmesh.Client, r Ref, tags []types.TagRef, opts ...option) error {
			_, err := c.CreateMesh(ctx, &appmesh.CreateMeshInput{MeshName: &r.Mesh, Tags: tags}, opts...)
			return err
		},
		describe: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DescribeMesh(ctx, &appmesh.DescribeMeshInput{MeshName: &r.Mesh, MeshOwner: r.owner()}, opts...)
			return err
		},
		update: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.UpdateMesh(ctx, &appmesh.UpdateMeshInput{MeshName: &r.Mesh}, opts...)
			return err
		},
		remove: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DeleteMesh(ctx, &appmesh.DeleteMeshInput{MeshName: &r.Mesh}, opts...)
			return err
		},
		list: func(ctx context.Context, c *appmesh.Client, _ Ref, next *string, opts ...option) error {
			_, err := c.ListMeshes(ctx, &appmesh.ListMeshesInput{NextToken: next, Limit: aws.Int32(pageSize)}, opts...)
			return err
		},
	},
	mesh.KindVirtualNode: {
		create: func(ctx context.Context, c *appmesh.Client, r Ref, tags []types.TagRef, opts ...option) error {
			_, err := c.CreateVirtualNode(ctx, &appmesh.CreateVirtualNodeInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualNodeName: &r.Name, Spec: &types.VirtualNodeSpec{}, Tags: tags}, opts...)
			return err
		},
		describe: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DescribeVirtualNode(ctx, &appmesh.DescribeVirtualNodeInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualNodeName: &r.Name}, opts...)
			return err
		},
		update: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.UpdateVirtualNode(ctx, &appmesh.UpdateVirtualNodeInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualNodeName: &r.Name, Spec: &types.VirtualNodeSpec{}}, opts...)
			return err
		},
		remove: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DeleteVirtualNode(ctx, &appmesh.DeleteVirtualNodeInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualNodeName: &r.Name}, opts...)
			return err
		},
		list: func(ctx context.Context, c *appmesh.Client, r Ref, next *string, opts ...option) error {
			_, err := c.ListVirtualNodes(ctx, &appmesh.ListVirtualNodesInput{MeshName: &r.Mesh, MeshOwner: r.owner(), NextToken: next, Limit: aws.Int32(pageSize)}, opts...)
			return err
		},
	},
	mesh.KindVirtualRouter: {
		create: func(ctx context.Context, c *appmesh.Client, r Ref, tags []types.TagRef, opts ...option) error {
			_, err := c.CreateVirtualRouter(ctx, &appmesh.CreateVirtualRouterInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualRouterName: &r.Name, Spec: &types.VirtualRouterSpec{}, Tags: tags}, opts...)
			return err
		},
		describe: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DescribeVirtualRouter(ctx, &appmesh.DescribeVirtualRouterInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualRouterName: &r.Name}, opts...)
			return err
		},
		update: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.UpdateVirtualRouter(ctx, &appmesh.UpdateVirtualRouterInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualRouterName: &r.Name, Spec: &types.VirtualRouterSpec{}}, opts...)
			return err
		},
		remove: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DeleteVirtualRouter(ctx, &appmesh.DeleteVirtualRouterInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualRouterName: &r.Name}, opts...)
			return err
		},
		list: func(ctx context.Context, c *appmesh.Client, r Ref, next *string, opts ...option) error {
			_, err := c.ListVirtualRouters(ctx, &appmesh.ListVirtualRoutersInput{MeshName: &r.Mesh, MeshOwner: r.owner(), NextToken: next, Limit: aws.Int32(pageSize)}, opts...)
			return err
		},
	},
	mesh.KindRoute: {
		create: func(ctx context.Context, c *appmesh.Client, r Ref, tags []types.TagRef, opts ...option) error {
			_, err := c.CreateRoute(ctx, &appmesh.CreateRouteInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualRouterName: &r.Parent, RouteName: &r.Name, Spec: &types.RouteSpec{}, Tags: tags}, opts...)
			return err
		},
		describe: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DescribeRoute(ctx, &appmesh.DescribeRouteInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualRouterName: &r.Parent, RouteName: &r.Name}, opts...)
			return err
		},
		update: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.UpdateRoute(ctx, &appmesh.UpdateRouteInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualRouterName: &r.Parent, RouteName: &r.Name, Spec: &types.RouteSpec{}}, opts...)
			return err
		},
		remove: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DeleteRoute(ctx, &appmesh.DeleteRouteInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualRouterName: &r.Parent, RouteName: &r.Name}, opts...)
			return err
		},
		list: func(ctx context.Context, c *appmesh.Client, r Ref, next *string, opts ...option) error {
			_, err := c.ListRoutes(ctx, &appmesh.ListRoutesInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualRouterName: &r.Parent, NextToken: next, Limit: aws.Int32(pageSize)}, opts...)
			return err
		},
	},
	mesh.KindVirtualService: {
		create: func(ctx context.Context, c *appmesh.Client, r Ref, tags []types.TagRef, opts ...option) error {
			_, err := c.CreateVirtualService(ctx, &appmesh.CreateVirtualServiceInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualServiceName: &r.Name, Spec: &types.VirtualServiceSpec{}, Tags: tags}, opts...)
			return err
		},
		describe: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DescribeVirtualService(ctx, &appmesh.DescribeVirtualServiceInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualServiceName: &r.Name}, opts...)
			return err
		},
		update: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.UpdateVirtualService(ctx, &appmesh.UpdateVirtualServiceInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualServiceName: &r.Name, Spec: &types.VirtualServiceSpec{}}, opts...)
			return err
		},
		remove: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DeleteVirtualService(ctx, &appmesh.DeleteVirtualServiceInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualServiceName: &r.Name}, opts...)
			return err
		},
		list: func(ctx context.Context, c *appmesh.Client, r Ref, next *string, opts ...option) error {
			_, err := c.ListVirtualServices(ctx, &appmesh.ListVirtualServicesInput{MeshName: &r.Mesh, MeshOwner: r.owner(), NextToken: next, Limit: aws.Int32(pageSize)}, opts...)
			return err
		},
	},
	mesh.KindVirtualGateway: {
		create: func(ctx context.Context, c *appmesh.Client, r Ref, tags []types.TagRef, opts ...option) error {
			_, err := c.CreateVirtualGateway(ctx, &appmesh.CreateVirtualGatewayInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualGatewayName: &r.Name, Spec: &types.VirtualGatewaySpec{Listeners: []types.VirtualGatewayListener{}}, Tags: tags}, opts...)
			return err
		},
		describe: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DescribeVirtualGateway(ctx, &appmesh.DescribeVirtualGatewayInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualGatewayName: &r.Name}, opts...)
			return err
		},
		update: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.UpdateVirtualGateway(ctx, &appmesh.UpdateVirtualGatewayInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualGatewayName: &r.Name, Spec: &types.VirtualGatewaySpec{Listeners: []types.VirtualGatewayListener{}}}, opts...)
			return err
		},
		remove: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DeleteVirtualGateway(ctx, &appmesh.DeleteVirtualGatewayInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualGatewayName: &r.Name}, opts...)
			return err
		},
		list: func(ctx context.Context, c *appmesh.Client, r Ref, next *string, opts ...option) error {
			_, err := c.ListVirtualGateways(ctx, &appmesh.ListVirtualGatewaysInput{MeshName: &r.Mesh, MeshOwner: r.owner(), NextToken: next, Limit: aws.Int32(pageSize)}, opts...)
			return err
		},
	},
	mesh.KindGatewayRoute: {
		create: func(ctx context.Context, c *appmesh.Client, r Ref, tags []types.TagRef, opts ...option) error {
			_, err := c.CreateGatewayRoute(ctx, &appmesh.CreateGatewayRouteInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualGatewayName: &r.Parent, GatewayRouteName: &r.Name, Spec: &types.GatewayRouteSpec{}, Tags: tags}, opts...)
			return err
		},
		describe: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DescribeGatewayRoute(ctx, &appmesh.DescribeGatewayRouteInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualGatewayName: &r.Parent, GatewayRouteName: &r.Name}, opts...)
			return err
		},
		update: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.UpdateGatewayRoute(ctx, &appmesh.UpdateGatewayRouteInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualGatewayName: &r.Parent, GatewayRouteName: &r.Name, Spec: &types.GatewayRouteSpec{}}, opts...)
			return err
		},
		remove: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DeleteGatewayRoute(ctx, &appmesh.DeleteGatewayRouteInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualGatewayName: &r.Parent, GatewayRouteName: &r.Name}, opts...)
			return err
		},
		list: func(ctx context.Context, c *appmesh.Client, r Ref, next *string, opts ...option) error {
			_, err := c.ListGatewayRoutes(ctx, &appmesh.ListGatewayRoutesInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualGatewayName: &r.Parent, NextToken: next, Limit: aws.Int32(pageSize)}, opts...)
			return err
		},
	},
}
