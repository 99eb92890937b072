package envoy

import (
	"fmt"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	filelogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	otellogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

func (x *explainer) cluster(r Resource) {
	c, ok := r.Message.(*clusterv3.Cluster)
	if !ok {
		x.say(1, r.Object, "%s: it cannot be read", short(r.Name))
		return
	}
	x.say(1, r.Object, "%s: %s", short(c.Name), x.discovery(c))
	options := new(httpv3.HttpProtocolOptions)
	if c.TypedExtensionProtocolOptions["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].UnmarshalTo(options) == nil &&
		options.GetExplicitHttpConfig().GetHttp2ProtocolOptions() != nil {
		x.say(2, r.Object, "spoken to in HTTP/2")
	}
	if c.TransportSocket != nil && !c.TransportSocket.GetTypedConfig().MessageIs(new(internalv3.InternalUpstreamTransport)) {
		x.say(2, r.Object, "%s", x.upstreamText(c.TransportSocket))
	}
	for _, h := range c.HealthChecks {
		x.say(2, r.Object, "%s", checkText(h))
	}
	if o := c.OutlierDetection; o != nil {
		x.say(2, r.Object, "a host is ejected for %s after %d errors in a row, at most %d %% of them", o.BaseEjectionTime.AsDuration(), o.Consecutive_5Xx.GetValue(), o.MaxEjectionPercent.GetValue())
	}
	for _, t := range c.CircuitBreakers.GetThresholds() {
		for _, limit := range []struct {
			what string
			n    uint32
		}{{"connections", t.MaxConnections.GetValue()}, {"waiting requests", t.MaxPendingRequests.GetValue()}, {"requests", t.MaxRequests.GetValue()}} {
			if limit.n != noLimit && limit.n != 0 {
				x.say(2, r.Object, "at most %d %s at once", limit.n, limit.what)
			}
		}
	}
}

func checkText(h *corev3.HealthCheck) string {
	by := ""
	switch {
	case h.GetHttpHealthCheck() != nil:
		by = " by GET " + short(h.GetHttpHealthCheck().Path)
	case h.GetGrpcHealthCheck() != nil:
		by = " by gRPC"
	case h.GetTcpHealthCheck() != nil:
		by = " by connecting"
	}
	return fmt.Sprintf("health checked%s every %s, %d failures take a host out", by, h.Interval.AsDuration(), h.UnhealthyThreshold.GetValue())
}

// discovery says how a cluster's hosts are found.
func (x *explainer) discovery(c *clusterv3.Cluster) string {
	if c.GetClusterType().GetName() == forwardCluster {
		return "the host that the request names"
	}
	switch c.GetType() {
	case clusterv3.Cluster_ORIGINAL_DST:
		return "where the connection was made to"
	case clusterv3.Cluster_EDS:
		return x.instances(c.Name)
	case clusterv3.Cluster_STRICT_DNS:
		return "every address of " + hosts(c.LoadAssignment)
	case clusterv3.Cluster_LOGICAL_DNS:
		return "the DNS name " + hosts(c.LoadAssignment)
	case clusterv3.Cluster_STATIC:
	}
	return hosts(c.LoadAssignment)
}

// instances says of which service's instances a cluster's endpoints are made, and which
// they are.
func (x *explainer) instances(cluster string) string {
	r := x.endpoints[cluster]
	of := ""
	if r.Assignment != nil {
		of = fmt.Sprintf(" of service %s in namespace %s", short(r.Assignment.Instances.Service), short(r.Assignment.Instances.Namespace))
	}
	list, ok := r.Message.(*endpointv3.ClusterLoadAssignment)
	if !ok {
		return "the registered instances" + of + ", which are not there yet"
	}
	n := 0
	for _, l := range list.Endpoints {
		n += len(l.LbEndpoints)
	}
	if n == 0 {
		return "the registered instances" + of + ": there is none"
	}
	return fmt.Sprintf("the registered instances%s: %s", of, hosts(list))
}

// hosts names the hosts of a cluster, with their zones where they are known.
func hosts(a *endpointv3.ClusterLoadAssignment) string {
	var out []string
	for _, l := range a.GetEndpoints() {
		zone := ""
		if z := l.GetLocality().GetZone(); z != "" {
			zone = " (" + z + ")"
		}
		for _, e := range l.LbEndpoints {
			address := e.GetEndpoint().GetAddress()
			if s := address.GetSocketAddress(); s != nil {
				out = append(out, authority(s.Address, s.GetPortValue())+zone)
			} else if i := address.GetEnvoyInternalAddress(); i != nil {
				out = append(out, "listener "+i.GetServerListenerName())
			}
		}
	}
	if len(out) == 0 {
		return "(none)"
	}
	return listed(out, ", ")
}

// upstreamText says how hosts are spoken to with TLS.
func (x *explainer) upstreamText(s *corev3.TransportSocket) string {
	c := new(tlsv3.UpstreamTlsContext)
	if s.GetTypedConfig().UnmarshalTo(c) != nil {
		return "spoken to by " + short(s.Name) + ", which is not explained"
	}
	parts := []string{"spoken to with TLS"}
	if c.Sni != "" {
		parts = append(parts, "asked for as "+short(c.Sni))
	}
	if names, trust, checked := x.validation(c.CommonTlsContext); checked {
		parts = append(parts, "the certificate must be"+names+" signed by "+trust)
	} else {
		parts = append(parts, "the certificate is not verified")
	}
	for _, own := range c.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
		parts = append(parts, "showing "+x.secretText(own))
	}
	return strings.Join(parts, "; ")
}

// downstreamText says how TLS ends here.
func (x *explainer) downstreamText(s *corev3.TransportSocket) string {
	c := new(tlsv3.DownstreamTlsContext)
	if s.GetTypedConfig().UnmarshalTo(c) != nil {
		return short(s.Name) + ", which is not explained"
	}
	var parts []string
	for _, own := range c.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
		parts = append(parts, "shows "+x.secretText(own))
	}
	names, trust, checked := x.validation(c.CommonTlsContext)
	switch {
	case checked && c.GetRequireClientCertificate().GetValue():
		parts = append(parts, "clients must show a certificate"+names+" signed by "+trust)
	case checked:
		parts = append(parts, "a client's certificate must be"+names+" signed by "+trust)
	}
	if p := c.GetCommonTlsContext().GetAlpnProtocols(); len(p) > 0 {
		parts = append(parts, "speaks "+listed(p, " or "))
	}
	return strings.Join(parts, "; ")
}

