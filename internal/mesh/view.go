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
	// Nodes are the virtual nodes that the services lead to, by name. A name that a
	// route holds and that is not here does not exist.
	Nodes map[string]*VirtualNodeSpec
	// Discovered holds the service of the instances of each node of Nodes that AWS Cloud
	// Map discovers, by the node's name.
	Discovered map[string]InstancesKey
	// Instances are the instances of those services, whatever their attributes, in the
	// order of their ids. A service that is not here does not exist.
	Instances map[InstancesKey][]Instance
}

// ARN returns the Amazon Resource Name of the view's node or gateway.
func (v *View) ARN() string { return ID{Mesh: v.Mesh, Key: v.Key}.ARN(v.Owner) }

// Service is a virtual service as a client sees it.
type Service struct {
	Name    string
	Missing bool
	// Policy is the backend's own client policy, nil where the node's default holds.
	Policy *ClientPolicy
	// NodeName is the providing virtual node, if one provides the service directly.
	NodeName string
	// Router is the providing virtual router, if one does.
	Router *Router
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
	v := &View{
		Mesh: r.snap.ID, MeshSpec: meshItem.Spec.(*MeshSpec),
		Key: key, Owner: self.ResourceOwner, Nodes: map[string]*VirtualNodeSpec{},
		Discovered: map[string]InstancesKey{}, Instances: map[InstancesKey][]Instance{},
	}
	switch spec := self.Spec.(type) {
	case *VirtualNodeSpec:
		v.Node = spec
		v.addBackends(r, spec.Backends)
	case *VirtualGatewaySpec:
		v.Gateway = spec
		v.addGatewayRoutes(r, key.Name)
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
		v.Services = append(v.Services, v.service(r, t.VirtualService.VirtualServiceName))
	}
	slices.SortFunc(v.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
}

func (v *View) addBackends(r *Reader, backends []Backend) {
	seen := map[string]bool{}
	for _, b := range backends {
		name := backendService(v.Mesh, b.VirtualService.VirtualServiceName)
		if seen[name] {
			continue
		}
		seen[name] = true
		s := v.service(r, name)
		s.Policy = b.VirtualService.ClientPolicy
		v.Services = append(v.Services, s)
	}
	slices.SortFunc(v.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
}

// service reads a virtual service and all that its provider leads to.
func (v *View) service(r *Reader, name string) Service {
	s := Service{Name: name}
	item := r.get(KindVirtualService, name)
	if item == nil {
		s.Missing = true
		return s
	}
	switch p := item.Spec.(*VirtualServiceSpec).Provider; {
	case p == nil:
	case p.VirtualNode != nil:
		s.NodeName = p.VirtualNode.VirtualNodeName
		v.addNode(r, s.NodeName)
	case p.VirtualRouter != nil:
		s.Router = v.router(r, p.VirtualRouter.VirtualRouterName)
	}
	return s
}

func (v *View) router(r *Reader, name string) *Router {
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
			v.addNode(r, t.VirtualNode)
		}
	}
	return out
}

func (v *View) addNode(r *Reader, name string) {
	if _, ok := v.Nodes[name]; ok {
		return
	}
	item := r.get(KindVirtualNode, name)
	if item == nil {
		return
	}
	spec := item.Spec.(*VirtualNodeSpec)
	v.Nodes[name] = spec
	if k, ok := discovered(v.Mesh, item.ResourceOwner, spec); ok {
		v.Discovered[name] = k
		r.Reads.Instances[k] = struct{}{}
		v.setInstances(k, r.Instances)
	}
}
