package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// CompactConfig says which etcd is made smaller, and how.
type CompactConfig struct {
	// Store says where it is. The seal key and the quotas do not count.
	Store Config
	// KeepHistory leaves what was overwritten and deleted, KeepFiles the files as large as
	// they are.
	KeepHistory, KeepFiles bool
	// Done is told of each member that has been defragmented, in their order.
	Done func(CompactedMember)
}

// CompactedMember is a member of etcd that was defragmented.
type CompactedMember struct {
	// Name is the member's, Endpoint where it was asked, "" for an embedded etcd's.
	Name, Endpoint string
	Leader         bool
	Before, After  Size
	// Took is how long it stood still.
	Took time.Duration
}

// Compacted says what was done.
type Compacted struct {
	// Revision is the oldest that is kept, 0 if the history was.
	Revision int64
	// AlarmEnded says that etcd took no writes, and does again.
	AlarmEnded bool
}

// memberTime bounds how long a member is waited for: until it says how it is, and until it
// has caught up with the others.
const memberTime = time.Minute

// Compact has an etcd forget its history, and its members write their files anew without
// what is free in them, one after the other and the leader last. If one of them does not
// answer it changes nothing, as each stands still while its file is written. A server may be
// using an external etcd meanwhile, an embedded one not. The error is one line that says
// what to do; it can be called again.
func Compact(ctx context.Context, cfg CompactConfig) (Compacted, error) {
	if cfg.Done == nil {
		cfg.Done = func(CompactedMember) {}
	}
	s := newRaw(cfg.Store)
	var out Compacted
	err := func() error {
		if cfg.Store.DataDir != "" {
			return s.compactEmbedded(ctx, cfg, &out)
		}
		return s.compactExternal(ctx, cfg, &out)
	}()
	if err = errors.Join(err, s.Close()); err != nil {
		return out, fmt.Errorf("compacting etcd: %w", err)
	}
	return out, nil
}

func (s *Store) compactEmbedded(ctx context.Context, cfg CompactConfig, out *Compacted) error {
	if err := cfg.Store.Present(); err != nil {
		return err
	}
	if err := s.startEtcd(ctx, cfg.Store); err != nil {
		return err
	}
	before, revision, err := s.measure(ctx)
	if err != nil {
		return err
	}
	if !cfg.KeepHistory {
		if err := compact(ctx, s.client, revision, clientv3.WithCompactPhysical()); err != nil {
			return err
		}
		out.Revision = revision
	}
	if !cfg.KeepFiles {
		began := time.Now()
		if err := s.etcd.Server.Defragment(); err != nil {
			return fmt.Errorf("defragmenting: %w", err)
		}
		took := time.Since(began)
		after, _, err := s.measure(ctx)
		if err != nil {
			return err
		}
		cfg.Done(CompactedMember{Name: member, Leader: true, Before: before, After: after, Took: took})
	}
	return s.endAlarmIfRoom(ctx, out)
}

// etcdMember is a member of an external etcd.
type etcdMember struct {
	id       uint64
	name     string
	endpoint string
	client   *clientv3.Client // of this member alone
	status   *clientv3.StatusResponse
}

func (m *etcdMember) leads() bool { return m.status.Leader == m.id }

func (m *etcdMember) size() Size {
	return Size{Bytes: m.status.DbSize, InUse: m.status.DbSizeInUse, Quota: m.status.DbSizeQuota}
}

func (s *Store) compactExternal(ctx context.Context, cfg CompactConfig, out *Compacted) error {
	if err := s.dial(ctx, cfg.Store); err != nil {
		return err
	}
	found := map[uint64]*etcdMember{}
	defer func() {
		for _, m := range found {
			_ = m.client.Close() // nothing is under way
		}
	}()
	if err := s.meetMembers(ctx, cfg.Store, found); err != nil {
		return err
	}
	members := slices.SortedFunc(maps.Values(found), inOrder)
	if !cfg.KeepHistory {
		for _, m := range members {
			out.Revision = max(out.Revision, m.status.Header.Revision)
		}
		// The first of them has all forget it. Each is waited for, or what it forgets would
		// not be free yet when its file is written.
		for _, m := range members {
			if err := compact(ctx, m.client, out.Revision, clientv3.WithCompactPhysical()); err != nil {
				return fmt.Errorf("member %s: %w", m.name, err)
			}
		}
	}
	if !cfg.KeepFiles {
		for _, m := range members {
			done, err := s.defragmentMember(ctx, m)
			if err != nil {
				return fmt.Errorf("member %s at %s: %w", m.name, m.endpoint, err)
			}
			cfg.Done(done)
		}
	}
	return s.endAlarmIfRoom(ctx, out)
}

