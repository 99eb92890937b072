package main

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/aws-sdk-go-v2/service/appmesh/types"
)

// object returns what a describe call tells. The parts are those of its answer, all there if err is nil.
func object[O any](out *O, err error, parts func(*O) (*types.ResourceMetadata, any, string)) (found, error) {
	if err != nil {
		return found{}, err
	}
	m, spec, status := parts(out)
	return found{m, spec, status}, nil
}

// only returns the error of a call whose answer the provider does not look at.
func only[O any](_ *O, err error) error {
	return err
}

func (w *workspace) mesh(spec *types.MeshSpec, tags map[string]string) *resource {
	return &resource{
		id: "aws_appmesh_mesh " + w.Mesh, spec: spec, tags: tags,
		create: func(spec any, tags []types.TagRef, _ *string) error {
			return only(w.CreateMesh(w.ctx, &appmesh.CreateMeshInput{MeshName: &w.Mesh, Spec: spec.(*types.MeshSpec), Tags: tags}))
		},
		find: func(owner *string) (found, error) {
			out, err := w.DescribeMesh(w.ctx, &appmesh.DescribeMeshInput{MeshName: &w.Mesh, MeshOwner: owner})
			return object(out, err, func(o *appmesh.DescribeMeshOutput) (*types.ResourceMetadata, any, string) {
				return o.Mesh.Metadata, o.Mesh.Spec, string(o.Mesh.Status.Status)
			})
		},
		update: func(spec any, _ *string) error {
			return only(w.UpdateMesh(w.ctx, &appmesh.UpdateMeshInput{MeshName: &w.Mesh, Spec: spec.(*types.MeshSpec)}))
		},
		remove: func(*string) error {
			return only(w.DeleteMesh(w.ctx, &appmesh.DeleteMeshInput{MeshName: &w.Mesh}))
		},
	}
}

func (w *workspace) node(name string, spec *types.VirtualNodeSpec, tags map[string]string) *resource {
	return &resource{
		id: "aws_appmesh_virtual_node " + w.Mesh + "/" + name, spec: spec, tags: tags,
		create: func(spec any, tags []types.TagRef, owner *string) error {
			return only(w.CreateVirtualNode(w.ctx, &appmesh.CreateVirtualNodeInput{
				MeshName: &w.Mesh, MeshOwner: owner, VirtualNodeName: &name, Spec: spec.(*types.VirtualNodeSpec), Tags: tags,
			}))
		},
		find: func(owner *string) (found, error) {
			out, err := w.DescribeVirtualNode(w.ctx, &appmesh.DescribeVirtualNodeInput{MeshName: &w.Mesh, MeshOwner: owner, VirtualNodeName: &name})
			return object(out, err, func(o *appmesh.DescribeVirtualNodeOutput) (*types.ResourceMetadata, any, string) {
				return o.VirtualNode.Metadata, o.VirtualNode.Spec, string(o.VirtualNode.Status.Status)
			})
		},
		update: func(spec any, owner *string) error {
			return only(w.UpdateVirtualNode(w.ctx, &appmesh.UpdateVirtualNodeInput{
				MeshName: &w.Mesh, MeshOwner: owner, VirtualNodeName: &name, Spec: spec.(*types.VirtualNodeSpec),
			}))
		},
		remove: func(owner *string) error {
			return only(w.DeleteVirtualNode(w.ctx, &appmesh.DeleteVirtualNodeInput{MeshName: &w.Mesh, MeshOwner: owner, VirtualNodeName: &name}))
		},
	}
}

