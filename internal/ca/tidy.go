package ca

import (
	"context"
	"errors"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

// tidyEvery is how often what has come to its end is looked for.
const tidyEvery = 10 * time.Minute

// Run forgets the authorities of meshes that are gone and revocations that are over, until
// ctx ends. One replica at a time is enough; several do no harm.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		if err := s.tidy(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("tidying certificate authorities failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// tidy looks at each authority once.
func (s *Service) tidy(ctx context.Context) error {
	s.mu.RLock()
	all := make([]*authority, 0, len(s.all))
	for _, a := range s.all {
		all = append(all, a)
	}
	s.mu.RUnlock()
	var errs []error
	for _, a := range all {
		if err := s.tidyOne(ctx, a); err != nil && !raced(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *Service) tidyOne(ctx context.Context, a *authority) error {
	o, err := s.store.Get(ctx, self, a.mesh.MeshObject())
	switch {
	case notFound(err) || err == nil && o.UID != a.MeshUID:
		return s.forget(ctx, a)
	case err != nil:
		return err
	}
	if after := a.clone(); s.over(after) {
		_, err = s.write(ctx, a, after)
		return err
	}
	s.renewed(ctx, a)
	return nil
}

// over reports whether something of an authority has come to its end, and drops it.
func (s *Service) over(a *authority) bool {
	before := len(a.Serials) + len(a.Workloads) + len(a.Signers)
	s.prune(a)
	return len(a.Serials)+len(a.Workloads)+len(a.Signers) != before
}

// forget removes the authority of a mesh that is gone, and its keys with it.
func (s *Service) forget(ctx context.Context, a *authority) error {
	deletes := []store.Record{{Key: authorityKey(a.mesh), Revision: a.revision}}
	for _, id := range a.anchorIDs() {
		deletes = append(deletes, store.Record{Key: anchorMarkPrefix + id, Revision: store.AnyRevision})
	}
	s.log.Info("forgetting the authority of a mesh that is gone", "mesh", a.mesh.Name, "account", a.mesh.Account)
	return s.store.ChangeRecords(ctx, self, nil, deletes)
}
