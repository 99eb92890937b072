package envoy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// checkMemo translates a view with a memo and without, and returns how many of the messages
// that a memo keeps are others than before, and what is to be held.
func checkMemo(t *testing.T, m *Memo, v *mesh.View, p Profile, before map[string]proto.Message) (others int, kept *Kept) {
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
	resources, problems, kept := m.Translate(v, p)
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
		if r.Slot != nil { // has what was stored for this very message
			if stored, ok := r.Slot.Load().(proto.Message); ok && stored != r.Message {
				t.Errorf("the slot of %s %q is another message's", r.Type, r.Name)
			}
			r.Slot.Store(r.Message)
		}
		before[key] = r.Message
	}
	return others, kept
}

// TestMemoOfOddMeshes edits odd meshes, and holds what several nodes and profiles that share
// a memo are given against what there is without one.
func TestMemoOfOddMeshes(t *testing.T) {
	t.Parallel()
	for seed := range *meshes {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			g := &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 11)), t: t, alike: seed%4 > 0}
			keys := []mesh.Key{nodeKey("a"), nodeKey("b"), nodeKey("c"), {Kind: mesh.KindVirtualGateway, Name: "edge"}}
			snapshot, registry := g.snapshot(), g.registry()
			profiles := []Profile{g.profile(t.TempDir()), g.profile(t.TempDir())}
			profiles = append(profiles, profiles[0])
			profiles[2].App = netip.MustParseAddr("127.0.0.9")
			m, held, read := new(Memo), map[string]*Kept{}, providers{}
			for range 5 {
				for _, key := range keys {
					for i, p := range profiles {
						v := mesh.BuildView(read.reader(snapshot, registry), key)
						if v == nil || g.IntN(3) == 0 { // not all follow at once
							continue
						}
						_, held[fmt.Sprint(key, i)] = checkMemo(t, m, v, p, map[string]proto.Message{})
						if t.Failed() {
							return
						}
					}
				}
				snapshot = g.edited(snapshot, keys[0])
				if g.IntN(4) == 0 {
					registry = g.registry()
				}
				if g.IntN(20) == 0 {
					profiles[1] = g.profile(t.TempDir())
				}
			}
		})
	}
}

// providers are what services lead to, for as long as nothing of it changes.
type providers map[string]*providerRead

type providerRead struct {
	provider *mesh.Provider
	snapshot *mesh.Snapshot
	reads    mesh.Reads
}

// reader returns a reader whose providers are the very same while they do not change.
func (all providers) reader(s *mesh.Snapshot, registry mesh.Instances) *mesh.Reader {
	r := mesh.NewReader(s)
	r.Instances = registry
	r.Providers = func(name string) *mesh.Provider {
		if known := all[name]; known != nil && known.holds(s, registry) {
			return known.provider
		}
		own := mesh.NewReader(s)
		own.Instances = registry
		all[name] = &providerRead{own.Provider(name), s, own.Reads}
		return all[name].provider
	}
	return r
}

func (p *providerRead) holds(s *mesh.Snapshot, registry mesh.Instances) bool {
	for k := range p.reads.Keys {
		if s.Get(k) != p.snapshot.Get(k) {
			return false
		}
	}
	for r := range p.reads.Ranges {
		if !slices.Equal(s.Children(r), p.snapshot.Children(r)) {
			return false
		}
	}
	for _, n := range p.provider.Nodes {
		if d := n.Discovered; d != nil {
			list, exists := registry(d.Key)
			if !sameInstances(d, &mesh.Discovered{Key: d.Key, Exists: exists, Instances: list}) {
				return false
			}
		}
	}
	return true
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
			read := providers{}
			_, held := checkMemo(t, m, mesh.BuildView(read.reader(snapshot, nil), nodeKey("front")), p, before)
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
				runtime.GC() // what is held is not forgotten
				others, kept := checkMemo(t, m, mesh.BuildView(read.reader(snapshot, nil), nodeKey("front")), p, before)
				runtime.KeepAlive(held)
				held = kept
				if most := 12; others > most { // some services lead to one router
					t.Errorf("%d messages are others than before, allowed are %d", others, most)
				}
			}
		})
	}
}

// TestAMemoKeepsNothingAlive lets go of what a translation used.
func TestAMemoKeepsNothingAlive(t *testing.T) {
	t.Parallel()
	m := new(Memo)
	_, held := checkMemo(t, m, mesh.BuildView(mesh.NewReader(benchmarkSnapshot(t, 20)), nodeKey("front")), Profile{}, map[string]proto.Message{})
	class := held.class
	if len(class.parts) != 20 || len(class.clusters) != 40 {
		t.Fatalf("%d parts and %d clusters are remembered, want 20 and 40", len(class.parts), len(class.clusters))
	}
	runtime.KeepAlive(held)
	collected(t, "what nobody holds", func() int {
		class.mu.Lock()
		defer class.mu.Unlock()
		return len(class.parts) + len(class.clusters)
	})
	runtime.KeepAlive(class)
	collected(t, "the class", func() int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.classes)
	})
}

// collected waits for the end of something; cleanups run after a collection, beside us.
func collected(t *testing.T, what string, left func() int) {
	t.Helper()
	for range 10_000 {
		runtime.GC()
		if left() == 0 {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%s: %d are left", what, left())
}

func decode(t testing.TB, k mesh.Kind, spec string) any {
	t.Helper()
	typed, _, bad := mesh.Decode(k, "spec", []byte(spec))
	if bad != nil {
		t.Fatal(bad)
	}
	return typed
}
