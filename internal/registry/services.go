package registry

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// maxServiceName is the length of a service's name, which the model's pattern looks ahead
// for.
const maxServiceName = 127

// maxAttributes is how many attributes a service can have.
const maxAttributes = 30

func (c *call) createService(ctx context.Context, in *CreateServiceRequest) (any, error) {
	given := in.NamespaceID
	if given == "" && in.DnsConfig != nil {
		given = in.DnsConfig.NamespaceID
	}
	if given == "" {
		return nil, mesh.Errorf(ErrInvalidInput, "NamespaceId is required")
	}
	nsID, err := c.own("NamespaceId", namespaceKind, given)
	if err != nil {
		return nil, err
	}
	nsKey := c.place.own(namespaceKind, nsID)
	asked := false
	var out *service
	v := serviceValue{
		Format: format, Name: in.Name, Namespace: nsID, Description: in.Description, DNS: withoutNamespace(in.DnsConfig),
		Custom: in.HealthCheckCustomConfig, Tags: in.Tags, Created: c.now().UTC(),
		made: made{Token: in.CreatorRequestID, Parameters: hash(in.Name, nsID, in.Description, in.DnsConfig, in.HealthCheckCustomConfig, in.Tags, in.Type)},
	}
	err = c.change(ctx, func() (store.RecordChange, error) {
		inKey := c.place.own(insideKind, nsID, in.Name)
		found, _, err := c.store.ReadRecords(ctx, self, nsKey, inKey)
		if err != nil {
			return store.RecordChange{}, err
		}
		ns, err := c.namespaceFound(found[nsKey], nsID, &asked, in.Tags)
		if err != nil {
			return store.RecordChange{}, err
		}
		if v.Type, err = checkService(in, ns); err != nil {
			return store.RecordChange{}, err
		}
		if rec, ok := found[inKey]; ok {
			out, err = c.sameService(ctx, string(rec.Value), &v)
			return store.RecordChange{}, err
		}
		if n := c.count(func(a *area) int { return a.count[nsID] }); n >= c.limits.ServicesPerNamespace {
			return store.RecordChange{}, mesh.Errorf(ErrResourceLimitExceeded, "namespace %s has %d services, allowed are %d", nsID, n, c.limits.ServicesPerNamespace)
		}
		out = &service{id: newID("srv-"), serviceValue: v}
		return c.newService(out, store.Record{Key: nsKey, Revision: found[nsKey].Revision}, inKey)
	})
	if err != nil {
		return nil, err
	}
	return &CreateServiceResponse{Service: c.describe(out)}, nil
}

// newService returns what is written of a service in a namespace that is held.
func (c *call) newService(s *service, ns store.Record, inKey string) (store.RecordChange, error) {
	svc, err1 := put(c.place.own(serviceKind, s.id), 0, s.serviceValue)
	rev, err2 := put(c.place.own(revisionKind, s.id), store.AnyRevision, markValue{format})
	return store.RecordChange{
		Puts:  []store.Record{svc, rev, {Key: inKey, Value: []byte(s.id)}},
		Holds: []store.Record{ns},
	}, errors.Join(err1, err2)
}

// withoutNamespace leaves out the member that was replaced by the one beside it.
func withoutNamespace(d *DnsConfig) *DnsConfig {
	if d == nil {
		return nil
	}
	out := *d
	out.NamespaceID = ""
	if out.RoutingPolicy == "" {
		out.RoutingPolicy = "MULTIVALUE"
	}
	return &out
}

// namespaceFound reads a namespace that something is made in, and asks for it once.
func (c *call) namespaceFound(rec store.Record, id string, asked *bool, tags []Tag) (*namespaceValue, error) {
	q := store.Question{Resource: c.place.arn(namespaceKind, id), RequestTags: refs(tags)}
	var v namespaceValue
	if rec.Revision != 0 {
		var err error
		if v, err = read[namespaceValue](rec); err != nil {
			return nil, err
		}
		q.ResourceTags = refs(v.Tags)
	}
	if !*asked {
		if err := c.may(q); err != nil {
			return nil, err
		}
		*asked = true
	}
	if rec.Revision == 0 {
		return nil, noNamespace(id)
	}
	return &v, nil
}

