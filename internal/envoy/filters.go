package envoy

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	keyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// httpFilters are the HTTP filters of every connection manager, in the order in which
// a request passes them. This literal is the only place that decides the order; each
// line says why it stands where it does. All are asleep: a request passes
// those only whose configuration is in its route (policy.go). Behind them are those for quotas
// (quota.go), which differ between proxies, and the router.
var httpFilters = []*hcmv3.HttpFilter{
	// First, so that a fault takes nothing of what is counted or asked about a request, as if
	// it had been lost on its way here.
	asleep(faultInName, faultFilter),
	// Before all that counts or costs something: who is refused takes nothing of it.
	asleep(accessInName, accessFilter),
	// Behind all that is about requests that come in: a gateway's requests go on to a service.
	asleep(faultOutName, faultFilter),
	asleep(accessOutName, accessFilter),
	// What requests differ in, written down for the two that are next.
	asleep(limitKeyName, &keyv3.HeaderMutation{}),
	// Behind all that answers requests itself or refuses them, so that these take no token.
	asleep(limitTriedName, limitFilter),
	asleep(limitName, limitFilter),
}

// routerFilter is last, because it ends the chain: it chooses the upstream by the route that
// all filters before it have seen. Envoy refuses a chain that ends otherwise.
var routerFilter = httpFilter(routerName, &routerv3.Router{})

// originalDst are the listener filters of a redirected proxy: they bring back the
// address that the connection was made to, by which its filter chain is chosen.
var originalDst = []*listenerv3.ListenerFilter{{
	Name:       originalDstName,
	ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: mustAny(&originaldstv3.OriginalDst{})},
}}

// fromADS tells Envoy to fetch a resource over the stream it has.
var fromADS = &corev3.ConfigSource{
	ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	ResourceApiVersion:    corev3.ApiVersion_V3,
}

// upgrades are the protocols that a connection manager lets a request change to. Not
// over HTTP/2 (RFC 8441): a client that is offered that uses it, and such a request lacks
// what an application that speaks HTTP/1.1 needs to accept it.
var upgrades = []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}}

func httpFilter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: mustAny(config)}}
}

// The names of the filters that policies wake, as routes name them.
const (
	faultInName   = "fairlead.fault.in"
	faultOutName  = "fairlead.fault.out"
	accessInName  = "fairlead.access.in"
	accessOutName = "fairlead.access.out"

	limitKeyName   = "fairlead.limit.key"
	limitTriedName = "fairlead.limit.dry_run"
	limitName      = "fairlead.limit"
)

// asked is what the filters of policies ask of an Envoy, by their names.
var asked = map[string]Features{
	faultInName: faults, faultOutName: faults,
	accessInName: requestAccess, accessOutName: requestAccess,
	limitKeyName: requestLimits, limitTriedName: requestLimits, limitName: requestLimits,
}

// httpFilters are those that the proxy's Envoy has, for what comes in, what goes out, or both.
func (t *translator) httpFilters(in, out bool) []*hcmv3.HttpFilter {
	missing := func(f *hcmv3.HttpFilter) bool { return t.lacks(asked[f.Name]) }
	// Quotas are behind all that answers or refuses, limits too, so that who is refused takes
	// nothing of what others share.
	return append(slices.DeleteFunc(slices.Concat(httpFilters, t.quotaFilters(in, out)), missing), routerFilter)
}

// asleep returns a filter that only requests pass whose route has a configuration of it.
func asleep(name string, config proto.Message) *hcmv3.HttpFilter {
	f := httpFilter(name, config)
	f.Disabled = true
	return f
}

// mustAny packs a message that is a literal of this package.
func mustAny(m proto.Message) *anypb.Any {
	a, err := pack(m)
	if err != nil {
		panic(err)
	}
	return a
}

