package store

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// firstFormat is the format that documents are written in while nothing else was noted.
const firstFormat = 1

// RecordForms are the formats that the records below a prefix may have in the store, beside
// the one that their room reads and writes. The store turns one into the other, so that the
// room knows its own only.
type RecordForms struct {
	// Prefix is what the records' keys begin with, for example "iam/". Values below it that
	// have no format are left as they are.
	Prefix string
	// Own is the format that the room reads and writes.
	Own int
	// Forms are the others: the one before Own, for as long as servers that write it may be
	// there, or the one behind it.
	Forms map[int]Form
}

// Form turns a document from the form that its room knows into another format, and back.
// Members that it does not know must be kept, and "format" must say which one it is.
type Form struct {
	Encode, Decode func(value []byte) ([]byte, error)
}

// formats are those that a build knows. A store has one number for all of them: a document
// is written in the newest format of its kind that is not above it. A kind that gets a new
// format therefore takes the store's next number for it, and may leave some out. A build
// knows the number before its newest, so that builds that follow each other can serve one
// store.
type formats struct {
	newest int
	// forms are those of objects' documents beside documentFormat.
	forms   map[int]Form
	records []RecordForms
}

// kind is the documents below a prefix of keys.
type kind struct {
	prefix string
	own    int
	forms  map[int]Form
	// bare says that a value without a format is none of the documents and stays as it is:
	// rooms keep ids under names.
	bare bool
}

// knownFormats are those of this build.
func knownFormats(records []RecordForms) formats {
	f := formats{newest: documentFormat, records: records}
	for _, k := range f.kinds() {
		f.newest = max(f.newest, slices.Max(k.known()))
	}
	return f
}

// kinds returns the kinds of documents whose formats are known, in the order of the keys.
func (f formats) kinds() []kind {
	all := []kind{f.objects()}
	for _, r := range f.records {
		all = append(all, r.kind())
	}
	slices.SortFunc(all, func(a, b kind) int { return strings.Compare(a.prefix, b.prefix) })
	return all
}

// kindOf returns the kind of a record; ok is false if it has one format only.
func (f formats) kindOf(key string) (k kind, ok bool) {
	for _, r := range f.records {
		if k = r.kind(); strings.HasPrefix(key, k.prefix) {
			return k, true
		}
	}
	return kind{}, false
}

// objects returns the kind of objects' documents.
func (f formats) objects() kind {
	return kind{prefix: objectPrefix, own: documentFormat, forms: f.forms}
}

func (r RecordForms) kind() kind {
	return kind{prefix: recordPrefix + r.Prefix, own: r.Own, forms: r.Forms, bare: true}
}

// known returns all formats, in order.
func (k kind) known() []int {
	return slices.Sorted(maps.Keys(func() map[int]Form {
		all := maps.Clone(k.forms)
		if all == nil {
			all = map[int]Form{}
		}
		all[k.own] = Form{}
		return all
	}()))
}

// at returns the format that is written while the store has a number, 0 if it is older than
// all that are known.
func (k kind) at(number int) int {
	best := 0
	for _, f := range k.known() {
		if f <= number {
			best = f
		}
	}
	return best
}

// decode turns a document into the form that its room knows.
func (k kind) decode(value []byte) ([]byte, error) {
	format := formatOf(value)
	if format == k.own || format == 0 && k.bare {
		return value, nil
	}
	if other, ok := k.forms[format]; ok {
		return other.Decode(value)
	}
	known := k.known()
	return nil, fmt.Errorf("its format is %d, this build of Fairlead reads %d to %d", format, known[0], known[len(known)-1])
}

// encode turns a document of its room's form into the one of the store's number.
func (k kind) encode(number int, value []byte) ([]byte, error) {
	format := k.at(number)
	if format == k.own || k.bare && formatOf(value) == 0 {
		return value, nil
	}
	if other, ok := k.forms[format]; ok {
		return other.Encode(value)
	}
	return nil, fmt.Errorf("format %d of %s is not known", number, k.prefix)
}

// tooOld says that a store has a format that this build does not read.
func (f formats) tooOld(format int) error {
	return mesh.Errorf(mesh.ErrServiceUnavailable, "the store's documents have format %d, this build of Fairlead reads %s: use a newer one", format, f)
}

// oldest returns the least number of a store that can be read.
func (f formats) oldest() int {
	least := 0
	for _, k := range f.kinds() {
		least = max(least, k.known()[0])
	}
	return least
}

// String returns the numbers that can be read.
func (f formats) String() string { return fmt.Sprintf("%d to %d", f.oldest(), f.newest) }

// reads reports whether a store of a number can be read and written.
func (f formats) reads(number int) bool { return number >= f.oldest() && number <= f.newest }

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
	value, err = s.formats.objects().encode(l.writes, value)
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
