package envoy

import (
	"cmp"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Translate turns a view into the resources of the proxies of one profile, sorted by
// type and then name, and into the problems found on the way, sorted by object. The
// result depends on nothing but its arguments. Translate cannot fail: what cannot be
// served costs itself and becomes a problem, and what depends on it is left
// consistent, so that Envoy accepts all that is returned. The view must not be
// changed while the resources are in use.
func Translate(v *mesh.View, p Profile) (resources []Resource, problems []Problem) {
	return newTranslator(v, p).translate()
}

func (t *translator) translate() (resources []Resource, problems []Problem) {
	v := t.view
	t.missed()
	if v.Gateway != nil {
		t.gateway()
	} else {
		t.accessLog = t.accessLogs(v.Node.Logging)
		t.ingress()
		t.egress()
	}
	slices.SortFunc(t.resources, func(a, b Resource) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	return t.resources, sortProblems(append(t.problems, t.ofClusters...))
}

// translator is one translation under way.
type translator struct {
	view    *mesh.View
	profile Profile

	mesh       string      // the mesh's name
	preference string      // the IP preference of the node, or of a gateway's mesh, "" for none
	listenOn   netip.Addr  // what the proxy's listeners bind
	accessLog  accessLogs  // of every connection manager
	metrics    *metricLogs // see there; nil until asked for

	targets  map[targetKey]*target
	clusters map[string]*madeCluster     // of targets, by name
	ways     map[*target]map[string]bool // how services need it; see contested
	secrets  map[string]bool             // emitted
	names    map[string]dnsName
	// quotaFilter is the filter that keeps quotas; nil until asked for.
	quotaFilter *anypb.Any
	backends    map[string]int // place in the node's list of each backend; see backendField

	resources []Resource
	problems  []Problem

	// Of a translation with a memo: what it used, the problems of clusters, and what is
	// being made.
	kept       *Kept
	ofClusters []Problem
	part       *memoPart
	cluster    *memoCluster
}

func newTranslator(v *mesh.View, p Profile) *translator {
	t := &translator{
		view: v, profile: p, mesh: v.Mesh.Name,
		targets:   map[targetKey]*target{},
		clusters:  make(map[string]*madeCluster, len(v.Services)),
		secrets:   map[string]bool{},
		resources: make([]Resource, 0, 3*len(v.Services)+8),
	}
	t.preference = t.ipPreference(v.Node)
	t.listenOn = p.listenOn(t.preference)
	return t
}

// emit adds a resource that is the translated object's own.
func (t *translator) emit(typ Type, name string, m proto.Message) {
	t.emitFor(t.self(), typ, name, m)
}

// emitFor adds a resource that another object is the reason of.
func (t *translator) emitFor(object mesh.Key, typ Type, name string, m proto.Message) {
	t.resources = append(t.resources, Resource{Type: typ, Name: name, Message: m, Object: object})
}

// message is what every Envoy message is: it knows the limits of its own fields.
type message interface {
	proto.Message
	ValidateAll() error
}

// valid is the last net under the checks that have messages of their own: it reports
// a message that Envoy would refuse as a problem of an object.
func (t *translator) valid(m message, object mesh.Key, field, what string) bool {
	if err := m.ValidateAll(); err != nil {
		t.problem(object, field, "%s is left out, Envoy would refuse it: %v", what, err)
		return false
	}
	return true
}

// packed packs a message that is valid. It returns nil, and notes a problem, if Envoy would refuse
// it.
func (t *translator) packed(m message, object mesh.Key, field, what string) *anypb.Any {
	if !t.valid(m, object, field, what) {
		return nil
	}
	a, err := pack(m)
	if err != nil {
		t.problem(object, field, "%s is left out: %v", what, err)
		return nil
	}
	return a
}

// The IP preferences, as the API spells them.
const (
	preferIPv4 = "IPv4_PREFERRED"
	preferIPv6 = "IPv6_PREFERRED"
	onlyIPv4   = "IPv4_ONLY"
	onlyIPv6   = "IPv6_ONLY"
)

// ipPreference returns the IP preference that holds for a virtual node: its own, else
// the mesh's, else "".
func (t *translator) ipPreference(n *mesh.VirtualNodeSpec) string {
	if n != nil && n.ServiceDiscovery != nil {
		d := n.ServiceDiscovery
		switch {
		case d.Dns != nil && d.Dns.IpPreference != nil:
			return *d.Dns.IpPreference
		case d.AwsCloudMap != nil && d.AwsCloudMap.IpPreference != nil:
			return *d.AwsCloudMap.IpPreference
		}
	}
	if d := t.view.MeshSpec.ServiceDiscovery; d != nil && d.IpPreference != nil {
		return *d.IpPreference
	}
	return ""
}

// allowAll reports whether the mesh lets its nodes call hosts outside of it.
func (t *translator) allowAll() bool {
	f := t.view.MeshSpec.EgressFilter
	return f != nil && f.Type == "ALLOW_ALL"
}
