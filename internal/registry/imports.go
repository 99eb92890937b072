package registry

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// importAtOnce is how many instances one transaction of an import changes.
const importAtOnce = 60

// Import replaces what was imported for a service, which is known by its names and need not
// be registered here. What is imported is kept apart from what is registered: Instances
// and DiscoverInstances show it, nothing in the API changes it, and an instance that is
// registered under the same id hides it. Only what changed is written; many changes take
// several transactions, and what went comes last. Errors are those of the store, and of
// names that cannot be stored.
func (r *Registry) Import(ctx context.Context, account, region, namespace, service string, instances []mesh.Instance) error {
	p := place{account, region}
	puts, deletes, err := r.importChanges(ctx, p, serviceName{namespace, service}, instances)
	if err != nil {
		return fmt.Errorf("importing service %s in namespace %s: %w", service, namespace, err)
	}
	all := slices.Concat(puts, deletes)
	mark, err := put(p.imported(serviceKind, namespace, service), store.AnyRevision, markValue{format})
	if err != nil {
		return err
	}
	found, _, err := r.store.ReadRecords(ctx, self, mark.Key)
	if err != nil {
		return err
	}
	if _, marked := found[mark.Key]; len(all) == 0 && marked {
		return nil
	}
	for first := 0; first == 0 || first < len(all); first += importAtOnce {
		last := min(first+importAtOnce, len(all))
		split := min(max(len(puts), first), last)
		revision, err := r.store.ApplyRecords(ctx, self, store.RecordChange{
			Puts: append([]store.Record{mark}, all[first:split]...), Deletes: all[split:last], Account: account,
		})
		if err != nil {
			return fmt.Errorf("importing service %s in namespace %s: %w", service, namespace, err)
		}
		if last == len(all) {
			r.settle(ctx, revision)
		}
	}
	return nil
}

// Imported returns what was imported for a service, in the order of the ids, and whether
// anything was, be it that there are no instances. What is returned is not to be changed.
func (r *Registry) Imported(k mesh.InstancesKey) ([]mesh.Instance, bool) {
	r.table.mu.RLock()
	defer r.table.mu.RUnlock()
	i := r.table.area(place{k.Account, k.Region}).imported[serviceName{k.Namespace, k.Service}]
	if i == nil {
		return nil, false
	}
	return slices.SortedFunc(maps.Values(i.instances), func(a, b mesh.Instance) int { return strings.Compare(a.ID, b.ID) }), i.revision != 0
}

// Forget removes what was imported for a service, so that it does not exist any more
// unless it is registered here.
func (r *Registry) Forget(ctx context.Context, account, region, namespace, service string) error {
	if err := r.Import(ctx, account, region, namespace, service, nil); err != nil {
		return err
	}
	p := place{account, region}
	revision, err := r.store.ApplyRecords(ctx, self, store.RecordChange{
		Deletes: []store.Record{{Key: p.imported(serviceKind, namespace, service), Revision: store.AnyRevision}},
		Empty:   []string{p.imported(instanceKind, namespace, service) + "/"},
	})
	if err == nil {
		r.settle(ctx, revision)
	}
	return err
}

// importChanges compares what is to be imported with what is.
func (r *Registry) importChanges(ctx context.Context, p place, name serviceName, instances []mesh.Instance) (puts, deletes []store.Record, err error) {
	if !mesh.ValidAccount(p.account) || p.region == "" || strings.Contains(p.region, "/") || name.namespace == "" || name.service == "" {
		return nil, nil, fmt.Errorf("account %q, region %q and both names are needed", p.account, p.region)
	}
	prefix := p.imported(instanceKind, name.namespace, name.service) + "/"
	records, err := r.store.Records(ctx, self, prefix)
	if err != nil {
		return nil, nil, err
	}
	old := make(map[string]store.Record, len(records))
	for _, rec := range records {
		old[rec.Key] = rec
	}
	seen := make(map[string]bool, len(instances))
	for _, i := range instances {
		rec, err := put(prefix+i.ID, store.AnyRevision, importedValue{
			Format: format, IPv4: i.IPv4, IPv6: i.IPv6, Port: i.Port, Zone: i.Zone, Attributes: i.Attributes, Unhealthy: i.Unhealthy,
		})
		if err != nil {
			return nil, nil, err
		}
		if i.ID == "" || seen[rec.Key] {
			return nil, nil, fmt.Errorf("instance id %q is empty or comes twice", i.ID)
		}
		seen[rec.Key] = true
		if !bytes.Equal(old[rec.Key].Value, rec.Value) {
			puts = append(puts, rec)
		}
	}
	for _, rec := range records {
		if !seen[rec.Key] {
			deletes = append(deletes, store.Record{Key: rec.Key, Revision: store.AnyRevision})
		}
	}
	return puts, deletes, nil
}
