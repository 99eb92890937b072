package registry

import (
	"context"
	"math/rand/v2"
	"slices"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// The states of health as the API spells them.
const (
	healthy   = "HEALTHY"
	unhealthy = "UNHEALTHY"
	unknown   = "UNKNOWN" // of services without custom health
)

// defaultMost is how many instances are answered if the request does not say it.
const defaultMost = 100

// meant asks for the service that a request names by names, and returns its instances,
// their revision and whether they have a health.
func (c *call) meant(owner string, name serviceName) (all []mesh.Instance, revision int64, health bool, err error) {
	c.table.mu.RLock()
	a := c.table.area(c.place)
	ns, s := a.names[name.namespace], a.find(name)
	all, ok := a.discovered(name)
	revision = a.revision(name)
	_, imported := a.imported[name]
	c.table.mu.RUnlock()
	q := store.Question{Resource: "*"}
	switch {
	case s != nil:
		q.Resource, q.ResourceTags = c.place.arn(serviceKind, s.id), refs(s.Tags)
	case ns != nil:
		q.Resource, q.ResourceTags = c.place.arn(namespaceKind, ns.id), refs(ns.Tags)
	}
	if err := c.may(q); err != nil {
		return nil, 0, false, err
	}
	switch {
	case owner != "" && owner != c.account, ns == nil && !c.importedNamespace(name.namespace):
		return nil, 0, false, mesh.Errorf(ErrNamespaceNotFound, "there is no namespace with the name %s", name.namespace)
	case !ok:
		return nil, 0, false, mesh.Errorf(ErrServiceNotFound, "there is no service with the name %s in namespace %s", name.service, name.namespace)
	}
	return all, revision, imported || s != nil && s.Custom != nil, nil
}

// importedNamespace reports whether a service of a namespace was imported.
func (c *call) importedNamespace(namespace string) bool {
	return c.count(func(a *area) int {
		for name := range a.imported {
			if name.namespace == namespace {
				return 1
			}
		}
		return 0
	}) > 0
}

func (c *call) discoverInstances(in *DiscoverInstancesRequest) (any, error) {
	all, revision, health, err := c.meant(in.OwnerAccount, serviceName{in.NamespaceName, in.ServiceName})
	if err != nil {
		return nil, err
	}
	all = having(all, in.QueryParameters)
	if health {
		all = ofHealth(all, in.HealthStatus)
	}
	if len(in.OptionalParameters) > 0 {
		if preferred := having(all, in.OptionalParameters); len(preferred) > 0 {
			all = preferred
		}
	}
	// In any order, so that clients that take the first ones share the load.
	all = slices.Clone(all)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	most := defaultMost
	if in.MaxResults != nil {
		most = int(*in.MaxResults)
	}
	out := make([]HttpInstanceSummary, 0, min(most, len(all)))
	for _, i := range all[:min(most, len(all))] {
		out = append(out, HttpInstanceSummary{
			Attributes: i.Attributes, HealthStatus: healthOf(&i, health), InstanceID: i.ID, NamespaceName: in.NamespaceName, ServiceName: in.ServiceName,
		})
	}
	return &DiscoverInstancesResponse{Instances: out, InstancesRevision: &revision}, nil
}

func (c *call) discoverInstancesRevision(in *DiscoverInstancesRevisionRequest) (any, error) {
	_, revision, _, err := c.meant(in.OwnerAccount, serviceName{in.NamespaceName, in.ServiceName})
	if err != nil {
		return nil, err
	}
	return &DiscoverInstancesRevisionResponse{InstancesRevision: &revision}, nil
}

// having returns the instances that have all of some attributes.
func having(all []mesh.Instance, attributes map[string]string) []mesh.Instance {
	return slices.DeleteFunc(slices.Clone(all), func(i mesh.Instance) bool {
		for name, value := range attributes {
			if got, ok := i.Attributes[name]; !ok || got != value {
				return true
			}
		}
		return false
	})
}

// ofHealth returns the instances of a state of health, by default those that are healthy,
// or all if none is.
func ofHealth(all []mesh.Instance, wanted string) []mesh.Instance {
	of := func(unhealthy bool) []mesh.Instance {
		return slices.DeleteFunc(slices.Clone(all), func(i mesh.Instance) bool { return i.Unhealthy != unhealthy })
	}
	switch wanted {
	case "ALL":
		return all
	case unhealthy:
		return of(true)
	case healthy:
		return of(false)
	}
	if good := of(false); len(good) > 0 {
		return good
	}
	return all
}

func healthOf(i *mesh.Instance, known bool) string {
	switch {
	case !known:
		return unknown
	case i.Unhealthy:
		return unhealthy
	}
	return healthy
}

func (c *call) getInstancesHealthStatus(in *GetInstancesHealthStatusRequest) (any, error) {
	s, err := c.serviceNow("ServiceId", in.ServiceID)
	if err != nil {
		return nil, err
	}
	all := c.registered(s.id)
	if in.Instances != nil {
		for _, id := range in.Instances {
			if !slices.ContainsFunc(all, func(i *instance) bool { return i.ID == id }) {
				return nil, c.noInstance(s, id)
			}
		}
		all = slices.DeleteFunc(all, func(i *instance) bool { return !slices.Contains(in.Instances, i.ID) })
	}
	found, next, err := page(c, all, instanceID, in.MaxResults, in.NextToken, s.id, hash(in.Instances))
	out := make(map[string]string, len(found))
	for _, i := range found {
		out[i.ID] = healthOf(&i.Instance, s.Custom != nil)
	}
	return &GetInstancesHealthStatusResponse{NextToken: next, Status: out}, err
}

// updateInstanceCustomHealthStatus notes an instance's health. The revision of the
// service's instances stays as it is.
func (c *call) updateInstanceCustomHealthStatus(ctx context.Context, in *UpdateInstanceCustomHealthStatusRequest) (any, error) {
	s, err := c.serviceNow("ServiceId", in.ServiceID)
	if err != nil {
		return nil, err
	}
	if s.Custom == nil {
		return nil, mesh.Errorf(ErrCustomHealthNotFound, "service %s has no HealthCheckCustomConfig, so that its instances have no health", s.id)
	}
	err = c.change(ctx, func() (store.RecordChange, error) {
		rec, err := c.readInstance(ctx, s, in.InstanceID)
		if err != nil {
			return store.RecordChange{}, err
		}
		v, err := read[instanceValue](rec)
		if err != nil || v.Unhealthy == (in.Status == unhealthy) {
			return store.RecordChange{}, err
		}
		v.Unhealthy = in.Status == unhealthy
		changed, err := put(rec.Key, rec.Revision, v)
		return store.RecordChange{Puts: []store.Record{changed}}, err
	})
	return struct{}{}, err
}
