package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/backup"
)

// openTime bounds the start of an etcd that is only looked into.
const openTime = 2 * time.Minute

// restoringDocument is the mark of a restore.
type restoringDocument struct {
	Format  int       `json:"format"`
	SHA256  string    `json:"sha256"`
	Account string    `json:"account"`
	At      time.Time `json:"at"`
}

// external restores into an etcd that is elsewhere.
func (r *restoration) external(ctx context.Context) (err error) {
	s := newRaw(r.Store)
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, _, err := r.checkKey(s); err != nil {
		return err
	}
	if err := s.dial(ctx, r.Store); err != nil {
		return err
	}
	if err := r.checkTarget(ctx, s); err != nil || r.CheckOnly {
		return err
	}
	if err := r.mark(ctx, s); err != nil {
		return err
	}
	if err := r.clear(ctx, s); err != nil {
		return r.cutOff(err)
	}
	if err := r.load(ctx, s); err != nil {
		return r.cutOff(err)
	}
	done := []*pb.RequestOp{deleteKey(restoringKey)}
	if r.account != "" {
		done = append(done, deleteKey(migrationKey)) // its documents may be of an older format
	}
	if _, err := s.commit(ctx, nil, done); err != nil {
		return r.cutOff(err)
	}
	return nil
}

func (r *restoration) cutOff(err error) error {
	return fmt.Errorf("it was cut off, and no server starts on the store until the same command has been run again: %w", err)
}

// checkTarget refuses a store that something is in, if that was not allowed.
func (r *restoration) checkTarget(ctx context.Context, s *Store) error {
	if r.account != "" {
		doc, err := s.storeDocument(ctx)
		switch {
		case err != nil:
			return err
		case doc == nil:
			return fmt.Errorf("the etcd holds no store that account %s could be put into: restore a whole backup first", r.account)
		case doc.SealKey != r.out.Header.SealKeyID:
			return fmt.Errorf("the store's secrets are sealed under key %s, the backup's under %s: an account can only be put into the store it is of", doc.SealKey, r.out.Header.SealKeyID)
		}
		if err := r.checkFormat(ctx, s); err != nil {
			return err
		}
	}
	before, err := s.restoring(ctx)
	switch {
	case err != nil:
		return err
	case before != nil && before.Account != r.account:
		return fmt.Errorf("another restore (of %s) was begun at %s and not finished: finish it first", wording(before.Account), before.At.Format(time.RFC3339))
	case before != nil || r.Replace:
		return nil
	}
	return r.refuseAccount(ctx, s, "the etcd")
}

func wording(account string) string {
	if account == "" {
		return "all accounts"
	}
	return "account " + account
}

// refuseAccount refuses if a store holds something that would be replaced.
func (r *restoration) refuseAccount(ctx context.Context, s *Store, place string) error {
	stop := errors.New("found")
	err := s.eachEntry(ctx, r.account, func(backup.Entry) error { return stop })
	if !errors.Is(err, stop) {
		return err
	}
	if r.account == "" {
		return fmt.Errorf("%s holds a store already: say --replace to put the backup in its place", place)
	}
	return fmt.Errorf("the store has account %s already: say --replace to put the backup's in its place", r.account)
}

// restoring returns the mark of a restore that was not finished, nil if there is none.
func (s *Store) restoring(ctx context.Context) (*restoringDocument, error) {
	l, err := s.readKeys(ctx, restoringKey)
	if err != nil || l.kvs[restoringKey] == nil {
		return nil, err
	}
	doc := &restoringDocument{}
	if err := json.Unmarshal(l.kvs[restoringKey].Value, doc); err != nil {
		return nil, fmt.Errorf("reading key %s of etcd: %w", restoringKey, err)
	}
	return doc, nil
}

// mark notes that a restore is under way, if no server is.
func (r *restoration) mark(ctx context.Context, s *Store) error {
	value, err := marshal(restoringDocument{Format: 1, SHA256: r.out.Totals.SHA256, Account: r.account, At: s.timestamp()})
	if err != nil {
		return err
	}
	_, err = s.commit(ctx, []condition{empty(memberPrefix, func(ids []string) error {
		return fmt.Errorf("%d servers are using the store: stop them first (one that was killed counts for %s more)", len(ids), s.member.life)
	})}, []*pb.RequestOp{putKey(restoringKey, value)})
	return err
}

