package envoy

import (
	"encoding/json"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// FuzzTranslate decodes random specs as the API does and checks what Translate makes
// of those that it lets through. Of those that it does not, an empty one stands in.
func FuzzTranslate(f *testing.F) {
	kinds := []mesh.Kind{mesh.KindMesh, mesh.KindVirtualNode, mesh.KindVirtualNode, mesh.KindVirtualService, mesh.KindVirtualRouter, mesh.KindRoute}
	fallback := []string{
		`{}`, `{"backends": [{"virtualService": {"virtualServiceName": "s"}}]}`,
		`{"listeners": [{"portMapping": {"port": 80, "protocol": "http"}}], "serviceDiscovery": {"dns": {"hostname": "b"}}}`,
		`{"provider": {"virtualRouter": {"virtualRouterName": "r"}}}`, `{"listeners": [{"portMapping": {"port": 80, "protocol": "http"}}]}`,
		`{"httpRoute": {"match": {"prefix": "/"}, "action": {"weightedTargets": [{"virtualNode": "b", "weight": 1}]}}}`,
	}
	f.Add("s", false, []byte("{}"), []byte("{}"), []byte("{}"), []byte("{}"), []byte("{}"), []byte("{}"))
	for _, seed := range fuzzSeeds(f) {
		specs := [6][]byte{}
		for i, k := range kinds {
			specs[i] = []byte(fallback[i])
			if k == seed.kind {
				specs[i] = seed.spec
			}
		}
		f.Add("s", true, specs[0], specs[1], specs[2], specs[3], specs[4], specs[5])
	}
	f.Fuzz(func(t *testing.T, service string, bound bool, shop, a, b, s, r, route []byte) {
		if mesh.CheckName(mesh.KindVirtualService, service) != nil {
			return
		}
		edit := mesh.NewSnapshot(mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"}).Edit()
		keys := []mesh.Key{
			{Kind: kinds[0], Name: "shop"}, nodeKey("a"), nodeKey("b"), serviceKey(service), routerKey("r"), routeKey("r", "route"),
		}
		for i, raw := range [][]byte{shop, a, b, s, r, route} {
			spec, _, bad := mesh.Decode(kinds[i], "spec", raw)
			if bad != nil {
				if spec, _, bad = mesh.Decode(kinds[i], "spec", []byte(fallback[i])); bad != nil {
					t.Fatal(bad)
				}
			}
			edit.Put(item(keys[i], spec))
		}
		p := Profile{}
		if bound {
			p = parseMetadata(t, map[string]any{"fairlead": map[string]any{"placement": "bound", "bindAddress": "127.0.0.2"}})
		}
		resources, problems := Translate(mesh.BuildView(mesh.NewReader(edit.Done(1)), nodeKey("a")), p)
		checkResources(t, resources)
		for _, r := range resources {
			if _, err := proto.Marshal(r.Message); err != nil {
				t.Errorf("%s %q: %v", r.Type, r.Name, err)
			}
		}
		for _, p := range problems {
			if p.Message == "" || p.Object.Kind == 0 {
				t.Errorf("a problem does not say what it is or of what: %+v", p)
			}
		}
	})
}

type fuzzSeed struct {
	kind mesh.Kind
	spec []byte
}

// fuzzSeeds returns the specs of all golden cases.
func fuzzSeeds(f *testing.F) []fuzzSeed {
	var seeds []fuzzSeed
	for _, c := range readCases(f) {
		for _, o := range c.objects {
			raw, err := json.Marshal(o.Spec)
			if err != nil {
				f.Fatal(err)
			}
			seeds = append(seeds, fuzzSeed{kindOf(f, o.Kind), raw})
		}
	}
	return seeds
}

// BenchmarkTranslate translates a node with 1, 10 and 50 backends, each a service
// with a router and one route to two weighted targets.
func BenchmarkTranslate(b *testing.B) {
	for _, backends := range []int{1, 10, 50, 1000} {
		b.Run(fmt.Sprintf("backends=%d", backends), func(b *testing.B) {
			view := benchmarkView(b, backends)
			b.ReportAllocs()
			for b.Loop() {
				if resources, problems := Translate(view, Profile{}); len(resources) < backends || len(problems) > 0 {
					b.Fatalf("%d resources, problems %v", len(resources), problems)
				}
			}
		})
	}
}

func benchmarkView(b testing.TB, backends int) *mesh.View {
	return mesh.BuildView(mesh.NewReader(benchmarkSnapshot(b, backends)), nodeKey("front"))
}

func benchmarkSnapshot(b testing.TB, backends int) *mesh.Snapshot {
	edit := mesh.NewSnapshot(mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"}).Edit()
	put := func(key mesh.Key, spec string) {
		typed, _, bad := mesh.Decode(key.Kind, "spec", []byte(spec))
		if bad != nil {
			b.Fatal(bad)
		}
		edit.Put(item(key, typed))
	}
	listener := `"listeners": [{"portMapping": {"port": 8080, "protocol": "http"}}]`
	node := func(name string) {
		put(nodeKey(name), fmt.Sprintf(`{%s, "serviceDiscovery": {"dns": {"hostname": "%s.internal"}}}`, listener, name))
	}
	put(mesh.Key{Kind: mesh.KindMesh, Name: "shop"}, `{}`)
	list := ""
	for i := range backends {
		name := fmt.Sprintf("service-%d.local", i)
		if i > 0 {
			list += ","
		}
		list += fmt.Sprintf(`{"virtualService": {"virtualServiceName": %q}}`, name)
		router := fmt.Sprintf("router-%d", i)
		put(serviceKey(name), fmt.Sprintf(`{"provider": {"virtualRouter": {"virtualRouterName": %q}}}`, router))
		put(routerKey(router), "{"+listener+"}")
		blue, green := fmt.Sprintf("blue-%d", i), fmt.Sprintf("green-%d", i)
		node(blue)
		node(green)
		put(routeKey(router, "all"), fmt.Sprintf(`{"httpRoute": {"match": {"prefix": "/"}, "action": {"weightedTargets": [
			{"virtualNode": %q, "weight": 90}, {"virtualNode": %q, "weight": 10}]}}}`, blue, green))
	}
	put(nodeKey("front"), fmt.Sprintf(`{%s, "serviceDiscovery": {"dns": {"hostname": "front.internal"}}, "backends": [%s]}`, listener, list))
	return edit.Done(1)
}

// TestTranslateAtOnce translates one case several times at once and checks
// that the results are the same: the race detector watches the parts that messages
// share.
func TestTranslateAtOnce(t *testing.T) {
	t.Parallel()
	c := readCase(t, golden.Read(t, "testdata/router_weights.txtar"))
	want := ""
	done := make(chan string)
	for range 4 {
		go func() {
			resources, _ := c.translate(t, nil)
			for _, r := range resources {
				if _, err := (proto.MarshalOptions{Deterministic: true}).Marshal(r.Message); err != nil {
					t.Error(err)
				}
			}
			done <- printResources(t, resources)
		}()
	}
	for range 4 {
		got := <-done
		if want != "" && got != want {
			t.Error("the results differ")
		}
		want = got
	}
}
