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

// The types of namespaces that there are.
const (
	typeHTTP    = "HTTP"
	typePrivate = "DNS_PRIVATE"
)

func (c *call) createHTTPNamespace(ctx context.Context, in *CreateHttpNamespaceRequest) (any, error) {
	v := namespaceValue{Name: in.Name, Type: typeHTTP, Description: in.Description, Tags: in.Tags}
	id, err := c.createNamespace(ctx, v, in.CreatorRequestID)
	return &CreateHttpNamespaceResponse{OperationID: id}, err
}

func (c *call) createPrivateDNSNamespace(ctx context.Context, in *CreatePrivateDnsNamespaceRequest) (any, error) {
	v := namespaceValue{Name: in.Name, Type: typePrivate, Description: in.Description, VPC: in.Vpc, Tags: in.Tags}
	if in.Properties != nil {
		v.TTL = &in.Properties.DnsProperties.SOA.TTL
	}
	id, err := c.createNamespace(ctx, v, in.CreatorRequestID)
	return &CreatePrivateDnsNamespaceResponse{OperationID: id}, err
}

// noPublicDNS refuses what would need a public name server.
func (c *call) noPublicDNS() (any, error) {
	if err := c.may(store.Question{Resource: "*"}); err != nil {
		return nil, err
	}
	return nil, mesh.Errorf(ErrInvalidInput, "public DNS namespaces are not served: create an HTTP or a private DNS namespace")
}

// createNamespace makes a namespace and returns the id of the operation.
func (c *call) createNamespace(ctx context.Context, v namespaceValue, token string) (string, error) {
	if err := c.may(store.Question{Resource: "*", RequestTags: refs(v.Tags)}); err != nil {
		return "", err
	}
	if strings.HasPrefix(v.Name, "arn:") {
		return "", mesh.Errorf(ErrInvalidInput, "Name must not begin with arn:, %q was given", v.Name)
	}
	if err := checkTags(v.Name, v.Tags); err != nil {
		return "", err
	}
	v.Format, v.Created = format, c.now().UTC()
	v.Token, v.Parameters = token, hash(c.operation, v.Name, v.Description, v.VPC, v.TTL, v.Tags)
	id := newID("ns-")
	op := c.newOperation("CREATE_NAMESPACE", token, v.Parameters, map[string]string{"NAMESPACE": id})
	v.Operation = op.id
	err := c.change(ctx, func() (store.RecordChange, error) {
		nameKey := c.place.own(nameKind, v.Name)
		found, _, err := c.store.ReadRecords(ctx, self, nameKey, op.key)
		if err != nil {
			return store.RecordChange{}, err
		}
		if known, err := op.repeated(found); known || err != nil {
			return store.RecordChange{}, err
		}
		if rec, ok := found[nameKey]; ok {
			other, err := c.sameNamespace(ctx, string(rec.Value), v)
			op.id = other
			return store.RecordChange{}, err
		}
		if n := c.count(func(a *area) int { return len(a.namespaces) }); n >= c.limits.Namespaces {
			return store.RecordChange{}, mesh.Errorf(ErrResourceLimitExceeded, "the account has %d namespaces in region %s, allowed are %d", n, c.region, c.limits.Namespaces)
		}
		ns, err := put(c.place.own(namespaceKind, id), 0, v)
		if err != nil {
			return store.RecordChange{}, err
		}
		return c.with(ctx, op, store.RecordChange{
			Puts: []store.Record{ns, {Key: nameKey, Value: []byte(id)}}, Account: c.account,
		})
	})
	return op.id, err
}

// sameNamespace returns the operation that made a namespace of the same name, if it was
// the same request.
func (c *call) sameNamespace(ctx context.Context, id string, v namespaceValue) (operation string, err error) {
	key := c.place.own(namespaceKind, id)
	found, _, err := c.store.ReadRecords(ctx, self, key)
	if err != nil {
		return "", err
	}
	rec, ok := found[key]
	if !ok {
		return "", store.ErrRevision // deleted meanwhile
	}
	other, err := read[namespaceValue](rec)
	switch {
	case err != nil:
		return "", err
	case v.Token != "" && other.Token == v.Token && other.Parameters == v.Parameters:
		return other.Operation, nil
	}
	return "", &detailed{
		mesh.Errorf(ErrNamespaceAlreadyExists, "a namespace with the name %s exists already: %s", v.Name, id),
		map[string]string{"NamespaceId": id, "CreatorRequestId": other.Token},
	}
}