func (w *workspace) router(name string, spec *types.VirtualRouterSpec, tags map[string]string) *resource {
	return &resource{
		id: "aws_appmesh_virtual_router " + w.Mesh + "/" + name, spec: spec, tags: tags,
		create: func(spec any, tags []types.TagRef, owner *string) error {
			return only(w.CreateVirtualRouter(w.ctx, &appmesh.CreateVirtualRouterInput{
				MeshName: &w.Mesh, MeshOwner: owner, VirtualRouterName: &name, Spec: spec.(*types.VirtualRouterSpec), Tags: tags,
			}))
		},
		find: func(owner *string) (found, error) {
			out, err := w.DescribeVirtualRouter(w.ctx, &appmesh.DescribeVirtualRouterInput{MeshName: &w.Mesh, MeshOwner: owner, VirtualRouterName: &name})
			return object(out, err, func(o *appmesh.DescribeVirtualRouterOutput) (*types.ResourceMetadata, any, string) {
				return o.VirtualRouter.Metadata, o.VirtualRouter.Spec, string(o.VirtualRouter.Status.Status)
			})
		},
		update: func(spec any, owner *string) error {
			return only(w.UpdateVirtualRouter(w.ctx, &appmesh.UpdateVirtualRouterInput{
				MeshName: &w.Mesh, MeshOwner: owner, VirtualRouterName: &name, Spec: spec.(*types.VirtualRouterSpec),
			}))
		},
		remove: func(owner *string) error {
			return only(w.DeleteVirtualRouter(w.ctx, &appmesh.DeleteVirtualRouterInput{MeshName: &w.Mesh, MeshOwner: owner, VirtualRouterName: &name}))
		},
	}
}

func (w *workspace) route(router, name string, spec *types.RouteSpec, tags map[string]string) *resource {
	return &resource{
		id: "aws_appmesh_route " + w.Mesh + "/" + router + "/" + name, spec: spec, tags: tags,
		create: func(spec any, tags []types.TagRef, owner *string) error {
			return only(w.CreateRoute(w.ctx, &appmesh.CreateRouteInput{
				MeshName: &w.Mesh, MeshOwner: owner, VirtualRouterName: &router, RouteName: &name, Spec: spec.(*types.RouteSpec), Tags: tags,
			}))
		},
		find: func(owner *string) (found, error) {
			out, err := w.DescribeRoute(w.ctx, &appmesh.DescribeRouteInput{MeshName: &w.Mesh, MeshOwner: owner, VirtualRouterName: &router, RouteName: &name})
			return object(out, err, func(o *appmesh.DescribeRouteOutput) (*types.ResourceMetadata, any, string) {
				return o.Route.Metadata, o.Route.Spec, string(o.Route.Status.Status)
			})
		},
		update: func(spec any, owner *string) error {
			return only(w.UpdateRoute(w.ctx, &appmesh.UpdateRouteInput{
				MeshName: &w.Mesh, MeshOwner: owner, VirtualRouterName: &router, RouteName: &name, Spec: spec.(*types.RouteSpec),
			}))
		},
		remove: func(owner *string) error {
			return only(w.DeleteRoute(w.ctx, &appmesh.DeleteRouteInput{MeshName: &w.Mesh, MeshOwner: owner, VirtualRouterName: &router, RouteName: &name}))
		},
	}
}

func (w *workspace) service(name string, spec *types.VirtualServiceSpec, tags map[string]string) *resource {
	return &resource{
		id: "aws_appmesh_virtual_service " + w.Mesh + "/" + name, spec: spec, tags: tags,
		create: func(spec any, tags []types.TagRef, owner *string) error {
			return only(w.CreateVirtualService(w.ctx, &appmesh.CreateVirtualServiceInput{
				MeshName: &w.Mesh, MeshOwner: owner, VirtualServiceName: &name, Spec: spec.(*types.VirtualServiceSpec), Tags: tags,
			}))
		},
		find: func(owner *string) (found, error) {
			out, err := w.DescribeVirtualService(w.ctx, &appmesh.DescribeVirtualServiceInput{MeshName: &w.Mesh, MeshOwner: owner, VirtualServiceName: &name})
			return object(out, err, func(o *appmesh.DescribeVirtualServiceOutput) (*types.ResourceMetadata, any, string) {
				return o.VirtualService.Metadata, o.VirtualService.Spec, string(o.VirtualService.Status.Status)
			})
		},
		update: func(spec any, owner *string) error {
			return only(w.UpdateVirtualService(w.ctx, &appmesh.UpdateVirtualServiceInput{
				MeshName: &w.Mesh, MeshOwner: owner, VirtualServiceName: &name, Spec: spec.(*types.VirtualServiceSpec),
			}))
		},
		remove: func(owner *string) error {
			return only(w.DeleteVirtualService(w.ctx, &appmesh.DeleteVirtualServiceInput{MeshName: &w.Mesh, MeshOwner: owner, VirtualServiceName: &name}))
		},
	}
}

