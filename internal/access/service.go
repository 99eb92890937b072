package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/access/federation"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Config says what a Service serves.
type Config struct {
	// Store holds the accounts, users, roles and keys. Required.
	Store *store.Store
	// Regions are the regions that a credential scope may name. At least one.
	Regions []string
	// Service is the service that a credential scope must name; "" for "appmesh".
	Service string
	// IdentityServer is the name that requests signed for AWS must be bound to; "": none
	// is accepted. See federation.Config, as for LoopbackIdentity.
	IdentityServer   string
	LoopbackIdentity bool
	// Now is the clock; nil for time.Now.
	Now func() time.Time
	// Logger is told of records that cannot be read; nil for none.
	Logger *slog.Logger
}

// Service knows the accounts, users, roles and access keys of the store. Its methods
// may be called from several goroutines.
type Service struct {
	store   *store.Store
	regions []string
	service string
	now     func() time.Time
	log     *slog.Logger

	table    atomic.Pointer[table]
	sessions *sessionCache
	verifier *federation.Verifier

	stop context.CancelFunc
	done chan struct{} // closed when following has ended
	rest sync.WaitGroup
}

// newService returns a Service that knows nobody.
func newService(cfg Config) (*Service, error) {
	if len(cfg.Regions) == 0 || slices.Contains(cfg.Regions, "") {
		return nil, errors.New("opening access: needs the names of the regions that are served")
	}
	a := &Service{
		store:    cfg.Store,
		regions:  slices.Clone(cfg.Regions),
		service:  cfg.Service,
		now:      cfg.Now,
		log:      cfg.Logger,
		sessions: newSessionCache(maxSessions),
		done:     make(chan struct{}),
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
	a.verifier = federation.New(federation.Config{Server: cfg.IdentityServer, AllowLoopback: cfg.LoopbackIdentity, Now: a.now, Logger: a.log})
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
	a.rest.Go(func() { a.keepUses(following) })
	if err := a.await(ctx, func(t *table) bool { return t.loaded }); err != nil {
		return nil, errors.Join(fmt.Errorf("loading access keys: %w", err), a.Close())
	}
	return a, nil
}

// Close stops following the store, writes down when the keys were last used, and
// waits for both. What was read last stays.
func (a *Service) Close() error {
	a.stop()
	<-a.done
	a.rest.Wait()
	return nil
}

// self is the caller on whose behalf records are read and written, once the real
// caller has been found to be allowed to.
var self = store.System("access")

// Valid reports whether what the caller signed with still counts: its key exists and
// is enabled, its user or role and its account are there and not suspended, and its
// session has neither expired nor been revoked. It is a few looks into a table, cheap
// enough to ask for every stream whenever Changed says that something has changed.
func (a *Service) Valid(c Caller) bool {
	return c.identity != nil && a.table.Load().standing(c.identity, a.now()).state == good
}

// Changed returns a channel that is closed at the next change of any account, user,
// role, policy or key. Call it before looking, so that no change is missed. The end
// of a session's time is no change: see Caller.Expires.
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
		next.table.revision = max(next.table.revision, rec.Revision)
		if err := a.put(next, old, rec); err != nil {
			// What cannot be read counts as absent: its caller is refused.
			next.remove(rec.Key)
			a.log.Error("access record cannot be used", "record", rec.Key, "error", err)
		}
	}
	a.table.Store(next.done())
	close(old.changed)
}

// put reads one record into a draft of the table that follows old.
func (a *Service) put(d *draft, old *table, rec store.Record) error {
	if rec.Key == bootstrapRecord {
		var v bootstrapValue
		err := decodeRecord(rec.Value, &v)
		d.table.bootstrap, d.table.management = rec, v.Account
		return err
	}
	acc, kind, name, ok := splitKey(rec.Key)
	if !ok {
		return errors.New("reading record: its key has an unknown form")
	}
	switch kind {
	case accountRecord:
		v := &account{record: rec, id: acc}
		if err := decodeRecord(rec.Value, &v.accountValue); err != nil {
			return err
		}
		d.accounts.Insert([]byte(acc), v)
	case userRecord:
		u := &user{record: rec, account: acc, name: name}
		if err := decodeRecord(rec.Value, &u.userValue); err != nil {
			return err
		}
		u.policies = a.readPolicies(rec.Key, u.Policies)
		d.users.Insert(treeKey(acc, name), u)
	case roleRecord:
		r := &role{record: rec, account: acc, name: name}
		if err := decodeRecord(rec.Value, &r.roleValue); err != nil {
			return err
		}
		r.policies = a.readPolicies(rec.Key, r.Policies)
		var err error
		if r.trust, err = parsePolicy(r.Trust, trustPolicy); err != nil {
			a.log.Error("trust policy cannot be read, nobody can assume its role", "record", rec.Key, "error", err)
		}
		d.roles.Insert(treeKey(acc, name), r)
	case providerRecord:
		v := &provider{record: rec, account: acc, name: name}
		if err := decodeRecord(rec.Value, &v.providerValue); err != nil {
			return err
		}
		var err error
		if v.parsed, err = a.verifier.Parse(name, v.Settings); err != nil {
			a.log.Error("identity provider cannot be used, nobody gets a session by it", "record", rec.Key, "error", err)
		}
		d.providers.Insert(treeKey(acc, name), v)
	default:
		return a.putKey(d, old, rec, acc, name)
	}
	return nil
}

// readPolicies reads the policies of a user or a role: all, or none.
func (a *Service) readPolicies(key string, documents map[string]json.RawMessage) []*Policy {
	var policies []*Policy
	for name, document := range documents {
		p, err := ParsePolicy(document)
		if err != nil {
			a.log.Error("policy cannot be read, whom it belongs to is refused everything", "record", key, "policy", name, "error", err)
			return nil
		}
		policies = append(policies, p)
	}
	return policies
}

func (a *Service) putKey(d *draft, old *table, rec store.Record, acc, id string) error {
	var v keyValue
	if err := decodeRecord(rec.Value, &v); err != nil {
		return err
	}
	if other, ok := d.keys.Get([]byte(id)); ok && other.account != acc {
		return errors.New("reading record: another account has an access key of the same id")
	}
	k := &accessKey{
		record: rec, account: acc, user: v.User, userUID: v.UserUID, created: v.Created, disabled: v.Disabled,
		sealed: v.Sealed, used: &usage{},
	}
	if before := old.key(id); before != nil && before.account == acc {
		k.used = before.used
		if bytes.Equal(before.sealed, v.Sealed) {
			k.signer = before.signer
		}
	}
	if k.signer == nil {
		secret, err := a.store.Unseal(v.Sealed)
		if err != nil {
			return fmt.Errorf("unsealing secret: %w", err)
		}
		k.signer = &signer{id: id, secret: string(secret)}
	}
	d.remove(rec.Key) // it may have belonged to another user
	d.keys.Insert([]byte(id), k)
	d.owned.Insert(treeKey(acc, k.user, id), k)
	return nil
}
