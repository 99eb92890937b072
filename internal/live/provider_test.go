package live

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// hosts is a registry of one instance for each service that was registered.
type hosts struct {
	mu     sync.Mutex
	ports  map[mesh.InstancesKey][]mesh.Instance
	notify func(mesh.InstancesKey)
}

func (h *hosts) Instances(k mesh.InstancesKey) ([]mesh.Instance, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list, ok := h.ports[k]
	return list, ok
}

func (h *hosts) Subscribe(notify func(mesh.InstancesKey)) func() {
	h.notify = notify
	return func() {}
}

func (h *hosts) register(service string, port int) {
	k := mesh.InstancesKey{Account: "000000000001", Region: "us-east-1", Namespace: "n", Service: service}
	h.mu.Lock()
	if h.ports == nil {
		h.ports = map[mesh.InstancesKey][]mesh.Instance{}
	}
	h.ports[k] = []mesh.Instance{{ID: "1", Port: uint32(port)}}
	h.mu.Unlock()
	h.notify(k)
}

// changing is a mesh whose objects are those of the last change, without a store.
type changing struct {
	t        *testing.T
	live     *Live
	registry *hosts
	id       mesh.MeshID
	revision int64
}

func newChanging(t *testing.T) *changing {
	t.Helper()
	registry := &hosts{}
	c := &changing{
		t: t, live: New(nil, registry, slog.New(slog.DiscardHandler)), registry: registry,
		id: mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"},
	}
	t.Cleanup(c.live.instances.follow())
	c.put(mesh.KindMesh, "", "shop", `{}`)
	return c
}

func (c *changing) put(k mesh.Kind, parent, name, spec string) {
	c.t.Helper()
	typed, err := mesh.ParseSpec(k, []byte(spec))
	if err != nil {
		c.t.Fatal(err)
	}
	c.change(func(e *mesh.Edit, revision int64) []mesh.Key {
		key := mesh.Key{Kind: k, Parent: parent, Name: name}
		e.Put(mesh.NewItem(key, revision, func() *mesh.Content { return &mesh.Content{ResourceOwner: c.id.Account, Spec: typed} }))
		return []mesh.Key{key}
	})
}

func (c *changing) delete(k mesh.Kind, parent, name string) {
	c.change(func(e *mesh.Edit, _ int64) []mesh.Key {
		key := mesh.Key{Kind: k, Parent: parent, Name: name}
		e.Delete(key)
		return []mesh.Key{key}
	})
}

// change does what meshState.apply does.
func (c *changing) change(f func(e *mesh.Edit, revision int64) []mesh.Key) {
	st := c.live.acquire(c.id)
	defer c.live.release(c.id, st)
	old, _ := st.current()
	edit := old.Edit()
	c.revision++
	changed := f(edit, c.revision)
	for _, w := range st.swap(edit.Done(c.revision), c.revision, changed) {
		w.notify()
	}
}

func (c *changing) colour(target string) {
	c.t.Helper()
	c.put(mesh.KindRoute, "router", "all", fmt.Sprintf(
		`{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":%q,"weight":1}]}}}`, target))
}

const (
	discoveredNode = `{"listeners":[{"portMapping":{"port":80,"protocol":"http"}}],"serviceDiscovery":{"awsCloudMap":{"namespaceName":"n","serviceName":%q}}}`
	caller         = `{"backends":[{"virtualService":{"virtualServiceName":"colour"}},{"virtualService":{"virtualServiceName":%q}}]}`
)

func (c *changing) fill() {
	c.t.Helper()
	c.put(mesh.KindVirtualNode, "", "blue", fmt.Sprintf(discoveredNode, "blue"))
	c.put(mesh.KindVirtualNode, "", "green", fmt.Sprintf(discoveredNode, "green"))
	c.put(mesh.KindVirtualRouter, "", "router", `{"listeners":[{"portMapping":{"port":80,"protocol":"http"}}]}`)
	c.put(mesh.KindVirtualService, "", "colour", `{"provider":{"virtualRouter":{"virtualRouterName":"router"}}}`)
	c.colour("blue")
	for _, name := range []string{"a", "b"} {
		c.put(mesh.KindVirtualNode, "", name, fmt.Sprintf(caller, "other"))
	}
}

func (c *changing) watch(name string, notify func()) *Watch {
	return c.live.Watch(c.id.Object(mesh.KindVirtualNode, "", name), notify)
}