// count asks the table how much there is of the caller's place.
func (c *call) count(of func(*area) int) int {
	c.table.mu.RLock()
	defer c.table.mu.RUnlock()
	return of(c.table.area(c.place))
}

// namespaceNow returns a namespace for a read, and asks for it. What is missing is asked
// about without tags, before it is said to be missing.
func (c *call) namespaceNow(given string) (*namespace, int64, error) {
	id, err := c.own("Id", namespaceKind, given)
	if err != nil {
		return nil, 0, err
	}
	c.table.mu.RLock()
	a := c.table.area(c.place)
	n := a.namespaces[id]
	services := int64(a.count[id])
	c.table.mu.RUnlock()
	q := store.Question{Resource: c.place.arn(namespaceKind, id)}
	if n != nil {
		q.ResourceTags = refs(n.Tags)
	}
	if err := c.may(q); err != nil {
		return nil, 0, err
	}
	if n == nil {
		return nil, 0, noNamespace(id)
	}
	return n, services, nil
}

func noNamespace(id string) error {
	return mesh.Errorf(ErrNamespaceNotFound, "there is no namespace with the id %s", id)
}

func (c *call) getNamespace(in *GetNamespaceRequest) (any, error) {
	n, services, err := c.namespaceNow(in.ID)
	if err != nil {
		return nil, err
	}
	s := c.summary(n, services)
	return &GetNamespaceResponse{Namespace: &Namespace{
		ARN: s.ARN, CreateDate: s.CreateDate, CreatorRequestID: n.Token, Description: s.Description, ID: s.ID, Name: s.Name,
		Properties: s.Properties, ResourceOwner: s.ResourceOwner, ServiceCount: s.ServiceCount, Type: s.Type,
	}}, nil
}

// summary returns a namespace as lists have it.
func (c *call) summary(n *namespace, services int64) NamespaceSummary {
	p := &NamespaceProperties{HttpProperties: &HttpProperties{HttpName: n.Name}}
	if n.Type == typePrivate {
		p.DnsProperties = &DnsProperties{}
		if n.TTL != nil {
			p.DnsProperties.SOA = &SOA{TTL: *n.TTL}
		}
	}
	return NamespaceSummary{
		ARN: c.place.arn(namespaceKind, n.id), CreateDate: Time(n.Created), Description: n.Description, ID: n.id, Name: n.Name,
		Properties: p, ResourceOwner: c.account, ServiceCount: &services, Type: n.Type,
	}
}

func (c *call) listNamespaces(in *ListNamespacesRequest) (any, error) {
	if err := c.may(store.Question{Resource: "*"}); err != nil {
		return nil, err
	}
	filters := make([]filter, len(in.Filters))
	for i, f := range in.Filters {
		filters[i] = filter(f)
	}
	match, err := matcher(filters, map[string]rule{
		"TYPE": {conditions: beginsToo}, "NAME": {conditions: beginsToo}, "HTTP_NAME": {conditions: beginsToo}, "RESOURCE_OWNER": {conditions: onlyEquals, values: owners},
	})
	if err != nil {
		return nil, err
	}
	c.table.mu.RLock()
	a := c.table.area(c.place)
	var all []NamespaceSummary
	for _, n := range a.namespaces {
		if match(map[string]string{"TYPE": n.Type, "NAME": n.Name, "HTTP_NAME": n.Name, "RESOURCE_OWNER": "SELF"}) {
			all = append(all, c.summary(n, int64(a.count[n.id])))
		}
	}
	c.table.mu.RUnlock()
	slices.SortFunc(all, func(x, y NamespaceSummary) int { return cmp.Compare(x.ID, y.ID) })
	page, next, err := page(c, all, func(n NamespaceSummary) string { return n.ID }, in.MaxResults, in.NextToken, hash(in.Filters))
	return &ListNamespacesResponse{Namespaces: page, NextToken: next}, err
}

