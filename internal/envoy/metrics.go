package envoy

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	statsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stats/v3"
	limitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// App Mesh's aggregate metrics (envoy.appmesh.RequestCount and so on) were made by a
// filter in WebAssembly. Here Envoy's own loggers of statistics make them: what they
// count goes to all sinks and to the admin interface like any other statistic. Their
// tags come from configuration only, never from a request, so that a caller cannot
// make statistics grow.

// The metadata of virtual hosts, routes and clusters that become tags, as App Mesh
// called them.
const (
	metricTags = "aws.appmesh.aggregate_stats"
	tagService = "TargetVirtualService"
	tagNode    = "TargetVirtualNode"
)

// metricsAsked reports whether a proxy asks for aggregate metrics, in the words of App
// Mesh's own agent.
func metricsAsked(node *corev3.Node) bool {
	level := node.GetMetadata().GetFields()["aws.appmesh.metric_filter"].GetStructValue().GetFields()["level"]
	return level.GetStringValue() == "1" || level.GetNumberValue() == 1
}

// metricPrefix begins the names of the metrics; sinks put "envoy." before it.
const metricPrefix = "appmesh"

// metricTag returns the metadata of a resource that lends a tag its value; nil where
// the proxy keeps no metrics.
func (t *translator) metricTag(tag, value string) *corev3.Metadata {
	if t.profile.Metrics == MetricsOff {
		return nil
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		metricTags: {Fields: map[string]*structpb.Value{tag: structpb.NewStringValue(value)}},
	}}
}

// Tags of the metrics that are about targets. Routes of a virtual gateway name the
// service themselves, because its virtual hosts are not the services.
var (
	ofNode    = &statsv3.Config_Tag{Name: tagNode, ValueFormat: "%CLUSTER_METADATA(" + metricTags + ":" + tagNode + ")%"}
	ofService = &statsv3.Config_Tag{Name: tagService, ValueFormat: "%METADATA(ROUTE:" + metricTags + ":" + tagService + ")%" +
		"%METADATA(VIRTUAL_HOST:" + metricTags + ":" + tagService + ")%"}
)

// metricLogs are the logs that count, of connection managers and of listeners.
type metricLogs struct {
	// inbound counts the requests that clients make.
	inbound accessLogs
	// outbound counts the requests that are made to targets: virtual nodes. What goes
	// past the mesh, or is answered without a target, is not counted.
	outbound accessLogs
	// inboundEnds and outboundEnds are logs of listeners: they count when a connection
	// ends. The bytes of requests are counted with the requests, those of TCP
	// connections here.
	inboundEnds, outboundEnds accessLogs
}

// metricLogs returns the logs that count; nil where the proxy keeps no metrics.
func (t *translator) metricLogs() *metricLogs {
	if t.metrics == nil && t.profile.Metrics != MetricsOff {
		t.metrics = t.newMetricLogs()
	}
	return t.metrics
}

// counter makes the logs of one proxy.
type counter struct {
	// base holds the prefix, in the field that the Envoy has for it: Envoy 1.39 has a
	// new one and warns of the old.
	base *statsv3.Config
	// own are the tags that say whose metrics they are. The bootstrap has them too, as
	// tags of all statistics, but Envoy does not give those to what brings tags along.
	own []*statsv3.Config_Tag
}

func (t *translator) newCounter() *counter {
	c := &counter{base: &statsv3.Config{StatsScope: &typev3.Scope{Prefix: metricPrefix}}}
	if t.profile.Metrics == MetricsPrefixed {
		c.base = &statsv3.Config{StatPrefix: metricPrefix} //nolint:staticcheck // Envoys before 1.39 know no other
	}
	kind := "VirtualNode"
	if t.view.Node == nil {
		kind = "VirtualGateway"
	}
	for name, value := range map[string]string{"Mesh": t.mesh, kind: t.view.Key.Name} {
		c.own = append(c.own, &statsv3.Config_Tag{Name: name, ValueFormat: strings.ReplaceAll(value, "%", "%%")})
	}
	slices.SortFunc(c.own, func(a, b *statsv3.Config_Tag) int { return cmp.Compare(a.Name, b.Name) })
	return c
}

