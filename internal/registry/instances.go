package registry

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// registration is a RegisterInstance on its way.
type registration struct {
	*call
	in      *RegisterInstanceRequest
	service string // its id
	op      *pending
	keys    struct{ service, instance, beat, revision string }
}

// registerInstance registers an instance, changes its attributes, or begins its lease anew.
func (c *call) registerInstance(ctx context.Context, in *RegisterInstanceRequest) (any, error) {
	s, err := c.serviceNow("ServiceId", in.ServiceID)
	if err != nil {
		return nil, err
	}
	r := &registration{call: c, in: in, service: s.id}
	r.op = c.newOperation("REGISTER_INSTANCE", in.CreatorRequestID, hash(s.id, in.InstanceID, in.Attributes),
		map[string]string{"INSTANCE": in.InstanceID, "SERVICE": s.id})
	r.keys.service = c.place.own(serviceKind, s.id)
	r.keys.instance = c.place.own(instanceKind, s.id, in.InstanceID)
	r.keys.beat = c.place.own(beatKind, s.id, in.InstanceID)
	r.keys.revision = c.place.own(revisionKind, s.id)
	err = c.change(ctx, func() (store.RecordChange, error) { return r.decide(ctx) })
	return &RegisterInstanceResponse{OperationID: r.op.id}, err
}

// decide returns what a registration writes: nothing if only a lease is begun anew.
func (r *registration) decide(ctx context.Context) (none store.RecordChange, err error) {
	found, _, err := r.store.ReadRecords(ctx, self, r.keys.service, r.keys.instance, r.keys.beat, r.op.key)
	if err != nil {
		return none, err
	}
	rec, ok := found[r.keys.service]
	if !ok {
		return none, noService(r.service)
	}
	svc, err := read[serviceValue](rec)
	if err != nil {
		return none, err
	}
	if err := checkInstance(r.in.Attributes, &svc); err != nil {
		return none, err
	}
	known, err := r.op.repeated(found)
	if err != nil || known && lease(r.in.Attributes) == 0 {
		// A request that comes a second time, late, must not undo what came between. One
		// with a lease is meant to be repeated.
		return none, err
	}
	held := store.Record{Key: r.keys.service, Revision: rec.Revision}
	old, there := found[r.keys.instance]
	if !there {
		if err := r.room(); err != nil {
			return none, err
		}
		v := instanceValue{Format: format, Attributes: r.in.Attributes, Registered: r.now().UTC(), Unhealthy: r.in.Attributes[attrInit] == unhealthy}
		return r.write(ctx, found, v, held)
	}
	v, err := read[instanceValue](old)
	if err != nil {
		return none, err
	}
	if maps.Equal(v.Attributes, r.in.Attributes) {
		r.op.id = v.Operation
		return r.renew(ctx, found)
	}
	if init := r.in.Attributes[attrInit]; init != "" && init != v.Attributes[attrInit] {
		v.Unhealthy = init == unhealthy
	}
	v.Attributes = r.in.Attributes
	return r.write(ctx, found, v, held)
}

// room refuses a new instance where there are as many as may be.
func (r *registration) room() error {
	r.table.mu.RLock()
	defer r.table.mu.RUnlock()
	a := r.table.area(r.place)
	if n := len(a.instances[r.service]); n >= r.limits.InstancesPerService {
		return mesh.Errorf(ErrResourceLimitExceeded, "service %s has %d instances, allowed are %d", r.service, n, r.limits.InstancesPerService)
	}
	all := 0
	for _, of := range a.instances {
		all += len(of)
	}
	if all >= r.limits.Instances {
		return mesh.Errorf(ErrResourceLimitExceeded, "the account has %d instances in region %s, allowed are %d", all, r.region, r.limits.Instances)
	}
	return nil
}

// write returns the change that registers an instance. An operation that is kept already
// is of the same request.
func (r *registration) write(ctx context.Context, found map[string]store.Record, v instanceValue, service store.Record) (store.RecordChange, error) {
	v.made = made{Token: r.in.CreatorRequestID, Operation: r.op.id}
	change := store.RecordChange{Holds: []store.Record{service}}
	instance, err1 := put(r.keys.instance, found[r.keys.instance].Revision, v)
	revision, err2 := put(r.keys.revision, store.AnyRevision, markValue{format})
	change.Puts = append(change.Puts, instance, revision)
	if err := errors.Join(err1, err2); err != nil {
		return change, err
	}
	old, beats := found[r.keys.beat]
	switch seconds := lease(v.Attributes); {
	case seconds > 0:
		beat, err := r.beat(ctx, seconds)
		if err != nil {
			return change, err
		}
		change.Puts = append(change.Puts, beat)
	case beats:
		change.Deletes = append(change.Deletes, store.Record{Key: old.Key, Revision: store.AnyRevision})
	}
	if _, kept := found[r.op.key]; kept {
		return change, nil
	}
	return r.with(ctx, r.op, change)
}

