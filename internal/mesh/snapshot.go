package mesh

import (
	"sync"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
)

// Item is one object in a snapshot. It is never changed, and read when its content is
// first asked for: most objects of a large store are not part of what any proxy of this
// replica needs.
type Item struct {
	Key      Key
	Revision int64 // of the store
	once     sync.Once
	read     func() *Content
	content  *Content
}

// Content is what is in an object.
type Content struct {
	ResourceOwner string
	Version       int64
	Tags          []TagRef
	Spec          any // *MeshSpec, *RouteSpec, …
}

// NewItem returns an item. read is called once at most, and returns nil if the object
// cannot be read: then it counts as absent.
func NewItem(k Key, revision int64, read func() *Content) *Item {
	return &Item{Key: k, Revision: revision, read: read}
}

// Content returns what is in the object, or nil if it cannot be read or i is nil.
func (i *Item) Content() *Content {
	if i == nil {
		return nil
	}
	i.once.Do(func() { i.content, i.read = i.read(), nil })
	return i.content
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

// Get returns the item of a key as it is with the changes so far, or nil.
func (e *Edit) Get(k Key) *Item {
	i, _ := e.txn.Get(treeKey(k))
	return i
}

// Mesh returns the mesh that is changed.
func (e *Edit) Mesh() MeshID { return e.snap.ID }

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

// Reads are the keys and ranges that a view was built from, and the services whose
// instances it holds, absent ones included: a change to any of them may change the view,
// and no other change can.
type Reads struct {
	Keys      map[Key]struct{}
	Ranges    map[Range]struct{}
	Instances map[InstancesKey]struct{}
}

// Reader reads a snapshot and notes what it reads.
type Reader struct {
	snap  *Snapshot
	Reads Reads
	// Instances finds the instances of services; nil where none is known. It is asked after
	// the key is noted.
	Instances Instances
	// Providers returns what virtual services lead to where somebody keeps that; what it
	// reads is not noted. nil: it is read.
	Providers func(service string) *Provider
}

// NewReader returns a reader that has read nothing yet.
func NewReader(s *Snapshot) *Reader {
	return &Reader{snap: s, Reads: Reads{Keys: map[Key]struct{}{}, Ranges: map[Range]struct{}{}, Instances: map[InstancesKey]struct{}{}}}
}

// get returns what is in the object of a key, or nil, and notes the key.
func (r *Reader) get(kind Kind, name string) *Content {
	k := Key{Kind: kind, Name: name}
	r.Reads.Keys[k] = struct{}{}
	return r.snap.Get(k).Content()
}

// children returns the items of a range in name order, and notes the range.
func (r *Reader) children(kind Kind, parent string) []*Item {
	rg := Range{kind, parent}
	r.Reads.Ranges[rg] = struct{}{}
	return r.snap.Children(rg)
}
