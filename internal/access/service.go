package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Config says what a Service serves.
type Config struct {
	// Store holds the accounts, users and keys. Required.
	Store *store.Store
	// Regions are the regions that a credential scope may name. At least one.
	Regions []string
	// Service is the service that a credential scope must name; "" for "appmesh".
	Service string
	// Now is the clock; nil for time.Now.
	Now func() time.Time
	// Logger is told of records that cannot be read; nil for none.
	Logger *slog.Logger
}

// Service knows the accounts, users and access keys of the store. Its methods may
// be called from several goroutines.
type Service struct {
	store   *store.Store
	regions []string
	service string
	now     func() time.Time
	log     *slog.Logger

	table atomic.Pointer[table]
	stop  context.CancelFunc
	done  chan struct{}
}

// newService returns a Service that knows nobody.
func newService(cfg Config) (*Service, error) {
	if len(cfg.Regions) == 0 || slices.Contains(cfg.Regions, "") {
		return nil, errors.New("opening access: needs the names of the regions that are served")
	}
	a := &Service{
		store:   cfg.Store,
		regions: slices.Clone(cfg.Regions),
		service: cfg.Service,
		now:     cfg.Now,
		log:     cfg.Logger,
		done:    make(chan struct{}),
	}
	if a.service == "" {
		a.service = "appmesh"
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.table.Store(newTable())
	return a, nil
}

// Open starts to follow the store's records and returns once all of them have been
// read. It ends with an error only if ctx ends before; afterwards ctx is not used.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	a, err := newService(cfg)
	if err != nil {
		return nil, err
	}
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.stop = stop
	go func() {
		defer close(a.done)
		err := a.store.FollowRecords(following, self, recordPrefix, a.apply)
		if following.Err() == nil && !errors.Is(err, store.ErrClosed) {
			a.log.Error("following access records has ended", "error", err)
		}
	}()
	if err := a.await(ctx, func(t *table) bool { return t.loaded }); err != nil {
		return nil, errors.Join(fmt.Errorf("loading access keys: %w", err), a.Close())
	}
	return a, nil
}

// Close stops following the store and waits for it. What was read last stays.
func (a *Service) Close() error {
	a.stop()
	<-a.done
	return nil
}

// self is the caller on whose behalf records are read and written, once the real
// caller has been found to be allowed to.
var self = store.System("access")

// Valid reports whether the access key exists and is enabled, and its user and
// account exist. It is one look into a table, cheap enough to ask for every stream
// whenever Changed says that something has changed.
func (a *Service) Valid(keyID string) bool { return a.table.Load().validKey(keyID) != nil }

// Changed returns a channel that is closed at the next change of any account, user,
// policy or key. Call it before looking, so that no change is missed.
func (a *Service) Changed() <-chan struct{} { return a.table.Load().changed }

// await waits until the table is as wanted, or ctx ends.
func (a *Service) await(ctx context.Context, wanted func(*table) bool) error {
	for {
		t := a.table.Load()
		if wanted(t) {
			return nil
		}
		select {
		case <-t.changed:
		case <-a.done:
			return errors.New("waiting for access records: following has ended")
		case <-ctx.Done():
			return fmt.Errorf("waiting for access records: %w", ctx.Err())
		}
	}
}

// apply turns a batch of records into the next table.
func (a *Service) apply(b store.RecordBatch) {
	old := a.table.Load()
	next := old.next(b.Reset)
	for _, key := range b.Deletes {
		next.remove(key)
	}
	for _, rec := range b.Puts {
		next.revision = max(next.revision, rec.Revision)
		if rec.Key == bootstrapRecord {
			continue
		}
		if err := a.put(next, rec); err != nil {
			// What cannot be read counts as absent: its caller is refused.
			next.remove(rec.Key)
			a.log.Error("access record cannot be used", "record", rec.Key, "error", err)
		}
	}
	a.table.Store(next)
	close(old.changed)
}

// put reads one record into a table that is not yet in use.
func (a *Service) put(t *table, rec store.Record) error {
	account, kind, name, ok := splitKey(rec.Key)
	if !ok {
		return errors.New("reading record: its key has an unknown form")
	}
	switch kind {
	case accountRecord:
		var v accountValue
		if err := decodeRecord(rec.Value, &v); err != nil {
			return err
		}
		t.accounts[account] = true
	case userRecord:
		var v userValue
		if err := decodeRecord(rec.Value, &v); err != nil {
			return err
		}
		t.users[userName{account, name}] = a.readUser(rec.Key, v)
	default:
		return a.putKey(t, rec, account, name)
	}
	return nil
}

func (a *Service) readUser(key string, v userValue) *user {
	u := &user{uid: v.UID}
	for name, document := range v.Policies {
		p, err := ParsePolicy(document)
		if err != nil {
			a.log.Error("policy cannot be read, its user is refused everything", "record", key, "policy", name, "error", err)
			return &user{uid: v.UID}
		}
		u.policies = append(u.policies, p)
	}
	return u
}

func (a *Service) putKey(t *table, rec store.Record, account, id string) error {
	var v keyValue
	if err := decodeRecord(rec.Value, &v); err != nil {
		return err
	}
	secret, err := a.store.Unseal(v.Sealed)
	if err != nil {
		return fmt.Errorf("unsealing secret: %w", err)
	}
	if other := t.keys[id]; other != nil && other.account != account {
		return errors.New("reading record: another account has an access key of the same id")
	}
	t.keys[id] = &accessKey{
		id: id, account: account, user: v.User, userUID: v.UserUID,
		secret: string(secret), disabled: v.Disabled,
	}
	return nil
}