// empty wants nothing to be left of watches.
func (c *changing) empty() {
	c.t.Helper()
	st := c.live.acquire(c.id)
	defer c.live.release(c.id, st)
	left := map[string]int{
		"services": len(st.services), "services by key": len(st.keys.services), "services by range": len(st.ranges.services),
		"watches by key": len(st.keys.watches), "watches by range": len(st.ranges.watches), "instances": len(c.live.instances.readers),
	}
	for what, n := range left {
		if n > 0 {
			c.t.Errorf("%s: %d are left", what, n)
		}
	}
}

// What a service leads to is read once for all watches, and again when it changes.
func TestProvidersAreShared(t *testing.T) {
	t.Parallel()
	c := newChanging(t)
	c.fill()
	a, b := c.watch("a", func() {}), c.watch("b", func() {})
	colour := func(w *Watch) *mesh.Provider {
		view, _ := w.Build()
		return view.Services[0].Provider
	}
	first := colour(a)
	if colour(b) != first || colour(a) != first {
		t.Error("two nodes do not share what a service leads to")
	}
	c.put(mesh.KindVirtualNode, "", "a", fmt.Sprintf(caller, "third"))
	if colour(a) != first {
		t.Error("a change of the node has what its service leads to read again")
	}
	c.colour("green")
	second := colour(b)
	if second == first || second.Node("green") == nil || colour(a) != second {
		t.Error("what a service leads to is not read again, once, after a change")
	}
	c.registry.register("green", 1)
	if third := colour(a); third == second || len(third.Node("green").Discovered.Instances) != 1 {
		t.Error("an instance is not part of what is read again")
	}
	c.registry.register("blue", 1)
	if fourth := colour(a); fourth != colour(b) || fourth.Node("blue") != nil {
		t.Error("instances of a node that is not a target any more matter")
	}
	a.Close()
	b.Close()
	c.empty()
}

// Watches come and go and are built while objects and instances change: each is told of
// what it has not read, and nothing is left in the end.
func TestWatchesAmongChanges(t *testing.T) {
	t.Parallel()
	c := newChanging(t)
	c.fill()
	const rounds = 300
	var watchers, writers sync.WaitGroup
	done := make(chan struct{})
	for i := range 4 {
		watchers.Go(func() {
			for n := 0; ; n++ {
				notices := make(chan struct{}, 1)
				w := c.watch([]string{"a", "b"}[(i+n)%2], func() {
					select {
					case notices <- struct{}{}:
					default:
					}
				})
				view, _ := w.Build()
				for range 20 {
					select {
					case <-notices:
						if _, ok := w.Refresh(); !ok {
							view, _ = w.Build()
						}
						continue
					case <-done:
					}
					settle(w, notices, &view)
					c.compare(w, view)
					w.Close()
					return
				}
				w.Close()
			}
		})
	}
	for _, seed := range []uint64{1, 2} {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for n := range rounds {
				name := []string{"blue", "green"}[r.IntN(2)]
				if seed == 1 {
					c.registry.register(name, n)
					continue
				}
				switch r.IntN(4) {
				case 0:
					c.colour(name)
				case 1:
					c.delete(mesh.KindVirtualService, "", "colour")
					c.put(mesh.KindVirtualService, "", "colour", `{"provider":{"virtualRouter":{"virtualRouterName":"router"}}}`)
				case 2:
					c.put(mesh.KindVirtualNode, "", name, fmt.Sprintf(discoveredNode, name))
				case 3:
					c.put(mesh.KindVirtualNode, "", "a", fmt.Sprintf(caller, fmt.Sprint("other", n)))
				}
			}
		})
	}
	writers.Wait()
	close(done)
	watchers.Wait()
	c.empty()
}

// settle builds a watch until there is no notice more.
func settle(w *Watch, notices chan struct{}, view **mesh.View) {
	for {
		*view, _ = w.Build()
		select {
		case <-notices:
		default:
			return
		}
	}
}

// compare wants the view of a watch to be what is read anew.
func (c *changing) compare(w *Watch, view *mesh.View) {
	want := c.live.View(w.id)
	got, wanted := view.Services[0], want.Services[0]
	ok := got.Missing == wanted.Missing && len(got.Nodes) == len(wanted.Nodes) && len(view.Services) == len(want.Services)
	for i := range got.Nodes {
		ok = ok && got.Nodes[i].Spec == wanted.Nodes[i].Spec && len(got.Nodes[i].Discovered.Instances) == len(wanted.Nodes[i].Discovered.Instances)
		for j := range got.Nodes[i].Discovered.Instances {
			ok = ok && got.Nodes[i].Discovered.Instances[j].Port == wanted.Nodes[i].Discovered.Instances[j].Port
		}
	}
	if !ok {
		c.t.Errorf("a service of a view is\n%+v, and there is\n%+v", got.Provider, wanted.Provider)
	}
}
