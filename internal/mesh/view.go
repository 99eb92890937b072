package mesh

import (
	"cmp"
	"slices"
)

// View is all that the proxies of one virtual node or gateway need, and nothing
// else. It is immutable and shares its specs with the snapshot.
type View struct {
	Mesh     MeshID
	MeshSpec *MeshSpec
	Key      Key    // of the node or gateway
	Owner    string // the account that owns it
	// Node is the spec of a virtual node; nil for a gateway.
	Node *VirtualNodeSpec
	// Gateway is the spec of a virtual gateway; nil for a node.
	Gateway *VirtualGatewaySpec
	// GatewayRoutes are a gateway's routes in name order, whichever account made them.
	GatewayRoutes []GatewayRoute
	// Services are the virtual services the node has as backends, or that the gateway's
	// routes lead to, in name order; those that do not exist are listed with Missing set.
	Services []Service
	// Policies are those in force that are about what the node is asked, or about the gateway
	// and its routes, the most specific first.
	Policies []Policy
	// Mirrors holds the virtual nodes that the policies of a gateway send copies to; nil for a
	// node.
	Mirrors *Provider
}

// ARN returns the Amazon Resource Name of the view's node or gateway.
func (v *View) ARN() string { return ID{Mesh: v.Mesh, Key: v.Key}.ARN(v.Owner) }

// Service is a virtual service as a client sees it.
type Service struct {
	Name string
	// Policy is the backend's own client policy, nil where the node's default holds.
	Policy *ClientPolicy
	// Provider is what all clients of the service share.
	*Provider
}

// Provider is what a virtual service leads to. It is immutable: a reader of live meshes
// returns the very same for as long as nothing in it has changed.
type Provider struct {
	// Missing is set where there is no such service.
	Missing bool
	// NodeName is the providing virtual node, if one provides the service directly.
	NodeName string
	// Router is the providing virtual router, if one does.
	Router *Router
	// Nodes are the virtual nodes that the service leads to, and those that its policies send
	// copies to. One that does not exist is not here.
	Nodes []ServiceNode
	// Policies are those in force that are about the service, its router or the router's
	// routes, the most specific first.
	Policies []Policy
	// Copied are the virtual services that policies send copies to.
	Copied []Copied
}

// ServiceNode is a virtual node that a service leads to.
type ServiceNode struct {
	Name string
	Spec *VirtualNodeSpec
	// Discovered are the instances of a node that AWS Cloud Map discovers, else nil.
	Discovered *Discovered
}

// Discovered is a service of AWS Cloud Map with its instances, whatever their attributes, in
// the order of their ids.
type Discovered struct {
	Key       InstancesKey
	Exists    bool
	Instances []Instance
}

// Node returns the virtual node of a name that the service leads to, nil if there is none.
func (p *Provider) Node(name string) *ServiceNode {
	for i := range p.Nodes {
		if p.Nodes[i].Name == name {
			return &p.Nodes[i]
		}
	}
	return nil
}

// Copied is a virtual service that copies go to: with the virtual node or router that provides
// it, neither if there is none.
type Copied struct {
	Name     string
	NodeName string
	Router   *Router
}

// Router is a virtual router with its routes in name order.
type Router struct {
	Name    string
	Missing bool
	Spec    *VirtualRouterSpec
	Routes  []Route
}

// Route is one route of a router.
type Route struct {
	Name string
	Spec *RouteSpec
}

// BuildView reads what the virtual node or gateway of a key needs. It returns nil if
// there is no such object; the reader's notes are complete either way.
func BuildView(r *Reader, key Key) *View {
	self := r.get(key.Kind, key.Name)
	meshItem := r.get(KindMesh, r.snap.ID.Name)
	if self == nil || meshItem == nil {
		return nil
	}
	v := &View{Mesh: r.snap.ID, MeshSpec: meshItem.Spec.(*MeshSpec), Key: key, Owner: self.ResourceOwner}
	switch spec := self.Spec.(type) {
	case *VirtualNodeSpec:
		v.Node = spec
		v.addBackends(r, spec.Backends)
		v.Policies = r.policies(key, r.snap.ID.MeshObject().Key)
	case *VirtualGatewaySpec:
		v.Gateway = spec
		v.addGatewayRoutes(r, key.Name)
		v.Policies = r.policies(key)
		v.Mirrors = &Provider{}
		v.Mirrors.addMirrors(r, v.Policies)
	}
	return v
}

