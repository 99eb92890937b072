package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/aws-sdk-go-v2/service/appmesh/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Policies are Fairlead's own, and AWS's SDK does not know them. Their operations are those
// on virtual nodes at another path, with the same parameters; so the SDK's are called, and
// the path put in its place: signature, tries, errors and what is noted of answers are as for
// all other kinds.
func init() {
	ops[mesh.KindPolicy] = operations{
		create: func(ctx context.Context, c *appmesh.Client, r Ref, tags []types.TagRef, opts ...option) error {
			_, err := c.CreateVirtualNode(ctx, &appmesh.CreateVirtualNodeInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualNodeName: &r.Name, Spec: &types.VirtualNodeSpec{}, Tags: tags},
				append(opts, asPolicy(r.policies(), r.Name))...)
			return err
		},
		describe: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DescribeVirtualNode(ctx, &appmesh.DescribeVirtualNodeInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualNodeName: &r.Name}, append(opts, asPolicy(r.policy(), ""))...)
			return err
		},
		update: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.UpdateVirtualNode(ctx, &appmesh.UpdateVirtualNodeInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualNodeName: &r.Name, Spec: &types.VirtualNodeSpec{}},
				append(opts, asPolicy(r.policy(), ""))...)
			return err
		},
		remove: func(ctx context.Context, c *appmesh.Client, r Ref, opts ...option) error {
			_, err := c.DeleteVirtualNode(ctx, &appmesh.DeleteVirtualNodeInput{MeshName: &r.Mesh, MeshOwner: r.owner(), VirtualNodeName: &r.Name}, append(opts, asPolicy(r.policy(), ""))...)
			return err
		},
		list: func(ctx context.Context, c *appmesh.Client, r Ref, next *string, opts ...option) error {
			_, err := c.ListVirtualNodes(ctx, &appmesh.ListVirtualNodesInput{MeshName: &r.Mesh, MeshOwner: r.owner(), NextToken: next, Limit: aws.Int32(pageSize)}, append(opts, asPolicy(r.policies(), ""))...)
			return err
		},
	}
}

// policies returns the path of the policies of r's mesh, policy that of the policy r.
func (r Ref) policies() string { return "/v1/meshes/" + url.PathEscape(r.Mesh) + "/policies" }
func (r Ref) policy() string   { return r.policies() + "/" + url.PathEscape(r.Name) }

// asPolicy sends a request about a virtual node to another path. Of a create, created is the
// name that the body gives the policy.
func asPolicy(path, created string) option {
	move := middleware.SerializeMiddlewareFunc("FairleadPolicy", func(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (middleware.SerializeOutput, middleware.Metadata, error) {
		req, ok := in.Request.(*smithyhttp.Request)
		if !ok {
			return middleware.SerializeOutput{}, middleware.Metadata{}, fmt.Errorf("calling %s: it is no HTTP request", path)
		}
		base, err := url.Parse(path)
		if err != nil {
			return middleware.SerializeOutput{}, middleware.Metadata{}, fmt.Errorf("calling %s: %w", path, err)
		}
		req.URL.Path, req.URL.RawPath = base.Path, base.RawPath
		if created != "" {
			if in.Request, err = renamed(req, created); err != nil {
				return middleware.SerializeOutput{}, middleware.Metadata{}, fmt.Errorf("calling %s: %w", path, err)
			}
		}
		return next.HandleSerialize(ctx, in)
	})
	return addMiddleware(func(stack *middleware.Stack) error {
		return stack.Serialize.Insert(move, "OperationSerializer", middleware.After)
	})
}

// renamed gives the body of a request a policy's name in the place of a virtual node's.
func renamed(req *smithyhttp.Request, name string) (*smithyhttp.Request, error) {
	body := map[string]json.RawMessage{}
	if err := json.NewDecoder(req.GetStream()).Decode(&body); err != nil {
		return nil, err
	}
	delete(body, mesh.KindVirtualNode.NameMember())
	raw, err := json.Marshal(name)
	if err != nil {
		return nil, err
	}
	body[mesh.KindPolicy.NameMember()] = raw
	if raw, err = json.Marshal(body); err != nil {
		return nil, err
	}
	return req.SetStream(bytes.NewReader(raw))
}