func (w *workspace) gateway(name string, spec *types.VirtualGatewaySpec, tags map[string]string) *resource {
	return &resource{
		id: "aws_appmesh_virtual_gateway " + w.Mesh + "/" + name, spec: spec, tags: tags,
		create: func(spec any, tags []types.TagRef, owner *string) error {
			return only(w.CreateVirtualGateway(w.ctx, &appmesh.CreateVirtualGatewayInput{
				MeshName: &w.Mesh, MeshOwner: owner, VirtualGatewayName: &name, Spec: spec.(*types.VirtualGatewaySpec), Tags: tags,
			}))
		},
		find: func(owner *string) (found, error) {
			out, err := w.DescribeVirtualGateway(w.ctx, &appmesh.DescribeVirtualGatewayInput{MeshName: &w.Mesh, MeshOwner: owner, VirtualGatewayName: &name})
			return object(out, err, func(o *appmesh.DescribeVirtualGatewayOutput) (*types.ResourceMetadata, any, string) {
				return o.VirtualGateway.Metadata, o.VirtualGateway.Spec, string(o.VirtualGateway.Status.Status)
			})
		},
		update: func(spec any, owner *string) error {
			return only(w.UpdateVirtualGateway(w.ctx, &appmesh.UpdateVirtualGatewayInput{
				MeshName: &w.Mesh, MeshOwner: owner, VirtualGatewayName: &name, Spec: spec.(*types.VirtualGatewaySpec),
			}))
		},
		remove: func(owner *string) error {
			return only(w.DeleteVirtualGateway(w.ctx, &appmesh.DeleteVirtualGatewayInput{MeshName: &w.Mesh, MeshOwner: owner, VirtualGatewayName: &name}))
		},
	}
}

func (w *workspace) gatewayRoute(gateway, name string, spec *types.GatewayRouteSpec, tags map[string]string) *resource {
	return &resource{
		id: "aws_appmesh_gateway_route " + w.Mesh + "/" + gateway + "/" + name, spec: spec, tags: tags,
		create: func(spec any, tags []types.TagRef, owner *string) error {
			return only(w.CreateGatewayRoute(w.ctx, &appmesh.CreateGatewayRouteInput{
				MeshName: &w.Mesh, MeshOwner: owner, VirtualGatewayName: &gateway, GatewayRouteName: &name, Spec: spec.(*types.GatewayRouteSpec), Tags: tags,
			}))
		},
		find: func(owner *string) (found, error) {
			out, err := w.DescribeGatewayRoute(w.ctx, &appmesh.DescribeGatewayRouteInput{
				MeshName: &w.Mesh, MeshOwner: owner, VirtualGatewayName: &gateway, GatewayRouteName: &name,
			})
			return object(out, err, func(o *appmesh.DescribeGatewayRouteOutput) (*types.ResourceMetadata, any, string) {
				return o.GatewayRoute.Metadata, o.GatewayRoute.Spec, string(o.GatewayRoute.Status.Status)
			})
		},
		update: func(spec any, owner *string) error {
			return only(w.UpdateGatewayRoute(w.ctx, &appmesh.UpdateGatewayRouteInput{
				MeshName: &w.Mesh, MeshOwner: owner, VirtualGatewayName: &gateway, GatewayRouteName: &name, Spec: spec.(*types.GatewayRouteSpec),
			}))
		},
		remove: func(owner *string) error {
			return only(w.DeleteGatewayRoute(w.ctx, &appmesh.DeleteGatewayRouteInput{
				MeshName: &w.Mesh, MeshOwner: owner, VirtualGatewayName: &gateway, GatewayRouteName: &name,
			}))
		},
	}
}

// tf is what the provider sends of a duration: no value where it is 0.
func tf(value int64, unit types.DurationUnit) *types.Duration {
	if value == 0 {
		return &types.Duration{Unit: unit}
	}
	return &types.Duration{Unit: unit, Value: aws.Int64(value)}
}
