package mesh

import "fmt"

// Quota is a bound on how much of something an account may have or do.
type Quota uint8

// The quotas. Those of a mesh are its owner's, and count what every account has in it.
const (
	QuotaMeshes Quota = iota
	QuotaVirtualNodes
	QuotaVirtualRouters
	QuotaRoutes
	QuotaVirtualServices
	QuotaVirtualGateways
	QuotaGatewayRoutes
	QuotaPolicies
	QuotaBackends
	QuotaWeightedTargets
	QuotaNodeProxies
	QuotaGatewayProxies
	QuotaReadRate
	QuotaWriteRate
	numQuotas
)

// Quotas are the values of all quotas of an account.
type Quotas [numQuotas]int

// quotaInfo says what a quota is called and how it is set.
type quotaInfo struct {
	name    string
	title   string // as Service Quotas of AWS spells it
	code    string // in Service Quotas of AWS, "" for what App Mesh did not have
	ours    int    // Fairlead's default
	appMesh int    // App Mesh's default
	most    int    // the greatest value that can be set
}

var quotas = [numQuotas]quotaInfo{
	QuotaMeshes:          {"meshes", "Meshes per account and region", "L-AC861A39", 1_000, 15, 100_000},
	QuotaVirtualNodes:    {"virtual-nodes", "Virtual nodes per mesh", "L-E043DFB4", 10_000, 200, 1_000_000},
	QuotaVirtualRouters:  {"virtual-routers", "Virtual routers per mesh", "L-50F6C35A", 10_000, 200, 1_000_000},
	QuotaRoutes:          {"routes", "Routes per virtual router", "L-BB90B7FF", 10_000, 50, 1_000_000},
	QuotaVirtualServices: {"virtual-services", "Virtual services per mesh", "L-DA7495A7", 10_000, 200, 1_000_000},
	QuotaVirtualGateways: {"virtual-gateways", "Virtual gateways per mesh", "L-87E74146", 1_000, 3, 1_000_000},
	QuotaGatewayRoutes:   {"gateway-routes", "Gateway routes per virtual gateway", "L-F6F26D09", 10_000, 10, 1_000_000},
	// App Mesh had no policies: its set keeps ours.
	QuotaPolicies:        {"policies", "Policies per mesh", "", 1_000, 1_000, 100_000},
	QuotaBackends:        {"backends", "Backends per virtual node", "L-8775AB18", 1_000, 50, 10_000},
	QuotaWeightedTargets: {"weighted-targets", "Weighted targets per route", "L-AE1D9567", 10, 10, 10},
	QuotaNodeProxies:     {"node-proxies", "Connected Envoy processes per virtual node", "L-606A910B", 10_000, 50, 1_000_000},
	QuotaGatewayProxies:  {"gateway-proxies", "Connected Envoy processes per virtual gateway", "L-33E8F9C9", 10_000, 50, 1_000_000},
	// App Mesh's rates were never published: its set keeps ours.
	QuotaReadRate:  {"read-rate", "Calls a second that read", "", 5_000, 5_000, 1_000_000},
	QuotaWriteRate: {"write-rate", "Calls a second that write", "", 2_000, 2_000, 1_000_000},
}

// AllQuotas lists the quotas in the order in which they are shown.
func AllQuotas() []Quota {
	all := make([]Quota, numQuotas)
	for i := range all {
		all[i] = Quota(i)
	}
	return all
}

// String returns the quota's name, for example "virtual-nodes".
func (q Quota) String() string { return quotas[q].name }

// Title returns what the quota is called in Service Quotas of AWS.
func (q Quota) Title() string { return quotas[q].title }

// Code returns the quota's code in Service Quotas of AWS, "" if it has none.
func (q Quota) Code() string { return quotas[q].code }

// Most returns the greatest value that the quota can be given. The least is 0.
func (q Quota) Most() int { return quotas[q].most }

// ParseQuota returns the quota of a name.
func ParseQuota(name string) (Quota, bool) {
	for q, info := range quotas {
		if info.name == name {
			return Quota(q), true
		}
	}
	return 0, false
}

// DefaultQuotas returns the values that an account has unless they are changed.
func DefaultQuotas() Quotas { return quotaSet(func(i quotaInfo) int { return i.ours }) }

// AppMeshQuotas returns App Mesh's own default values (Service Quotas of AWS, 2023).
func AppMeshQuotas() Quotas { return quotaSet(func(i quotaInfo) int { return i.appMesh }) }

func quotaSet(value func(quotaInfo) int) Quotas {
	var out Quotas
	for q, info := range quotas {
		out[q] = value(info)
	}
	return out
}

// ObjectQuota returns the quota that bounds how many objects of a kind there may be in
// what they live in: an account and region, a mesh, a router or a gateway.
func ObjectQuota(k Kind) Quota {
	switch k {
	case KindMesh:
		return QuotaMeshes
	case KindVirtualNode:
		return QuotaVirtualNodes
	case KindVirtualRouter:
		return QuotaVirtualRouters
	case KindRoute:
		return QuotaRoutes
	case KindVirtualService:
		return QuotaVirtualServices
	case KindVirtualGateway:
		return QuotaVirtualGateways
	case KindGatewayRoute:
		return QuotaGatewayRoutes
	case KindPolicy:
		return QuotaPolicies
	}
	panic(fmt.Sprintf("mesh: kind %d has no quota", k))
}