func (c *call) updateHTTPNamespace(ctx context.Context, in *UpdateHttpNamespaceRequest) (any, error) {
	id, err := c.updateNamespace(ctx, in.ID, typeHTTP, in.UpdaterRequestID, hash(in.Namespace), func(v *namespaceValue) {
		v.Description = in.Namespace.Description
	})
	return &UpdateHttpNamespaceResponse{OperationID: id}, err
}

func (c *call) updatePrivateDNSNamespace(ctx context.Context, in *UpdatePrivateDnsNamespaceRequest) (any, error) {
	id, err := c.updateNamespace(ctx, in.ID, typePrivate, in.UpdaterRequestID, hash(in.Namespace), func(v *namespaceValue) {
		if in.Namespace.Description != nil {
			v.Description = *in.Namespace.Description
		}
		if p := in.Namespace.Properties; p != nil {
			v.TTL = &p.DnsProperties.SOA.TTL
		}
	})
	return &UpdatePrivateDnsNamespaceResponse{OperationID: id}, err
}

// updateNamespace changes a namespace of a type and returns the id of the operation.
func (c *call) updateNamespace(ctx context.Context, given, kind, token, parameters string, edit func(*namespaceValue)) (string, error) {
	n, _, err := c.namespaceNow(given)
	if err != nil {
		return "", err
	}
	if n.Type != kind {
		return "", mesh.Errorf(ErrInvalidInput, "Id names namespace %s of type %s, %s is for those of type %s", n.id, n.Type, c.operation, kind)
	}
	op := c.newOperation("UPDATE_NAMESPACE", token, hash(n.id, parameters), map[string]string{"NAMESPACE": n.id})
	err = c.change(ctx, func() (store.RecordChange, error) {
		key := c.place.own(namespaceKind, n.id)
		found, _, err := c.store.ReadRecords(ctx, self, key, op.key)
		if err != nil {
			return store.RecordChange{}, err
		}
		if known, err := op.repeated(found); known || err != nil {
			return store.RecordChange{}, err
		}
		rec, ok := found[key]
		if !ok {
			return store.RecordChange{}, noNamespace(n.id)
		}
		v, err := read[namespaceValue](rec)
		if err != nil {
			return store.RecordChange{}, err
		}
		edit(&v)
		changed, err := put(key, rec.Revision, v)
		if err != nil {
			return store.RecordChange{}, err
		}
		return c.with(ctx, op, store.RecordChange{Puts: []store.Record{changed}})
	})
	return op.id, err
}

func (c *call) deleteNamespace(ctx context.Context, in *DeleteNamespaceRequest) (any, error) {
	n, _, err := c.namespaceNow(in.ID)
	if err != nil {
		return nil, err
	}
	op := c.newOperation("DELETE_NAMESPACE", "", "", map[string]string{"NAMESPACE": n.id})
	err = c.change(ctx, func() (store.RecordChange, error) {
		key := c.place.own(namespaceKind, n.id)
		found, _, err := c.store.ReadRecords(ctx, self, key)
		if err != nil {
			return store.RecordChange{}, err
		}
		rec, ok := found[key]
		if !ok {
			return store.RecordChange{}, noNamespace(n.id)
		}
		return c.with(ctx, op, store.RecordChange{
			Deletes: []store.Record{{Key: key, Revision: rec.Revision}, {Key: c.place.own(nameKind, n.Name), Revision: store.AnyRevision}},
			Empty:   []string{c.place.own(insideKind, n.id, "")},
		})
	})
	if errors.Is(err, store.ErrNotEmpty) {
		return nil, mesh.Errorf(ErrResourceInUse, "namespace %s has services, delete them first: %s", n.id, c.servicesOf(n.id))
	}
	return &DeleteNamespaceResponse{OperationID: op.id}, err
}

// servicesOf lists the ids of some services of a namespace, for a message.
func (c *call) servicesOf(id string) string {
	c.table.mu.RLock()
	defer c.table.mu.RUnlock()
	ids := slices.Sorted(maps.Keys(c.table.area(c.place).services))
	ids = slices.DeleteFunc(ids, func(s string) bool { return c.table.area(c.place).services[s].Namespace != id })
	return some(ids)
}

// some lists a few of many ids.
func some(ids []string) string {
	const most = 5
	if len(ids) > most {
		return strings.Join(ids[:most], ", ") + ", …"
	}
	return strings.Join(ids, ", ")
}
