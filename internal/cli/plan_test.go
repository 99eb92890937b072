package cli

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/randmesh"
)

var transitions = flag.Int("transitions", 100, "how many random meshes of each sort TestPlan makes of one another in memory")

// TestPlan makes random meshes out of one another on a server that has nothing but the rules
// between objects. Whatever the two are, there is an order of steps of which the server
// refuses none; what is deleted and made anew is told, and no route is left that leads nowhere
// for a moment.
func TestPlan(t *testing.T) {
	t.Parallel()
	for name, sort := range map[string]func(*testing.T, uint64) string{"odd": oddMesh, "dense": denseMesh, "family": familyMesh} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var before []*document
			anew := 0
			for seed := range uint64(*transitions) {
				docs := documentsOf(t, sort(t, seed))
				anew += transition(t, seed, before, docs, nil)
				before = docs
			}
			t.Logf("%d of %d had routes made anew", anew, *transitions)
		})
	}
}

// TestPlanBesides leaves out of the documents what stays as it is. The routes among it are
// not touched: there is an order of steps, or an error that names them.
func TestPlanBesides(t *testing.T) {
	t.Parallel()
	var before []*document
	stuck := 0
	for seed := range uint64(*transitions) {
		g := rand.New(rand.NewPCG(seed, 3))
		docs := documentsOf(t, denseMesh(t, seed))
		if transition(t, seed, before, docs, func(Ref) bool { return g.IntN(2) == 0 }) < 0 {
			stuck++
		}
		before = docs
	}
	t.Logf("%d of %d cannot be done beside what is not in the files", stuck, *transitions)
	if stuck > *transitions/20 {
		t.Errorf("%d of %d plans found no way", stuck, *transitions)
	}
}

func documentsOf(t *testing.T, text string) []*document {
	t.Helper()
	docs, bad, err := readDocuments(strings.NewReader(text), []string{"-"})
	if err != nil || len(bad) > 0 {
		t.Fatal(err, bad)
	}
	return docs
}

