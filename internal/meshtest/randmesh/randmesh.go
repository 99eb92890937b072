// Package randmesh makes random meshes that the API accepts: all kinds, all fields, all
// protocols, values from the service model's bounds and what is odd within them.
//
// Every spec has been through mesh.Decode, and the rules between objects hold, so that
// the objects can be sent to a server in the order in which they are listed. The same
// configuration gives the same mesh. Certificates are named from a small set of files,
// which WriteFiles makes.
//
// The package imports mesh, and is imported by tests only.
package randmesh

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Config says what mesh to make.
type Config struct {
	// Seed picks the mesh.
	Seed uint64
	// Mesh is its name.
	Mesh string
	// Dir is the folder of the files that specs name.
	Dir string
	// LeastPort is the least port of a listener; 0 is 1. An Envoy that runs as nobody
	// special binds none below 1024.
	LeastPort int64
	// Hosts are where virtual nodes are looked for, beside names that no host can have.
	Hosts []string
}

// The names of those nodes and gateways of which every mesh has one, so that a proxy can
// stand for them in one mesh after the other.
const (
	Node    = "a"
	Gateway = "door"
)

// Object is one object of a mesh.
type Object struct {
	Kind         mesh.Kind
	Parent, Name string
	// Raw is the spec as it would be sent, and Spec what Decode made of it.
	Raw  json.RawMessage
	Spec any
}

// Mesh is a random mesh. The objects are in an order in which they can be created.
type Mesh struct {
	Name    string
	Objects []Object
}

// New makes a mesh. The error says which object could not be made valid, which is a
// mistake of this package.
func New(c Config) (*Mesh, error) {
	g := &generator{
		Rand: rand.New(rand.NewPCG(c.Seed, 5)), Config: c, mesh: &Mesh{Name: c.Mesh},
		listeners: map[mesh.Key][]listener{}, provider: map[string]mesh.Key{},
	}
	g.LeastPort = max(1, c.LeastPort)
	g.all()
	return g.mesh, g.err
}

// Snapshot returns the mesh as a control plane holds it. It is the account's and region's
// that id names.
func (m *Mesh) Snapshot(id mesh.MeshID) *mesh.Snapshot {
	edit := mesh.NewSnapshot(id).Edit()
	for _, o := range m.Objects {
		content := func() *mesh.Content {
			return &mesh.Content{ResourceOwner: id.Account, Version: 1, Spec: o.Spec}
		}
		edit.Put(mesh.NewItem(mesh.Key{Kind: o.Kind, Parent: o.Parent, Name: o.Name}, 1, content))
		if p, ok := o.Spec.(*mesh.PolicySpec); ok { // all are in force
			edit.Put(mesh.NewItem(p.Aimed(id, o.Name), 1, content))
		}
	}
	return edit.Done(1)
}

// Documents returns the mesh as "fairlead apply" reads it.
func (m *Mesh) Documents() string {
	docs := make([]map[string]any, len(m.Objects))
	for i, o := range m.Objects {
		docs[i] = map[string]any{"kind": o.Kind.Title(), "name": o.Name, "spec": o.Raw}
		if o.Kind != mesh.KindMesh {
			docs[i]["mesh"] = m.Name
		}
		if o.Parent != "" {
			docs[i][o.Kind.Parent().String()] = o.Parent
		}
	}
	raw, err := json.Marshal(docs)
	if err != nil {
		panic(err) // all of it came from a JSON encoder
	}
	return string(raw)
}

// generator makes one mesh.
type generator struct {
	*rand.Rand
	Config
	mesh *Mesh
	err  error

	listeners map[mesh.Key][]listener // of nodes, routers and gateways
	provider  map[string]mesh.Key     // of services
}

type listener struct {
	port     int64
	protocol string
}

type object = map[string]any

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

func (g *generator) coin() bool { return g.IntN(2) == 0 }

// tries is how often an object is made anew that the API would not accept: some texts are
// refused by rules that the model does not tell.
const tries = 100

// add makes an object and adds it once it is valid.
func (g *generator) add(k mesh.Kind, parent, name string, spec func() object) {
	var bad mesh.Violations
	for range tries {
		raw, err := json.Marshal(spec())
		if err != nil {
			panic(err) // all of it is of this package
		}
		o := Object{Kind: k, Parent: parent, Name: name, Raw: raw}
		if o.Spec, o.Raw, bad = mesh.Decode(k, "spec", raw); len(bad) == 0 {
			g.mesh.Objects = append(g.mesh.Objects, o)
			return
		}
	}
	if g.err == nil {
		g.err = fmt.Errorf("mesh %d: %s %q was not valid in %d tries: %w", g.Seed, k, name, tries, bad)
	}
}
