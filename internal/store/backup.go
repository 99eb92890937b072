package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/backup"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

const (
	// backupPage is how many keys are read at once for a backup, and backupBytes about
	// how many bytes of values: large documents come in smaller pages.
	backupPage  = 1000
	backupBytes = 4 << 20
)

// anchorPrefix is the family of records that say which mesh a root is of: the only one in
// which the mesh, and with it the account, stands in the value.
const anchorPrefix = recordPrefix + "caanchor/"

// accountFamilies are the families of keys that hold what belongs to an account, in the
// order of the keys. The account comes next in each, but in those of anchors and of shares
// by whom they let in.
var accountFamilies = []string{
	gonePrefix, objectPrefix,
	recordPrefix + "ca/", anchorPrefix, recordPrefix + "caissued/", recordPrefix + "iam/", recordPrefix + "iamused/",
	recordPrefix + RegistryOperations, recordPrefix + RegistryImported, recordPrefix + RegistryOwned,
	refPrefix, quotaPrefix, sharePrefix, sharedPrefix, slotPrefix,
}

// keyRange is a range of keys with a common prefix.
type keyRange struct {
	prefix string
	// of is the account whose keys are meant, where the prefix does not say it; "" for all.
	of string
	// formats are those that the value may have then.
	formats formats
}

// has reports whether a key is in the range, as its value may be needed to tell.
func (r keyRange) has(key string, value []byte) bool {
	switch {
	case !strings.HasPrefix(key, r.prefix) || transient(key):
		return false
	case r.of == "":
		return true
	case r.prefix == anchorPrefix:
		var mark struct {
			Mesh string `json:"mesh"`
		}
		if k, ok := r.formats.kindOf(key); ok {
			var err error
			if value, err = k.decode(value); err != nil {
				return false
			}
		}
		return json.Unmarshal(value, &mark) == nil && strings.HasPrefix(mark.Mesh, r.of+"/")
	}
	m, _, ok := parseSharedKey(key)
	return ok && m.Account == r.of
}

// transient reports whether a key is about the processes that serve the store now and
// not about what is stored. Such keys are in no backup.
func transient(key string) bool { return strings.HasPrefix(key, processPrefix) }

// scope is all keys that a backup is of, in the order of the keys.
func (f formats) scope(account string) []keyRange {
	if account == "" {
		return []keyRange{{prefix: rootPrefix}}
	}
	var out []keyRange
	for _, family := range accountFamilies {
		if family == sharedPrefix || family == anchorPrefix {
			out = append(out, keyRange{prefix: family, of: account, formats: f})
			continue
		}
		end := "/"
		if family == gonePrefix || family == quotaPrefix { // the account is all of the rest
			end = ""
		}
		out = append(out, keyRange{prefix: family + account + end})
	}
	return out
}

// inScope reports whether a key belongs to an account, or to any if that is "".
func (f formats) inScope(key string, value []byte, account string) bool {
	for _, r := range f.scope(account) {
		if r.has(key, value) {
			return true
		}
	}
	return false
}

// BackupPage is a part of a backup.
type BackupPage struct {
	// Revision is the revision that was read at.
	Revision int64
	// SealKeyID is the fingerprint of the key that secrets are sealed under, and
	// StoreFormat the newest format that documents have.
	SealKeyID   string
	StoreFormat int
	Entries     []backup.Entry
	// More says that there is more behind the last entry.
	More bool
	// After is the key behind which the next page begins.
	After string
}

// Backup reads some of all keys, or of those of one account, as they are at a revision
// (0 for now), from behind a key on ("" for the first). Pages of one revision make up a
// backup that is consistent: nothing in it is newer or older than the rest. The secrets
// in it are sealed. A key whose lease has ended since the revision is left out. Only
// System callers may. Errors are *mesh.Error: ErrBadRequest if the revision is not there
// any more (etcd has compacted it) or not yet, ErrForbidden, ErrServiceUnavailable.
func (s *Store) Backup(ctx context.Context, c Caller, account string, revision int64, after string) (BackupPage, error) {
	page := BackupPage{SealKeyID: s.sealID.String(), StoreFormat: s.level.Load().writes, Revision: revision}
	if err := c.internal("backups"); err != nil {
		return page, err
	}
	if account != "" && !mesh.ValidAccount(account) {
		return page, mesh.Errorf(mesh.ErrBadRequest, "account %q is not allowed: twelve digits", account)
	}
	page.After = after
	ranges := s.formats.scope(account)
	first := sort.Search(len(ranges), func(i int) bool { return clientv3.GetPrefixRangeEnd(ranges[i].prefix) > after })
	leases := map[int64]int64{}
	left := int64(backupBytes)
	for i := first; i < len(ranges); i++ {
		more, err := s.backupRange(ctx, &page, ranges[i], &left, leases)
		if err != nil || more {
			page.More = more
			return page, err
		}
	}
	return page, nil
}

