package store

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/backup"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// manyObjects makes a data directory with so many objects, as creates would have left
// them: meshes of 1000 virtual nodes. It writes a backup that has them and restores it.
func manyObjects(b *testing.B, n int) (dir, file string) {
	b.Helper()
	s := openTemp(b)
	w := world{t: b, s: s, c: caller("000000000001")}
	m := w.makeNodes("m", 1)
	found, err := s.read(b.Context(), w.c, m.Object(mesh.KindVirtualNode, "", "n0"), Question{})
	if err != nil {
		b.Fatal(err)
	}
	var nodes, meshes []backup.Entry
	node, err := found.doc.encode()
	if err != nil {
		b.Fatal(err)
	}
	found, err = s.read(b.Context(), w.c, m.MeshObject(), Question{})
	if err != nil {
		b.Fatal(err)
	}
	asMesh, err := found.doc.encode()
	if err != nil {
		b.Fatal(err)
	}
	var slots []backup.Entry
	for i := range n / 1000 {
		m := w.mesh(fmt.Sprintf("m%05d", i))
		meshes = append(meshes, backup.NewEntry(objectKey(m.MeshObject()), asMesh))
		for j := range 1000 {
			id := m.Object(mesh.KindVirtualNode, "", fmt.Sprintf("n%05d", j))
			nodes = append(nodes, backup.NewEntry(objectKey(id), node))
			slots = append(slots, backup.NewEntry(slotKey(within(slotPrefix, m, id.Kind, ""), j), []byte(tail(id.Key))))
		}
	}
	doc, err := json.Marshal(storeDocument{Format: 1, SealKey: s.sealID.String()})
	if err != nil {
		b.Fatal(err)
	}
	file = filepath.Join(b.TempDir(), "backup")
	err = backup.WriteFile(file, func(to io.Writer) error {
		w, err := backup.NewWriter(to, backup.Header{SealKeyID: s.sealID.String(), SealKey: s.sealHex, StoreFormat: 1, CreatedAt: time.Now()})
		if err != nil {
			return err
		}
		for _, part := range [][]backup.Entry{nodes, meshes, slots, {backup.NewEntry(storeKey, doc)}} {
			for _, e := range part {
				if err := w.Write(e); err != nil {
					return err
				}
			}
		}
		_, err = w.Close()
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	dir = b.TempDir()
	if _, err := Restore(b.Context(), RestoreConfig{Store: Config{DataDir: dir}, File: file}); err != nil {
		b.Fatal(err)
	}
	return dir, file
}

const benchObjects = 100_000

// heap returns the bytes that the heap has taken from the system so far.
func heap() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapSys) / (1 << 20)
}

// BenchmarkRestore restores a store of 100,000 objects into a data directory.
func BenchmarkRestore(b *testing.B) {
	_, file := manyObjects(b, benchObjects)
	for b.Loop() {
		if _, err := Restore(b.Context(), RestoreConfig{Store: Config{DataDir: b.TempDir()}, File: file}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(heap(), "MiB-heap")
}

// BenchmarkBackup backs a store of 100,000 objects up.
func BenchmarkBackup(b *testing.B) {
	dir, _ := manyObjects(b, benchObjects)
	s, err := Open(b.Context(), Config{DataDir: dir})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	before := heap()
	file := filepath.Join(b.TempDir(), "backup")
	for b.Loop() {
		err := backup.WriteFile(file, func(w io.Writer) error {
			_, _, err := s.WriteBackup(b.Context(), System("bench"), w, "", false)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/(1<<20), "MiB-file")
	b.ReportMetric(heap()-before, "MiB-more-heap")
}

// BenchmarkOpen opens a store of 100,000 objects and reads all of them, as a server does
// before it is ready.
func BenchmarkOpen(b *testing.B) {
	dir, _ := manyObjects(b, benchObjects)
	for b.Loop() {
		began := time.Now()
		s, err := Open(b.Context(), Config{DataDir: dir})
		if err != nil {
			b.Fatal(err)
		}
		opened := time.Since(began)
		ctx, stop := context.WithCancel(b.Context())
		n := 0
		_ = s.Follow(ctx, System("bench"), func(batch Batch) { n = len(batch.Events); stop() })
		if n < benchObjects {
			b.Fatalf("%d objects", n)
		}
		b.ReportMetric(opened.Seconds(), "s-open")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDefragment writes the file of a store of 100,000 objects anew: nothing else is
// done meanwhile.
func BenchmarkDefragment(b *testing.B) {
	dir, _ := manyObjects(b, benchObjects)
	s, err := Open(b.Context(), Config{DataDir: dir})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		if err := s.defragment(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	z, _ := s.Size()
	b.ReportMetric(float64(z.InUse)/(1<<20), "MiB-in-use")
}