// clear removes what is to be replaced. All but the mark goes, so that it can be done
// again.
func (r *restoration) clear(ctx context.Context, s *Store) error {
	for _, k := range s.formats.scope(r.account) {
		from := k.prefix
		for {
			resp, err := s.keysOf(ctx, from, k.prefix)
			if err != nil {
				return s.fault(ctx, err)
			}
			var ops []*pb.RequestOp
			for _, kv := range resp.Kvs {
				if key := string(kv.Key); key != restoringKey && k.has(key, kv.Value) {
					ops = append(ops, deleteKey(key))
				}
			}
			if len(ops) > 0 {
				if _, err := s.commit(ctx, nil, ops); err != nil {
					return err
				}
			}
			if !resp.More || len(resp.Kvs) == 0 {
				break
			}
			from = next(string(resp.Kvs[len(resp.Kvs)-1].Key))
		}
	}
	return nil
}

// keysOf reads as many keys as a transaction may change.
func (s *Store) keysOf(ctx context.Context, from, prefix string) (resp *clientv3.GetResponse, err error) {
	err = s.try(ctx, func(ctx context.Context) (err error) {
		resp, err = s.client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithLimit(maxOps))
		return err
	})
	return resp, err
}

// eachEntry calls f with all that a backup would hold.
func (s *Store) eachEntry(ctx context.Context, account string, f func(backup.Entry) error) error {
	page := BackupPage{More: true}
	for page.More {
		var err error
		if page, err = s.Backup(ctx, System("restore"), account, page.Revision, page.After); err != nil {
			return err
		}
		for _, e := range page.Entries {
			if err := f(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// load writes what the backup holds.
func (r *restoration) load(ctx context.Context, to *Store) error {
	l := newLoader(to)
	err := r.each(func(e backup.Entry, value []byte) error {
		r.out.Entries++
		return l.add(ctx, e, value)
	})
	if err != nil {
		return err
	}
	return l.flush(ctx)
}

// loadBytes is about how many bytes one transaction of a restore has.
const loadBytes = 512 << 10

// loader writes entries, many in a transaction.
type loader struct {
	to    *Store
	ops   []*pb.RequestOp
	bytes int
	// leases are those that were granted.
	leases map[int64]bool
}

func newLoader(to *Store) *loader { return &loader{to: to, leases: map[int64]bool{}} }

func (l *loader) add(ctx context.Context, e backup.Entry, value []byte) error {
	lease, err := leaseOf(e)
	if err != nil {
		return err
	}
	if lease != 0 && !l.leases[lease] {
		if err := l.to.grant(ctx, lease, e.LeaseSeconds); err != nil {
			return err
		}
		l.leases[lease] = true
	}
	n := len(e.Key) + len(value)
	if len(l.ops) == maxOps || l.bytes+n > loadBytes && len(l.ops) > 0 {
		if err := l.flush(ctx); err != nil {
			return err
		}
	}
	op := putKey(e.Key, value)
	op.GetRequestPut().Lease = lease
	l.ops, l.bytes = append(l.ops, op), l.bytes+n
	return nil
}

func (l *loader) flush(ctx context.Context) error {
	if len(l.ops) == 0 {
		return nil
	}
	_, err := l.to.commit(ctx, nil, l.ops)
	l.ops, l.bytes = nil, 0
	return err
}

// grant makes a lease of a given id, as records name theirs. One that is there lasts as
// long again.
func (s *Store) grant(ctx context.Context, id, seconds int64) error {
	return s.call(ctx, func(ctx context.Context) error {
		_, err := s.leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: seconds})
		if err != nil && strings.Contains(err.Error(), "lease already exists") {
			_, err = s.client.KeepAliveOnce(ctx, clientv3.LeaseID(id))
		}
		if err != nil {
			return fmt.Errorf("granting lease %s: %w", strconv.FormatInt(id, 10), err)
		}
		return nil
	})
}
