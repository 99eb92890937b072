package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// times are what a store waits for; zero values stand for the defaults.
type times struct {
	// memberLife is how long a server that was killed counts as one that uses the store.
	memberLife time.Duration
	// raiseAfter is how long no server may have been there that does not read a new
	// format before documents are written in it: longer than the restart of all of them
	// takes, and long enough to find out that the old version was better.
	raiseAfter time.Duration
	// look is how often the size of etcd is looked at.
	look time.Duration
	// relieve is how often history is dropped while etcd is filling up.
	relieve time.Duration
	// migrateRate is how many documents a second are brought to a new format.
	migrateRate float64
}

// memberLife is the default of times.memberLife.
const memberLife = 20 * time.Second

func (t times) withDefaults() times {
	return times{
		memberLife: cmp.Or(t.memberLife, memberLife), raiseAfter: cmp.Or(t.raiseAfter, time.Hour),
		look: cmp.Or(t.look, 15*time.Second), relieve: cmp.Or(t.relieve, 10*time.Minute), migrateRate: cmp.Or(t.migrateRate, 200),
	}
}

// membership says that this process uses the store, in a key that goes with a lease. With
// it servers of different versions know of each other, and a restore knows that a server
// runs.
type membership struct {
	id string

	mu    sync.Mutex
	lease int64 // 0 while there is none
}

// memberDocument is what is stored of a member.
type memberDocument struct {
	Format int `json:"format"`
	// Reads is the newest format of documents that the process reads and writes.
	Reads int       `json:"reads"`
	Host  string    `json:"host"`
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
}

const memberFormat = 1

// startMember makes this process a member, and keeps it one until the store is closed.
func (s *Store) startMember(ctx context.Context) error {
	s.member.id = uuid.NewString()
	if err := s.mayServe(ctx); err != nil {
		return err
	}
	err := s.join(ctx)
	switch {
	case errors.Is(err, errFull):
		// Only a server that runs can be told what to delete.
		s.log.Warn("etcd is full: the server starts all the same, so that something can be deleted")
	case err != nil && s.writable() != nil:
		// Proxies can be served, and it says what is the matter.
	case err != nil:
		return err
	}
	s.background.Go(s.tend)
	s.background.Go(s.watchSize)
	if s.formats.newest > firstFormat {
		s.background.Go(s.migrate)
	}
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
	return fmt.Errorf("a restore of %s, begun at %s, was not finished: run the same command again, with --replace", wording(r.Account), r.At.Format(time.RFC3339))
}

// join makes this process a member.
func (s *Store) join(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	value, err := marshal(memberDocument{Format: memberFormat, Reads: s.formats.newest, Host: host, PID: os.Getpid(), Since: s.timestamp()})
	if err != nil {
		return err
	}
	lease, err := s.GrantLease(ctx, System("store"), int64(max(s.times.memberLife/time.Second, 1)))
	if err != nil {
		return err
	}
	put := putKey(memberPrefix+s.member.id, value)
	put.GetRequestPut().Lease = lease
	for range maxAttempts {
		if err := s.current(); err != nil {
			return err
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
		return err
	}
	s.member.mu.Lock()
	defer s.member.mu.Unlock()
	s.member.lease = lease
	return nil
}

// tend renews the membership, and raises the format of documents when nobody is there who
// could not read it.
func (s *Store) tend() {
	every := time.NewTicker(s.times.memberLife / 4)
	defer every.Stop()
	older := time.Now() // when a member was last seen that does not read the newest format
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-every.C:
		}
		if err := s.renew(s.ctx); err != nil && s.ctx.Err() == nil {
			s.log.Warn("this server could not say that it is there, it tries again", "error", err)
			continue
		}
		if s.formats.newest == firstFormat || s.level.Load().writes >= s.formats.newest {
			continue
		}
		if err := s.raise(s.ctx, &older); err != nil && s.ctx.Err() == nil {
			s.log.Warn("the format of documents could not be raised, it is tried again", "error", err)
		}
	}
}

func (s *Store) renew(ctx context.Context) error {
	s.member.mu.Lock()
	lease := s.member.lease
	s.member.mu.Unlock()
	if lease != 0 {
		there, err := s.RenewLease(ctx, System("store"), lease)
		if there || err != nil {
			return err
		}
	}
	return s.join(ctx)
}

// raise notes that documents are written in the newest format, once all members have been
// able to read it for some time.
func (s *Store) raise(ctx context.Context, older *time.Time) error {
	l := s.level.Load()
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
	if time.Since(*older) < s.times.raiseAfter {
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
	s.member.mu.Lock()
	lease := s.member.lease
	s.member.lease = 0
	s.member.mu.Unlock()
	if lease == 0 || s.running() != nil {
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
