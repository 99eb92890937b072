package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// How the Cloud Map API is asked: what the header X-Amz-Target has in front of the
// operation's name, and the service that signatures are scoped to.
const (
	TargetPrefix = "Route53AutoNaming_v20170314"
	SigningName  = "servicediscovery"
)

// operation is one operation of the Cloud Map API.
type operation struct {
	readOnly bool
	input    string // the name of the input's shape
	newInput func() any
	errors   []mesh.Code // what it can refuse with
}

// ReadOnly reports whether an operation of the Cloud Map API changes nothing. ok is false
// if there is none of that name.
func ReadOnly(name string) (readOnly, ok bool) {
	op, ok := operations[name]
	return op.readOnly, ok
}

// call is one call of an operation. Its methods do one operation each; what they answer is
// the operation's output, and what they refuse a *mesh.Error, with more to say in a
// *detailed.
type call struct {
	*Registry
	place
	operation string
	caller    store.Caller
	arn       string // of what the call is about, once it was asked about
}

// Call does an operation for a caller: body is the JSON that it is asked with. It returns
// the output, and the ARN of what the call was about, "" if that is not known. What it
// refuses has a *mesh.Error among what it wraps: see Refusal.
func (r *Registry) Call(ctx context.Context, caller store.Caller, name string, body []byte) (out any, arn string, err error) {
	op, ok := operations[name]
	if !ok {
		return nil, "", mesh.Errorf(mesh.ErrUnknownOperation, "%s is not an operation of the Cloud Map API", name)
	}
	in, err := decode(op, body)
	if err != nil {
		return nil, "", err
	}
	c := &call{Registry: r, place: place{caller.Account, caller.Region}, operation: name, caller: caller}
	out, err = c.do(ctx, in)
	return out, c.arn, err
}

// decode reads the input of an operation. All that the model forbids is said at once.
func decode(op operation, body []byte) (any, error) {
	if len(body) == 0 {
		body = []byte("{}")
	}
	if !utf8.Valid(body) {
		return nil, mesh.Errorf(ErrInvalidInput, "the request body must be JSON in UTF-8, it has bytes that are not")
	}
	clean, bad := mesh.CheckCloudMap(op.input, body)
	if len(bad) > 0 {
		return nil, mesh.Errorf(ErrInvalidInput, "%s", bad.Error())
	}
	in := op.newInput()
	if err := json.Unmarshal(clean, in); err != nil {
		return nil, mesh.Errorf(ErrInvalidInput, "the request body does not fit its type: %s", err)
	}
	return in, nil
}

// do calls the method of an input.
func (c *call) do(ctx context.Context, in any) (any, error) {
	switch in := in.(type) {
	case *CreateHttpNamespaceRequest:
		return c.createHTTPNamespace(ctx, in)
	case *CreatePrivateDnsNamespaceRequest:
		return c.createPrivateDNSNamespace(ctx, in)
	case *CreatePublicDnsNamespaceRequest, *UpdatePublicDnsNamespaceRequest:
		return c.noPublicDNS()
	case *GetNamespaceRequest:
		return c.getNamespace(in)
	case *ListNamespacesRequest:
		return c.listNamespaces(in)
	case *UpdateHttpNamespaceRequest:
		return c.updateHTTPNamespace(ctx, in)
	case *UpdatePrivateDnsNamespaceRequest:
		return c.updatePrivateDNSNamespace(ctx, in)
	case *DeleteNamespaceRequest:
		return c.deleteNamespace(ctx, in)
	case *CreateServiceRequest:
		return c.createService(ctx, in)
	case *GetServiceRequest:
		return c.getService(in)
	case *ListServicesRequest:
		return c.listServices(in)
	case *UpdateServiceRequest:
		return c.updateService(ctx, in)
	case *DeleteServiceRequest:
		return c.deleteService(ctx, in)
	default:
		return c.doMore(ctx, in)
	}
}

// doMore is the rest of do.
func (c *call) doMore(ctx context.Context, in any) (any, error) {
	switch in := in.(type) {
	case *GetServiceAttributesRequest:
		return c.getServiceAttributes(in)
	case *UpdateServiceAttributesRequest:
		return c.updateServiceAttributes(ctx, in)
	case *DeleteServiceAttributesRequest:
		return c.deleteServiceAttributes(ctx, in)
	case *RegisterInstanceRequest:
		return c.registerInstance(ctx, in)
	case *DeregisterInstanceRequest:
		return c.deregisterInstance(ctx, in)
	case *GetInstanceRequest:
		return c.getInstance(in)
	case *ListInstancesRequest:
		return c.listInstances(in)
	case *DiscoverInstancesRequest:
		return c.discoverInstances(in)
	case *DiscoverInstancesRevisionRequest:
		return c.discoverInstancesRevision(in)
	case *GetInstancesHealthStatusRequest:
		return c.getInstancesHealthStatus(in)
	case *UpdateInstanceCustomHealthStatusRequest:
		return c.updateInstanceCustomHealthStatus(ctx, in)
	case *GetOperationRequest:
		return c.getOperation(ctx, in)
	case *ListOperationsRequest:
		return c.listOperations(ctx, in)
	case *TagResourceRequest:
		return c.tagResource(ctx, in)
	case *UntagResourceRequest:
		return c.untagResource(ctx, in)
	case *ListTagsForResourceRequest:
		return c.listTags(in)
	}
	return nil, fmt.Errorf("calling %s: there is no method for it", c.operation)
}

