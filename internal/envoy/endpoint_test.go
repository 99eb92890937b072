package envoy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// TestRefresh changes the instances of random meshes, and wants of Refresh what Translate
// makes of them.
func TestRefresh(t *testing.T) {
	t.Parallel()
	refreshed, troubled := 0, 0
	for seed := range 300 {
		g := &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 11)), t: t}
		view := g.view()
		resources, problems := Translate(view, Profile{})
		var made []*Assignment
		for _, r := range resources {
			if r.Assignment != nil {
				made = append(made, r.Assignment)
			}
		}
		for round := range 3 {
			var changed []mesh.InstancesKey
			now := g.registry()
			for s := range view.Services {
				p := *view.Services[s].Provider
				p.Nodes = slices.Clone(p.Nodes)
				view.Services[s].Provider = &p
				for n := range p.Nodes {
					d := p.Nodes[n].Discovered
					if d == nil || !slices.Contains(changed, d.Key) && g.IntN(2) == 0 {
						continue
					}
					if !slices.Contains(changed, d.Key) {
						changed = append(changed, d.Key)
					}
				}
			}
			for s := range view.Services {
				for n := range view.Services[s].Nodes {
					if d := &view.Services[s].Nodes[n].Discovered; *d != nil && slices.Contains(changed, (*d).Key) {
						all, exists := now((*d).Key)
						*d = &mesh.Discovered{Key: (*d).Key, Exists: exists, Instances: all}
					}
				}
			}
			var some []Resource
			some, problems = Refresh(now, made, problems, changed)
			all, want := Translate(view, Profile{})
			what := fmt.Sprintf("seed %d, round %d", seed, round)
			if diff := cmp.Diff(want, problems); diff != "" {
				t.Fatalf("%s: the problems differ (-want +got):\n%s", what, diff)
			}
			refreshed += compareEndpoints(t, what, all, some, changed)
			troubled += len(slices.DeleteFunc(problems, func(p Problem) bool { return p.Instances == mesh.InstancesKey{} }))
			problems = want
		}
	}
	if refreshed < 100 || troubled < 100 {
		t.Errorf("%d endpoints with %d problems were compared: too few to tell", refreshed, troubled)
	}
}

// compareEndpoints wants some to be the endpoints among all that come of changed instances.
func compareEndpoints(t *testing.T, what string, all, some []Resource, changed []mesh.InstancesKey) (n int) {
	t.Helper()
	for _, want := range all {
		if want.Assignment == nil || !slices.Contains(changed, want.Assignment.Instances) {
			continue
		}
		n++
		i := slices.IndexFunc(some, func(r Resource) bool { return r.Name == want.Name })
		if i < 0 || some[i].Type != want.Type || some[i].Object != want.Object || !proto.Equal(some[i].Message, want.Message) {
			t.Fatalf("%s: %s is not refreshed as it is translated", what, want.Name)
		}
	}
	if len(some) != n {
		t.Fatalf("%s: %d endpoints are refreshed, want %d", what, len(some), n)
	}
	return n
}
