package store

import (
	"fmt"
	"testing"

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
