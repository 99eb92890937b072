package ca

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Config says what a Service works with.
type Config struct {
	// Store holds the authorities. Required.
	Store *store.Store
	// TrustDomain is the host part of all names; "" for DefaultTrustDomain.
	TrustDomain string
	// VaultAddresses are the URLs of the servers of HashiCorp Vault that callers may have
	// Fairlead ask. None: no authority can be in Vault.
	VaultAddresses []string
	// HTTP asks Vault; nil for a client with the system's certificates that follows no
	// redirects.
	HTTP *http.Client
	// Now is the clock; nil for time.Now.
	Now func() time.Time
	// Logger is told of what fails behind the callers' backs; nil for none.
	Logger *slog.Logger
}

// Service is the certificate authority of all meshes. Its methods may be called from
// several goroutines. Callers are asked for their permission by the methods themselves.
type Service struct {
	store       *store.Store
	trustDomain string
	vaults      []string
	http        *http.Client
	now         func() time.Time
	log         *slog.Logger

	mu      sync.RWMutex
	all     map[mesh.MeshID]*authority
	loaded  bool
	at      int64 // the store's revision that all is of
	changed chan struct{}
	// failed is when a new intermediate could last not be had, by mesh.
	failed map[mesh.MeshID]time.Time

	stop context.CancelFunc
	done chan struct{}
}

// authority is an authority as the store has it. It is never changed.
type authority struct {
	mesh     mesh.MeshID
	revision int64  // 0: it is not in the store
	raw      []byte // the record
	authorityValue
}

// self is the caller for what is read and written once the real caller has been found to
// be allowed to.
var self = store.System("ca")

// settleTime bounds how long a change waits until this replica has seen it too.
const settleTime = 5 * time.Second

// maxTries bounds how often a change is tried again because somebody else changed the
// same authority meanwhile.
const maxTries = 32

// Open starts to follow the authorities and returns once all have been read. It ends with
// an error if ctx ends before, or the configuration is not valid.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	s := &Service{
		store: cfg.Store, trustDomain: cfg.TrustDomain, vaults: cfg.VaultAddresses, http: cfg.HTTP, now: cfg.Now, log: cfg.Logger,
		all: map[mesh.MeshID]*authority{}, failed: map[mesh.MeshID]time.Time{},
		changed: make(chan struct{}), done: make(chan struct{}),
	}
	if s.trustDomain == "" {
		s.trustDomain = DefaultTrustDomain
	}
	if err := CheckTrustDomain(s.trustDomain); err != nil {
		return nil, fmt.Errorf("opening the certificate authority: %w", err)
	}
	for _, a := range s.vaults {
		if err := CheckVaultAddress(a); err != nil {
			return nil, fmt.Errorf("opening the certificate authority: Vault's address: %w", err)
		}
	}
	if s.http == nil {
		s.http = newVaultClient()
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go func() {
		defer close(s.done)
		err := s.store.FollowRecords(following, self, authorityPrefix, s.apply)
		if following.Err() == nil && !errors.Is(err, store.ErrClosed) {
			s.log.Error("following certificate authorities has ended", "error", err)
		}
	}()
	if err := s.await(ctx, func() bool { return s.loaded }); err != nil {
		return nil, errors.Join(fmt.Errorf("loading the certificate authorities: %w", err), s.Close())
	}
	return s, nil
}

// Close stops following the store.
func (s *Service) Close() error {
	s.stop()
	<-s.done
	return nil
}

// TrustDomain returns the host part of the names that are given.
func (s *Service) TrustDomain() string { return s.trustDomain }

// Changed returns a channel that is closed when any authority changes next. Call it
// before looking, so that no change is missed.
func (s *Service) Changed() <-chan struct{} {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.changed
}

// await waits until ready, which is called with the lock held, or ctx ends.
func (s *Service) await(ctx context.Context, ready func() bool) error {
	for {
		s.mu.RLock()
		ok, changed := ready(), s.changed
		s.mu.RUnlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-s.done:
			return errors.New("waiting for certificate authorities: following has ended")
		case <-ctx.Done():
			return fmt.Errorf("waiting for certificate authorities: %w", ctx.Err())
		}
	}
}

// apply takes in what the store tells.
func (s *Service) apply(b store.RecordBatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.Reset {
		clear(s.all)
	}
	for _, key := range b.Deletes {
		if m, ok := splitPath(strings.TrimPrefix(key, authorityPrefix)); ok {
			delete(s.all, m)
		}
	}
	for _, rec := range b.Puts {
		a, err := readAuthority(rec)
		if err != nil {
			s.log.Error("certificate authority cannot be used", "record", rec.Key, "error", err)
			if a != nil {
				delete(s.all, a.mesh)
			}
			continue
		}
		s.all[a.mesh] = a
	}
	s.at, s.loaded = max(s.at, b.Revision), true
	close(s.changed)
	s.changed = make(chan struct{})
}

