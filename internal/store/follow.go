package store

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

const (
	// followPage is how many keys are read at once when a feed begins.
	followPage = 1000
	// firstWait and longestWait bound the pauses between the tries of a feed.
	firstWait   = 50 * time.Millisecond
	longestWait = 5 * time.Second
)

// Event is one change of an object.
type Event struct {
	ID mesh.ID
	// Revision is the store's at which the object was written, 0 if it was deleted.
	Revision int64
	store    *Store
	kv       *mvccpb.KeyValue
}

// Object returns the object as the event left it: nil if it was deleted, or if this build
// cannot read it, which is logged. It reads it anew each time. It has no times: who
// follows acts on what is there, and reading them takes longer than all the rest.
func (e Event) Object() *mesh.Object {
	if e.kv == nil {
		return nil
	}
	return e.store.parseFed(e.ID, e.kv)
}

// Batch is a set of changes in the order in which they were made.
type Batch struct {
	// Reset says that the events list all objects there are, in no useful order:
	// what they do not name does not exist.
	Reset bool
	// Revision is the store's revision that the batch leads up to.
	Revision int64
	Events   []Event
}

// Follow feeds apply with every object of every account: first one Batch with Reset
// set that lists them all, then one Batch for what etcd's watch has brought since the last. After a
// compaction or a broken watch it sends a Reset again. Only System callers may
// follow. It returns when ctx ends (its error) or the store is closed (ErrClosed)
// and tries again after everything else. apply is never called concurrently.
//
// An object whose key this build cannot read is logged and left out of the batch.
func (s *Store) Follow(ctx context.Context, c Caller, apply func(Batch)) error {
	if err := c.internal("the feed of all objects"); err != nil {
		return err
	}
	return s.follow(ctx, feed{
		prefix: objectPrefix,
		reset: func(revision int64, all []*mvccpb.KeyValue) {
			b := Batch{Reset: true, Revision: revision, Events: make([]Event, 0, len(all))}
			for _, kv := range all {
				if event, ok := s.event(kv); ok {
					b.Events = append(b.Events, event)
				}
			}
			apply(b)
		},
		change: func(revision int64, events []*clientv3.Event) {
			b := Batch{Revision: revision}
			for _, e := range events {
				event, ok := s.event(e.Kv)
				if e.Type == clientv3.EventTypeDelete {
					event = Event{ID: event.ID}
				}
				if ok {
					b.Events = append(b.Events, event)
				}
			}
			if len(b.Events) > 0 {
				apply(b)
			}
		},
	})
}

// event returns the event that a write of an object is.
func (s *Store) event(kv *mvccpb.KeyValue) (Event, bool) {
	id, ok := s.parseKey(kv)
	return Event{ID: id, Revision: kv.ModRevision, store: s, kv: kv}, ok
}

// fed is the part of a document that feeds tell of.
type fed struct {
	Format        int             `json:"format"`
	UID           string          `json:"uid"`
	ResourceOwner string          `json:"resourceOwner"`
	Version       int64           `json:"version"`
	Spec          json.RawMessage `json:"spec"`
	Tags          []mesh.TagRef   `json:"tags"`
}

// parseFed is parseObject for feeds.
func (s *Store) parseFed(id mesh.ID, kv *mvccpb.KeyValue) *mesh.Object {
	var d fed
	if _, err := readDocument(s, kv.Value, &d, func(d *fed) int { return d.Format }); err != nil {
		s.unreadable(kv, err)
		return nil
	}
	return &mesh.Object{
		ID: id, ResourceOwner: d.ResourceOwner, UID: d.UID, Version: d.Version,
		Spec: d.Spec, Tags: d.Tags, Revision: kv.ModRevision,
	}
}

// feed is what is done with the keys below a prefix.
type feed struct {
	prefix string
	// reset gets all keys at a revision.
	reset func(revision int64, all []*mvccpb.KeyValue)
	// change gets the events that lead up to a revision.
	change func(revision int64, events []*clientv3.Event)
}