func (c *call) deregisterInstance(ctx context.Context, in *DeregisterInstanceRequest) (any, error) {
	s, err := c.serviceNow("ServiceId", in.ServiceID)
	if err != nil {
		return nil, err
	}
	op := c.newOperation("DEREGISTER_INSTANCE", "", "", map[string]string{"INSTANCE": in.InstanceID, "SERVICE": s.id})
	err = c.change(ctx, func() (store.RecordChange, error) {
		rec, err := c.readInstance(ctx, s, in.InstanceID)
		if err != nil {
			return store.RecordChange{}, err
		}
		change, err := c.place.without(s.id, in.InstanceID, rec.Revision)
		if err != nil {
			return change, err
		}
		change.Deletes = append(change.Deletes, store.Record{Key: c.place.own(beatKind, s.id, in.InstanceID), Revision: store.AnyRevision})
		return c.with(ctx, op, change)
	})
	return &DeregisterInstanceResponse{OperationID: op.id}, err
}

// without returns the change that takes out an instance which has a revision now.
func (p place) without(service, id string, revision int64) (store.RecordChange, error) {
	mark, err := put(p.own(revisionKind, service), store.AnyRevision, markValue{format})
	return store.RecordChange{
		Deletes: []store.Record{{Key: p.own(instanceKind, service, id), Revision: revision}},
		Puts:    []store.Record{mark},
	}, err
}

// readInstance reads the record of an instance; the error says if it, or its service, is
// gone.
func (c *call) readInstance(ctx context.Context, s *service, id string) (none store.Record, err error) {
	owner, key := c.place.own(serviceKind, s.id), c.place.own(instanceKind, s.id, id)
	found, _, err := c.store.ReadRecords(ctx, self, owner, key)
	if err != nil {
		return none, err
	}
	if _, ok := found[owner]; !ok {
		return none, noService(s.id)
	}
	rec, ok := found[key]
	if !ok {
		return none, c.noInstance(s, id)
	}
	return rec, nil
}

func (c *call) noInstance(s *service, id string) error {
	c.table.mu.RLock()
	defer c.table.mu.RUnlock()
	a := c.table.area(c.place)
	if ns := a.namespaces[s.Namespace]; ns != nil {
		if i := a.imported[serviceName{ns.Name, s.Name}]; i != nil {
			if _, ok := i.instances[id]; ok {
				return mesh.Errorf(ErrInstanceNotFound, "instance %q of service %s was not registered here: it is imported, and can only be discovered", id, s.id)
			}
		}
	}
	return mesh.Errorf(ErrInstanceNotFound, "there is no instance with the id %q in service %s", id, s.id)
}

func (c *call) getInstance(in *GetInstanceRequest) (any, error) {
	s, err := c.serviceNow("ServiceId", in.ServiceID)
	if err != nil {
		return nil, err
	}
	c.table.mu.RLock()
	i := c.table.area(c.place).instances[s.id][in.InstanceID]
	c.table.mu.RUnlock()
	if i == nil {
		return nil, c.noInstance(s, in.InstanceID)
	}
	return &GetInstanceResponse{ResourceOwner: c.account, Instance: &Instance{
		Attributes: i.Attributes, CreatedByAccount: c.account, CreatorRequestID: i.token, ID: i.ID,
	}}, nil
}

// registered returns the instances of a service that were registered here, by their ids.
func (c *call) registered(id string) []*instance {
	c.table.mu.RLock()
	defer c.table.mu.RUnlock()
	all := slices.Collect(maps.Values(c.table.area(c.place).instances[id]))
	slices.SortFunc(all, func(x, y *instance) int { return cmp.Compare(x.ID, y.ID) })
	return all
}

func instanceID(i *instance) string { return i.ID }

func (c *call) listInstances(in *ListInstancesRequest) (any, error) {
	s, err := c.serviceNow("ServiceId", in.ServiceID)
	if err != nil {
		return nil, err
	}
	found, next, err := page(c, c.registered(s.id), instanceID, in.MaxResults, in.NextToken, s.id)
	out := make([]InstanceSummary, len(found))
	for n, i := range found {
		out[n] = InstanceSummary{Attributes: i.Attributes, CreatedByAccount: c.account, ID: i.ID}
	}
	return &ListInstancesResponse{Instances: out, NextToken: next, ResourceOwner: c.account}, err
}
