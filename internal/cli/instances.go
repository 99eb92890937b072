package cli

import (
	"cmp"
	"context"
	"net"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Where instances come from, as ListInstances tells it.
const (
	sourceRegistered = "registered"
	sourceLeased     = "leased" // registered, for as long as it is registered again in time
	sourceImported   = "imported"
)

// Attributes of instances that have a meaning (docs/reference/registry.md).
const (
	attrIPv4  = "AWS_INSTANCE_IPV4"
	attrIPv6  = "AWS_INSTANCE_IPV6"
	attrPort  = "AWS_INSTANCE_PORT"
	attrCNAME = "AWS_INSTANCE_CNAME"
	attrZone  = "AVAILABILITY_ZONE"
	attrLease = "FAIRLEAD_LEASE_SECONDS"
)

// registryService is a service of the registry, by the names of namespace and service. id
// is "" for one that is not registered: it can be imported.
type registryService struct{ namespace, service, id string }

func (s registryService) compare(o registryService) int {
	return cmp.Or(cmp.Compare(s.namespace, o.namespace), cmp.Compare(s.service, o.service))
}

// shownService is a service with its instances as ListInstances prints it.
type shownService struct {
	Namespace string          `json:"namespace"`
	Service   string          `json:"service"`
	ID        string          `json:"serviceId,omitempty"`
	Instances []shownInstance `json:"instances"`
}

type shownInstance struct {
	ID         string            `json:"id"`
	Health     string            `json:"health"`
	Source     string            `json:"source"`
	Attributes map[string]string `json:"attributes"`
}

// ListInstances prints the services of the registry with their instances: those of the
// caller's account, and what was imported for the virtual nodes of a scope.
func ListInstances(ctx context.Context, s *Session, term Terminal, in Scope, form string) error {
	if err := checkForm(form, FormTable, FormJSON); err != nil {
		return err
	}
	api := s.cloudMap()
	services, err := s.registeredServices(ctx, api)
	if err != nil {
		return err
	}
	named, err := newInventory(s, 0).discovered(ctx, in)
	if err != nil {
		return err
	}
	// Registered ones come first, so that they stay.
	services = append(services, named...)
	slices.SortStableFunc(services, registryService.compare)
	services = slices.CompactFunc(services, func(a, b registryService) bool { return a.compare(b) == 0 })
	if in.Mesh != "" {
		services = slices.DeleteFunc(services, func(s registryService) bool {
			return !slices.ContainsFunc(named, func(n registryService) bool { return n.compare(s) == 0 })
		})
	}
	found := make([]*shownService, len(services))
	indexes := make([]int, len(services))
	for i := range services {
		indexes[i] = i
	}
	err = each(ctx, DefaultParallel, indexes, func(ctx context.Context, i int) error {
		var err error
		found[i], err = s.instances(ctx, api, services[i])
		return err
	})
	if err != nil {
		return err
	}
	return printInstances(term, slices.DeleteFunc(found, func(s *shownService) bool { return s == nil }), form)
}

func printInstances(term Terminal, found []*shownService, form string) error {
	if form == FormJSON {
		return printJSON(term, found)
	}
	t := &table{head: []string{"NAMESPACE", "SERVICE", "INSTANCE", "ADDRESS", "ZONE", "HEALTH", "SOURCE", "LEASE"}}
	for _, s := range found {
		for _, i := range s.Instances {
			lease := ""
			if i.Source == sourceLeased {
				lease = i.Attributes[attrLease] + "s"
			}
			t.add(s.Namespace, s.Service, i.ID, i.address(), i.Attributes[attrZone], i.Health, i.Source, lease)
		}
		if len(s.Instances) == 0 {
			t.add(s.Namespace, s.Service, "(none)", "", "", "", "", "")
		}
	}
	return t.printOr(term, "there are no services in the registry")
}

// address returns where an instance is, as far as its attributes say.
func (i shownInstance) address() string {
	host := cmp.Or(i.Attributes[attrIPv4], i.Attributes[attrIPv6], i.Attributes[attrCNAME])
	if port := i.Attributes[attrPort]; host != "" && port != "" {
		return net.JoinHostPort(host, port)
	}
	return host
}

// cloudMap returns a client of the registry.
func (s *Session) cloudMap() *servicediscovery.Client {
	return servicediscovery.NewFromConfig(s.aws, func(o *servicediscovery.Options) {
		o.BaseEndpoint = aws.String(s.endpoint)
		// The SDK puts "data-" in front of the host's name for some calls.
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("FairleadHost",
				func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
					return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, true), in)
				}), middleware.Before)
		})
	})
}