func (v *View) addGatewayRoutes(r *Reader, gateway string) {
	seen := map[string]bool{}
	for _, i := range r.children(KindGatewayRoute, gateway) {
		c := i.Content()
		if c == nil {
			continue
		}
		spec := c.Spec.(*GatewayRouteSpec)
		v.GatewayRoutes = append(v.GatewayRoutes, GatewayRoute{Name: i.Key.Name, Spec: spec})
		t := spec.Target()
		if t == nil || seen[t.VirtualService.VirtualServiceName] {
			continue
		}
		seen[t.VirtualService.VirtualServiceName] = true
		name := t.VirtualService.VirtualServiceName
		v.Services = append(v.Services, Service{Name: name, Provider: r.provider(name)})
	}
	slices.SortFunc(v.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
}

func (v *View) addBackends(r *Reader, backends []Backend) {
	seen := make(map[string]bool, len(backends))
	v.Services = make([]Service, 0, len(backends))
	for _, b := range backends {
		name := backendService(v.Mesh, b.VirtualService.VirtualServiceName)
		if seen[name] {
			continue
		}
		seen[name] = true
		v.Services = append(v.Services, Service{Name: name, Policy: b.VirtualService.ClientPolicy, Provider: r.provider(name)})
	}
	slices.SortFunc(v.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
}

// provider returns what a virtual service leads to.
func (r *Reader) provider(name string) *Provider {
	if r.Providers != nil {
		return r.Providers(name)
	}
	return r.Provider(name)
}

// Provider reads what a virtual service leads to. A service that does not exist
// leads to nothing.
func (r *Reader) Provider(name string) *Provider {
	p := &Provider{}
	item := r.get(KindVirtualService, name)
	if item == nil {
		p.Missing = true
		return p
	}
	aims := []Key{{Kind: KindVirtualService, Name: name}}
	if p.NodeName, p.Router = p.leads(r, item); p.Router != nil {
		aims = append(aims, Key{Kind: KindVirtualRouter, Name: p.Router.Name})
	}
	p.Policies = r.policies(aims...)
	p.addMirrors(r, p.Policies)
	return p
}

// leads returns the virtual node or router that provides a virtual service, and adds the nodes.
func (p *Provider) leads(r *Reader, service *Content) (node string, router *Router) {
	switch by := service.Spec.(*VirtualServiceSpec).Provider; {
	case by == nil:
	case by.VirtualNode != nil:
		node = by.VirtualNode.VirtualNodeName
		p.addNode(r, node)
	case by.VirtualRouter != nil:
		router = p.router(r, by.VirtualRouter.VirtualRouterName)
	}
	return node, router
}

func (p *Provider) router(r *Reader, name string) *Router {
	item := r.get(KindVirtualRouter, name)
	if item == nil {
		return &Router{Name: name, Missing: true}
	}
	out := &Router{Name: name, Spec: item.Spec.(*VirtualRouterSpec)}
	for _, i := range r.children(KindRoute, name) {
		c := i.Content()
		if c == nil {
			continue
		}
		spec := c.Spec.(*RouteSpec)
		out.Routes = append(out.Routes, Route{Name: i.Key.Name, Spec: spec})
		for _, t := range spec.Targets() {
			p.addNode(r, t.VirtualNode)
		}
	}
	return out
}

// HostOf begins the names of the nodes of a Provider that are hosts outside of the mesh,
// to which the policy of the name that follows sends copies. No virtual node is called so.
const HostOf = "policy:"

// addMirrors adds what policies send copies to.
func (p *Provider) addMirrors(r *Reader, policies []Policy) {
	for _, one := range policies {
		if one.Spec.Action.Mirror == nil {
			continue
		}
		switch to := one.Spec.Action.Mirror.To; {
		case to.VirtualNode != nil:
			p.addNode(r, to.VirtualNode.VirtualNodeName)
		case to.VirtualService != nil:
			p.addCopied(r, to.VirtualService.VirtualServiceName)
		case to.Host != nil:
			p.Nodes = append(p.Nodes, ServiceNode{Name: HostOf + one.Name, Spec: to.Host.node()})
		}
	}
}

// addCopied adds a virtual service that copies go to, with the nodes that provide it.
func (p *Provider) addCopied(r *Reader, name string) {
	if slices.ContainsFunc(p.Copied, func(c Copied) bool { return c.Name == name }) {
		return
	}
	c := Copied{Name: name}
	if item := r.get(KindVirtualService, name); item != nil {
		c.NodeName, c.Router = p.leads(r, item)
	}
	p.Copied = append(p.Copied, c)
}

// node returns the host as its clients see a virtual node.
func (h *MirrorHost) node() *VirtualNodeSpec {
	protocol := "http"
	if h.Protocol != nil {
		protocol = *h.Protocol
	}
	return &VirtualNodeSpec{
		ServiceDiscovery: &ServiceDiscovery{Dns: &DnsServiceDiscovery{Hostname: h.Hostname}},
		Listeners:        []Listener{{PortMapping: &PortMapping{Port: h.Port, Protocol: protocol}}},
	}
}

func (p *Provider) addNode(r *Reader, name string) {
	if p.Node(name) != nil {
		return
	}
	item := r.get(KindVirtualNode, name)
	if item == nil {
		return
	}
	n := ServiceNode{Name: name, Spec: item.Spec.(*VirtualNodeSpec)}
	if k, ok := discovered(r.snap.ID, item.ResourceOwner, n.Spec); ok {
		r.Reads.Instances[k] = struct{}{}
		n.Discovered = &Discovered{Key: k}
		n.Discovered.Instances, n.Discovered.Exists = r.Instances.find(k)
	}
	p.Nodes = append(p.Nodes, n)
}
