package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// times are what a store waits for; zero values stand for the defaults.
type times struct {
	// look is how often the size of etcd is looked at.
	look time.Duration
	// relieve is how often history is dropped while etcd is filling up.
	relieve time.Duration
	// migrateRate is how many documents a second are brought to a new format.
	migrateRate float64
}

func (t times) withDefaults() times {
	return times{
		look: cmp.Or(t.look, 15*time.Second), relieve: cmp.Or(t.relieve, 10*time.Minute), migrateRate: cmp.Or(t.migrateRate, 200),
	}
}

// memberLife is the default of Config.MemberLease.
const memberLife = 10 * time.Second

// renewals is how often a membership is renewed in the time that it lasts, and probe how
// often at least it is tried once that is over.
const (
	renewals = 3
	probe    = time.Second
)

// Member is a server over the store that others may ask.
type Member struct {
	// ID is new with each start of a server.
	ID string
	// Address is where the others ask it, "" if they cannot, and Version its program's.
	Address, Version string
	// Since is when it was started.
	Since time.Time
}

// Hold is the lease that a member's record has, and until when it lasts for certain, by
// this host's clock. Lease is 0 if there is none.
type Hold struct {
	Lease int64
	Until time.Time
}

// membership says that this process uses the store, in a record that goes with a lease. With
// it servers of different versions know of each other, a restore knows that a server runs,
// and replicas find each other.
type membership struct {
	id   string
	life time.Duration
	// wake has the record renewed at once.
	wake chan struct{}
	// over is when the hold is, in nanoseconds since began; 0: nothing depends on it.
	over  atomic.Int64
	began time.Time

	mu  sync.Mutex
	doc memberDocument
	// stale says that the record differs from doc.
	stale bool
	hold  Hold
	// epoch counts the holds that were lost. What was read in an earlier one may be of
	// another store: one may have been restored meanwhile.
	epoch int
	// failed is why the last renewal did not succeed.
	failed error
	// tried is closed when a renewal has ended, well or not.
	tried chan struct{}
}

// memberDocument is what is stored of a member.
type memberDocument struct {
	Format int `json:"format"`
	// Reads is the newest format of documents that the process reads and writes.
	Reads int       `json:"reads"`
	Host  string    `json:"host"`
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
	// Serves says that it is a server, and not a command; the rest is what the others are
	// told of it.
	Serves  bool   `json:"serves,omitempty"`
	Address string `json:"address,omitempty"`
	Version string `json:"version,omitempty"`
}

const memberFormat = 1

// startMember makes this process a member, and keeps it one until the store is closed.
func (s *Store) startMember(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	m := &s.member
	m.id, m.began, m.wake, m.tried = uuid.NewString(), time.Now(), make(chan struct{}, 1), make(chan struct{})
	m.doc = memberDocument{Host: host, PID: os.Getpid(), Since: s.timestamp()}
	if err := s.mayServe(ctx); err != nil {
		return err
	}
	// On a full disk proxies can be served all the same, and the server says what is the matter.
	if err := s.join(ctx); err != nil && s.writable() == nil {
		return err
	}
	s.background.Go(s.tend)
	s.background.Go(s.watchSize)
	return nil
}

// mayServe refuses a store that is half restored, or newer than this build.
func (s *Store) mayServe(ctx context.Context) error {
	before, err := s.restoring(ctx)
	if err != nil {
		return err
	}
	if before != nil {
		return errUnfinished(before)
	}
	return s.current()
}

func errUnfinished(r *restoringDocument) error {
	return fmt.Errorf("a restore of %s, begun at %s, %w: run the same command again, with --replace", wording(r.Account), r.At.Format(time.RFC3339), errRestoring)
}

// errRestoring says that the store is half of a backup.
var errRestoring = errors.New("was not finished")

// join makes this process a member, under a new lease.
func (s *Store) join(ctx context.Context) error {
	m := &s.member
	before := time.Now() // the lease begins later, never earlier
	lease, err := s.GrantLease(ctx, System("store"), int64(m.life/time.Second))
	if err == nil {
		err = s.putMember(ctx, lease)
	}
	if errors.Is(err, errFull) {
		// Only a server that runs can be told what to delete.
		if err := s.mayServe(ctx); err != nil {
			return err
		}
		s.log.WarnContext(ctx, "etcd is full: this server goes on without saying that it is there, so that something can be deleted")
		lease, err = 0, nil
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lapsed() {
		m.epoch++
	}
	s.held(Hold{Lease: lease, Until: before.Add(m.life)})
	return nil
}

// putMember writes this member's record.
func (s *Store) putMember(ctx context.Context, lease int64) error {
	m := &s.member
	m.mu.Lock()
	doc := m.doc
	m.stale = false
	m.mu.Unlock()
	doc.Format, doc.Reads = memberFormat, s.formats.newest
	value, err := marshal(doc)
	if err != nil {
		return err
	}
	put := putKey(memberPrefix+m.id, value)
	put.GetRequestPut().Lease = lease
	for range maxAttempts {
		if err = s.current(); err != nil {
			break
		}
		_, err = s.commit(ctx, []condition{
			absent(restoringKey, func(kv *mvccpb.KeyValue) error {
				doc := &restoringDocument{}
				_ = json.Unmarshal(kv.Value, doc) // only makes the message better
				return errUnfinished(doc)
			}),
			s.holdLevel(s.level.Load()),
		}, []*pb.RequestOp{put})
		if !errors.Is(err, errChanged) {
			break
		}
	}
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.stale = true
	}
	return err
}

