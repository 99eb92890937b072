package envoy

import (
	"slices"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// firstWords is how long a client that may speak TLS or plain TCP is given to begin.
// One that has said nothing by then waits for the server to speak first, which is never
// so with TLS.
var firstWords = durationpb.New(3 * time.Second)

// inspect has a listener look at the first bytes of connections where its filter chains
// are chosen by them, and nowhere else: a client that waits for its server to speak first
// would wait in vain.
func inspect(l *listenerv3.Listener) {
	var ports []uint32
	found, everywhere, tcp := false, false, false
	for _, c := range l.FilterChains {
		m := c.FilterChainMatch
		if m.GetTransportProtocol() == "" && len(m.GetServerNames()) == 0 {
			continue
		}
		found = true
		tcp = tcp || c.Filters[len(c.Filters)-1].Name == tcpProxyName
		everywhere = everywhere || m.DestinationPort == nil
		ports = append(ports, m.GetDestinationPort().GetValue())
	}
	if !found {
		return
	}
	inspector := &listenerv3.ListenerFilter{
		Name:       tlsInspectorName,
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: tlsInspector},
	}
	if !everywhere {
		slices.Sort(ports)
		inspector.FilterDisabled = notPorts(slices.Compact(ports))
	}
	// Behind the filter that brings back the port, which decides whether to look.
	l.ListenerFilters = append(slices.Clone(l.ListenerFilters), inspector)
	if tcp {
		l.ListenerFiltersTimeout = firstWords
		l.ContinueOnListenerFiltersTimeout = true
	}
}

var tlsInspector = mustAny(&tlsinspectorv3.TlsInspector{})

// notPorts matches connections that were made to none of the ports.
func notPorts(ports []uint32) *listenerv3.ListenerFilterChainMatchPredicate {
	rules := make([]*listenerv3.ListenerFilterChainMatchPredicate, len(ports))
	for i, p := range ports {
		rules[i] = &listenerv3.ListenerFilterChainMatchPredicate{
			Rule: &listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange{
				DestinationPortRange: &typev3.Int32Range{Start: int32(p), End: int32(p) + 1},
			},
		}
	}
	either := rules[0]
	if len(rules) > 1 {
		either = &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_OrMatch{
			OrMatch: &listenerv3.ListenerFilterChainMatchPredicate_MatchSet{Rules: rules},
		}}
	}
	return &listenerv3.ListenerFilterChainMatchPredicate{
		Rule: &listenerv3.ListenerFilterChainMatchPredicate_NotMatch{NotMatch: either},
	}
}