// manager says what is particular to a connection manager.
type manager struct {
	statPrefix string
	routes     string // the name of the route configuration that it fetches
	// inbound is set where callers come from outside of the proxy's own workload, so
	// that their certificates say who they are.
	inbound bool
	// edge is set where requests come from outside of the mesh: their paths are
	// brought into one form before they are matched, so that no other spelling of a path
	// gets round a route. Escaped slashes stay as they are, as in App Mesh.
	edge bool
	// forwards is set where requests may be let out of the mesh, to the host that they
	// name; connect where CONNECT is allowed as routes say.
	forwards, connect bool
}

// connectionManager returns the network filter for HTTP. It takes HTTP/1.1 and HTTP/2
// alike, whichever a connection begins with. It returns nil, and notes a problem of the
// node, if Envoy would refuse it.
func (t *translator) connectionManager(m manager) []*listenerv3.Filter {
	config := &hcmv3.HttpConnectionManager{
		StatPrefix: m.statPrefix,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{
			Rds: &hcmv3.Rds{ConfigSource: fromADS, RouteConfigName: m.routes},
		},
		HttpFilters:    t.httpFilters(m.inbound, !m.inbound || m.edge),
		AccessLog:      t.managerLogs(m.statPrefix),
		Tracing:        t.tracing(),
		UpgradeConfigs: upgrades,
	}
	if m.inbound {
		t.tellCertificates(config)
	}
	if m.edge {
		config.NormalizePath, config.MergeSlashes = wrapperspb.Bool(true), true
		config.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_KEEP_UNCHANGED
	}
	if m.forwards {
		config.HttpFilters = t.forwardFilters()
	}
	if m.connect {
		config.UpgradeConfigs = connectUpgrades
	}
	return t.networkFilter(managerName, config)
}

// connectUpgrades are those of an HTTP proxy.
var connectUpgrades = append(slices.Clone(upgrades), &hcmv3.HttpConnectionManager_UpgradeConfig{UpgradeType: "CONNECT"})

// tellCertificates sets what the application is told of its clients' certificates, in
// the header x-forwarded-client-cert. Where nothing is, and from clients without a
// certificate, the header is taken out, so that nobody can make it up.
func (t *translator) tellCertificates(config *hcmv3.HttpConnectionManager) {
	switch t.profile.ClientCertificate {
	case ClientCertificateRemoved:
		return
	case ClientCertificateSet:
		config.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
	case ClientCertificateAppended:
		config.ForwardClientCertDetails = hcmv3.HttpConnectionManager_APPEND_FORWARD
	}
	config.SetCurrentClientCertDetails = clientCertificateDetails
}

// clientCertificateDetails is what is told of a client's certificate, beside its hash
// and the URIs of the server's own.
var clientCertificateDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{
	Subject: wrapperspb.Bool(true), Dns: true, Uri: true,
}

// networkFilter packs the configuration of a network filter, the last of its chain.
func (t *translator) networkFilter(name string, config message) []*listenerv3.Filter {
	packed := t.packed(config, t.self(), "", "network filter "+name)
	if packed == nil {
		return nil
	}
	return []*listenerv3.Filter{{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed}}}
}

// tcpProxy returns the network filter that hands connections on, with the node's access
// log. It returns nil, and notes a problem of the node, if Envoy would refuse it.
func (t *translator) tcpProxy(config *tcpproxyv3.TcpProxy) []*listenerv3.Filter {
	config.AccessLog = t.accessLog
	return t.networkFilter(tcpProxyName, config)
}

// guarded does so with the connections that may be made.
func (t *translator) guarded(config *tcpproxyv3.TcpProxy, a accessRules) []*listenerv3.Filter {
	guards, logs, ok := t.guards(a, config.StatPrefix)
	if !ok {
		return nil
	}
	config.AccessLog = slices.Concat(t.accessLog, logs)
	proxy := t.networkFilter(tcpProxyName, config)
	if proxy == nil {
		return nil
	}
	return append(guards, proxy...)
}

// passThrough returns the network filter that hands a connection on to where it was
// made to.
func (t *translator) passThrough() []*listenerv3.Filter {
	return t.tcpProxy(&tcpproxyv3.TcpProxy{
		StatPrefix:       egressStatPrefix,
		ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: allowAllClusterName(t.mesh)},
	})
}