// may asks whether the caller may do the operation to a resource, "*" for one without.
func (c *call) may(q store.Question) error {
	if q.Action = SigningName + ":" + c.operation; q.Resource != "*" {
		c.arn = q.Resource
	}
	if c.caller.Allow == nil {
		return mesh.Errorf(mesh.ErrForbidden, "User: %s is not authorized to perform: %s on resource: %s", c.caller.ARN, q.Action, q.Resource)
	}
	return c.caller.Allow(q)
}

// detailed is a refusal that says more than a code and a message.
type detailed struct {
	refusal *mesh.Error
	members map[string]string
}

// Error returns code and message.
func (d *detailed) Error() string { return d.refusal.Error() }

// Unwrap returns the refusal.
func (d *detailed) Unwrap() error { return d.refusal }

// Codes that the Cloud Map model does not have, as AWS spells them for APIs of this
// protocol.
const (
	errAccessDenied       mesh.Code = "AccessDeniedException"
	errInternalFailure    mesh.Code = "InternalFailure"
	errServiceUnavailable mesh.Code = "ServiceUnavailable"
	errThrottling         mesh.Code = "ThrottlingException"
)

// Refusal returns how the Cloud Map API says what a call was refused with: the status and
// the code of refusal, which err wraps or stands for, and what the body has beside code
// and message. The refusals of other rooms are put into its codes.
func Refusal(name string, err error, refusal *mesh.Error) (status int, code mesh.Code, members map[string]string) {
	if d, ok := err.(*detailed); ok { //nolint:errorlint // what Call returned is not wrapped
		members = d.members
	}
	if s, ok := statuses[refusal.Code]; ok {
		return s, refusal.Code, members
	}
	switch refusal.Code {
	case mesh.ErrBadRequest:
		return http.StatusBadRequest, ErrInvalidInput, members
	case mesh.ErrForbidden:
		return http.StatusBadRequest, errAccessDenied, members
	case mesh.ErrTooManyRequests:
		if slices.Contains(operations[name].errors, ErrRequestLimitExceeded) {
			return statuses[ErrRequestLimitExceeded], ErrRequestLimitExceeded, members
		}
		return http.StatusBadRequest, errThrottling, members
	case mesh.ErrServiceUnavailable:
		return http.StatusServiceUnavailable, errServiceUnavailable, members
	case mesh.ErrInternalServerError:
		return http.StatusInternalServerError, errInternalFailure, members
	case mesh.ErrUnknownOperation:
		return http.StatusBadRequest, refusal.Code, members
	}
	return refusal.Code.Status(), refusal.Code, members
}

// arn returns the ARN of something of the caller's.
func (p place) arn(what, id string) string {
	return "arn:" + mesh.Partition(p.region) + ":" + SigningName + ":" + p.region + ":" + p.account + ":" + what + "/" + id
}

// own reads the id of a namespace or a service that may be given as an ARN. What belongs
// to others is refused.
func (c *call) own(field, what, given string) (id string, err error) {
	if !strings.HasPrefix(given, "arn:") {
		if given == "" || strings.Contains(given, "/") {
			return "", mesh.Errorf(ErrInvalidInput, "%s must be the id or the ARN of a %s, %q was given", field, what, given)
		}
		return given, nil
	}
	parts := strings.SplitN(given, ":", 6)
	if len(parts) < 6 || parts[2] != SigningName {
		return "", mesh.Errorf(ErrInvalidInput, "%s must be the id or the ARN of a %s, such as %s, %q was given", field, what, c.place.arn(what, "ID"), given)
	}
	kind, id, _ := strings.Cut(parts[5], "/")
	switch {
	case kind != what || id == "" || strings.Contains(id, "/"):
		return "", mesh.Errorf(ErrInvalidInput, "%s must be the id or the ARN of a %s, such as %s, %q was given", field, what, c.place.arn(what, "ID"), given)
	case parts[4] != c.account:
		return "", mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to use what belongs to account %s: only the account's own namespaces and services can be used", c.caller.ARN, parts[4])
	case parts[3] != c.region:
		return "", mesh.Errorf(ErrInvalidInput, "%s is in region %s, the request is for %s", field, parts[3], c.region)
	}
	return id, nil
}

// refs turns tags into what policies are asked with.
func refs(tags []Tag) []mesh.TagRef {
	out := make([]mesh.TagRef, len(tags))
	for i, t := range tags {
		out[i] = mesh.TagRef(t)
	}
	return out
}
