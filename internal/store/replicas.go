package store

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrTaken says that another server leads.
var ErrTaken = errors.New("another server leads")

// leaderDocument is what is stored of the server that leads.
type leaderDocument struct {
	Format int    `json:"format"`
	ID     string `json:"id"`
}

const leaderFormat = 1

// Self returns this process as the others see it once it has been announced.
func (s *Store) Self() Member { return s.member.read() }

func (m *membership) read() Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.doc.member(m.id)
}

func (d memberDocument) member(id string) Member {
	return Member{ID: id, Address: d.Address, Version: d.Version, Since: d.Since}
}

// MemberLease returns how long a server that fell silent counts as one that is there.
func (s *Store) MemberLease() time.Duration { return s.member.life }

// Announce tells the others that this process is a server, where it is asked, and which
// version it is; serves false that it ends. It returns at once: etcd is told as soon as it
// can be.
func (s *Store) Announce(serves bool, address, version string) {
	m := &s.member
	m.mu.Lock()
	m.doc.Serves, m.doc.Address, m.doc.Version, m.stale = serves, address, version, true
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Hold returns the lease of this process, and a channel that is closed when it was, or
// could not be, renewed.
func (s *Store) Hold() (Hold, <-chan struct{}) {
	s.member.mu.Lock()
	defer s.member.mu.Unlock()
	return s.member.hold, s.member.tried
}

// TakeLead makes this server the one that leads, for as long as it holds a lease, and
// returns the revision of that. The error is ErrTaken (by errors.Is) if one does already;
// others are as for PutRecords.
func (s *Store) TakeLead(ctx context.Context, c Caller, h Hold) (int64, error) {
	if err := c.internal("the lead"); err != nil {
		return 0, err
	}
	value, err := marshal(leaderDocument{Format: leaderFormat, ID: s.member.id})
	if err != nil {
		return 0, err
	}
	put := putKey(leaderKey, value)
	put.GetRequestPut().Lease = h.Lease
	return s.commit(ctx, []condition{absent(leaderKey, func(*mvccpb.KeyValue) error { return ErrTaken })}, []*pb.RequestOp{put})
}

// LeaveLead ends a lead that was taken at a revision, so that another can take it. It is no
// error if another has.
func (s *Store) LeaveLead(ctx context.Context, c Caller, revision int64) error {
	if err := c.internal("the lead"); err != nil {
		return err
	}
	_, err := s.commit(ctx, []condition{unchanged(leaderKey, revision, ErrTaken)}, []*pb.RequestOp{deleteKey(leaderKey)})
	if errors.Is(err, ErrTaken) {
		return nil
	}
	return err
}

// Listed is a server over the store, and the revision of its record.
type Listed struct {
	Member
	Revision int64
}

// FollowMembers feeds apply with the servers there are and the id of the one that leads, ""
// for none, now and whenever that has changed. It ends as Follow does.
func (s *Store) FollowMembers(ctx context.Context, c Caller, apply func(all map[string]Listed, leader string)) error {
	if err := c.internal("the servers there are"); err != nil {
		return err
	}
	all, leader := map[string]Listed{}, ""
	take := func(kv *mvccpb.KeyValue, gone bool) {
		key := string(kv.Key)
		if id, ok := strings.CutPrefix(key, memberPrefix); ok {
			var doc memberDocument
			if gone || json.Unmarshal(kv.Value, &doc) != nil || !doc.Serves {
				delete(all, id)
				return
			}
			all[id] = Listed{doc.member(id), kv.ModRevision}
		}
		if key == leaderKey {
			var doc leaderDocument
			if !gone {
				_ = json.Unmarshal(kv.Value, &doc) // none leads that is known
			}
			leader = doc.ID
		}
	}
	return s.follow(ctx, feed{
		prefix: processPrefix,
		reset: func(_ int64, kvs []*mvccpb.KeyValue) {
			clear(all)
			leader = ""
			for _, kv := range kvs {
				take(kv, false)
			}
			apply(all, leader)
		},
		change: func(_ int64, events []*clientv3.Event) {
			for _, e := range events {
				take(e.Kv, e.Type == clientv3.EventTypeDelete)
			}
			apply(all, leader)
		},
	})
}
