package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// settings are the quotas and shares of all accounts, as this replica last heard of
// them. They answer at once; what must be exact compares keys in its transaction.
type settings struct {
	mu       sync.RWMutex
	revision int64
	quotas   map[string]allowance                // by account, of those with values of their own
	shares   map[mesh.MeshID]map[string]struct{} // the accounts that a mesh is shared with
	changed  chan struct{}                       // closed at the next change
}

// allowance is what an account has set of its quotas, and the revision of the key that
// it comes from: 0 if there is none.
type allowance struct {
	set      map[mesh.Quota]int
	revision int64
}

// settingsFeed keeps the table of settings.
func (s *Store) settingsFeed() feed {
	t := &s.settings
	return feed{
		prefix: settingPrefix,
		reset: func(revision int64, all []*mvccpb.KeyValue) {
			t.change(revision, func() {
				t.quotas, t.shares = map[string]allowance{}, map[mesh.MeshID]map[string]struct{}{}
				for _, kv := range all {
					s.setSetting(kv)
				}
			})
		},
		change: func(revision int64, events []*clientv3.Event) {
			t.change(revision, func() {
				for _, e := range events {
					if e.Type == clientv3.EventTypeDelete {
						t.remove(string(e.Kv.Key))
					} else {
						s.setSetting(e.Kv)
					}
				}
			})
		},
	}
}

// startSettings loads the settings, and follows them until the store is closed.
func (s *Store) startSettings(ctx context.Context) error {
	s.settings.changed = make(chan struct{})
	f := s.settingsFeed()
	epoch := s.epoch()
	revision, err := s.list(ctx, f)
	if err != nil {
		return fmt.Errorf("reading quotas and shares: %w", err)
	}
	s.background.Go(func() {
		if err := s.watch(s.ctx, f, revision+1, epoch); s.ctx.Err() == nil {
			s.log.Warn("the feed of quotas and shares broke off, it is taken up again", "error", err)
			_ = s.follow(s.ctx, f) // ends with the store only
		}
	})
	return nil
}

// change applies f, and tells those who wait.
func (t *settings) change(revision int64, f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
	t.revision = revision
	close(t.changed)
	t.changed = make(chan struct{})
}

// setSetting notes one key of the settings. The table is locked.
func (s *Store) setSetting(kv *mvccpb.KeyValue) {
	t := &s.settings
	if string(kv.Key) == formatKey {
		s.learnFormat(kv)
		return
	}
	if account, ok := quotaAccount(string(kv.Key)); ok {
		t.quotas[account] = s.parseAllowance(kv)
		return
	}
	if m, account, ok := parseShareKey(string(kv.Key)); ok {
		if t.shares[m] == nil {
			t.shares[m] = map[string]struct{}{}
		}
		t.shares[m][account] = struct{}{}
	}
}

func (t *settings) remove(key string) {
	if account, ok := quotaAccount(key); ok {
		delete(t.quotas, account)
		return
	}
	if m, account, ok := parseShareKey(key); ok {
		delete(t.shares[m], account)
		if len(t.shares[m]) == 0 {
			delete(t.shares, m)
		}
	}
}

// SettingsChanged returns a channel that is closed at the next change of any share or
// quota. To miss none, take the channel first, then look.
func (s *Store) SettingsChanged() <-chan struct{} {
	s.settings.mu.RLock()
	defer s.settings.mu.RUnlock()
	return s.settings.changed
}

// settle waits until this replica's settings are at least those of a revision.
func (s *Store) settle(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithTimeout(ctx, s.callTimeout())
	defer cancel()
	for {
		s.settings.mu.RLock()
		seen, changed := s.settings.revision, s.settings.changed
		s.settings.mu.RUnlock()
		if seen >= revision {
			return nil
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			return s.fault(ctx, ErrClosed)
		case <-ctx.Done():
			return s.fault(ctx, context.Cause(ctx))
		}
	}
}

// Shared reports whether an account's callers and proxies may be in a mesh now, as this
// replica knows it: always those of its owner, whether there is such a mesh or not.
func (s *Store) Shared(m mesh.MeshID, account string) bool {
	if m.Account == account {
		return true
	}
	s.settings.mu.RLock()
	defer s.settings.mu.RUnlock()
	_, ok := s.settings.shares[m][account]
	return ok
}

// Quotas returns the values of an account's quotas, as this replica knows them.
func (s *Store) Quotas(account string) mesh.Quotas { return s.values(s.allowance(account)) }

// QuotaOverrides returns those quotas that an account has values of its own for.
func (s *Store) QuotaOverrides(account string) map[mesh.Quota]int {
	return maps.Clone(s.allowance(account).set)
}

func (s *Store) allowance(account string) allowance {
	s.settings.mu.RLock()
	defer s.settings.mu.RUnlock()
	return s.settings.quotas[account]
}

// values returns the values that hold with an allowance.
func (s *Store) values(a allowance) mesh.Quotas {
	out := s.quotas
	for q, n := range a.set {
		out[q] = n
	}
	return out
}

// quotaDocument is what is stored of an account's quotas. Names that this build does
// not know are kept.
type quotaDocument struct {
	Format int            `json:"format"`
	Values map[string]int `json:"values"`
}

const quotaFormat = 1

// parseAllowance reads an account's quotas. Nil is an account without values of its
// own. What cannot be read counts as not set, and is logged.
func (s *Store) parseAllowance(kv *mvccpb.KeyValue) allowance {
	if kv == nil {
		return allowance{}
	}
	a := allowance{set: map[mesh.Quota]int{}, revision: kv.ModRevision}
	doc, err := parseQuotas(kv.Value)
	if err != nil {
		s.log.Error("an account's quotas cannot be read, the defaults hold", "key", string(kv.Key), "error", err)
		return a
	}
	for name, n := range doc.Values {
		if q, ok := mesh.ParseQuota(name); ok {
			a.set[q] = n
		}
	}
	return a
}

func parseQuotas(value []byte) (quotaDocument, error) {
	var doc quotaDocument
	if err := json.Unmarshal(value, &doc); err != nil {
		return doc, fmt.Errorf("reading quotas: %w", err)
	}
	if doc.Format != quotaFormat {
		return doc, fmt.Errorf("reading quotas: their format is %d, this build of Fairlead reads %d", doc.Format, quotaFormat)
	}
	return doc, nil
}

// shareDocument is what is stored of a share.
type shareDocument struct {
	Format    int       `json:"format"`
	CreatedAt time.Time `json:"createdAt"`
}

const shareFormat = 1

// parseShare reads a share. One whose value cannot be read is a share all the same.
func parseShare(kv *mvccpb.KeyValue) (Share, bool) {
	m, account, ok := parseShareKey(string(kv.Key))
	var doc shareDocument
	_ = json.Unmarshal(kv.Value, &doc)
	return Share{Mesh: m, Account: account, CreatedAt: doc.CreatedAt}, ok
}
