package xds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/live"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// benchRegistry has ten instances of each service; the first of one changes its port.
type benchRegistry struct {
	list   []mesh.Instance
	key    mesh.InstancesKey
	port   uint32
	notify func(mesh.InstancesKey)
}

func (r *benchRegistry) Instances(k mesh.InstancesKey) ([]mesh.Instance, bool) {
	if k != r.key {
		return r.list, true
	}
	list := append([]mesh.Instance(nil), r.list...)
	list[0].Port = r.port
	return list, true
}

func (r *benchRegistry) Subscribe(notify func(mesh.InstancesKey)) func() {
	r.notify = notify
	return func() {}
}

func (r *benchRegistry) change() {
	r.port = r.port%60000 + 1
	r.notify(r.key)
}

// BenchmarkInstanceChange changes one instance of one of the services that a node calls,
// each of ten instances, and makes the endpoints anew or, for comparison, everything: of 1,000
// services with what is remembered of the last translation, as after an edit of a route.
func BenchmarkInstanceChange(b *testing.B) {
	for _, services := range []int{50, 1000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) { benchmarkInstanceChange(b, services) })
	}
}

func benchmarkInstanceChange(b *testing.B, services int) {
	shop := mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"}
	r := &benchRegistry{key: mesh.InstancesKey{Account: shop.Account, Region: shop.Region, Namespace: "n", Service: "s0"}}
	for i := range 10 {
		r.list = append(r.list, mesh.Instance{ID: fmt.Sprint(i), IPv4: fmt.Sprintf("10.0.0.%d", i+1), Zone: fmt.Sprint("zone", i%3)})
	}
	s, f := benchFeed(b, shop, services, r)
	for _, c := range []struct {
		name string
		full bool
	}{{"refresh", false}, {"everything", true}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				before := f.generation
				r.change()
				f.current = f.current && !c.full
				if s.rebuild(f); f.generation != before+1 || !f.current {
					b.Fatalf("generation %d after %d", f.generation, before)
				}
			}
		})
	}
}

// benchFeed returns the feed of a node that calls a number of services, each a router
// with a route to a node that Cloud Map discovers.
func benchFeed(b *testing.B, shop mesh.MeshID, services int, r live.Registry) (*Server, *feed) {
	b.Helper()
	log := slog.New(slog.DiscardHandler)
	st, err := store.Open(b.Context(), store.Config{DataDir: b.TempDir(), Logger: log, Unsafe: true})
	if err != nil {
		b.Fatal(err)
	}
	create := func(k mesh.Kind, parent, name, spec string) {
		typed, stored, bad := mesh.Decode(k, "spec", []byte(spec))
		if bad != nil {
			b.Fatal(bad)
		}
		if _, err := st.Create(b.Context(), store.System("bench"), store.NewObject{ID: shop.Object(k, parent, name), Spec: typed, Stored: stored}); err != nil {
			b.Fatal(err)
		}
	}
	create(mesh.KindMesh, "", shop.Name, `{}`)
	const listener = `"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}]`
	var backends []string
	for i := range services {
		create(mesh.KindVirtualNode, "", fmt.Sprint("node", i), fmt.Sprintf(`{%s,"serviceDiscovery":{"awsCloudMap":{"namespaceName":"n","serviceName":"s%d"}}}`, listener, i))
		create(mesh.KindVirtualRouter, "", fmt.Sprint("router", i), `{`+listener+`}`)
		create(mesh.KindRoute, fmt.Sprint("router", i), "all", fmt.Sprintf(
			`{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":"node%d","weight":1}]}}}`, i))
		create(mesh.KindVirtualService, "", fmt.Sprintf("s%d.local", i), fmt.Sprintf(`{"provider":{"virtualRouter":{"virtualRouterName":"router%d"}}}`, i))
		backends = append(backends, fmt.Sprintf(`{"virtualService":{"virtualServiceName":"s%d.local"}}`, i))
	}
	create(mesh.KindVirtualNode, "", "front", `{"backends":[`+strings.Join(backends, ",")+`]}`)
	l := live.New(st, r, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, st.Close()); !errors.Is(err, context.Canceled) {
			b.Error(err)
		}
	})
	<-l.Ready()
	s := New(Config{Live: l, Log: log})
	f := s.acquire(feedKey{id: shop.Object(mesh.KindVirtualNode, "", "front"), owner: shop.Account, profile: envoy.Profile{HostsApart: true}})
	if s.rebuild(f); len(f.types[envoy.TypeEndpoint].current) != services+1 {
		b.Fatalf("%d endpoints, want one for each service and the local cluster's", len(f.types[envoy.TypeEndpoint].current))
	}
	return s, f
}
