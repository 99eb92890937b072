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

// maxNodeID bounds the node.id of a proxy; an ARN is shorter.
const maxNodeID = 2048

// refusal is why a stream is not served, as the proxy is told and as the audit has it.
type refusal struct {
	code   mesh.Code
	status *status.Status
}

// Error returns the status as text.
func (r *refusal) Error() string { return r.status.Err().Error() }

// GRPCStatus returns what the proxy is told.
func (r *refusal) GRPCStatus() *status.Status { return r.status }

func refuse(c codes.Code, code mesh.Code, format string, args ...any) error {
	return &refusal{code, status.Newf(c, format, args...)}
}

// authenticate finds who signed the opening of a stream. Envoy signs the request
// headers with SigV4 and leaves the payload, a stream, unsigned.
func (s *Server) authenticate(ctx context.Context, method string, one *session) (access.Caller, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	req := access.StreamRequest(method, md)
	req.SourceIP, req.Secure = one.peer.Addr(), one.secure
	caller, err := s.cfg.Access.Verify(req)
	if err == nil {
		return caller, nil
	}
	var why *mesh.Error
	switch {
	case !errors.As(err, &why):
		s.cfg.Log.Error("verifying who opens a stream failed", "error", err)
		return caller, status.Error(codes.Unavailable, "the caller could not be verified just now")
	case why.Code == mesh.ErrMissingAuthentication:
		return caller, refuse(codes.Unauthenticated, why.Code,
			"the stream is not signed: give the proxy AWS credentials of a Fairlead user (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a shared credentials file)")
	}
	return caller, refuse(codes.Unauthenticated, why.Code, "%s", why.Error())
}

// claim reads which virtual node or gateway a proxy says in a field that it is of, in order to do
// something for it.
func (one *session) claim(field, arn, act string) error {
	one.node = arn
	caller := &one.caller
	if len(arn) > maxNodeID {
		one.node = arn[:maxNodeID]
		return refuse(codes.InvalidArgument, mesh.ErrBadRequest, "%s is longer than %d bytes", field, maxNodeID)
	}
	id, owner, err := mesh.ParseARN(arn, caller.Account, caller.Region)
	if err != nil {
		return refuse(codes.InvalidArgument, mesh.ErrBadRequest, "%s: %v", field, err)
	}
	if id.Kind != mesh.KindVirtualNode && id.Kind != mesh.KindVirtualGateway {
		return refuse(codes.InvalidArgument, mesh.ErrBadRequest,
			"%s %q names a %s, allowed are a virtualNode or virtualGateway", field, arn, id.Kind)
	}
	if owner != caller.Account || id.Mesh.Region != caller.Region {
		return refuse(codes.PermissionDenied, mesh.ErrForbidden, "%s of account %s in region %s may not %s %s",
			caller.ARN, caller.Account, caller.Region, act, arn)
	}
	one.key = feedKey{id: id, owner: owner}
	return nil
}

// identify reads which virtual node or gateway a proxy is, and how it is placed.
func (one *session) identify(node *corev3.Node) error {
	one.version = envoyVersion(node)
	if err := one.claim("node.id", node.GetId(), "have the resources of"); err != nil {
		return err
	}
	profile, err := envoy.ParseProfile(node)
	if err != nil {
		return refuse(codes.InvalidArgument, mesh.ErrBadRequest, "node: %v", err)
	}
	profile.HostsApart = !one.full && envoy.Incremental(node)
	one.key.profile = profile
	return nil
}

// allowed asks whether a caller may have what its stream serves; it is asked again
// while the stream is open, for keys are revoked and policies change. A caller whose
// credentials have come to their end gets errAged: its proxy has others by now.
func (s *Server) allowed(one *session) error {
	if !s.cfg.Access.Valid(one.caller) {
		if one.expired() {
			return errAged
		}
		return refuse(codes.PermissionDenied, mesh.ErrForbidden,
			"what %s signed with is no longer valid: its access key, session, user, role or account", one.caller.ARN)
	}
	q := access.Question{Action: streamAction, Resource: one.key.arn()}
	if owner, tags := s.cfg.Live.Object(one.key.id); owner == one.key.owner {
		q.ResourceTags = tags
	}
	if err := one.caller.Allow(q); err != nil {
		return refuse(codes.PermissionDenied, mesh.ErrForbidden, "%v", err)
	}
	return nil
}