// held takes note of a hold. The membership is locked.
func (s *Store) held(h Hold) {
	m := &s.member
	m.hold = h
	if s.etcd == nil { // nobody else can have an embedded store meanwhile
		m.over.Store(int64(h.Until.Sub(m.began)))
	}
}

// tend renews the membership until the store is closed.
func (s *Store) tend() {
	m := &s.member
	ctx := context.WithValue(s.ctx, tending{}, true)
	next := time.NewTimer(m.life / renewals)
	defer next.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-m.wake:
		case <-next.C:
		}
		err := s.renew(ctx)
		if err != nil && s.ctx.Err() == nil {
			s.log.Warn("this server could not say that it is there, it tries again", "error", err)
		}
		m.mu.Lock()
		m.failed = err
		close(m.tried)
		m.tried = make(chan struct{})
		wait := m.life / renewals
		if m.lapsed() {
			wait = min(wait, probe)
		}
		m.mu.Unlock()
		next.Reset(wait)
	}
}

func (s *Store) renew(ctx context.Context) error {
	m := &s.member
	ctx, cancel := context.WithTimeout(ctx, m.life/renewals)
	defer cancel()
	m.mu.Lock()
	lease, stale := m.hold.Lease, m.stale
	m.mu.Unlock()
	if lease == 0 {
		return s.join(ctx)
	}
	before := time.Now()
	there, err := s.RenewLease(ctx, System("store"), lease)
	if err != nil {
		return err
	}
	m.mu.Lock()
	if there {
		s.held(Hold{Lease: lease, Until: before.Add(m.life)})
	} else {
		s.held(Hold{Until: before})
	}
	m.mu.Unlock()
	switch {
	case !there:
		return s.join(ctx)
	case stale:
		return s.putMember(ctx, lease)
	}
	return nil
}

// lapsed reports whether it is not certain any more that this process is a member.
func (m *membership) lapsed() bool {
	over := m.over.Load()
	return over != 0 && int64(time.Since(m.began)) >= over
}

// tending marks the context of what a membership is renewed with.
type tending struct{}

// admit lets pass what asks etcd, or acts on what etcd said, as long as this process is a
// member for certain. Once it is not, somebody may be restoring the store; and if it could
// not be renewed, etcd is not there, so that nobody need wait to find that out.
func (s *Store) admit(ctx context.Context) error {
	m := &s.member
	for m.lapsed() && ctx.Value(tending{}) == nil {
		m.mu.Lock()
		failed, tried := m.failed, m.tried
		m.mu.Unlock()
		var refusal *mesh.Error
		switch {
		case errors.As(failed, &refusal):
			return refusal
		case errors.Is(failed, errRestoring):
			return mesh.Errorf(mesh.ErrServiceUnavailable, "the store is being restored, try again later")
		case failed != nil:
			return mesh.Errorf(mesh.ErrServiceUnavailable, "the store cannot be reached, try again")
		}
		// This process stood still: a renewal says more.
		select {
		case m.wake <- struct{}{}:
		default:
		}
		select {
		case <-tried:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ctx.Done():
			return ErrClosed
		}
	}
	return nil
}

// epoch returns how often this process has ceased to be a member.
func (s *Store) epoch() int {
	s.member.mu.Lock()
	defer s.member.mu.Unlock()
	return s.member.epoch
}

// raise notes that documents are written in the newest format, once all members have been
// able to read it for some time.
func (s *Store) raise(ctx context.Context, older *time.Time) error {
	l := s.level.Load()
	if l.writes >= s.formats.newest {
		return nil
	}
	revision, all, err := s.listAll(ctx, memberPrefix)
	if err != nil {
		return s.fault(ctx, err)
	}
	for _, kv := range all {
		var m memberDocument
		if err := json.Unmarshal(kv.Value, &m); err != nil || m.Reads < s.formats.newest {
			*older = time.Now()
			return nil
		}
	}
	if time.Since(*older) < s.formatWait {
		return nil
	}
	value, err := marshal(levelDocument{Format: levelFormat, Writes: s.formats.newest, At: s.timestamp()})
	if err != nil {
		return err
	}
	_, err = s.commit(ctx, []condition{s.holdLevel(l), notNewer(memberPrefix, revision)}, []*pb.RequestOp{putKey(formatKey, value)})
	switch {
	case errors.Is(err, errChanged): // somebody joined, or was faster
		return nil
	case err == nil:
		s.log.Info("documents are written in a new format from now on: older versions of Fairlead cannot serve this store any more", "format", s.formats.newest)
	}
	return err
}

// leave ends the membership at once. Without it, it ends with its lease.
func (s *Store) leave() {
	m := &s.member
	m.mu.Lock()
	lease := m.hold.Lease
	m.hold.Lease = 0
	m.mu.Unlock()
	if lease == 0 || s.running() != nil || m.lapsed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	if _, err := s.leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: lease}); err != nil {
		s.log.Info("this server could not say that it leaves, its lease will", "error", err)
	}
}

// leaveTime bounds how long a store that is closed waits to say so.
const leaveTime = time.Second

// errFull says that etcd takes nothing but deletes.
var errFull = &mesh.Error{Code: mesh.ErrServiceUnavailable, Message: "the store is full, reading and deleting go on"}
