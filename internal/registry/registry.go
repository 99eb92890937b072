package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Config says what a registry is made of. Store is required.
type Config struct {
	Store *store.Store
	// Limits bound how much an account may register; what is 0 has its default.
	Limits Limits
	// Imports reports whether what was imported for an account is shown; nil: that of all
	// accounts is. It must always say the same.
	Imports func(account string) bool
	// ExpireEvery is how often is looked for instances whose leases are over; 0 for 1 s.
	ExpireEvery time.Duration
	// ExpireAtOnce is how many instances are taken out in one such look; 0 for 10.
	ExpireAtOnce int
	// Leads reports whether it is this server that takes out instances whose leases are
	// over; nil: it is.
	Leads func() bool
	// Now is the clock of dates and of the server's own time; nil for time.Now.
	Now func() time.Time
	// Metrics registers the registry's figures; nil for none.
	Metrics prometheus.Registerer
	// Logger is told of what cannot be read and of what expires; nil for none.
	Logger *slog.Logger
}

// Limits bound how much an account may register in one region. They are looked up before
// a write, in memory: replicas that register at once may go over them by what is under way.
type Limits struct {
	Namespaces           int // 500
	ServicesPerNamespace int // 5,000
	InstancesPerService  int // 1,000, as Cloud Map has it: what one DiscoverInstances can tell
	Instances            int // 100,000
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		value *int
		byDef int
	}{{&l.Namespaces, 500}, {&l.ServicesPerNamespace, 5_000}, {&l.InstancesPerService, 1_000}, {&l.Instances, 100_000}} {
		if *d.value == 0 {
			*d.value = d.byDef
		}
	}
	return l
}

// settleTime is how long an answer waits for this replica's own memory to have what was
// written.
const settleTime = 2 * time.Second

// self is the caller on whose behalf records are read and written, once the real caller
// has been found to be allowed to.
var self = store.System("registry")

// Registry knows the instances of all services. Its methods may be called from several
// goroutines.
type Registry struct {
	store   *store.Store
	limits  Limits
	every   time.Duration
	atOnce  int
	leads   func() bool
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics
	table   *table

	operationLease operationLease
	looks          atomic.Int64 // for instances whose leases are over

	mu          sync.Mutex
	subscribers map[int]func(mesh.InstancesKey)
	next        int

	stop context.CancelFunc
	done chan struct{} // closed when following has ended
}

// Open starts to follow the store's records and returns once all of them have been read.
// Close must follow. ctx is not used once Open has returned.
func Open(ctx context.Context, cfg Config) (*Registry, error) {
	r := &Registry{
		store: cfg.Store, limits: cfg.Limits.withDefaults(), every: cfg.ExpireEvery, atOnce: cfg.ExpireAtOnce,
		leads: cfg.Leads, now: cfg.Now, log: cfg.Logger, table: newTable(cfg.Imports),
		subscribers: map[int]func(mesh.InstancesKey){}, done: make(chan struct{}),
	}
	if r.every == 0 {
		r.every = time.Second
	}
	if r.atOnce == 0 {
		r.atOnce = 10
	}
	if r.leads == nil {
		r.leads = func() bool { return true }
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.metrics = newMetrics(cfg.Metrics, r.table)
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	go func() {
		defer close(r.done)
		err := r.store.FollowRecords(following, self, followed, r.apply)
		if following.Err() == nil && !errors.Is(err, store.ErrClosed) {
			r.log.Error("following the registry's records has ended", "error", err)
		}
	}()
	if err := r.await(ctx, func(t *table) bool { return t.loaded }); err != nil {
		return nil, errors.Join(fmt.Errorf("loading the registry: %w", err), r.Close())
	}
	return r, nil
}

// Close stops following the store. What was read last stays.
func (r *Registry) Close() error {
	r.stop()
	<-r.done
	return nil
}

// Instances returns the instances of a service that are not expired, in the order of
// their ids, and whether the namespace and service exist. What is returned is not to be
// changed.
func (r *Registry) Instances(k mesh.InstancesKey) ([]mesh.Instance, bool) {
	r.table.mu.RLock()
	defer r.table.mu.RUnlock()
	return r.table.area(place{k.Account, k.Region}).discovered(serviceName{k.Namespace, k.Service})
}

// Subscribe calls notify (which returns at once) with each key whose instances changed,
// until the returned function is called. notify may be called for keys whose instances are
// the same as before, and must not itself subscribe or unsubscribe.
func (r *Registry) Subscribe(notify func(mesh.InstancesKey)) (stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.next
	r.next++
	r.subscribers[n] = notify
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.subscribers, n)
	}
}

// apply takes in what the store tells.
func (r *Registry) apply(b store.RecordBatch) {
	keys := r.table.apply(b, func(rec store.Record, err error) {
		r.log.Error("record of the registry cannot be used", "record", rec.Key, "error", err)
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, notify := range r.subscribers {
		for _, k := range keys {
			notify(k)
		}
	}
}

// await waits until the table is as wanted, or ctx ends.
func (r *Registry) await(ctx context.Context, wanted func(*table) bool) error {
	for {
		r.table.mu.RLock()
		ok, changed := wanted(r.table), r.table.changed
		r.table.mu.RUnlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-r.done:
			return errors.New("waiting for the registry's records: following has ended")
		case <-ctx.Done():
			return fmt.Errorf("waiting for the registry's records: %w", ctx.Err())
		}
	}
}

// change reads, decides and writes, again while others change the same. decide returns
// what is to be written, nothing if it is so already.
func (r *Registry) change(ctx context.Context, decide func() (store.RecordChange, error)) error {
	for range maxAttempts {
		c, err := decide()
		if err != nil || len(c.Puts)+len(c.Deletes) == 0 {
			return err
		}
		revision, err := r.store.ApplyRecords(ctx, self, c)
		switch {
		case err == nil:
			r.settle(ctx, revision)
			return nil
		case store.LeaseGone(err):
			r.operationLease.forget()
		case !errors.Is(err, store.ErrRevision):
			return err
		}
	}
	return mesh.Errorf(mesh.ErrServiceUnavailable, "it is being changed by too many callers at once, try again")
}

// maxAttempts bounds how often a change is tried.
const maxAttempts = 64

// settle waits until this replica's memory has what was written, so that who wrote reads
// it. What was written holds all the same if that takes too long.
func (r *Registry) settle(ctx context.Context, revision int64) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	_ = r.await(ctx, func(t *table) bool { return t.revision >= revision })
}
