package mesh

import (
	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// Item is one object in a snapshot, its spec decoded. It is never changed.
type Item struct {
	Key           Key
	ResourceOwner string
	UID           string
	Version       int64
	Revision      int64 // of the store
	Spec          any   // *MeshSpec, *RouteSpec, …
}

// Snapshot is one mesh at one store revision. It is immutable; With and Without
// give a new one that shares what did not change.
type Snapshot struct {
	ID       MeshID
	Revision int64
	items    *iradix.Tree[*Item]
}

// NewSnapshot returns an empty mesh.
func NewSnapshot(id MeshID) *Snapshot {
	return &Snapshot{ID: id, items: iradix.New[*Item]()}
}

// Edit is a set of changes to a snapshot under way.
type Edit struct {
	snap *Snapshot
	txn  *iradix.Txn[*Item]
}

// Edit begins a set of changes that together make the next snapshot.
func (s *Snapshot) Edit() *Edit { return &Edit{snap: s, txn: s.items.Txn()} }

// Put adds or replaces an item.
func (e *Edit) Put(i *Item) { e.txn.Insert(treeKey(i.Key), i) }

// Delete removes the item of a key.
func (e *Edit) Delete(k Key) { e.txn.Delete(treeKey(k)) }

// Done returns the new snapshot.
func (e *Edit) Done(revision int64) *Snapshot {
	return &Snapshot{ID: e.snap.ID, Revision: revision, items: e.txn.Commit()}
}

// Len returns the number of objects, the mesh itself included.
func (s *Snapshot) Len() int { return s.items.Len() }

// Get returns the item of a key, or nil.
func (s *Snapshot) Get(k Key) *Item {
	i, _ := s.items.Get(treeKey(k))
	return i
}

// All calls f with every item.
func (s *Snapshot) All(f func(*Item)) {
	s.items.Root().Walk(func(_ []byte, i *Item) bool { f(i); return false })
}

// Children returns the items of a range in name order.
func (s *Snapshot) Children(r Range) []*Item {
	var out []*Item
	s.items.Root().WalkPrefix(rangeKey(r), func(_ []byte, i *Item) bool {
		out = append(out, i)
		return false
	})
	return out
}

// treeKey orders items by kind, parent and name. No name holds a zero byte
// (CheckName).
func treeKey(k Key) []byte { return append(rangeKey(Range{k.Kind, k.Parent}), k.Name...) }

func rangeKey(r Range) []byte {
	b := make([]byte, 0, 2+len(r.Parent)+32)
	return append(append(append(b, byte(r.Kind)), r.Parent...), 0)
}

// Range is all objects of a kind, or all of a kind below one parent.
type Range struct {
	Kind   Kind
	Parent string
}

// Range returns the range that k lies in.
func (k Key) Range() Range { return Range{k.Kind, k.Parent} }

// Reads are the keys and ranges that a view was built from, absent ones included:
// a change to any of them may change the view, and no other change can.
type Reads struct {
	Keys   map[Key]struct{}
	Ranges map[Range]struct{}
}

// Reader reads a snapshot and notes what it reads.
type Reader struct {
	snap  *Snapshot
	Reads Reads
}

// NewReader returns a reader that has read nothing yet.
func NewReader(s *Snapshot) *Reader {
	return &Reader{snap: s, Reads: Reads{Keys: map[Key]struct{}{}, Ranges: map[Range]struct{}{}}}
}

// get returns the item of a key, or nil, and notes the key.
func (r *Reader) get(kind Kind, name string) *Item {
	k := Key{Kind: kind, Name: name}
	r.Reads.Keys[k] = struct{}{}
	return r.snap.Get(k)
}

// children returns the items of a range in name order, and notes the range.
func (r *Reader) children(kind Kind, parent string) []*Item {
	rg := Range{kind, parent}
	r.Reads.Ranges[rg] = struct{}{}
	return r.snap.Children(rg)
}
