package store

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// benchWorld is a store as it is in production, with a router and its route.
func benchWorld(b *testing.B) (world, mesh.ID) {
	s, err := Open(b.Context(), Config{DataDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	w := world{t: b, s: s, c: caller("000000000001")}
	m := w.makeNodes("m", 3)
	w.create(m.Object(mesh.KindVirtualRouter, "", "r"), specRouter)
	route := m.Object(mesh.KindRoute, "r", "x")
	w.create(route, specRoute("n0", "n1"))
	return w, route
}

// BenchmarkUpdate moves a route's weight, as a canary does: one write to the disk.
func BenchmarkUpdate(b *testing.B) {
	w, route := benchWorld(b)
	changes := []Change{w.change(route, specRoute("n0", "n1")), w.change(route, specRoute("n1", "n2"))}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := w.s.Update(b.Context(), w.c, changes[i%2]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUpdateParallel updates many objects at once.
func BenchmarkUpdateParallel(b *testing.B) {
	w, route := benchWorld(b)
	var changes []Change
	for i := range 64 {
		id := route.Mesh.Object(mesh.KindVirtualNode, "", fmt.Sprintf("p%d", i))
		w.create(id, specNode)
		changes = append(changes, w.change(id, specNode))
	}
	next := make(chan Change, len(changes))
	for _, c := range changes {
		next <- c
	}
	b.SetParallelism(16)
	b.ResetTimer()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c := <-next
			if _, err := w.s.Update(b.Context(), w.c, c); err != nil {
				b.Error(err)
			}
			next <- c
		}
	})
}

// BenchmarkCreate makes virtual nodes: one write to the disk each. Bare is a put of a
// value of the same size, through a client that calls over the loopback.
func BenchmarkCreate(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			w, route := benchWorld(b)
			var meshes []mesh.MeshID
			for i := range 1 + b.N/5000 {
				meshes = append(meshes, w.makeNodes(fmt.Sprintf("b%d", i), 0))
			}
			o := w.object(route.Mesh.Object(mesh.KindVirtualNode, "", "n"), specNode)
			runClients(b, clients, func(i int64) error {
				o := o
				o.ID = meshes[i/5000].Object(mesh.KindVirtualNode, "", fmt.Sprintf("n%d", i))
				_, err := w.s.Create(b.Context(), w.c, o)
				return err
			})
		})
		b.Run(fmt.Sprintf("bare/clients=%d", clients), func(b *testing.B) {
			client, value := bareClient(b)
			runClients(b, clients, func(i int64) error {
				_, err := client.Put(b.Context(), fmt.Sprintf("%sx/%d", objectPrefix, i), value)
				return err
			})
		})
	}
}

// BenchmarkDescribe reads a route. Bare is a get through a client that calls over the
// loopback.
func BenchmarkDescribe(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			w, route := benchWorld(b)
			runClients(b, clients, func(int64) error {
				_, err := w.s.Get(b.Context(), w.c, route)
				return err
			})
		})
		b.Run(fmt.Sprintf("bare/clients=%d", clients), func(b *testing.B) {
			client, value := bareClient(b)
			if _, err := client.Put(b.Context(), objectPrefix+"x", value); err != nil {
				b.Fatal(err)
			}
			runClients(b, clients, func(int64) error {
				_, err := client.Get(b.Context(), objectPrefix+"x")
				return err
			})
		})
	}
}

// bareClient is a client of an etcd with the store's settings that listens, and a value
// of a virtual node's size.
func bareClient(b *testing.B) (*clientv3.Client, string) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{serveEtcdWith(b, Config{DataDir: b.TempDir()}).endpoint}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	return client, strings.Repeat("x", 450)
}

// runClients lets so many clients call f at once, b.N times in all.
func runClients(b *testing.B, clients int, f func(i int64) error) {
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if err := f(i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkGet reads a route.
func BenchmarkGet(b *testing.B) {
	w, route := benchWorld(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.s.Get(b.Context(), w.c, route); err != nil {
			b.Fatal(err)
		}
	}
}
