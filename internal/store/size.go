package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

const (
	// defaultQuota is how large an embedded etcd's file may grow, in bytes: the most that
	// etcd recommends.
	defaultQuota = 8 << 30
	// warnAt and refuseAt are the parts of the quota at which the log warns, and at which
	// nothing new is taken. etcd's own alarm, at all of it, makes everything read-only.
	warnAt, refuseAt = 0.75, 0.90
	// An embedded etcd's file is written anew (defragmented) when at least defragPart of
	// it, and defragLeast bytes, are free, and what is in use is at most defragMost bytes:
	// nothing is read or written meanwhile, about 10 ms for each MiB in use.
	defragPart  = 0.5
	defragLeast = 64 << 20
	defragMost  = 1 << 30
	// defragQuiet is how many writes there may be between two looks for the time to be a
	// quiet one, and defragWait how many looks quiet is waited for.
	defragQuiet = 10
	defragWait  = 4 * 60 * 6 // six hours
)

// Size says how large etcd's file is. With an external cluster it is the largest of its
// members'.
type Size struct {
	// Bytes is the file's size, which the quota is about, and InUse what of it is in use:
	// the rest is free for what comes, but stays with the file until it is defragmented.
	Bytes, InUse int64
	// Quota is the size at which etcd takes no more writes, 0 if that is not known.
	Quota int64
	// Alarm says that etcd takes no more writes until the alarm is ended.
	Alarm bool
}

// part returns how much of the quota is used.
func (z Size) part() float64 {
	if z.Quota <= 0 {
		return 0
	}
	return float64(z.Bytes) / float64(z.Quota)
}

// Level is how full the store is.
type Level int

// Levels, from the least.
const (
	LevelFine  Level = iota
	LevelWarn        // the log warns
	LevelFull        // nothing new is taken: what is there can be changed and deleted
	LevelAlarm       // etcd takes nothing but deletes
)

// Level returns how full the store is.
func (z Size) Level() Level {
	switch {
	case z.Alarm:
		return LevelAlarm
	case z.part() >= refuseAt:
		return LevelFull
	case z.part() >= warnAt:
		return LevelWarn
	}
	return LevelFine
}

// String words a size.
func (z Size) String() string {
	const mib = 1 << 20
	if z.Quota <= 0 {
		return fmt.Sprintf("%d MiB", z.Bytes/mib)
	}
	return fmt.Sprintf("%d MiB of %d MiB (%.0f %%), %d MiB of them in use", z.Bytes/mib, z.Quota/mib, 100*z.part(), z.InUse/mib)
}

// sizing is what is known of etcd's size, and of what was done about it.
type sizing struct {
	last    atomic.Pointer[Size]
	quota   int64 // of an embedded etcd
	defrags atomic.Int64
	// stalled is how long the last defragmentation held everything up, in nanoseconds.
	stalled atomic.Int64

	// mu is about said, the level that was logged last.
	mu   sync.Mutex
	said Level

	// Of the goroutine that tends the file.
	revision int64 // at the last look
	waited   int   // looks since a defragmentation would pay
	relieved time.Time
}

// Size returns how large etcd's file was at the last look; ok is false if there was none
// yet.
func (s *Store) Size() (z Size, ok bool) {
	if last := s.sizing.last.Load(); last != nil {
		return *last, true
	}
	return Size{}, false
}

// Defragmentations returns how often this process has defragmented its etcd, and how long
// the last time held everything up.
func (s *Store) Defragmentations() (n int64, last time.Duration) {
	return s.sizing.defrags.Load(), time.Duration(s.sizing.stalled.Load())
}

// room refuses what is new when the store is nearly full, so that etcd does not come to
// the point where nothing can be changed any more.
func (s *Store) room() error {
	z, ok := s.Size()
	if !ok || z.Level() < LevelFull {
		return nil
	}
	return mesh.Errorf(mesh.ErrLimitExceeded, "the store is nearly full (%.0f %% of what etcd takes): nothing new can be made until something is deleted; what is there can be changed and deleted", 100*z.part())
}

// watchSize looks at etcd's size until the store is closed: each server refuses by itself
// what there is no room for.
func (s *Store) watchSize() {
	s.repeat(s.ctx, s.times.look, "the size of etcd cannot be told", func(ctx context.Context) error {
		z, _, err := s.measure(ctx)
		if err == nil {
			s.note(z)
		}
		return err
	})
}

// note takes in a size, and logs that another level was reached.
func (s *Store) note(z Size) {
	s.sizing.mu.Lock()
	defer s.sizing.mu.Unlock()
	s.sizing.last.Store(&z)
	s.saySize(z)
}

// tendFile does what keeps the file of an embedded etcd from growing.
func (s *Store) tendFile(ctx context.Context) error {
	z, revision, err := s.measure(ctx)
	if err != nil {
		return err
	}
	if s.writable() != nil {
		return nil // what helps writes
	}
	s.reserve()
	written := revision - s.sizing.revision
	s.sizing.revision = revision
	if z.Level() >= LevelFull || z.Level() == LevelWarn && time.Since(s.sizing.relieved) >= s.times.relieve {
		s.sizing.relieved = time.Now()
		return s.relieve(ctx, revision, z)
	}
	if !s.pays(z) {
		s.sizing.waited = 0
		return nil
	}
	if s.sizing.waited++; written > defragQuiet && s.sizing.waited < defragWait {
		return nil
	}
	return s.defragment(ctx)
}

