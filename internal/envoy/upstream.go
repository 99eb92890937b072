package envoy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// reach returns the cluster that leads a service's calls to a target, and emits it the
// first time. It returns "" and the reason if the target cannot be served to the service.
func (t *translator) reach(s *mesh.Service, g *target) (cluster, reason string) {
	if g.reason != "" {
		return "", g.reason
	}
	use := t.useOf(s, g)
	if use.tls {
		if reason := t.unserved(use, g); reason != "" {
			return "", reason
		}
	}
	name := t.clusterOf(s, g, use)
	made, known := t.clusters[name]
	switch {
	case !known:
		made = t.makeCluster(name, g, use)
		t.clusters[name] = made
	case made.node != g.node || made.port != g.port || made.kept == nil && made.use.policy != use.policy && made.use.way() != use.way():
		// A service may be called as a part of another cluster's name is.
		return "", fmt.Sprintf("the name of its cluster, %q, is another target's", name)
	}
	if t.part != nil && !slices.Contains(t.part.clusters, made.kept) {
		t.part.clusters = append(t.part.clusters, made.kept)
	}
	if made.reason != "" {
		return "", made.reason
	}
	return name, ""
}

// madeCluster is a cluster of a target that was emitted, or why it was not.
type madeCluster struct {
	node   string // with its port, the target
	port   uint32
	use    upstreamUse
	reason string
	kept   *memoCluster // with a memo; no service needs a target in a way of its own then
}

// emitTarget emits the cluster of a target, and returns why it cannot, or "".
func (t *translator) emitTarget(name string, g *target, use upstreamUse) (reason string) {
	var socket *corev3.TransportSocket
	if use.tls {
		if socket = t.upstreamTLS(use, g); socket == nil {
			return fmt.Sprintf("Envoy would refuse the TLS settings for virtual node %q", g.node)
		}
	}
	key := g.key()
	c := t.egressCluster(name, key, g, socket)
	if !t.valid(c, key, index("listeners", g.listener), "cluster "+name) {
		return fmt.Sprintf("Envoy would refuse the cluster of virtual node %q", g.node)
	}
	t.emitFor(key, TypeCluster, name, c)
	if g.spec.ServiceDiscovery.Dns == nil {
		t.endpoints(name, g)
	}
	return ""
}

// upstreamUse is how a service's calls are made to a target.
type upstreamUse struct {
	tls bool
	// policy holds for the calls; nil where there is none: then a target that offers
	// TLS is not verified.
	policy *mesh.ClientPolicyTls
	field  string // the policy's path in the node's spec
	// own is set where other services, with the same defaults, may need the target in
	// another way: the policy is the service's own, or enforced for one of its ports.
	own bool
}

// useOf says how a service's calls are made to a target. DESIGN.md has the table.
func (t *translator) useOf(s *mesh.Service, g *target) upstreamUse {
	if policy, ok := strings.CutPrefix(g.node, mesh.HostOf); ok {
		return t.hostUse(s, policy)
	}
	policy, field := t.clientTLS(s)
	use := upstreamUse{policy: policy, field: field, tls: asksTLS(&g.spec.Listeners[g.listener])}
	if policy == nil {
		return use
	}
	use.own = s.Policy != nil && s.Policy.Tls != nil
	if policy.Enforce != nil && !*policy.Enforce {
		return use
	}
	switch {
	case len(policy.Ports) == 0 || slices.Contains(policy.Ports, int64(g.port)):
		use.tls = true
	case t.reachedThrough(s, g, policy.Ports):
		use.tls, use.own = true, true
	}
	return use
}