// checkService holds the rules for a service beyond the model, and returns its type.
func checkService(in *CreateServiceRequest, ns *namespaceValue) (kind string, err error) {
	switch {
	case len(in.Name) > maxServiceName:
		return "", mesh.Errorf(ErrInvalidInput, "Name must have 1 to %d characters, %d were given", maxServiceName, len(in.Name))
	case in.HealthCheckConfig != nil:
		return "", mesh.Errorf(ErrInvalidInput, "HealthCheckConfig asks for checks by Route 53, which are not made here: use HealthCheckCustomConfig, or a health check of a virtual node's listener")
	case in.DnsConfig != nil && ns.Type == typeHTTP:
		return "", mesh.Errorf(ErrInvalidInput, "DnsConfig is for services in DNS namespaces, and namespace %s is an HTTP namespace", ns.Name)
	case in.DnsConfig != nil && in.Type != "":
		return "", mesh.Errorf(ErrInvalidInput, "Type HTTP and DnsConfig exclude each other")
	}
	if err := checkTags(in.Name, in.Tags); err != nil {
		return "", err
	}
	if in.DnsConfig == nil {
		return "HTTP", nil
	}
	return "DNS_HTTP", checkDNS(in.DnsConfig.DnsRecords)
}

// checkDNS holds which records a service may have: A, AAAA, both, SRV or CNAME.
func checkDNS(records []DnsRecord) error {
	kinds := make([]string, len(records))
	for i, r := range records {
		kinds[i] = r.Type
	}
	slices.Sort(kinds)
	switch strings.Join(kinds, " ") {
	case "A", "AAAA", "A AAAA", "SRV", "CNAME":
		return nil
	}
	return mesh.Errorf(ErrInvalidInput, "DnsConfig.DnsRecords must be A, AAAA, A and AAAA, SRV or CNAME, %q was given", strings.Join(kinds, ", "))
}

// sameService returns a service of the same name, if it was made by the same request.
func (c *call) sameService(ctx context.Context, id string, v *serviceValue) (*service, error) {
	key := c.place.own(serviceKind, id)
	found, _, err := c.store.ReadRecords(ctx, self, key)
	if err != nil {
		return nil, err
	}
	rec, ok := found[key]
	if !ok {
		return nil, store.ErrRevision // deleted meanwhile
	}
	other, err := read[serviceValue](rec)
	switch {
	case err != nil:
		return nil, err
	case v.Token != "" && other.Token == v.Token && other.Parameters == v.Parameters:
		return &service{id, other}, nil
	}
	return nil, &detailed{
		mesh.Errorf(ErrServiceAlreadyExists, "a service with the name %s exists already: %s", v.Name, id),
		map[string]string{"ServiceId": id, "ServiceArn": c.place.arn(serviceKind, id), "CreatorRequestId": other.Token},
	}
}

// serviceNow returns a service for a read, and asks for it.
func (c *call) serviceNow(field, given string) (*service, error) {
	id, err := c.own(field, serviceKind, given)
	if err != nil {
		return nil, err
	}
	c.table.mu.RLock()
	s := c.table.area(c.place).services[id]
	c.table.mu.RUnlock()
	q := store.Question{Resource: c.place.arn(serviceKind, id)}
	if s != nil {
		q.ResourceTags = refs(s.Tags)
	}
	if err := c.may(q); err != nil {
		return nil, err
	}
	if s == nil {
		return nil, noService(id)
	}
	return s, nil
}

func noService(id string) error {
	return mesh.Errorf(ErrServiceNotFound, "there is no service with the id %s", id)
}

