package envoy

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// checkMemo translates a view with a memo and without, and returns how many of the messages
// that a memo keeps are others than before.
func checkMemo(t *testing.T, m *Memo, v *mesh.View, p Profile, before map[string]proto.Message) (others int) {
	t.Helper()
	type flat struct {
		Type   Type
		Name   string
		Object mesh.Key
		Body   string
	}
	flatten := func(resources []Resource) []flat {
		out := make([]flat, len(resources))
		for i, r := range resources {
			body, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.Message)
			if err != nil {
				t.Fatal(err)
			}
			out[i] = flat{r.Type, r.Name, r.Object, string(body)}
		}
		return out
	}
	wantResources, wantProblems := Translate(v, p)
	resources, problems := m.Translate(v, p)
	if diff := cmp.Diff(flatten(wantResources), flatten(resources)); diff != "" {
		t.Errorf("resources (-without +with the memo):\n%s", diff)
	}
	if diff := cmp.Diff(wantProblems, problems); diff != "" {
		t.Errorf("problems (-without +with the memo):\n%s", diff)
	}
	for _, r := range resources {
		key := r.Type.String() + r.Name
		kept := r.Type == TypeCluster || r.Type == TypeEndpoint || r.Type == TypeVirtualHost
		if kept && before[key] != r.Message {
			others++
		}
		before[key] = r.Message
	}
	return others
}

// TestMemoOfOddMeshes edits odd meshes, and holds what a memo gives against what there is
// without one.
func TestMemoOfOddMeshes(t *testing.T) {
	t.Parallel()
	for seed := range *meshes {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			g := &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 11)), t: t, alike: seed%4 > 0}
			key := nodeKey("a")
			if seed%8 == 0 {
				key = mesh.Key{Kind: mesh.KindVirtualGateway, Name: "edge"}
			}
			snapshot, registry, p := g.snapshot(), g.registry(), g.profile(t.TempDir())
			m, before := new(Memo), map[string]proto.Message{}
			for range 20 {
				r := mesh.NewReader(snapshot)
				r.Instances = registry
				checkMemo(t, m, mesh.BuildView(r, key), p, before)
				if t.Failed() {
					return
				}
				snapshot = g.edited(snapshot, key)
				if g.IntN(4) == 0 {
					registry = g.registry()
				}
				if g.IntN(20) == 0 {
					p = g.profile(t.TempDir())
				}
			}
		})
	}
}

// edited returns a mesh in which some objects are those of another.
func (g *generator) edited(s *mesh.Snapshot, self mesh.Key) *mesh.Snapshot {
	other, edit := g.snapshot(), s.Edit()
	s.All(func(i *mesh.Item) {
		if i.Key.Kind != mesh.KindMesh && i.Key != self && g.IntN(20) == 0 {
			edit.Delete(i.Key)
		}
	})
	other.All(func(i *mesh.Item) {
		if seldom := i.Key.Kind == mesh.KindMesh || i.Key == self; g.IntN(20) == 0 && (!seldom || g.IntN(4) == 0) {
			edit.Put(i)
		}
	})
	return edit.Done(s.Revision + 1)
}

// TestMemoOfManyServices edits one object after the other of what a node with very many
// services calls.
func TestMemoOfManyServices(t *testing.T) {
	t.Parallel()
	for name, apart := range map[string]bool{"inline": false, "apart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const services = manyHosts + 20
			g := rand.New(rand.NewPCG(1, 2))
			snapshot := benchmarkSnapshot(t, services)
			m, before, p := new(Memo), map[string]proto.Message{}, Profile{HostsApart: apart}
			checkMemo(t, m, mesh.BuildView(mesh.NewReader(snapshot), nodeKey("front")), p, before)
			for range 100 {
				edit := snapshot.Edit()
				i, weight := g.IntN(services), g.IntN(100)
				switch g.IntN(4) {
				case 0:
					edit.Put(item(routeKey(fmt.Sprint("router-", i), "all"), decode(t, mesh.KindRoute, fmt.Sprintf(
						`{"httpRoute": {"match": {"prefix": "/"}, "action": {"weightedTargets": [{"virtualNode": "blue-%d", "weight": %d}, {"virtualNode": "green-%d", "weight": 1}]}}}`, i, weight, g.IntN(services)))))
				case 1:
					edit.Put(item(nodeKey(fmt.Sprint("blue-", i)), decode(t, mesh.KindVirtualNode, fmt.Sprintf(
						`{"listeners": [{"portMapping": {"port": 8080, "protocol": "http"}}], "serviceDiscovery": {"dns": {"hostname": "other%d.internal"}}}`, weight))))
				case 2:
					edit.Put(item(serviceKey(fmt.Sprintf("service-%d.local", i)), decode(t, mesh.KindVirtualService, fmt.Sprintf(
						`{"provider": {"virtualRouter": {"virtualRouterName": "router-%d"}}}`, g.IntN(services)))))
				case 3:
					edit.Delete(serviceKey(fmt.Sprintf("service-%d.local", i)))
				}
				snapshot = edit.Done(snapshot.Revision + 1)
				others := checkMemo(t, m, mesh.BuildView(mesh.NewReader(snapshot), nodeKey("front")), p, before)
				if most := 12; others > most { // some services lead to one router
					t.Errorf("%d messages are others than before, allowed are %d", others, most)
				}
			}
		})
	}
}

func decode(t testing.TB, k mesh.Kind, spec string) any {
	t.Helper()
	typed, _, bad := mesh.Decode(k, "spec", []byte(spec))
	if bad != nil {
		t.Fatal(bad)
	}
	return typed
}
