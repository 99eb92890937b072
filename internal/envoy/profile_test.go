package envoy

import (
	"net/netip"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
)

func TestParseProfile(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	for metadata, want := range map[string]Profile{
		`{}`:                                     {Tracing: true},
		`{"aws.appmesh.platformInfo": {"x": 1}}`: {Tracing: true},
		`{"fairlead": {}}`:                       {},
		`{"fairlead": {"placement": "redirected"}}`:                                   {},
		`{"fairlead": {"placement": "redirected", "applicationAddress": "10.0.0.1"}}`: {App: addr("10.0.0.1")},
		`{"fairlead": {"placement": "bound", "bindAddress": "127.0.0.2"}}`:            {Bound: true, Bind: addr("127.0.0.2")},
		`{"fairlead": {"placement": "bound", "bindAddress": "::ffff:127.0.0.2", "applicationAddress": ""}}`: {
			Bound: true, Bind: addr("127.0.0.2"),
		},
		`{"fairlead": {"placement": "bound", "bindAddress": "fd00::1", "applicationAddress": "::1"}}`: {
			Bound: true, Bind: addr("fd00::1"), App: addr("::1"),
		},
		`{"fairlead": {"placement": "bound", "bindAddress": "127.0.0.1", "applicationAddress": "127.0.0.2"}}`: {
			Bound: true, Bind: addr("127.0.0.1"), App: addr("127.0.0.2"),
		},
		`{"fairlead": {"workloadCertificates": true}}`: {Workloads: true},
		`{"fairlead": {"dnsPort": 15054}}`:             {DNSPort: 15054},
		`{"fairlead": {"placement": "bound", "bindAddress": "10.0.0.5", "explicit": true, "egressAddress": "127.0.0.1", "internalListeners": true, "tcpPorts": "a:1=2"}}`: {
			Bound: true, Bind: addr("10.0.0.5"), Egress: addr("127.0.0.1"), Internal: true, TCPPorts: "a:1=2",
		},
		`{"fairlead": {"secretSource": false}}`: {NoSecretSource: true},
		`{"fairlead": {"secretSource": true}}`:  {},
		`{"fairlead": {"discovery": {"cluster": "fairlead_xds", "authority": "[::1]:9081"}}}`: {
			Discovery: Discovery{Cluster: "fairlead_xds", Authority: "[::1]:9081"},
		},
		`{"fairlead": {"tracing": true, "internalListeners": true, "reloadDirectory": "/run/r", "clientCertificate": "append"}}`: {
			Tracing: true, Internal: true, ReloadDir: "/run/r", ClientCertificate: ClientCertificateAppended,
		},
		`{"fairlead": {"accessLogs": {"grpc": {"cluster": "als", "logName": "shop"}, "openTelemetry": {"cluster": "otlp", "uri": "http://h:4318/v1/logs"}}}}`: {
			Logs: LogServices{
				GRPC:          LogService{Cluster: "als", Name: "shop"},
				OpenTelemetry: LogService{Cluster: "otlp", Name: "fairlead", URI: "http://h:4318/v1/logs"},
			},
			Lacks: logResources, // the node says no version
		},
	} {
		got, err := ParseProfile(nodeWith(t, metadata))
		if err != nil || got != want {
			t.Errorf("ParseProfile(%s) = %+v, %v, want %+v", metadata, got, err, want)
		}
	}
	if got, err := ParseProfile(nil); err != nil || got != (Profile{Tracing: true}) {
		t.Errorf("ParseProfile(nil) = %+v, %v", got, err)
	}
}