// describe returns a service as answers about one have it.
func (c *call) describe(s *service) *Service {
	return &Service{
		ARN: c.place.arn(serviceKind, s.id), CreateDate: Time(s.Created), CreatedByAccount: c.account, CreatorRequestID: s.Token, Description: s.Description,
		DnsConfig: s.DNS, HealthCheckCustomConfig: s.Custom, ID: s.id, InstanceCount: c.instanceCount(s.id), Name: s.Name,
		NamespaceID: s.Namespace, ResourceOwner: c.account, Type: s.Type,
	}
}

func (c *call) instanceCount(id string) *int64 {
	n := int64(c.count(func(a *area) int { return len(a.instances[id]) }))
	return &n
}

func (c *call) getService(in *GetServiceRequest) (any, error) {
	s, err := c.serviceNow("Id", in.ID)
	if err != nil {
		return nil, err
	}
	return &GetServiceResponse{Service: c.describe(s)}, nil
}

func (c *call) listServices(in *ListServicesRequest) (any, error) {
	if err := c.may(store.Question{Resource: "*"}); err != nil {
		return nil, err
	}
	filters := make([]filter, len(in.Filters))
	for i, f := range in.Filters {
		filters[i] = filter(f)
		for j, v := range f.Values {
			if f.Name == "NAMESPACE_ID" && strings.HasPrefix(v, "arn:") {
				id, err := c.own("Filters.Values", namespaceKind, v)
				if err != nil {
					return nil, err
				}
				filters[i].Values = slices.Clone(f.Values)
				filters[i].Values[j] = id
			}
		}
	}
	match, err := matcher(filters, map[string]rule{
		"NAMESPACE_ID": {conditions: inToo}, "RESOURCE_OWNER": {conditions: onlyEquals, values: owners},
	})
	if err != nil {
		return nil, err
	}
	c.table.mu.RLock()
	var all []*service
	for _, s := range c.table.area(c.place).services {
		if match(map[string]string{"NAMESPACE_ID": s.Namespace, "RESOURCE_OWNER": "SELF"}) {
			all = append(all, s)
		}
	}
	c.table.mu.RUnlock()
	slices.SortFunc(all, func(x, y *service) int { return cmp.Compare(x.id, y.id) })
	found, next, err := page(c, all, func(s *service) string { return s.id }, in.MaxResults, in.NextToken, hash(in.Filters))
	out := make([]ServiceSummary, len(found))
	for i, s := range found {
		d := c.describe(s)
		out[i] = ServiceSummary{
			ARN: d.ARN, CreateDate: d.CreateDate, CreatedByAccount: d.CreatedByAccount, Description: d.Description, DnsConfig: d.DnsConfig,
			HealthCheckCustomConfig: d.HealthCheckCustomConfig, ID: d.ID, InstanceCount: d.InstanceCount, Name: d.Name, ResourceOwner: d.ResourceOwner, Type: d.Type,
		}
	}
	return &ListServicesResponse{NextToken: next, Services: out}, err
}

// editService changes the record of a service. edit refuses or changes it; op, if any, is
// done with it.
func (c *call) editService(ctx context.Context, id string, op *pending, edit func(*serviceValue) error) error {
	return c.change(ctx, func() (store.RecordChange, error) {
		key := c.place.own(serviceKind, id)
		found, _, err := c.store.ReadRecords(ctx, self, key)
		if err != nil {
			return store.RecordChange{}, err
		}
		rec, ok := found[key]
		if !ok {
			return store.RecordChange{}, noService(id)
		}
		v, err := read[serviceValue](rec)
		if err != nil {
			return store.RecordChange{}, err
		}
		if err := edit(&v); err != nil {
			return store.RecordChange{}, err
		}
		changed, err := put(key, rec.Revision, v)
		if err != nil {
			return store.RecordChange{}, err
		}
		out := store.RecordChange{Puts: []store.Record{changed}}
		if op == nil {
			return out, nil
		}
		return c.with(ctx, op, out)
	})
}

