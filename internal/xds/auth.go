package xds

import (
	"context"
	"errors"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// streamAction is the IAM action that a proxy needs on its own ARN.
const streamAction = "appmesh:StreamAggregatedResources"

// authenticate finds who signed the opening of a stream. Envoy signs the request
// headers with SigV4 and leaves the payload, a stream, unsigned.
func (s *Server) authenticate(ctx context.Context, method string) (access.Caller, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	caller, err := s.cfg.Access.Verify(access.StreamRequest(method, md))
	if err == nil {
		return caller, nil
	}
	s.met.refused.Inc()
	s.cfg.Log.Info("refusing a stream", "error", err)
	var refusal *mesh.Error
	switch {
	case !errors.As(err, &refusal):
		return caller, status.Error(codes.Unavailable, "the caller could not be verified just now")
	case refusal.Code == mesh.ErrMissingAuthentication:
		return caller, status.Error(codes.Unauthenticated,
			"the stream is not signed: give the proxy AWS credentials of a Fairlead user (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a shared credentials file)")
	}
	return caller, status.Error(codes.Unauthenticated, refusal.Error())
}

// authorize reads which virtual node or gateway a proxy is, and whether the caller may
// have its resources; allowed asks again, for keys are revoked and policies change.
func authorize(caller access.Caller, node *corev3.Node) (key feedKey, allowed func() error, err error) {
	id, owner, err := mesh.ParseARN(node.GetId(), caller.Account, caller.Region)
	if err != nil {
		return feedKey{}, nil, status.Errorf(codes.InvalidArgument, "node.id: %v", err)
	}
	if id.Kind != mesh.KindVirtualNode && id.Kind != mesh.KindVirtualGateway {
		return feedKey{}, nil, status.Errorf(codes.InvalidArgument, "node.id %q names a %s, allowed are a virtualNode or virtualGateway", node.GetId(), id.Kind)
	}
	if id.Mesh.Account != caller.Account || owner != caller.Account || id.Mesh.Region != caller.Region {
		return feedKey{}, nil, status.Errorf(codes.PermissionDenied, "%s of account %s in region %s may not have the resources of %s",
			caller.ARN, caller.Account, caller.Region, node.GetId())
	}
	arn := id.ARN(owner)
	allowed = func() error {
		if err := caller.Allow(access.Question{Action: streamAction, Resource: arn}); err != nil {
			return status.Error(codes.PermissionDenied, err.Error())
		}
		return nil
	}
	if err := allowed(); err != nil {
		return feedKey{}, nil, err
	}
	profile, err := envoy.ParseProfile(node)
	if err != nil {
		return feedKey{}, nil, status.Errorf(codes.InvalidArgument, "node.metadata: %v", err)
	}
	return feedKey{id: id, profile: profile}, allowed, nil
}