func TestParseProfileRefuses(t *testing.T) {
	t.Parallel()
	for metadata, want := range map[string]string{
		`{"fairlead": {"explicit": true}}`:                                                                                                                          `allowed is that where fairlead.placement is "bound"`,
		`{"fairlead": {"placement": "bound", "bindAddress": "10.0.0.5", "explicit": true}}`:                                                                         "egressAddress is required",
		`{"fairlead": {"placement": "bound", "bindAddress": "10.0.0.5", "explicit": true, "egressAddress": "::1"}}`:                                                 "internalListeners must be true",
		`{"fairlead": {"placement": "bound", "bindAddress": "10.0.0.5", "explicit": true, "egressAddress": "::1", "internalListeners": true, "tcpPorts": "a=1"}}`:   `tcpPorts holds "a=1"`,
		`{"fairlead": {"placement": "bound", "bindAddress": "10.0.0.5", "explicit": true, "egressAddress": "::1", "internalListeners": true, "tcpPorts": "a:1=0"}}`: `tcpPorts holds "a:1=0"`,
		`{"fairlead": {"dnsPort": 65536}}`:                                                                    "dnsPort must be a port",
		`{"fairlead": {"dnsPort": "15054"}}`:                                                                  "dnsPort must be a port",
		`{"fairlead": {"dnsPort": 1.5}}`:                                                                      "dnsPort must be a port",
		`{"fairlead": true}`:                                                                                  "must be an object",
		`{"fairlead": {"placement": 1}}`:                                                                      "placement must be a string",
		`{"fairlead": {"placement": "beside"}}`:                                                               `"beside", allowed are "redirected" and "bound"`,
		`{"fairlead": {"placement": "bound"}}`:                                                                "bindAddress is required",
		`{"fairlead": {"placement": "bound", "bindAddress": ["127.0.0.2"]}}`:                                  "bindAddress must be a string",
		`{"fairlead": {"placement": "bound", "bindAddress": "localhost"}}`:                                    `bindAddress is "localhost", allowed is`,
		`{"fairlead": {"placement": "bound", "bindAddress": "0.0.0.0"}}`:                                      "allowed is",
		`{"fairlead": {"placement": "bound", "bindAddress": "fe80::1%eth0"}}`:                                 "allowed is",
		`{"fairlead": {"placement": "bound", "bindAddress": "127.0.0.1"}}`:                                    "must differ",
		`{"fairlead": {"placement": "bound", "bindAddress": "127.0.0.2", "applicationAddress": "127.0.0.2"}}`: "must differ",
		`{"fairlead": {"secretSource": "no"}}`:                                                                "secretSource must be true or false",
		`{"fairlead": {"applicationAddress": "224.0.0.1"}}`:                                                   "applicationAddress is",
		`{"fairlead": {"tracing": "yes"}}`:                                                                    "fairlead.tracing must be true or false",
		`{"fairlead": {"internalListeners": 1}}`:                                                              "fairlead.internalListeners must be true or false",
		`{"fairlead": {"reloadDirectory": "run"}}`:                                                            `"run", allowed is an absolute path`,
		`{"fairlead": {"clientCertificate": "keep"}}`:                                                         `"keep", allowed are "remove"`,
		`{"fairlead": {"discovery": 1}}`:                                                                      "fairlead.discovery must be an object",
		`{"fairlead": {"discovery": {"authority": "a"}}}`:                                                     `discovery.cluster is ""`,
		`{"fairlead": {"discovery": {"cluster": 1}}}`:                                                         "discovery.cluster must be a string",
		`{"fairlead": {"discovery": {"cluster": "a", "authority": "a b"}}}`:                                   `"a b", allowed is a host with a port`,
		`{"fairlead": {"accessLogs": 1}}`:                                                                     "fairlead.accessLogs must be an object",
		`{"fairlead": {"accessLogs": {"grpc": "als"}}}`:                                                       "accessLogs.grpc must be an object",
		`{"fairlead": {"accessLogs": {"grpc": {"cluster": 1}}}}`:                                              "accessLogs.grpc.cluster must be a string",
		`{"fairlead": {"accessLogs": {"grpc": {}}}}`:                                                          "accessLogs.grpc.cluster is \"\"",
		`{"fairlead": {"accessLogs": {"grpc": {"cluster": "a b"}}}}`:                                          `"a b", allowed is the name of a cluster`,
		`{"fairlead": {"accessLogs": {"grpc": {"cluster": "a", "uri": "http://x"}}}}`:                         "accessLogs.grpc.uri must be absent",
		`{"fairlead": {"accessLogs": {"openTelemetry": {"cluster": "a", "uri": "x:1"}}}}`:                     `"x:1", allowed is a URI`,
	} {
		if got, err := ParseProfile(nodeWith(t, metadata)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseProfile(%s) = %+v, %v, want an error with %q", metadata, got, err, want)
		}
	}
}

func nodeWith(t *testing.T, metadata string) *corev3.Node {
	t.Helper()
	var n corev3.Node
	if err := protojson.Unmarshal([]byte(`{"metadata":`+metadata+`}`), &n); err != nil {
		t.Fatal(err)
	}
	return &n
}

func TestTypes(t *testing.T) {
	t.Parallel()
	for typ := range NumTypes {
		if got, ok := ParseType(typ.URL()); !ok || got != typ || !strings.HasSuffix(typ.URL(), "."+typ.String()) {
			t.Errorf("type %d has URL %q and name %q, which is of type %d", typ, typ.URL(), typ, got)
		}
	}
	if got, ok := ParseType("type.googleapis.com/google.protobuf.Any"); ok || got.URL() != "" || got.String() != "unknown" {
		t.Errorf("an unknown URL is of type %d", got)
	}
}

func TestProfileForPeople(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]Profile{
		"redirected": {},
		"bound to 127.0.0.2, application on 127.0.1.2": {
			Bound: true, Bind: netip.MustParseAddr("127.0.0.2"), App: netip.MustParseAddr("127.0.1.2"),
		},
	} {
		if got := p.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Aggregate metrics are kept where they are asked for, in the form that the Envoy
// knows, and not by one that would refuse them.
func TestParseProfileMetrics(t *testing.T) {
	t.Parallel()
	level := func(l any) map[string]any {
		return map[string]any{"aws.appmesh.metric_filter": map[string]any{"level": l}, "fairlead": map[string]any{}}
	}
	for name, c := range map[string]struct {
		proxy caseProxy
		want  Profile
	}{
		"asked for":         {caseProxy{Metadata: level("1")}, Profile{Metrics: MetricsScoped}},
		"asked as a number": {caseProxy{Metadata: level(1)}, Profile{Metrics: MetricsScoped}},
		"older Envoy":       {caseProxy{Metadata: level("1"), Version: "1.38"}, Profile{Metrics: MetricsPrefixed}},
		"no logger":         {caseProxy{Metadata: level("1"), Without: []string{statsLogger}}, Profile{Lacks: aggregateMetrics}},
		"no gauge":          {caseProxy{Metadata: level("1"), Without: []string{connectionLimit}}, Profile{Lacks: aggregateMetrics}},
		"another level":     {caseProxy{Metadata: level("0"), Without: []string{statsLogger}}, Profile{}},
	} {
		if got := c.proxy.profile(t); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
