package cli

import (
	"fmt"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Ref names an object of the API.
type Ref struct {
	Mesh string
	// Owner is the account of the mesh, "" for the caller's.
	Owner string
	mesh.Key
}

// String returns the object's name as ARNs spell it: "mesh/shop/virtualNode/cart", and with
// an owner "mesh/shop@123456789012/virtualNode/cart".
func (r Ref) String() string {
	s := "mesh/" + r.Mesh
	if r.Owner != "" {
		s += "@" + r.Owner
	}
	if r.Kind == mesh.KindMesh {
		return s
	}
	return s + "/" + r.Key.String()
}

// mesh returns the reference of the object's mesh.
func (r Ref) mesh() Ref {
	return Ref{Mesh: r.Mesh, Owner: r.Owner, Key: mesh.Key{Kind: mesh.KindMesh, Name: r.Mesh}}
}

// in returns the reference of another object of the same mesh.
func (r Ref) in(k mesh.Key) Ref { return Ref{Mesh: r.Mesh, Owner: r.Owner, Key: k} }

// ParseRef reads a name in the form that String writes, or an ARN. A name without an owner
// is in the caller's own mesh; an ARN always says whose mesh it is.
func ParseRef(s string) (Ref, error) {
	const nobody = "000000000000"
	id, account, err := mesh.ParseARN(s, nobody, DefaultRegion)
	if err != nil {
		return Ref{}, UsageError{err}
	}
	r := Ref{Mesh: id.Mesh.Name, Key: id.Key}
	if id.Mesh.Account != nobody && id.Mesh.Account != account {
		r.Owner = id.Mesh.Account
	}
	return r, nil
}

// kindNames are the names by which commands know the kinds, shortest first.
var kindNames = map[mesh.Kind][]string{
	mesh.KindMesh:           {"mesh", "meshes"},
	mesh.KindVirtualNode:    {"vn", "node", "nodes", "virtualnode", "virtualnodes"},
	mesh.KindVirtualRouter:  {"vr", "router", "routers", "virtualrouter", "virtualrouters"},
	mesh.KindRoute:          {"route", "routes"},
	mesh.KindVirtualService: {"vs", "service", "services", "virtualservice", "virtualservices"},
	mesh.KindVirtualGateway: {"vg", "gateway", "gateways", "virtualgateway", "virtualgateways"},
	mesh.KindGatewayRoute:   {"gr", "gatewayroute", "gatewayroutes"},
	mesh.KindPolicy:         {"policy", "policies"},
}

// ParseKind reads a kind as people write it: "vn", "node", "virtualNode", "virtualnodes".
func ParseKind(s string) (mesh.Kind, error) {
	plain := strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s))
	for _, k := range mesh.Kinds {
		for _, name := range kindNames[k] {
			if name == plain {
				return k, nil
			}
		}
	}
	return 0, usagef("kind %q is not known: allowed are %s", s, strings.Join(KindNames(), ", "))
}

// KindNames returns the short name of each kind, in the order in which objects are made.
func KindNames() []string {
	var out []string
	for _, k := range mesh.Kinds {
		out = append(out, kindNames[k][0])
	}
	return out
}

// KindHelp returns the kinds with their other names, one a line.
func KindHelp() string {
	var b strings.Builder
	for _, k := range mesh.Kinds {
		fmt.Fprintf(&b, "  %-15s %s\n", k.Title(), strings.Join(kindNames[k], ", "))
	}
	return strings.TrimSuffix(b.String(), "\n")
}