// backupRange adds entries of a range to a page, until the page is full, which it
// reports, or the range is at its end.
func (s *Store) backupRange(ctx context.Context, page *BackupPage, r keyRange, left *int64, leases map[int64]int64) (full bool, err error) {
	limit := int64(64) // until it is known how large values are
	for {
		if *left <= 0 || len(page.Entries) >= backupPage {
			return true, nil
		}
		from := max(r.prefix, next(page.After))
		var resp *clientv3.GetResponse
		err := s.try(ctx, func(ctx context.Context) (err error) {
			resp, err = s.client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(r.prefix)),
				clientv3.WithLimit(min(limit, int64(backupPage-len(page.Entries)))), clientv3.WithRev(page.Revision))
			return err
		})
		if err != nil {
			return false, s.backupFault(ctx, page.Revision, err)
		}
		if page.Revision == 0 {
			page.Revision = resp.Header.Revision
		}
		var bytes int64
		for _, kv := range resp.Kvs {
			bytes += int64(len(kv.Key) + len(kv.Value))
			page.After = string(kv.Key)
			if !r.has(page.After, kv.Value) {
				continue
			}
			e, ok, err := s.entry(ctx, kv, leases)
			if err != nil {
				return false, err
			}
			if ok {
				page.Entries = append(page.Entries, e)
			}
		}
		*left -= bytes
		if !resp.More || len(resp.Kvs) == 0 {
			return false, nil
		}
		mean := max(bytes/int64(len(resp.Kvs)), 1)
		limit = min(max(*left/mean, 1), backupPage)
	}
}

// entry turns a key into an entry. ok is false if its lease has ended.
func (s *Store) entry(ctx context.Context, kv *mvccpb.KeyValue, leases map[int64]int64) (e backup.Entry, ok bool, err error) {
	e = backup.NewEntry(string(kv.Key), kv.Value)
	if kv.Lease == 0 {
		return e, true, nil
	}
	seconds, known := leases[kv.Lease]
	if !known {
		if seconds, err = s.leaseTime(ctx, kv.Lease); err != nil {
			return e, false, err
		}
		leases[kv.Lease] = seconds
	}
	e.Lease, e.LeaseSeconds = strconv.FormatInt(kv.Lease, 10), seconds
	return e, seconds > 0, nil
}

// leaseTime returns how long a lease was granted for, in seconds; 0 if it has ended.
func (s *Store) leaseTime(ctx context.Context, id int64) (seconds int64, err error) {
	err = s.call(ctx, func(ctx context.Context) error {
		resp, err := s.client.TimeToLive(ctx, clientv3.LeaseID(id))
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			return nil
		case err == nil && resp.TTL > 0:
			seconds = resp.GrantedTTL
		}
		return err
	})
	return seconds, err
}

// backupFault is fault with a word on revisions.
func (s *Store) backupFault(ctx context.Context, revision int64, err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return mesh.Errorf(mesh.ErrBadRequest, "revision %d is not there any more: the store's history was compacted, begin the backup again", revision)
	case errors.Is(err, rpctypes.ErrFutureRev):
		return mesh.Errorf(mesh.ErrBadRequest, "revision %d is not there yet: begin with the store's own", revision)
	}
	return s.fault(ctx, err)
}

// WriteBackup writes a backup of all accounts, or of one, and returns its header and what
// it holds. It holds a page of it in memory. withKey puts the seal key into the file, in
// the clear. Only System callers may.
func (s *Store) WriteBackup(ctx context.Context, c Caller, to io.Writer, account string, withKey bool) (backup.Header, backup.Totals, error) {
	page, err := s.Backup(ctx, c, account, 0, "")
	if err != nil {
		return backup.Header{}, backup.Totals{}, err
	}
	h := backup.Header{
		Revision: page.Revision, CreatedAt: s.timestamp(), Account: account,
		SealKeyID: page.SealKeyID, StoreFormat: page.StoreFormat,
	}
	if withKey {
		h.SealKey = s.sealHex
	}
	w, err := backup.NewWriter(to, h)
	if err != nil {
		return h, backup.Totals{}, err
	}
	for {
		for _, e := range page.Entries {
			if err := w.Write(e); err != nil {
				return h, backup.Totals{}, err
			}
		}
		if !page.More {
			break
		}
		if page, err = s.Backup(ctx, c, account, page.Revision, page.After); err != nil {
			return h, backup.Totals{}, err
		}
	}
	totals, err := w.Close()
	return h, totals, err
}

// leaseOf returns the lease of an entry, 0 for none.
func leaseOf(e backup.Entry) (int64, error) {
	if e.Lease == "" {
		return 0, nil
	}
	id, err := strconv.ParseInt(e.Lease, 10, 64)
	if err != nil || id == 0 || e.LeaseSeconds <= 0 || e.LeaseSeconds > math.MaxInt32 {
		return 0, fmt.Errorf("reading key %q: its lease cannot be used: %w", e.Key, backup.ErrDamaged)
	}
	return id, nil
}

// readable refuses an entry of the store's own whose format is newer than this
// build reads.
func (f formats) readable(e backup.Entry, value []byte) error {
	switch e.Key {
	case storeKey:
		var doc storeDocument
		if err := json.Unmarshal(value, &doc); err != nil {
			return fmt.Errorf("reading key %q of the backup: %w", e.Key, err)
		}
		if doc.Format > storeFormat {
			return fmt.Errorf("the backup is of a store of format %d, this build of Fairlead reads up to %d: use a newer one", doc.Format, storeFormat)
		}
	case formatKey:
		var doc levelDocument
		if err := json.Unmarshal(value, &doc); err != nil {
			return fmt.Errorf("reading key %q of the backup: %w", e.Key, err)
		}
		return f.mayRestore(doc.Writes)
	}
	return nil
}

// mayRestore refuses a backup of a store with a format that this build does not read.
func (f formats) mayRestore(format int) error {
	if f.reads(format) {
		return nil
	}
	return fmt.Errorf("its documents have formats up to %d, this build of Fairlead reads %s: use a newer one", format, f)
}
