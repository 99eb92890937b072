package store

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// firstFormat is the format that documents are written in while nothing else was noted.
const firstFormat = 1

// formats are the formats of documents that a build knows: the newest, and the way to and
// from each that document does not describe. A build knows the one before its newest, so
// that builds that follow each other can serve one store.
type formats struct {
	newest int
	forms  map[int]form
}

// form turns a document of the format that document describes into another one, and back.
// Members that it does not know must be kept.
type form struct {
	encode, decode func(value []byte) ([]byte, error)
}

// knownFormats are those of this build.
func knownFormats() formats { return formats{newest: documentFormat} }

// decode turns a document of another format into one as document describes it.
func (f formats) decode(format int, value []byte) ([]byte, error) {
	if other, ok := f.forms[format]; ok {
		return other.decode(value)
	}
	return nil, fmt.Errorf("its format is %d, this build of Fairlead reads %s", format, f)
}

// encode turns a document into one of a format.
func (f formats) encode(format int, value []byte) ([]byte, error) {
	if format == documentFormat {
		return value, nil
	}
	if other, ok := f.forms[format]; ok {
		return other.encode(value)
	}
	return nil, f.tooOld(format)
}

// tooOld says that the documents of a store have a format that this build does not read.
func (f formats) tooOld(format int) error {
	return mesh.Errorf(mesh.ErrServiceUnavailable, "the store's documents have format %d, this build of Fairlead reads %s: use a newer one", format, f)
}

// String returns the formats that can be read.
func (f formats) String() string {
	all := slices.Sorted(maps.Keys(f.forms))
	if !slices.Contains(all, documentFormat) {
		all = append(all, documentFormat)
	}
	return fmt.Sprintf("%d to %d", slices.Min(all), slices.Max(all))
}

// reads reports whether documents of a format can be read and written.
func (f formats) reads(format int) bool {
	_, ok := f.forms[format]
	return ok || format == documentFormat
}

// formatOf returns the format that a document says it has, 0 if it says none.
func formatOf(value []byte) int {
	var d struct {
		Format int `json:"format"`
	}
	_ = json.Unmarshal(value, &d) // 0 is refused
	return d.Format
}

// written is the format that documents are written in, and the revision of the key that says
// so: 0 if there is none.
type written struct {
	writes   int
	revision int64
}

// levelDocument is what is stored of it.
type levelDocument struct {
	Format int       `json:"format"`
	Writes int       `json:"writes"`
	At     time.Time `json:"at"`
}

const levelFormat = 1

// learnFormat takes note of the key that says which format is written. An older state of
// it changes nothing.
func (s *Store) learnFormat(kv *mvccpb.KeyValue) {
	var doc levelDocument
	if err := json.Unmarshal(kv.Value, &doc); err != nil || doc.Writes < firstFormat {
		s.log.Error("the format of the store's documents cannot be read", "key", formatKey, "error", err)
		return
	}
	for {
		before := s.level.Load()
		if before.revision >= kv.ModRevision {
			return
		}
		if s.level.CompareAndSwap(before, &written{writes: doc.Writes, revision: kv.ModRevision}) {
			if !s.formats.reads(doc.Writes) {
				s.log.Error("the store's documents have been brought to a format that this build cannot read: use a newer one", "format", doc.Writes)
			}
			return
		}
	}
}

// current refuses once the store is written in a format that this build does not know.
func (s *Store) current() error {
	if l := s.level.Load(); !s.formats.reads(l.writes) {
		return s.formats.tooOld(l.writes)
	}
	return nil
}

// encode writes a document in the format of the store, and returns what must hold for it:
// that it is still that one. As long as there has been one format only nothing need be
// compared.
func (s *Store) encode(doc *document) ([]byte, []condition, error) {
	value, err := doc.encode()
	if err != nil || s.formats.newest == firstFormat {
		return value, nil, err
	}
	l := s.level.Load()
	value, err = s.formats.encode(l.writes, value)
	return value, []condition{s.holdLevel(l)}, err
}

// holdLevel holds if documents are written in the format that was known. If not, the new
// one is learnt.
func (s *Store) holdLevel(l *written) condition {
	return condition{
		compare: modified(formatKey, pb.Compare_EQUAL, l.revision),
		look:    func() clientv3.Op { return clientv3.OpGet(formatKey) },
		refuse: func(found []*mvccpb.KeyValue) error {
			var revision int64
			if len(found) > 0 {
				revision = found[0].ModRevision
				s.learnFormat(found[0])
			}
			if revision == l.revision {
				return nil
			}
			return errChanged
		},
	}
}
