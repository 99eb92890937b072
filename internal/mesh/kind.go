package mesh

// Kind is a kind of object: one of App Mesh's seven, or the policy, which is Fairlead's own.
type Kind uint8

// The kinds, in the order in which they can be created.
const (
	KindMesh Kind = iota + 1
	KindVirtualNode
	KindVirtualRouter
	KindRoute
	KindVirtualService
	KindVirtualGateway
	KindGatewayRoute
	KindPolicy
)

// Kinds lists all kinds in the order in which they can be created.
var Kinds = []Kind{
	KindMesh, KindVirtualNode, KindVirtualRouter, KindRoute,
	KindVirtualService, KindVirtualGateway, KindGatewayRoute, KindPolicy,
}

// kindInfo holds what differs between the kinds.
type kindInfo struct {
	arn     string // segment in an ARN, also the prefix of the JSON name members
	title   string // as App Mesh's messages spell it
	spec    string // the model's shape
	parent  Kind   // of a child of a virtual router or gateway, else 0
	newSpec func() any
}

var kinds = [...]kindInfo{
	KindMesh:           {arn: "mesh", title: "Mesh", spec: "MeshSpec", newSpec: func() any { return new(MeshSpec) }},
	KindVirtualNode:    {arn: "virtualNode", title: "VirtualNode", spec: "VirtualNodeSpec", newSpec: func() any { return new(VirtualNodeSpec) }},
	KindVirtualRouter:  {arn: "virtualRouter", title: "VirtualRouter", spec: "VirtualRouterSpec", newSpec: func() any { return new(VirtualRouterSpec) }},
	KindRoute:          {arn: "route", title: "Route", spec: "RouteSpec", parent: KindVirtualRouter, newSpec: func() any { return new(RouteSpec) }},
	KindVirtualService: {arn: "virtualService", title: "VirtualService", spec: "VirtualServiceSpec", newSpec: func() any { return new(VirtualServiceSpec) }},
	KindVirtualGateway: {arn: "virtualGateway", title: "VirtualGateway", spec: "VirtualGatewaySpec", newSpec: func() any { return new(VirtualGatewaySpec) }},
	KindGatewayRoute:   {arn: "gatewayRoute", title: "GatewayRoute", spec: "GatewayRouteSpec", parent: KindVirtualGateway, newSpec: func() any { return new(GatewayRouteSpec) }},
	KindPolicy:         {arn: "policy", title: "Policy", spec: "PolicySpec", newSpec: func() any { return new(PolicySpec) }},
}

// String returns the kind as ARNs spell it, for example "virtualNode".
func (k Kind) String() string {
	if int(k) >= len(kinds) || k == 0 {
		return "unknown"
	}
	return kinds[k].arn
}

// Title returns the kind as App Mesh's messages spell it, for example "VirtualNode".
func (k Kind) Title() string { return kinds[k].title }

// NameMember returns the JSON member that carries a name of this kind, for
// example "virtualNodeName".
func (k Kind) NameMember() string { return kinds[k].arn + "Name" }

// Own reports whether the kind is Fairlead's own. Its operations are under /v1.
func (k Kind) Own() bool { return k == KindPolicy }

// Parent returns the kind of the object that objects of this kind live under:
// a virtual router for routes, a virtual gateway for gateway routes, else 0.
func (k Kind) Parent() Kind { return kinds[k].parent }

// Child returns the kind whose parent k is, or 0.
func (k Kind) Child() Kind {
	for _, c := range Kinds {
		if c.Parent() == k {
			return c
		}
	}
	return 0
}

// NewSpec returns a pointer to an empty spec of the kind, for example *RouteSpec.
func (k Kind) NewSpec() any { return kinds[k].newSpec() }

// ParseKind returns the kind that ARNs spell s.
func ParseKind(s string) (Kind, bool) {
	for _, k := range Kinds {
		if kinds[k].arn == s {
			return k, true
		}
	}
	return 0, false
}