// validation says which names a peer's certificate must have one of, and who must have
// signed it; checked is false if that does not matter.
func (x *explainer) validation(c *tlsv3.CommonTlsContext) (names, trust string, checked bool) {
	config := c.GetValidationContextSdsSecretConfig()
	if both := c.GetCombinedValidationContext(); both != nil {
		config = both.ValidationContextSdsSecretConfig
		var all []string
		for _, m := range both.GetDefaultValidationContext().GetMatchTypedSubjectAltNames() {
			// A name may be one of a host or a URI, and is listed for each.
			if text := stringText(m.Matcher); len(all) == 0 || all[len(all)-1] != text {
				all = append(all, text)
			}
		}
		if len(all) > 0 {
			names = " for " + listed(all, " or ") + ","
		}
	}
	if config == nil {
		return "", "", false
	}
	return names, x.secretText(config), true
}

// secretText names a secret: by the files that are in it, or where it is fetched from.
func (x *explainer) secretText(c *tlsv3.SdsSecretConfig) string {
	s := x.secrets[c.GetName()]
	switch {
	case c.GetSdsConfig().GetAds() == nil:
		return "secret " + short(c.GetName()) + " of the workload's own source"
	case s == nil:
		return "secret " + short(c.GetName()) + ", which is not there"
	}
	return filesText(s)
}

// filesText says which files are in a secret.
func filesText(s *tlsv3.Secret) string {
	if c := s.GetTlsCertificate(); c != nil {
		return "certificate " + short(c.GetCertificateChain().GetFilename()) + " with key " + short(c.GetPrivateKey().GetFilename())
	}
	if v := s.GetValidationContext(); v != nil {
		return "who is in " + short(v.GetTrustedCa().GetFilename())
	}
	return "secret " + short(s.Name)
}

func (x *explainer) secret(r Resource) {
	s, ok := r.Message.(*tlsv3.Secret)
	if !ok {
		x.say(1, r.Object, "%s: it cannot be read", short(r.Name))
		return
	}
	text := filesText(s)
	watched := s.GetTlsCertificate().GetWatchedDirectory().GetPath()
	if w := s.GetValidationContext().GetWatchedDirectory(); w != nil {
		text, watched = "trust in "+text, w.Path
	}
	if watched != "" {
		text += ", read again when files are moved into " + short(watched)
	}
	x.say(1, r.Object, "%s: %s", short(r.Name), text)
}

// logText says where something is logged, "" for nowhere.
func logText(logs []*accesslogv3.AccessLog) string {
	var to []string
	counted := false
	for _, l := range logs {
		file, grpc, otel := new(filelogv3.FileAccessLog), new(grpclogv3.HttpGrpcAccessLogConfig), new(otellogv3.OpenTelemetryAccessLogConfig)
		config := l.GetTypedConfig()
		switch {
		case config.UnmarshalTo(file) == nil:
			to = append(to, "file "+short(file.Path))
		case config.UnmarshalTo(grpc) == nil:
			to = append(to, "Envoy's log service at cluster "+short(grpc.GetCommonConfig().GetGrpcService().GetEnvoyGrpc().GetClusterName()))
		case config.UnmarshalTo(otel) == nil && otel.GetHttpService() != nil:
			to = append(to, "OpenTelemetry at "+short(otel.GetHttpService().GetHttpUri().GetUri()))
		case config.UnmarshalTo(otel) == nil:
			to = append(to, "OpenTelemetry at cluster "+short(otel.GetGrpcService().GetEnvoyGrpc().GetClusterName()))
		case l.Name == statsLogger:
			counted = true
		case l.Name == stdoutLogger: // of a dry run, whose policies are told of
		default:
			to = append(to, short(l.Name))
		}
	}
	var parts []string
	if len(to) > 0 {
		parts = append(parts, "logged to "+listed(to, ", "))
	}
	if counted {
		parts = append(parts, "counted in App Mesh's metrics")
	}
	return strings.Join(parts, "; ")
}