// hostUse says how a host outside of the mesh is called, to which a policy sends copies.
func (t *translator) hostUse(s *mesh.Service, policy string) upstreamUse {
	for _, p := range slices.Concat(s.Policies, t.view.Policies) {
		if p.Name != policy || p.Spec.Action.Mirror == nil || p.Spec.Action.Mirror.To.Host == nil {
			continue
		}
		tls := p.Spec.Action.Mirror.To.Host.Tls
		if tls == nil {
			break
		}
		v := tls.Validation
		return upstreamUse{tls: true, field: "action.mirror.to.host.tls", policy: &mesh.ClientPolicyTls{
			Certificate: tls.Certificate,
			Validation: &mesh.TlsValidationContext{
				SubjectAlternativeNames: v.SubjectAlternativeNames,
				Trust:                   &mesh.TlsValidationContextTrust{File: v.Trust.File, Sds: v.Trust.Sds},
			},
		}}
	}
	return upstreamUse{}
}

// reachedThrough reports whether a service's calls come to a target through one of some
// ports. App Mesh does not say whether a policy's ports are those of the services or of
// their targets, so both count.
func (t *translator) reachedThrough(s *mesh.Service, g *target, ports []int64) bool {
	r := s.Router
	if r == nil || r.Missing {
		return false // a node's own ports are those of its services
	}
	for _, l := range r.Spec.Listeners {
		if !slices.Contains(ports, l.PortMapping.Port) {
			continue
		}
		for i := range r.Routes {
			if k := kindOfRoute(r.Routes[i].Spec); k.port != nil && *k.port != l.PortMapping.Port {
				continue
			}
			for _, w := range r.Routes[i].Spec.Targets() {
				if t.weighted(s, &w) == g {
					return true
				}
			}
		}
	}
	return false
}

// weighted returns the target of a weighted target of a service's route.
func (t *translator) weighted(s *mesh.Service, w *mesh.WeightedTarget) *target {
	if w.Port != nil {
		return t.target(s, w.VirtualNode, *w.Port)
	}
	return t.target(s, w.VirtualNode, 0)
}

// clusterOf returns the name of the cluster that leads a service's calls to a target.
// It is the target's own, as App Mesh had it, unless several services need the target
// in different ways; then those that need it otherwise than the defaults say have
// clusters of their own.
func (t *translator) clusterOf(s *mesh.Service, g *target, use upstreamUse) string {
	if !use.own || !t.contested(g) {
		return g.cluster
	}
	if byDefault := t.useOf(&mesh.Service{Name: s.Name, Provider: &mesh.Provider{}}, g); byDefault.way() == use.way() {
		return g.cluster
	}
	return g.cluster + "_" + s.Name
}

// contested reports whether services of the view need a target in different ways.
func (t *translator) contested(g *target) bool {
	if t.ways == nil {
		t.ways = map[*target]map[string]bool{}
		for i := range t.view.Services {
			t.addWays(&t.view.Services[i])
		}
	}
	return len(t.ways[g]) > 1
}

// addWays notes how a service needs its targets.
func (t *translator) addWays(s *mesh.Service) {
	add := func(g *target) {
		if g.reason != "" {
			return
		}
		if t.ways[g] == nil {
			t.ways[g] = map[string]bool{}
		}
		t.ways[g][t.useOf(s, g).way()] = true
	}
	if s.NodeName != "" {
		if n := s.Node(s.NodeName); n != nil {
			for _, l := range n.Spec.Listeners {
				add(t.target(s, s.NodeName, l.PortMapping.Port))
			}
		}
		return
	}
	if s.Router == nil || s.Router.Missing {
		return
	}
	for i := range s.Router.Routes {
		for _, w := range s.Router.Routes[i].Spec.Targets() {
			add(t.weighted(s, &w))
		}
	}
}

// way returns a text that is the same for uses that can share a cluster.
func (u upstreamUse) way() string {
	if !u.tls {
		return "plain"
	}
	if u.policy == nil {
		return "unverified"
	}
	raw, err := json.Marshal(mesh.ClientPolicyTls{Certificate: u.policy.Certificate, Validation: u.policy.Validation})
	if err != nil {
		return u.field // cannot be: the type holds nothing that JSON has no form for
	}
	return string(raw)
}