// registeredServices returns the services that the account has in the registry.
func (s *Session) registeredServices(ctx context.Context, api *servicediscovery.Client) ([]registryService, error) {
	namespaces, services := map[string]string{}, []registryService(nil)
	for p := servicediscovery.NewListNamespacesPaginator(api, &servicediscovery.ListNamespacesInput{}); p.HasMorePages(); {
		page, err := next(ctx, s, p.NextPage)
		if err != nil {
			return nil, err
		}
		for _, n := range page.Namespaces {
			namespaces[aws.ToString(n.Id)] = aws.ToString(n.Name)
		}
	}
	for id, name := range namespaces {
		in := &servicediscovery.ListServicesInput{Filters: []types.ServiceFilter{{Name: types.ServiceFilterNameNamespaceId, Values: []string{id}}}}
		for p := servicediscovery.NewListServicesPaginator(api, in); p.HasMorePages(); {
			page, err := next(ctx, s, p.NextPage)
			if err != nil {
				return nil, err
			}
			for _, of := range page.Services {
				services = append(services, registryService{name, aws.ToString(of.Name), aws.ToString(of.Id)})
			}
		}
	}
	return services, nil
}

// next asks for a page of a list.
func next[T any](ctx context.Context, s *Session, page func(context.Context, ...func(*servicediscovery.Options)) (*T, error)) (*T, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	out, err := page(ctx)
	if err != nil {
		return nil, s.explain(err)
	}
	return out, nil
}

// discovered returns the services that the account's own virtual nodes in a scope are
// found by.
func (i *inventory) discovered(ctx context.Context, in Scope) ([]registryService, error) {
	self, err := i.account(ctx)
	if err != nil {
		return nil, err
	}
	nodes, err := i.ofKind(ctx, mesh.KindVirtualNode, in)
	if err != nil {
		return nil, err
	}
	var refs []Ref
	for _, n := range nodes {
		if n.ResourceOwner == self {
			refs = append(refs, n.Ref)
		}
	}
	if err := i.describeAll(ctx, refs); err != nil {
		return nil, err
	}
	var out []registryService
	for _, r := range refs {
		spec, ok := i.world.specs[r].(*mesh.VirtualNodeSpec)
		if !ok || spec.ServiceDiscovery == nil || spec.ServiceDiscovery.AwsCloudMap == nil {
			continue
		}
		by := spec.ServiceDiscovery.AwsCloudMap
		out = append(out, registryService{by.NamespaceName, by.ServiceName, ""})
	}
	return out, nil
}

// instances returns a service with its instances; nil if it is not there.
func (s *Session) instances(ctx context.Context, api *servicediscovery.Client, of registryService) (*shownService, error) {
	registered := map[string]bool{}
	if of.id != "" {
		for p := servicediscovery.NewListInstancesPaginator(api, &servicediscovery.ListInstancesInput{ServiceId: &of.id}); p.HasMorePages(); {
			page, err := next(ctx, s, p.NextPage)
			if err != nil {
				return nil, unlessGone(err)
			}
			for _, i := range page.Instances {
				registered[aws.ToString(i.Id)] = true
			}
		}
	}
	const most = 1000 // that the API allows, and that a service can have
	out, err := next(ctx, s, func(ctx context.Context, _ ...func(*servicediscovery.Options)) (*servicediscovery.DiscoverInstancesOutput, error) {
		return api.DiscoverInstances(ctx, &servicediscovery.DiscoverInstancesInput{
			NamespaceName: &of.namespace, ServiceName: &of.service, MaxResults: aws.Int32(most), HealthStatus: types.HealthStatusFilterAll,
		})
	})
	if err != nil {
		return nil, unlessGone(err)
	}
	service := &shownService{Namespace: of.namespace, Service: of.service, ID: of.id, Instances: []shownInstance{}}
	for _, i := range out.Instances {
		one := shownInstance{ID: aws.ToString(i.InstanceId), Health: string(i.HealthStatus), Source: sourceImported, Attributes: i.Attributes}
		switch {
		case registered[one.ID] && i.Attributes[attrLease] != "":
			one.Source = sourceLeased
		case registered[one.ID]:
			one.Source = sourceRegistered
		}
		service.Instances = append(service.Instances, one)
	}
	slices.SortFunc(service.Instances, func(a, b shownInstance) int { return cmp.Compare(a.ID, b.ID) })
	return service, nil
}

// unlessGone returns nil for the error that there is no such service or namespace.
func unlessGone(err error) error {
	switch code(err) {
	case "NamespaceNotFound", "ServiceNotFound":
		return nil
	}
	return err
}