// pays reports whether a defragmentation frees much for a short stall.
func (s *Store) pays(z Size) bool {
	free := z.Bytes - z.InUse
	return !s.keepFile && free >= defragLeast && float64(free) >= defragPart*float64(z.Bytes) && z.InUse <= defragMost
}

// relieve compacts and defragments an embedded etcd that is filling up, whatever the time
// is, and ends its alarm once there is room again.
func (s *Store) relieve(ctx context.Context, revision int64, z Size) error {
	// History is for watches that fell behind: they list again.
	err := s.try(ctx, func(ctx context.Context) error {
		return compact(ctx, s.client, revision, clientv3.WithCompactPhysical())
	})
	if err != nil {
		return err
	}
	if z, _, err = s.measure(ctx); err != nil {
		return err
	}
	// A tenth must be free, else each look would stall everything for nothing.
	if free := z.Bytes - z.InUse; float64(free) >= 0.1*float64(z.Bytes) && !s.keepFile {
		if err := s.defragment(ctx); err != nil {
			return err
		}
		if z, _, err = s.measure(ctx); err != nil {
			return err
		}
	}
	if z.Alarm && z.part() < refuseAt {
		if err := s.endAlarm(ctx); err != nil {
			return err
		}
		z.Alarm = false
		s.log.Info("etcd's alarm was ended: it takes writes again", "size", z.String())
	}
	s.note(z)
	return nil
}

// saySize logs that another level was reached. sizing.mu is held.
func (s *Store) saySize(z Size) {
	l := z.Level()
	if l == s.sizing.said {
		return
	}
	before := s.sizing.said
	s.sizing.said = l
	switch {
	case l == LevelAlarm:
		s.log.Error("etcd is full and takes nothing but deletes: "+s.remedy(), "size", z.String())
	case l == LevelFull:
		s.log.Error("the store is nearly full, nothing new is taken: "+s.remedy(), "size", z.String())
	case l == LevelWarn && before == LevelFine:
		s.log.Warn("the store is filling up", "size", z.String(), "refused from", fmt.Sprintf("%.0f %%", 100*refuseAt))
	default:
		s.log.Info("the store has room again", "size", z.String())
	}
}

// remedy says what to do about a full store.
func (s *Store) remedy() string {
	if s.etcd != nil {
		return "delete what is not needed, or raise --store-quota; the rest is done by itself"
	}
	return "delete what is not needed, then run fairlead compact, or raise etcd's quota (docs/guide/backup.md)"
}

// measure asks etcd how large it is.
func (s *Store) measure(ctx context.Context) (z Size, revision int64, err error) {
	err = s.try(ctx, func(ctx context.Context) error {
		if s.etcd != nil {
			b := s.etcd.Server.Backend()
			z.Bytes, z.InUse, z.Quota = b.Size(), b.SizeInUse(), s.sizing.quota
			revision = s.etcd.Server.KV().Rev()
		} else if err := s.measureMembers(ctx, &z, &revision); err != nil {
			return err
		}
		alarms, err := s.client.AlarmList(ctx)
		if err != nil {
			return err
		}
		for _, a := range alarms.Alarms {
			z.Alarm = z.Alarm || a.Alarm == pb.AlarmType_NOSPACE
		}
		return nil
	})
	return z, revision, err
}

// measureMembers finds the largest of the members that answer.
func (s *Store) measureMembers(ctx context.Context, z *Size, revision *int64) error {
	var last error
	for _, endpoint := range s.client.Endpoints() {
		st, err := s.client.Status(ctx, endpoint)
		if err != nil {
			last = err
			continue
		}
		if st.DbSize > z.Bytes {
			z.Bytes, z.InUse, z.Quota = st.DbSize, st.DbSizeInUse, st.DbSizeQuota
		}
		*revision = max(*revision, st.Header.Revision)
	}
	if z.Bytes == 0 {
		return last
	}
	return nil
}

// defragment writes an embedded etcd's file anew. Nothing is read or written meanwhile.
func (s *Store) defragment(ctx context.Context) error {
	began := time.Now()
	err := s.try(ctx, func(context.Context) error { return s.etcd.Server.Defragment() })
	took := time.Since(began)
	if err != nil {
		return fmt.Errorf("defragmenting: %w", err)
	}
	s.sizing.waited = 0
	s.sizing.defrags.Add(1)
	s.sizing.stalled.Store(int64(took))
	z, _, err := s.measure(ctx)
	if err != nil {
		return err
	}
	s.note(z)
	s.log.Info("etcd's file was written anew, to be smaller", "size", z.String(), "took", took)
	return nil
}

// endAlarm ends the alarm that etcd is full. Others it may have stay.
func (s *Store) endAlarm(ctx context.Context) error {
	err := s.try(ctx, func(ctx context.Context) error {
		list, err := s.client.AlarmList(ctx)
		if err != nil {
			return err
		}
		for _, a := range list.Alarms {
			if a.Alarm != pb.AlarmType_NOSPACE {
				continue
			}
			if _, err := s.client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(a)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("ending etcd's alarm: %w", err)
	}
	return nil
}