// oddMesh has all fields and protocols at once.
func oddMesh(t *testing.T, seed uint64) string {
	t.Helper()
	m, err := randmesh.New(randmesh.Config{Seed: seed, Mesh: "test", Dir: "/d", LeastPort: 1024, Hosts: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	return m.Documents()
}

// familyMesh has families of one protocol.
func familyMesh(_ *testing.T, seed uint64) string {
	return file(newGenerator(seed, "test").documents())
}

// transition makes before what docs say, and returns 1 if that took routes that are made
// anew, 0 if not, -1 if there is no order of steps. What besides names of what does not
// change is in no document.
func transition(t *testing.T, seed uint64, before, docs []*document, besides func(Ref) bool) int {
	t.Helper()
	s := &ruled{world: newWorld(), objects: map[Ref]string{}}
	for _, d := range before {
		s.put(d.Ref, d.spec)
		s.objects[d.Ref] = string(d.stored)
	}
	final := map[Ref]string{}
	var changes []*change
	for _, d := range docs {
		final[d.Ref] = string(d.stored)
		var have *object
		if old, ok := s.objects[d.Ref]; ok {
			have = &object{Ref: d.Ref, Spec: json.RawMessage(old)}
		}
		c := compareDocument(d, have)
		if c.spec == nil {
			final[d.Ref] = s.objects[d.Ref]
		}
		if c.verb != unchanged || besides == nil || !besides(c.Ref) {
			changes = append(changes, c)
		}
	}
	for r := range s.objects {
		if _, ok := final[r]; !ok {
			changes = append(changes, &change{Ref: r, verb: deleted, have: &object{Ref: r}})
		}
	}
	p, err := plan(s.world, changes)
	if err != nil {
		if besides == nil {
			t.Fatalf("mesh %d: %v", seed, err)
		}
		return -1
	}
	if err := s.run(seed, p); err != nil {
		t.Fatalf("mesh %d: %v", seed, err)
	}
	if diff := cmp.Diff(final, s.objects); diff != "" {
		t.Fatalf("mesh %d (-wanted +got):\n%s", seed, diff)
	}
	return min(1, len(p.replaced))
}

// ruled is a server that has nothing but the rules between objects.
type ruled struct {
	*world
	objects map[Ref]string
}

// run does the steps of a plan, those of a wave in any order.
func (s *ruled) run(seed uint64, p *planner) error {
	g := rand.New(rand.NewPCG(seed, 7))
	broken := s.broken()
	for i, wave := range p.waves {
		g.Shuffle(len(wave), func(i, j int) { wave[i], wave[j] = wave[j], wave[i] })
		for _, step := range wave {
			if err := s.do(step); err != nil {
				return fmt.Errorf("wave %d of %d, %s %s: %w", i+1, len(p.waves), step.verb, step.Ref, err)
			}
			if step.verb == deleted && step.between && step.have != nil && !slices.Contains(p.replaced, step.Ref) {
				return fmt.Errorf("%s is deleted and made anew, and nobody is told", step.Ref)
			}
		}
		now := s.broken()
		for r, n := range now {
			if n > broken[r] {
				return fmt.Errorf("wave %d of %d leaves %s with %s", i+1, len(p.waves), r, s.breaches(r).Error())
			}
		}
		broken = now
	}
	return nil
}

// broken counts the breaches of routes and gateway routes. What a policy is about may change
// without asking it.
func (s *ruled) broken() map[Ref]int {
	out := map[Ref]int{}
	for r := range s.specs {
		if r.Kind != mesh.KindPolicy {
			out[r] = len(s.breaches(r))
		}
	}
	return out
}

// do does what the store does.
func (s *ruled) do(step step) error {
	_, was := s.specs[step.Ref]
	switch {
	case was == (step.verb == created):
		return fmt.Errorf("it is there: %v", was)
	case step.verb == deleted:
		if users := slices.Collect(maps.Keys(s.usedBy[step.Ref])); len(users) > 0 {
			return fmt.Errorf("it is used by %s", users)
		}
		s.drop(step.Ref)
		delete(s.objects, step.Ref)
		return nil
	}
	for _, n := range needs(step.Ref, step.spec) {
		if !s.has(n) {
			return fmt.Errorf("%s is missing", n)
		}
	}
	if bad := s.refuses(step); len(bad) > 0 {
		return bad
	}
	s.put(step.Ref, step.spec)
	if step.raw != nil {
		s.objects[step.Ref] = string(step.raw)
	}
	return nil
}

// refuses checks a new spec as the store does: a route against its neighbours, and what is
// around routes against those that it has.
func (s *ruled) refuses(step step) mesh.Violations {
	old := s.specs[step.Ref]
	unported := func(k mesh.Kind, through Ref, key mesh.Key) []mesh.Key {
		var out []mesh.Key
		for _, r := range s.users(through, k) {
			if !mesh.NamesPort(s.specs[r], key) {
				out = append(out, r.Key)
			}
		}
		return out
	}
	var bad mesh.Violations
	switch spec := step.spec.(type) {
	case *mesh.RouteSpec, *mesh.GatewayRouteSpec, *mesh.PolicySpec:
		s.put(step.Ref, spec)
		bad = s.breaches(step.Ref)
		if s.drop(step.Ref); old != nil {
			s.put(step.Ref, old)
		}
		return bad
	case *mesh.VirtualServiceSpec:
		for _, k := range mesh.References(spec) {
			if old != nil && mesh.SeveralListeners(s.specs[step.in(k)]) && !slices.Contains(mesh.References(old), k) {
				bad = mesh.CheckProvider("spec", spec, unported(mesh.KindGatewayRoute, step.Ref, step.Key))
			}
		}
		return bad
	}
	if old == nil || mesh.SameListeners(old, step.spec) {
		return nil
	}
	var routes []mesh.Route
	for _, r := range s.users(step.Ref, mesh.KindRoute) {
		routes = append(routes, mesh.Route{Name: r.Name, Spec: s.specs[r].(*mesh.RouteSpec)})
	}
	switch spec := step.spec.(type) {
	case *mesh.VirtualRouterSpec:
		bad = mesh.CheckRouterListeners("spec", spec, routes)
	case *mesh.VirtualGatewaySpec:
		var gatewayRoutes []mesh.GatewayRoute
		for _, r := range s.users(step.Ref, mesh.KindGatewayRoute) {
			gatewayRoutes = append(gatewayRoutes, mesh.GatewayRoute{Name: r.Name, Spec: s.specs[r].(*mesh.GatewayRouteSpec)})
		}
		return mesh.CheckGatewayListeners("spec", spec, gatewayRoutes)
	}
	if !mesh.SeveralListeners(step.spec) {
		return bad
	}
	var gatewayRoutes, targeting []mesh.Key
	for _, service := range s.users(step.Ref, mesh.KindVirtualService) {
		gatewayRoutes = append(gatewayRoutes, unported(mesh.KindGatewayRoute, service, service.Key)...)
	}
	if step.Kind == mesh.KindVirtualNode {
		targeting = unported(mesh.KindRoute, step.Ref, step.Key)
	}
	return append(bad, mesh.CheckUnported("spec", step.spec, targeting, gatewayRoutes)...)
}
