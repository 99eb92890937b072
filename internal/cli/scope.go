package cli

import (
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Objects reads the names of objects from a command's arguments: names as String writes them
// or ARNs, or a kind and then names.
func Objects(args []string, in Scope) ([]Ref, error) {
	if len(args) > 0 && looksLikeRef(args[0]) {
		var out []Ref
		for _, a := range args {
			r, err := ParseRef(a)
			if err != nil {
				return nil, err
			}
			out = append(out, r)
		}
		return out, nil
	}
	if len(args) < 2 {
		return nil, usagef("a kind and a name are required, for example: node cart --mesh shop")
	}
	kind, err := ParseKind(args[0])
	if err != nil {
		return nil, err
	}
	var out []Ref
	for _, name := range args[1:] {
		r, err := in.ref(kind, name)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Scope is where named objects are.
type Scope struct {
	Mesh, Owner, Router, Gateway string
}

// within returns the reference of the scope's mesh; a mesh is required.
func (s Scope) within() (Ref, error) {
	if s.Mesh == "" {
		return Ref{}, usagef("--mesh is required: the mesh that it is in")
	}
	if err := mesh.CheckName(mesh.KindMesh, s.Mesh); err != nil {
		return Ref{}, usagef("--mesh: %w", err)
	}
	if s.Owner != "" && !mesh.ValidAccount(s.Owner) {
		return Ref{}, usagef("--mesh-owner %q is not allowed: twelve digits", s.Owner)
	}
	return Ref{Mesh: s.Mesh, Owner: s.Owner, Key: mesh.Key{Kind: mesh.KindMesh, Name: s.Mesh}}, nil
}

// parent returns the name of the router or gateway that objects of a kind are under, "" where
// the scope names none.
func (s Scope) parent(k mesh.Kind) string {
	switch k.Parent() {
	case mesh.KindVirtualRouter:
		return s.Router
	case mesh.KindVirtualGateway:
		return s.Gateway
	}
	return ""
}

// ref returns the reference of a named object. A route needs its router, a gateway route its
// gateway.
func (s Scope) ref(k mesh.Kind, name string) (Ref, error) {
	if err := mesh.CheckName(k, name); err != nil {
		return Ref{}, UsageError{err}
	}
	if k == mesh.KindMesh {
		return Ref{Mesh: name, Owner: s.Owner, Key: mesh.Key{Kind: k, Name: name}}, nil
	}
	m, err := s.within()
	if err != nil {
		return Ref{}, err
	}
	if k.Parent() != 0 && s.parent(k) == "" {
		flag := map[mesh.Kind]string{mesh.KindRoute: "--router", mesh.KindGatewayRoute: "--gateway"}[k]
		return Ref{}, usagef("%s is required: what the %s %s is under", flag, k, name)
	}
	return m.in(mesh.Key{Kind: k, Parent: s.parent(k), Name: name}), nil
}

func looksLikeRef(s string) bool {
	return strings.HasPrefix(s, "mesh/") || strings.HasPrefix(s, "arn:")
}

func joined(names []string) string { return strings.Join(names, ", ") }