func (c *call) updateService(ctx context.Context, in *UpdateServiceRequest) (any, error) {
	s, err := c.serviceNow("Id", in.ID)
	if err != nil {
		return nil, err
	}
	op := c.newOperation("UPDATE_SERVICE", "", "", map[string]string{"SERVICE": s.id})
	err = c.editService(ctx, s.id, op, func(v *serviceValue) error {
		if in.Service.Description != nil {
			v.Description = *in.Service.Description
		}
		switch {
		case in.Service.HealthCheckConfig != nil:
			return mesh.Errorf(ErrInvalidInput, "Service.HealthCheckConfig asks for checks by Route 53, which are not made here")
		case in.Service.DnsConfig == nil:
			return nil
		case v.DNS == nil:
			return mesh.Errorf(ErrInvalidInput, "Service.DnsConfig was given, and service %s was created without one", s.id)
		}
		dns := *v.DNS
		dns.DnsRecords = in.Service.DnsConfig.DnsRecords
		v.DNS = &dns
		return checkDNS(dns.DnsRecords)
	})
	return &UpdateServiceResponse{OperationID: op.id}, err
}

func (c *call) deleteService(ctx context.Context, in *DeleteServiceRequest) (any, error) {
	s, err := c.serviceNow("Id", in.ID)
	if err != nil {
		return nil, err
	}
	err = c.change(ctx, func() (store.RecordChange, error) {
		key := c.place.own(serviceKind, s.id)
		found, _, err := c.store.ReadRecords(ctx, self, key)
		if err != nil {
			return store.RecordChange{}, err
		}
		rec, ok := found[key]
		if !ok {
			return store.RecordChange{}, noService(s.id)
		}
		return store.RecordChange{
			Deletes: []store.Record{
				{Key: key, Revision: rec.Revision},
				{Key: c.place.own(insideKind, s.Namespace, s.Name), Revision: store.AnyRevision},
				{Key: c.place.own(revisionKind, s.id), Revision: store.AnyRevision},
			},
			Empty: []string{c.place.own(instanceKind, s.id, "")},
		}, nil
	})
	if errors.Is(err, store.ErrNotEmpty) {
		c.table.mu.RLock()
		ids := some(slices.Sorted(maps.Keys(c.table.area(c.place).instances[s.id])))
		c.table.mu.RUnlock()
		return nil, mesh.Errorf(ErrResourceInUse, "service %s has registered instances, deregister them first: %s", s.id, ids)
	}
	return &DeleteServiceResponse{}, err
}

func (c *call) getServiceAttributes(in *GetServiceAttributesRequest) (any, error) {
	s, err := c.serviceNow("ServiceId", in.ServiceID)
	if err != nil {
		return nil, err
	}
	attributes := s.Attributes
	if attributes == nil {
		attributes = map[string]string{}
	}
	return &GetServiceAttributesResponse{ServiceAttributes: &ServiceAttributes{
		Attributes: attributes, ResourceOwner: c.account, ServiceARN: c.place.arn(serviceKind, s.id),
	}}, nil
}

func (c *call) updateServiceAttributes(ctx context.Context, in *UpdateServiceAttributesRequest) (any, error) {
	s, err := c.serviceNow("ServiceId", in.ServiceID)
	if err != nil {
		return nil, err
	}
	return &UpdateServiceAttributesResponse{}, c.editService(ctx, s.id, nil, func(v *serviceValue) error {
		if v.Attributes == nil {
			v.Attributes = map[string]string{}
		}
		maps.Copy(v.Attributes, in.Attributes)
		if n := len(v.Attributes); n > maxAttributes {
			return mesh.Errorf(ErrServiceAttributesLimitExceeded, "service %s would have %d attributes, allowed are %d", s.id, n, maxAttributes)
		}
		return nil
	})
}

func (c *call) deleteServiceAttributes(ctx context.Context, in *DeleteServiceAttributesRequest) (any, error) {
	s, err := c.serviceNow("ServiceId", in.ServiceID)
	if err != nil {
		return nil, err
	}
	return &DeleteServiceAttributesResponse{}, c.editService(ctx, s.id, nil, func(v *serviceValue) error {
		for _, name := range in.Attributes {
			delete(v.Attributes, name)
		}
		return nil
	})
}