// readAuthority reads a record. With an error the mesh is still told, if the key has it.
func readAuthority(rec store.Record) (*authority, error) {
	m, ok := splitPath(strings.TrimPrefix(rec.Key, authorityPrefix))
	if !ok {
		return nil, errors.New("reading record: its key has an unknown form")
	}
	a := &authority{mesh: m, revision: rec.Revision, raw: rec.Value}
	if err := decodeRecord(rec.Value, &a.authorityValue); err != nil {
		return a, err
	}
	if len(a.Anchors) == 0 || len(a.Signers) == 0 {
		return a, errors.New("reading record: it has no root or no signer")
	}
	return a, nil
}

// known returns the authority of a mesh as this replica knows it, nil if it knows none.
func (s *Service) known(m mesh.MeshID) *authority {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.all[m]
}

// read returns the authority of a mesh as the store has it, nil if there is none.
func (s *Service) read(ctx context.Context, m mesh.MeshID) (*authority, error) {
	key := authorityKey(m)
	found, _, err := s.store.ReadRecords(ctx, self, key)
	if err != nil {
		return nil, fmt.Errorf("reading the authority of mesh %s: %w", m.Name, err)
	}
	rec, ok := found[key]
	if !ok {
		return nil, nil
	}
	a, err := readAuthority(rec)
	if err != nil {
		return nil, fmt.Errorf("reading the authority of mesh %s: %w", m.Name, err)
	}
	return a, nil
}

// current returns the authority of a mesh that is there, as this replica knows it, or
// with fresh as the store has it; nil if there is none. One of an earlier mesh of the same
// name is none: it is returned as before, to be replaced.
func (s *Service) current(ctx context.Context, m mesh.MeshID, fresh bool) (a, before *authority, uid string, err error) {
	o, err := s.store.Get(ctx, self, m.MeshObject())
	if err != nil {
		return nil, nil, "", err
	}
	a = s.known(m)
	if a == nil || fresh {
		if a, err = s.read(ctx, m); err != nil {
			return nil, nil, "", err
		}
	}
	if a != nil && a.MeshUID != o.UID {
		return nil, a, o.UID, nil
	}
	return a, a, o.UID, nil
}

// ensure returns the authority of a mesh, and makes one if there is none yet.
func (s *Service) ensure(ctx context.Context, m mesh.MeshID, fresh bool) (*authority, error) {
	for range maxTries {
		a, before, uid, err := s.current(ctx, m, fresh)
		if err != nil || a != nil {
			return a, err
		}
		first, err := s.newAuthority(ctx, m, uid, Root{})
		if err != nil {
			return nil, err
		}
		if a, err = s.write(ctx, before, first); err == nil {
			s.log.Info("certificate authority made", "mesh", m.Name, "account", m.Account, "region", m.Region, "root", first.Anchors[0].ID)
			return a, nil
		}
		if !errors.Is(err, store.ErrRevision) {
			return nil, err
		}
		fresh = true // another replica was faster
	}
	return nil, busy(m)
}

func busy(m mesh.MeshID) error {
	return mesh.Errorf(mesh.ErrConflict, "the authority of mesh %s was changed by others meanwhile, try again", m.Name)
}

// write puts an authority in the place of before, nil if there was none, together with
// the marks of its roots. It waits until this replica knows of it. The error is
// store.ErrRevision if before is not what is there.
func (s *Service) write(ctx context.Context, before, after *authority) (*authority, error) {
	after.Format, after.Updated = recordFormat, s.timestamp()
	s.prune(after)
	if err := s.list(after); err != nil {
		return nil, err
	}
	change := store.RecordChange{Account: after.mesh.Account}
	var raw []byte
	revision := int64(0)
	var had []string
	if before != nil {
		revision = before.revision
		had = before.anchorIDs()
		if before.MeshUID == after.MeshUID {
			raw = before.raw
		}
	}
	rec, err := encodeRecord(authorityKey(after.mesh), revision, raw, after.authorityValue)
	if err != nil {
		return nil, err
	}
	change.Puts = append(change.Puts, rec)
	if err := s.mark(ctx, &change, after, had); err != nil {
		return nil, err
	}
	at, err := s.store.ApplyRecords(ctx, self, change)
	if err != nil {
		return nil, fmt.Errorf("writing the authority of mesh %s: %w", after.mesh.Name, err)
	}
	settling, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	_ = s.await(settling, func() bool { return s.at >= at })
	after.revision, after.raw = at, rec.Value
	return after, nil
}

