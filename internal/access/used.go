package access

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

const (
	// usedEvery is how often the last uses of keys are written down.
	usedEvery = 5 * time.Minute
	// usedStep is the resolution in which they are noted.
	usedStep = time.Second
	// usedBatch bounds how many are written in one transaction.
	usedBatch = 100
)

// use is a use of an access key.
type use struct {
	at              time.Time
	region, service string
}

// usage is the last use of an access key on this replica.
type usage struct {
	last    atomic.Pointer[use]
	written atomic.Int64 // the time of the last use that was written down, in Unix nanoseconds
}

// note notes a use. It is called for each request, and so stores one a second only.
func (u *usage) note(at time.Time, region, service string) {
	if last := u.last.Load(); last != nil && at.Sub(last.at) < usedStep && last.region == region && last.service == service {
		return
	}
	u.last.Store(&use{at, region, service})
}

// keepUses writes down the last uses now and then, and once more when ctx ends.
func (a *Service) keepUses(ctx context.Context) {
	ticker := time.NewTicker(usedEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			a.writeUses(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
			defer cancel()
			a.writeUses(last)
			return
		}
	}
}

// writeUses writes down the uses that have not been. What fails is tried again the
// next time.
func (a *Service) writeUses(ctx context.Context) {
	waiting := map[string][]*accessKey{} // by account
	a.table.Load().keys.Root().Walk(func(_ []byte, k *accessKey) bool {
		if last := k.used.last.Load(); last != nil && last.at.UnixNano() > k.used.written.Load() {
			waiting[k.account] = append(waiting[k.account], k)
		}
		return false
	})
	for account, keys := range waiting {
		if err := a.writeAccountUses(ctx, account, keys); err != nil {
			a.log.Warn("last uses of access keys could not be written down", "account", account, "error", err)
		}
	}
}

func (a *Service) writeAccountUses(ctx context.Context, account string, keys []*accessKey) error {
	before, err := a.uses(ctx, usedKey(account, ""))
	if err != nil {
		return err
	}
	for len(keys) > 0 {
		batch := keys[:min(len(keys), usedBatch)]
		keys = keys[len(batch):]
		var puts []store.Record
		var written []func()
		for _, k := range batch {
			last := k.used.last.Load()
			key := usedKey(account, k.signer.id)
			written = append(written, func() { k.used.written.Store(last.at.UnixNano()) })
			if v, ok := before[key]; ok && !v.At.Before(last.at) {
				continue // another replica has seen a later one
			}
			value, err := json.Marshal(usedValue{Format: recordFormat, At: last.at.UTC(), Region: last.region, Service: last.service})
			if err != nil {
				return fmt.Errorf("writing last uses: %w", err)
			}
			puts = append(puts, store.Record{Key: key, Value: value, Revision: store.AnyRevision})
		}
		if err := a.store.PutRecords(ctx, self, puts); err != nil {
			return fmt.Errorf("writing last uses: %w", err)
		}
		for _, note := range written {
			note()
		}
	}
	return nil
}

// uses reads the last uses that have been written down, by their records' keys.
func (a *Service) uses(ctx context.Context, prefix string) (map[string]usedValue, error) {
	records, err := a.store.Records(ctx, self, prefix)
	if err != nil {
		return nil, fmt.Errorf("reading last uses: %w", err)
	}
	all := make(map[string]usedValue, len(records))
	for _, rec := range records {
		var v usedValue
		if decodeRecord(rec.Value, &v) == nil { // one that cannot be read is no use to anybody
			all[rec.Key] = v
		}
	}
	return all, nil
}
