package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// ErrRevision says that a record had another revision than PutRecords asked for.
var ErrRevision = errors.New("the record has changed")

// ErrClosed says that the store was closed.
var ErrClosed = errors.New("the store is closed")

// errChanged says that the world changed between a read and its transaction.
var errChanged = errors.New("changed meanwhile")

// errRepeated says that a request was carried out before.
var errRepeated = errors.New("done before")

// badRequest tells the caller of an error in what they sent.
func badRequest(err error) error {
	if err == nil {
		return nil
	}
	return &mesh.Error{Code: mesh.ErrBadRequest, Message: err.Error()}
}

// fault turns an error of etcd into what the caller is told. ctx is the caller's
// own, without the store's time limit.
func (s *Store) fault(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("calling etcd: %w", cause)
	}
	var refusal *mesh.Error
	switch {
	case errors.As(err, &refusal):
		return refusal // by admit
	case errors.Is(err, rpctypes.ErrRequestTooLarge):
		return mesh.Errorf(mesh.ErrBadRequest, "the object is too large for etcd")
	case errors.Is(err, rpctypes.ErrNoSpace):
		s.log.ErrorContext(ctx, "etcd is full, nothing can be written until it has more space", "error", err)
		return errFull
	case unavailable(err):
		s.log.WarnContext(ctx, "etcd cannot be reached", "error", err)
		return mesh.Errorf(mesh.ErrServiceUnavailable, "the store cannot be reached, try again")
	}
	return fmt.Errorf("calling etcd: %w", err)
}

// unavailable reports whether err is one that goes away with time.
func unavailable(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) {
		return true
	}
	code := status.Code(err)
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		code = etcd.Code()
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted, codes.Aborted:
		return true
	}
	return errors.Is(err, rpctypes.ErrNotLeader)
}

// present words an object and where it was looked for, as App Mesh does.
func present(id mesh.ID) (name, place string) {
	name = id.Kind.Title() + " with name " + id.Name
	switch {
	case id.Kind == mesh.KindMesh:
		place = "for account " + id.Mesh.Account
	case id.Kind.Parent() != 0:
		place = "under " + id.Kind.Parent().Title() + " " + id.Parent + " in mesh " + id.Mesh.Name + " for account " + id.Mesh.Account
	default:
		place = "under mesh " + id.Mesh.Name + " for account " + id.Mesh.Account
	}
	return name, place
}

// notPresent says that an object, or what it lives in, is not there.
func notPresent(id mesh.ID) error {
	name, place := present(id)
	return mesh.Errorf(mesh.ErrNotFound, "%s is not present %s", name, place)
}

// missing says that an object that another one names is not there.
func missing(k mesh.Key) error {
	return mesh.Errorf(mesh.ErrNotFound, "%s with name %s is missing", k.Kind.Title(), k.Name)
}

func nameTaken(id mesh.ID) error {
	name, place := present(id)
	return mesh.Errorf(mesh.ErrConflict, "%s is already present %s", name, place)
}

func tokenReused(id mesh.ID) error {
	name, _ := present(id)
	return mesh.Errorf(mesh.ErrConflict, "the clientToken was used for %s before, with different parameters", name)
}

// hasChildren refuses to delete a mesh, router or gateway that is not empty.
func hasChildren(id mesh.ID, child mesh.Kind) error {
	if id.Kind == mesh.KindMesh {
		what := "resources"
		if child != 0 {
			what = plural(child)
		}
		return mesh.Errorf(mesh.ErrResourceInUse, "Mesh %s for account %s has active %s, please delete %s before deleting the Mesh",
			id.Name, id.Mesh.Account, what, what)
	}
	name, _ := present(id)
	return mesh.Errorf(mesh.ErrResourceInUse, "%s cannot be deleted because it has active %s", name, plural(child))
}

// referredTo refuses to delete what other objects name. referrers are some of them.
func referredTo(id mesh.ID, referrers []mesh.Key) error {
	isA := func(k mesh.Kind) bool {
		return slices.ContainsFunc(referrers, func(r mesh.Key) bool { return r.Kind == k })
	}
	name, _ := present(id)
	switch {
	case isA(mesh.KindRoute):
		return mesh.Errorf(mesh.ErrResourceInUse, "%s cannot be deleted because it is the target of one or more routes.", name)
	case isA(mesh.KindVirtualService):
		return mesh.Errorf(mesh.ErrResourceInUse, "%s cannot be deleted because it is a VirtualService provider", name)
	case isA(mesh.KindGatewayRoute):
		names := make([]string, len(referrers))
		for i, r := range referrers {
			names[i] = r.Parent + "/" + r.Name
		}
		return mesh.Errorf(mesh.ErrResourceInUse, "%s %s is being referenced in the following: GATEWAY_ROUTE: [%s]",
			id.Kind.Title(), id.Name, strings.Join(names, ", "))
	}
	return mesh.Errorf(mesh.ErrResourceInUse, "%s cannot be deleted because other resources refer to it", name)
}

// plural returns a kind as the names of list operations spell it.
func plural(k mesh.Kind) string {
	switch k {
	case mesh.KindMesh:
		return "Meshes"
	case mesh.KindPolicy:
		return "Policies"
	}
	return k.Title() + "s"
}