func (t *translator) newMetricLogs() *metricLogs {
	c := t.newCounter()
	grpc := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_HeaderFilter{HeaderFilter: &accesslogv3.HeaderFilter{
		Header: &routev3.HeaderMatcher{Name: "content-type", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
			StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "application/grpc"}},
		}},
	}}}
	received := c.amount("ProcessedBytes", "%DOWNSTREAM_WIRE_BYTES_RECEIVED%")
	sent := c.amount("ProcessedBytes", "%DOWNSTREAM_WIRE_BYTES_SENT%")
	m := &metricLogs{
		inbound: accessLogs{
			c.counting(nil, c.one("RequestCount"), received, sent),
			c.counting(grpc, c.one("GrpcRequestCount")),
		},
		outbound: accessLogs{
			c.counting(expression(hasTarget), c.one("RequestCountPerTarget", ofNode, ofService),
				c.amount("TargetProcessedBytes", "%UPSTREAM_WIRE_BYTES_SENT%", ofNode, ofService),
				c.amount("TargetProcessedBytes", "%UPSTREAM_WIRE_BYTES_RECEIVED%", ofNode, ofService)),
			c.responseTime(),
		},
		inboundEnds: accessLogs{c.counting(nil, c.one("NewConnectionCount"), received, sent)},
		outboundEnds: accessLogs{c.counting(expression(hasTarget),
			c.amount("TargetProcessedBytes", "%UPSTREAM_WIRE_BYTES_SENT%", ofNode),
			c.amount("TargetProcessedBytes", "%UPSTREAM_WIRE_BYTES_RECEIVED%", ofNode))},
	}
	for class := uint32(2); class <= 5; class++ {
		m.outbound = append(m.outbound, c.counting(targetCodes(class), c.one(fmt.Sprintf("HTTPCode_Target_%dXX_Count", class), ofNode, ofService)))
	}
	return m
}

// hasTarget holds for what went to a virtual node.
const hasTarget = `"` + metricTags + `" in xds.cluster_metadata.filter_metadata`

// activeConnections is a limit of connections that limits none: its gauge is the one
// that Envoy has of the connections of a filter chain under a name of one's choice.
// The bootstrap's tags make appmesh.ActiveConnectionCount of it.
var activeConnections = &listenerv3.Filter{
	Name: connectionLimit,
	ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: mustAny(&limitv3.ConnectionLimit{
		StatPrefix:     "fairlead." + metricPrefix + ".ActiveConnectionCount",
		MaxConnections: wrapperspb.UInt64(math.MaxInt64),
	})},
}

// countConnections has a listener count its connections, for a proxy that keeps
// metrics.
func (t *translator) countConnections(l *listenerv3.Listener) {
	m := t.metricLogs()
	if m == nil {
		return
	}
	if l.TrafficDirection == corev3.TrafficDirection_INBOUND {
		l.AccessLog = append(l.AccessLog, m.inboundEnds...)
		for _, c := range l.FilterChains {
			c.Filters = slices.Concat([]*listenerv3.Filter{activeConnections}, c.Filters)
		}
	}
	if l.TrafficDirection == corev3.TrafficDirection_OUTBOUND || t.view.Node == nil {
		l.AccessLog = append(l.AccessLog, m.outboundEnds...)
	}
}

// targetCodes holds for the answers of a class of status codes.
func targetCodes(class uint32) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{
		Filters: []*accesslogv3.AccessLogFilter{
			status(accesslogv3.ComparisonFilter_GE, class*100),
			status(accesslogv3.ComparisonFilter_LE, class*100+99),
			expression(hasTarget),
		},
	}}}
}

func status(op accesslogv3.ComparisonFilter_Op, code uint32) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			Op: op, Value: &corev3.RuntimeUInt32{DefaultValue: code, RuntimeKey: "fairlead.metrics.status"},
		}},
	}}
}

func expression(e string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name:       celFilter,
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: mustAny(&celv3.ExpressionFilter{Expression: e})},
		},
	}}
}

// counting is a log that counts.
func (c *counter) counting(when *accesslogv3.AccessLogFilter, counters ...*statsv3.Config_Counter) *accesslogv3.AccessLog {
	config := proto.CloneOf(c.base)
	config.Counters = counters
	return statsLog(config, when)
}

// responseTime is a log that measures how long targets take, of the answers that came
// from one: for others there is no time to measure.
func (c *counter) responseTime() *accesslogv3.AccessLog {
	config := proto.CloneOf(c.base)
	config.Histograms = []*statsv3.Config_Histogram{{
		Stat:        c.stat("TargetResponseTime", []*statsv3.Config_Tag{ofNode, ofService}),
		Unit:        statsv3.Config_Histogram_Milliseconds,
		ValueFormat: "%COMMON_DURATION(US_TX_BEG:US_RX_END:ms)%",
	}}
	return statsLog(config, expression(hasTarget+` && response.code_details == "via_upstream"`))
}

func statsLog(config *statsv3.Config, when *accesslogv3.AccessLogFilter) *accesslogv3.AccessLog {
	return &accesslogv3.AccessLog{
		Name:       statsLogger,
		Filter:     when,
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: mustAny(config)},
	}
}

// one is a counter of events.
func (c *counter) one(name string, tags ...*statsv3.Config_Tag) *statsv3.Config_Counter {
	return &statsv3.Config_Counter{Stat: c.stat(name, tags), ValueFixed: wrapperspb.UInt64(1)}
}

// amount is a counter of what a format says.
func (c *counter) amount(name, format string, tags ...*statsv3.Config_Tag) *statsv3.Config_Counter {
	return &statsv3.Config_Counter{Stat: c.stat(name, tags), ValueFormat: format}
}

func (c *counter) stat(name string, tags []*statsv3.Config_Tag) *statsv3.Config_Stat {
	return &statsv3.Config_Stat{Name: name, Tags: slices.Concat(c.own, tags)}
}