// meetMembers finds all members, and how they are. It refuses if one does not answer, or is
// not well.
func (s *Store) meetMembers(ctx context.Context, cfg Config, found map[uint64]*etcdMember) error {
	list, err := s.client.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("asking for etcd's members: %w", err)
	}
	for _, endpoint := range cfg.Endpoints {
		if err := s.meetMember(ctx, cfg, endpoint, found); err != nil {
			s.log.WarnContext(ctx, "a member of etcd does not answer", "endpoint", endpoint, "error", err)
		}
	}
	for _, m := range list.Members {
		// What is not among the endpoints is asked where it says itself that it is.
		for _, own := range m.ClientURLs {
			if found[m.ID] == nil {
				_ = s.meetMember(ctx, cfg, own, found) // said below
			}
		}
		switch f := found[m.ID]; {
		case f == nil:
			return fmt.Errorf("member %s of etcd (%s) does not answer: all must be there, as each stands still in its turn. Nothing was changed; name all members in --etcd-endpoints",
				cmp.Or(m.Name, fmt.Sprintf("%x", m.ID)), strings.Join(m.ClientURLs, ", "))
		case f.status.Leader == 0:
			return fmt.Errorf("member %s of etcd sees no leader: nothing was changed", m.Name)
		default:
			f.name = m.Name
		}
	}
	return nil
}

// inOrder sorts members by their names, with the leader last: each time it is away there is
// an election.
func inOrder(a, b *etcdMember) int {
	switch {
	case a.leads() != b.leads() && a.leads():
		return 1
	case a.leads() != b.leads():
		return -1
	}
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.id, b.id))
}

// meetMember asks who is at an endpoint, and how it is.
func (s *Store) meetMember(ctx context.Context, cfg Config, endpoint string, found map[uint64]*etcdMember) error {
	client, err := s.newClient(cfg, endpoint)
	if err != nil {
		return err
	}
	m := &etcdMember{endpoint: endpoint, client: client}
	err = s.try(ctx, func(ctx context.Context) (err error) {
		m.status, err = client.Status(ctx, endpoint)
		return err
	})
	if err == nil {
		m.id = m.status.Header.MemberId
	}
	if err != nil || found[m.id] != nil {
		return errors.Join(err, client.Close())
	}
	found[m.id] = m
	return nil
}

// defragmentMember has a member write its file anew, and waits until it has caught up with
// what the others did meanwhile.
func (s *Store) defragmentMember(ctx context.Context, m *etcdMember) (CompactedMember, error) {
	done := CompactedMember{Name: m.name, Endpoint: m.endpoint, Leader: m.leads(), Before: m.size()}
	began := time.Now()
	if _, err := m.client.Defragment(ctx, m.endpoint); err != nil {
		return done, fmt.Errorf("defragmenting: %w", err)
	}
	done.Took = time.Since(began)
	ctx, cancel := context.WithTimeout(ctx, memberTime)
	defer cancel()
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		err := s.try(ctx, func(ctx context.Context) (err error) {
			m.status, err = m.client.Status(ctx, m.endpoint)
			if err != nil {
				return err
			}
			_, err = m.client.Get(ctx, storeKey, clientv3.WithKeysOnly()) // which it answers once it has caught up
			return err
		})
		if err == nil {
			done.After = m.size()
			return done, nil
		}
		s.pause(ctx, wait)
		if ctx.Err() != nil {
			return done, fmt.Errorf("it was defragmented and has not answered since: %w", err)
		}
	}
}

// endAlarmIfRoom ends etcd's alarm that it is full, if it is not any more.
func (s *Store) endAlarmIfRoom(ctx context.Context, out *Compacted) error {
	z, _, err := s.measure(ctx)
	if err != nil || !z.Alarm || z.part() >= refuseAt {
		return err
	}
	if err := s.endAlarm(ctx); err != nil {
		return err
	}
	out.AlarmEnded = true
	return nil
}