// follow lists and watches until ctx ends or the store is closed.
func (s *Store) follow(ctx context.Context, f feed) error {
	wait := firstWait
	for {
		began := time.Now()
		err := s.listAndWatch(ctx, f)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.ctx.Err() != nil:
			return ErrClosed
		case time.Since(began) > longestWait:
			wait = firstWait
		}
		s.log.WarnContext(ctx, "a feed of the store broke off, it is taken up again", "prefix", f.prefix, "error", err, "wait", wait)
		// Half of the pause is left to chance, so that replicas do not come back
		// all at once.
		s.pause(ctx, wait/2+rand.N(wait/2))
		wait = min(2*wait, longestWait)
	}
}

// pause waits until d has passed, ctx has ended or the store is closed.
func (s *Store) pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	_ = sleep(ctx, d) // the caller looks at both contexts
}

// listAndWatch lists all keys and then watches. It returns when the watch breaks.
func (s *Store) listAndWatch(ctx context.Context, f feed) error {
	epoch := s.epoch()
	revision, err := s.list(ctx, f)
	if err != nil {
		return err
	}
	return s.watch(ctx, f, revision+1, epoch)
}

// errEpoch says that this process ceased to be a member: what etcd has kept for a feed of
// it may be a restore, step by step.
var errEpoch = errors.New("this server was away for too long")

// list hands on all keys, and returns the revision that they were read at.
func (s *Store) list(ctx context.Context, f feed) (int64, error) {
	revision, all, err := s.listAll(ctx, f.prefix)
	if err == nil {
		err = s.admit(ctx)
	}
	if err != nil {
		return 0, err
	}
	f.reset(revision, all)
	return revision, nil
}

// listAll reads all keys below a prefix, in pages, as they are at one revision.
func (s *Store) listAll(ctx context.Context, prefix string) (revision int64, all []*mvccpb.KeyValue, err error) {
	from := prefix
	for {
		var resp *clientv3.GetResponse
		err := s.try(ctx, func(ctx context.Context) (err error) {
			resp, err = s.client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)),
				clientv3.WithLimit(followPage), clientv3.WithRev(revision))
			return err
		})
		if err != nil {
			return 0, nil, err
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		all = append(all, resp.Kvs...)
		if !resp.More || len(resp.Kvs) == 0 {
			return revision, all, nil
		}
		from = next(string(resp.Kvs[len(resp.Kvs)-1].Key))
	}
}

// watch hands on what changes from a revision on, until the watch breaks: when etcd
// has compacted what it would have to send, when it has no leader, when this process has
// ceased to be a member since an epoch, when ctx ends or the store is closed.
func (s *Store) watch(ctx context.Context, f feed, from int64, epoch int) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	// Progress notes keep the client's position young, so that a reconnect after a
	// long silence need not list again.
	changes := s.client.Watch(ctx, f.prefix, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithProgressNotify())
	for {
		events, err := gather(changes)
		if err := s.admit(ctx); err != nil {
			return err
		}
		if s.epoch() != epoch {
			return errEpoch
		}
		if n := len(events); n > 0 {
			f.change(events[n-1].Kv.ModRevision, events)
		}
		if err != nil {
			return err
		}
		if events == nil {
			return context.Cause(ctx)
		}
	}
}

// gather waits for events and returns them with all that have come meanwhile, so that who
// is behind does the work of one change for many; nil if the watch has ended.
func gather(changes clientv3.WatchChan) ([]*clientv3.Event, error) {
	events := []*clientv3.Event{}
	for {
		resp, open := <-changes
		if !open {
			break
		}
		if err := resp.Err(); err != nil {
			return events, err
		}
		if events = append(events, resp.Events...); len(changes) == 0 {
			return events, nil
		}
	}
	if len(events) == 0 {
		return nil, nil
	}
	return events, nil
}
