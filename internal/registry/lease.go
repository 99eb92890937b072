package registry

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

// beat returns the record that is there as long as a new lease lasts.
func (r *registration) beat(ctx context.Context, seconds int64) (store.Record, error) {
	id, err := r.store.GrantLease(ctx, self, seconds)
	if err != nil {
		return store.Record{}, err
	}
	rec, err := put(r.keys.beat, store.AnyRevision, beatValue{Format: format, Lease: id})
	rec.Lease = id
	return rec, err
}

// renew begins the lease of an instance anew that is registered again as it is. If the
// lease is still there nothing is written.
func (r *registration) renew(ctx context.Context, found map[string]store.Record) (none store.RecordChange, err error) {
	seconds := lease(r.in.Attributes)
	if seconds == 0 {
		return none, nil
	}
	if rec, ok := found[r.keys.beat]; ok {
		v, err := read[beatValue](rec)
		if err != nil {
			return none, err
		}
		renewed, err := r.store.RenewLease(ctx, self, v.Lease)
		if renewed || err != nil {
			return none, err
		}
	}
	beat, err := r.beat(ctx, seconds)
	return store.RecordChange{
		Puts:  []store.Record{beat},
		Holds: []store.Record{{Key: r.keys.instance, Revision: found[r.keys.instance].Revision}},
	}, err
}

// uptime says since when this server has been in contact with the store without a break:
// since when instances could have renewed their leases here.
type uptime struct {
	gap         time.Duration // the longest between two contacts that is no break
	since, last time.Time     // zero: none yet
}

// contact notes a contact and returns since when there was no break.
func (u *uptime) contact(at time.Time) time.Time {
	if u.last.IsZero() || at.Sub(u.last) > u.gap {
		u.since = at
	}
	u.last = at
	return u.since
}

// Run takes out instances whose leases are over, while Config.Leads says that this server
// is to, until ctx ends. It must run while the API is served: what counts is the time in
// which leases could be renewed, and that goes on while another server leads.
func (r *Registry) Run(ctx context.Context) error {
	ticks := time.NewTicker(r.every)
	defer ticks.Stop()
	up := uptime{gap: max(5*r.every, time.Second)}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks.C:
		}
		within, cancel := context.WithTimeout(ctx, up.gap)
		err := r.store.Healthy(within)
		cancel()
		if errors.Is(err, store.ErrClosed) {
			return nil
		}
		if err != nil {
			continue // the next contact is behind a gap, if this goes on
		}
		at := r.now()
		if since := up.contact(at); r.leads() {
			r.expire(ctx, at, since)
		}
		r.looks.Add(1)
	}
}

// silent is an instance without a lease that had one.
type silent struct {
	place
	service  string
	instance *instance
}

// expire takes out instances whose leases are over, a bounded number at once. since is
// when this server began to be there for them: one whose whole lease does not lie behind
// that is left alone.
func (r *Registry) expire(ctx context.Context, now, since time.Time) {
	for _, s := range r.silent(now.Sub(since)) {
		change, err := s.without(s.service, s.instance.ID, s.instance.revision)
		if err == nil {
			// The lease may have been begun anew, here or by another server.
			change.Holds = []store.Record{{Key: s.own(beatKind, s.service, s.instance.ID)}}
			_, err = r.store.ApplyRecords(ctx, self, change)
		}
		switch {
		case err == nil:
			r.metrics.expired.Inc()
			r.log.InfoContext(ctx, "instance taken out, its lease is over", "account", s.account, "region", s.region,
				"service", s.service, "instance", s.instance.ID, "leaseSeconds", s.instance.lease)
		case errors.Is(err, store.ErrRevision):
		default:
			r.log.WarnContext(ctx, "taking out an instance whose lease is over", "service", s.service, "instance", s.instance.ID, "error", err)
			return
		}
	}
}

// silent returns the first instances whose leases are over and no longer than a time.
// All servers look in the same order.
func (r *Registry) silent(up time.Duration) []silent {
	r.table.mu.RLock()
	defer r.table.mu.RUnlock()
	var all []silent
	for p, a := range r.table.areas {
		for service, of := range a.instances {
			for id, i := range of {
				if i.lease > 0 && !a.beats[[2]string{service, id}] && up >= time.Duration(i.lease)*time.Second {
					all = append(all, silent{p, service, i})
				}
			}
		}
	}
	key := func(s silent) string { return s.own(instanceKind, s.service, s.instance.ID) }
	slices.SortFunc(all, func(x, y silent) int { return strings.Compare(key(x), key(y)) })
	return all[:min(len(all), r.atOnce)]
}
