package envoy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Assignment says how the endpoints of a cluster are made of the instances of a service.
// They depend on nothing else, so that a change of instances needs no whole translation
// (Refresh). It is never changed.
type Assignment struct {
	// Instances says whose instances they are.
	Instances mesh.InstancesKey

	cluster    string
	node       mesh.Key
	region     string
	port       uint32 // of the listener
	ownPort    bool   // an instance may have a port of its own
	preference string
	attributes []mesh.AwsCloudMapInstanceAttribute
}

// endpoints emits the endpoints of a cluster that leads to a target which AWS Cloud Map
// discovers.
func (t *translator) endpoints(cluster string, g *target) {
	a := &Assignment{
		Instances: g.found.Key,
		cluster:   cluster, node: nodeKey(g.node), region: t.view.Mesh.Region,
		port: g.port,
		// An instance names one port, which says nothing of a node's other listeners.
		ownPort:    len(g.spec.Listeners) == 1,
		preference: t.ipPreference(g.spec),
		attributes: g.spec.ServiceDiscovery.AwsCloudMap.Attributes,
	}
	r, problems := a.resource(g.found.Instances, g.found.Exists)
	t.resources = append(t.resources, r)
	t.problems = append(t.problems, problems...)
}

// Refresh makes anew what a translation made of the instances of some services, which are
// now others. made are the assignments that Translate returned, and before the problems that
// it, or the last Refresh, returned. The resources, in no order, and the problems are what
// Translate would return of a view that has these instances.
func Refresh(now mesh.Instances, made []*Assignment, before []Problem, changed []mesh.InstancesKey) (resources []Resource, problems []Problem) {
	for _, p := range before {
		if p.Instances == (mesh.InstancesKey{}) || !slices.Contains(changed, p.Instances) {
			problems = append(problems, p)
		}
	}
	for _, a := range made {
		if slices.Contains(changed, a.Instances) {
			r, found := a.resource(now(a.Instances))
			resources = append(resources, r)
			problems = append(problems, found...)
		}
	}
	return resources, sortProblems(problems)
}

// resource makes the endpoints of the instances of a service, if there is one.
func (a *Assignment) resource(all []mesh.Instance, exists bool) (Resource, []Problem) {
	list, problems := a.assignment(all, exists)
	return Resource{Type: TypeEndpoint, Name: a.cluster, Message: list, Object: a.node, Assignment: a}, problems
}

func (a *Assignment) assignment(all []mesh.Instance, exists bool) (*endpointv3.ClusterLoadAssignment, []Problem) {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: a.cluster}
	if !exists {
		return out, a.problem("there is no service %q in a namespace %q of account %s: the node has no endpoints",
			a.Instances.Service, a.Instances.Namespace, a.Instances.Account)
	}
	var unusable []string
	seen := map[netip.AddrPort]bool{}
	zones := map[string][]*endpointv3.LbEndpoint{}
	for i := range all {
		one := &all[i]
		if one.Unhealthy || !a.matches(one) {
			continue
		}
		at, ok := a.address(one)
		if !ok {
			unusable = append(unusable, one.ID)
		} else if !seen[at] {
			seen[at] = true
			zones[one.Zone] = append(zones[one.Zone], &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
				Endpoint: &endpointv3.Endpoint{Address: socket(at.Addr().String(), uint32(at.Port()))},
			}})
		}
	}
	for _, zone := range slices.Sorted(maps.Keys(zones)) {
		out.Endpoints = append(out.Endpoints, &endpointv3.LocalityLbEndpoints{Locality: a.locality(zone), LbEndpoints: zones[zone]})
	}
	if len(unusable) > 0 {
		return out, a.problem("no endpoint is made of instances that have no %s: %s", a.wanted(), someOf(unusable))
	}
	return out, nil
}

func (a *Assignment) problem(format string, args ...any) []Problem {
	return []Problem{{Object: a.node, Field: "serviceDiscovery.awsCloudMap", Message: fmt.Sprintf(format, args...), Instances: a.Instances}}
}

// matches reports whether an instance has all attributes that the node asks for.
func (a *Assignment) matches(i *mesh.Instance) bool {
	for _, want := range a.attributes {
		if have, ok := i.Attributes[want.Key]; !ok || have != want.Value {
			return false
		}
	}
	return true
}

// address returns where an instance is called. Without a preference IPv4 comes first.
func (a *Assignment) address(i *mesh.Instance) (netip.AddrPort, bool) {
	four, six := parseFamily(i.IPv4, true), parseFamily(i.IPv6, false)
	switch a.preference {
	case onlyIPv4:
		six = netip.Addr{}
	case onlyIPv6:
		four = netip.Addr{}
	case preferIPv6:
		four, six = six, four
	}
	if !four.IsValid() {
		four = six
	}
	port := a.port
	if a.ownPort && i.Port != 0 {
		port = i.Port
	}
	return netip.AddrPortFrom(four, uint16(port)), four.IsValid() && port <= 65535
}

// parseFamily returns an address of one family that can be called, else one that is not
// valid.
func parseFamily(s string, four bool) netip.Addr {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Is4() != four || addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast() {
		return netip.Addr{}
	}
	return addr
}

// wanted names the attributes that an instance must have one of.
func (a *Assignment) wanted() string {
	const four, six = "AWS_INSTANCE_IPV4", "AWS_INSTANCE_IPV6"
	switch a.preference {
	case onlyIPv4:
		return four + ", which IP preference " + onlyIPv4 + " asks for"
	case onlyIPv6:
		return six + ", which IP preference " + onlyIPv6 + " asks for"
	}
	return four + " or " + six
}

// locality says where endpoints are. It is for people and logs: without weights, and
// without a local cluster that has endpoints, Envoy spreads requests as if it were not
// there.
func (a *Assignment) locality(zone string) *corev3.Locality {
	if zone == "" {
		return nil
	}
	return &corev3.Locality{Region: a.region, Zone: zone}
}

// someOf lists names, at a bounded length.
func someOf(names []string) string {
	const most = 5
	if n := len(names) - most; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n)
	}
	return strings.Join(names, ", ")
}