// mark adds to a change the marks of the roots that come and go. A root is trusted in one
// mesh only: what it signs would else be trusted in the other.
func (s *Service) mark(ctx context.Context, change *store.RecordChange, a *authority, had []string) error {
	have := a.anchorIDs()
	for _, id := range have {
		if slices.Contains(had, id) {
			continue
		}
		key := anchorMarkPrefix + id
		found, _, err := s.store.ReadRecords(ctx, self, key)
		if err != nil {
			return fmt.Errorf("looking for the meshes of a root: %w", err)
		}
		if _, taken := found[key]; taken {
			return mesh.Errorf(mesh.ErrConflict, "root %s is trusted in another mesh already: give each mesh an authority with a key of its own, for example an intermediate, since what a root signs is trusted in all its meshes", id)
		}
		rec, err := encodeRecord(key, 0, nil, anchorMark{Format: recordFormat, Mesh: meshPath(a.mesh)})
		if err != nil {
			return err
		}
		change.Puts = append(change.Puts, rec)
	}
	for _, id := range had {
		if !slices.Contains(have, id) {
			change.Deletes = append(change.Deletes, store.Record{Key: anchorMarkPrefix + id, Revision: store.AnyRevision})
		}
	}
	return nil
}

func (a *authority) anchorIDs() []string {
	var ids []string
	for _, x := range a.Anchors {
		ids = append(ids, x.ID)
	}
	return ids
}

// clone returns a copy that may be changed.
func (a *authority) clone() *authority {
	c := *a
	c.Anchors, c.Signers, c.CRLs = slices.Clone(a.Anchors), slices.Clone(a.Signers), slices.Clone(a.CRLs)
	c.Workloads, c.Serials = cloneMap(a.Workloads), cloneMap(a.Serials)
	return &c
}

func cloneMap[V any](m map[string]V) map[string]V {
	c := make(map[string]V, len(m)+1)
	for k, v := range m {
		c[k] = v
	}
	return c
}

// alter changes the authority of a mesh, which is made if there is none, until nobody else
// was quicker.
func (s *Service) alter(ctx context.Context, m mesh.MeshID, change func(*authority) error) (*authority, error) {
	for i := range maxTries {
		before, err := s.ensure(ctx, m, i > 0)
		if err != nil {
			return nil, err
		}
		after := before.clone()
		if err := change(after); err != nil {
			return nil, err
		}
		after, err = s.write(ctx, before, after)
		if !errors.Is(err, store.ErrRevision) {
			return after, err
		}
	}
	return nil, busy(m)
}

// prune forgets what has come to its end.
func (s *Service) prune(a *authority) {
	now := s.now()
	for serial, r := range a.Serials {
		if now.After(r.Until) {
			delete(a.Serials, serial)
		}
	}
	for name, r := range a.Workloads {
		if !r.Until.IsZero() && now.After(r.Until) {
			delete(a.Workloads, name)
		}
	}
	a.Signers = slices.DeleteFunc(a.Signers, func(x signerValue) bool { return !x.Until.IsZero() && now.After(x.Until) })
}

// timestamp returns the time that is written into records.
func (s *Service) timestamp() time.Time { return s.now().UTC().Truncate(time.Millisecond) }

// Bundle is what a mesh trusts.
type Bundle struct {
	// Version is a hash of the content.
	Version string
	// Anchors are the roots in force, and CRL the lists of revoked certificates, both
	// PEM; there is no list while nothing is revoked.
	Anchors, CRL string
}

func (a *authority) bundle() Bundle {
	var anchors strings.Builder
	for _, x := range a.Anchors {
		anchors.WriteString(x.Certificate)
	}
	b := Bundle{Anchors: anchors.String(), CRL: strings.Join(a.CRLs, "")}
	sum := sha256.Sum256([]byte(b.Anchors + "\x00" + b.CRL))
	b.Version = hex.EncodeToString(sum[:16])
	return b
}

// Known returns what a mesh trusts as this replica knows it, false if it knows none.
func (s *Service) Known(m mesh.MeshID) (Bundle, bool) {
	if a := s.known(m); a != nil {
		return a.bundle(), true
	}
	return Bundle{}, false
}

// Trusted returns what a mesh trusts, and makes its authority if there is none yet. It
// asks no permission: whoever calls it does. The error is *mesh.Error with ErrNotFound
// where there is no such mesh.
func (s *Service) Trusted(ctx context.Context, m mesh.MeshID) (Bundle, error) {
	a, err := s.ensure(ctx, m, false)
	if err != nil {
		return Bundle{}, err
	}
	return a.bundle(), nil
}
