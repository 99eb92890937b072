package agent

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead-mesh/fairlead/internal/agent/identity"
)

// vars is an environment for tests.
type vars map[string]string

func (v vars) lookup(name string) (string, bool) {
	value, ok := v[name]
	return value, ok
}

// with returns a copy with changes; an empty value takes a variable away.
func (v vars) with(changes vars) vars {
	out := maps.Clone(v)
	maps.Copy(out, changes)
	return out
}

// base is the smallest environment that is enough.
func base() vars {
	return vars{
		"APPMESH_RESOURCE_ARN":  "mesh/shop/virtualNode/cart",
		"FAIRLEAD_XDS_ENDPOINT": "fairlead.example.com:9081",
		"AWS_REGION":            "us-east-1",
		"AWS_ACCESS_KEY_ID":     "AKIDTEST",
		"AWS_SECRET_ACCESS_KEY": "test-secret-nobody-uses",
	}
}

var compareAddr = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
}

func TestReadSettingsDefaults(t *testing.T) {
	t.Parallel()
	got, warnings, err := ReadSettings(base().lookup)
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Resource: Resource{Variable: "APPMESH_RESOURCE_ARN", ARN: "mesh/shop/virtualNode/cart"},
		Cluster:  "mesh/shop/virtualNode/cart",
		XDS:      XDS{Host: "fairlead.example.com", Port: 9081, Region: "us-east-1", SigningName: "appmesh"},
		Identity: identity.Settings{Kind: identity.Keys},
		Admin:    Admin{Address: netip.MustParseAddr("0.0.0.0"), Port: 9901, AccessLog: "/tmp/envoy_admin_access.log"},
		LogLevel: "info", DrainTime: 20 * time.Second, OutlierLog: "/dev/stdout",
		Telemetry: Telemetry{LogName: "shop/cart", Attributes: "service.name=shop/cart"},
		Supervision: Supervision{
			Restarts: 3, HealthPoll: 10 * time.Second, Away: 7 * 24 * time.Hour, LogReset: 5 * time.Minute, StopTime: 10 * time.Second,
		},
	}
	if diff := cmp.Diff(want, got, compareAddr); diff != "" {
		t.Errorf("settings differ (-want +got):\n%s", diff)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings %v, want none", warnings)
	}
}

func TestReadSettings(t *testing.T) {
	t.Parallel()
	const full = "arn:aws:appmesh:eu-west-1:000000000001:mesh/shop/virtualGateway/door"
	cases := map[string]struct {
		set  vars
		want func(*Settings)
	}{
		"full ARN lends its region": {
			vars{"APPMESH_RESOURCE_ARN": full, "AWS_REGION": ""},
			func(s *Settings) {
				s.Resource.ARN, s.Resource.Region, s.Cluster, s.XDS.Region = full, "eu-west-1", full, "eu-west-1"
			},
		},
		"shared mesh": {
			vars{"APPMESH_RESOURCE_ARN": "mesh/shop@000000000002/virtualNode/cart"},
			func(s *Settings) {
				s.Resource.ARN, s.Cluster = "mesh/shop@000000000002/virtualNode/cart", "mesh/shop@000000000002/virtualNode/cart"
			},
		},
		"older names, in their order": {
			vars{"APPMESH_RESOURCE_ARN": "", "APPMESH_RESOURCE_NAME": "mesh/m/virtualNode/a", "APPMESH_VIRTUAL_NODE_NAME": "mesh/m/virtualNode/b"},
			func(s *Settings) {
				s.Resource = Resource{Variable: "APPMESH_RESOURCE_NAME", ARN: "mesh/m/virtualNode/a"}
				s.Cluster = "mesh/m/virtualNode/a"
			},
		},
		"oldest name": {
			vars{"APPMESH_RESOURCE_ARN": "", "APPMESH_VIRTUAL_NODE_NAME": "mesh/m/virtualNode/b"},
			func(s *Settings) {
				s.Resource = Resource{Variable: "APPMESH_VIRTUAL_NODE_NAME", ARN: "mesh/m/virtualNode/b"}
				s.Cluster = "mesh/m/virtualNode/b"
			},
		},
		"the ARN is the strongest": {
			vars{"APPMESH_VIRTUAL_NODE_NAME": "mesh/m/virtualNode/b"},
			func(*Settings) {},
		},
		"cluster":       {vars{"APPMESH_RESOURCE_CLUSTER": "c1", "APPMESH_VIRTUAL_NODE_CLUSTER": "c2"}, func(s *Settings) { s.Cluster = "c1" }},
		"older cluster": {vars{"APPMESH_VIRTUAL_NODE_CLUSTER": "c2"}, func(s *Settings) { s.Cluster = "c2" }},
		"alias of the endpoint": {
			vars{"FAIRLEAD_XDS_ENDPOINT": "", "APPMESH_XDS_ENDPOINT": "10.0.0.1:443"},
			func(s *Settings) { s.XDS.Host, s.XDS.Port = "10.0.0.1", 443 },
		},
		"our name of the endpoint is the stronger": {
			vars{"APPMESH_XDS_ENDPOINT": "10.0.0.1:443"},
			func(*Settings) {},
		},
		"endpoint by IPv6 address": {vars{"FAIRLEAD_XDS_ENDPOINT": "[2001:DB8:0::1]:443"}, func(s *Settings) { s.XDS.Host, s.XDS.Port = "2001:db8::1", 443 }},
		"endpoint with dot":        {vars{"FAIRLEAD_XDS_ENDPOINT": "Fairlead.Example.com.:443"}, func(s *Settings) { s.XDS.Port = 443 }},
		"plaintext to loopback":    {vars{"FAIRLEAD_XDS_ENDPOINT": "127.0.0.9:1", "FAIRLEAD_XDS_PLAINTEXT": "1"}, func(s *Settings) { s.XDS.Host, s.XDS.Port, s.XDS.Plaintext = "127.0.0.9", 1, true }},
		"plaintext to localhost":   {vars{"FAIRLEAD_XDS_ENDPOINT": "localhost:1", "FAIRLEAD_XDS_PLAINTEXT": "true"}, func(s *Settings) { s.XDS.Host, s.XDS.Port, s.XDS.Plaintext = "localhost", 1, true }},
		"plaintext elsewhere":      {vars{"FAIRLEAD_XDS_PLAINTEXT": "insecure"}, func(s *Settings) { s.XDS.Plaintext = true }},
		"plaintext off":            {vars{"FAIRLEAD_XDS_PLAINTEXT": "0"}, func(*Settings) {}},
		"signature":                {vars{"APPMESH_SIGNING_NAME": "other"}, func(s *Settings) { s.XDS.SigningName = "other" }},
		"roots":                    {vars{"FAIRLEAD_XDS_CA_FILE": "/ca.pem"}, func(s *Settings) { s.XDS.CAFile = "/ca.pem" }},
		"fetch timeout":            {vars{"ENVOY_INITIAL_FETCH_TIMEOUT": "15"}, func(s *Settings) { s.XDS.FetchTimeout = 15 * time.Second }},
		"credentials file": {vars{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": "/c"}, func(s *Settings) {
			s.XDS.Credentials, s.Identity.Kind = Credentials{File: "/c", Profile: "default"}, identity.File
		}},
		"credentials file at home": {vars{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": "/home/x", "AWS_PROFILE": "p"}, func(s *Settings) {
			s.XDS.Credentials, s.Identity.Kind = Credentials{File: "/home/x/.aws/credentials", Profile: "p"}, identity.File
		}},
		"keys are stronger": {vars{"AWS_SHARED_CREDENTIALS_FILE": "/c"}, func(*Settings) {}},
		"admin port":        {vars{"ENVOY_ADMIN_ACCESS_PORT": "19901"}, func(s *Settings) { s.Admin.Port = 19901 }},
		"admin log":         {vars{"ENVOY_ADMIN_ACCESS_LOG_FILE": "/dev/null"}, func(s *Settings) { s.Admin.AccessLog = "/dev/null" }},
		"admin IPv6":        {vars{"ENVOY_ADMIN_ACCESS_ENABLE_IPV6": "true"}, func(s *Settings) { s.Admin.Address = netip.MustParseAddr("::") }},
		"admin socket":      {vars{"ENVOY_ADMIN_MODE": "UDS"}, func(s *Settings) { s.Admin = Admin{Socket: "/tmp/envoy_admin.sock", AccessLog: adminAccessLog} }},
		"log level":         {vars{"ENVOY_LOG_LEVEL": "Debug"}, func(s *Settings) { s.LogLevel = "debug" }},
		"concurrency":       {vars{"ENVOY_CONCURRENCY": "4"}, func(s *Settings) { s.Concurrency = 4 }},
		"no concurrency":    {vars{"ENVOY_CONCURRENCY": "-1"}, func(*Settings) {}},
		"drain time":        {vars{"LISTENER_DRAIN_WAIT_TIME_S": "110"}, func(s *Settings) { s.DrainTime = 110 * time.Second }},
		"deprecated":        {vars{"ENVOY_SKIP_DEPRECATED_LOGS": "false"}, func(s *Settings) { s.ShowDeprecated = true }},
		"outlier log":       {vars{"ENVOY_OUTLIER_DETECTION_EVENT_LOG_PATH": "/x"}, func(s *Settings) { s.OutlierLog = "/x" }},
		"io cycle":          {vars{"MAX_REQUESTS_PER_IO_CYCLE": "1"}, func(s *Settings) { s.RequestsPerIOCycle = 1 }},
		"envoy":             {vars{"ENVOY_PATH": "/e"}, func(s *Settings) { s.EnvoyPath = "/e" }},
		"bound": {vars{"FAIRLEAD_BIND_ADDRESS": "127.0.0.2"}, func(s *Settings) {
			s.Placement.Bind = netip.MustParseAddr("127.0.0.2")
			s.Admin.Address, s.Admin.AccessLog = s.Placement.Bind, ""
		}},
		"bound to the usual application address": {vars{"FAIRLEAD_BIND_ADDRESS": "127.0.0.1", "FAIRLEAD_APPLICATION_ADDRESS": "127.0.1.1"}, func(s *Settings) {
			s.Placement = Placement{Bind: netip.MustParseAddr("127.0.0.1"), Application: netip.MustParseAddr("127.0.1.1")}
			s.Admin.Address, s.Admin.AccessLog = s.Placement.Bind, ""
		}},
		"secret socket":      {vars{"APPMESH_SDS_SOCKET_PATH": "/run/s"}, func(s *Settings) { s.SDSSocket = "/run/s" }},
		"client certificate": {vars{"FAIRLEAD_CLIENT_CERTIFICATE": "Set"}, func(s *Settings) { s.ClientCertificate = "set" }},
		"files": {vars{"ENVOY_STATS_SINKS_CFG_FILE": "/a", "ENVOY_RESOURCES_CONFIG_FILE": "/b"}, func(s *Settings) {
			s.OverlayFiles = map[string]string{"ENVOY_STATS_SINKS_CFG_FILE": "/a", "ENVOY_RESOURCES_CONFIG_FILE": "/b"}
		}},
		"application elsewhere": {vars{"FAIRLEAD_APPLICATION_ADDRESS": "::1"}, func(s *Settings) { s.Placement.Application = netip.IPv6Loopback() }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, _, err := ReadSettings(base().lookup)
			if err != nil {
				t.Fatal(err)
			}
			c.want(&want)
			got, _, err := ReadSettings(base().with(c.set).lookup)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, compareAddr, cmpopts.IgnoreFields(Settings{}, "Telemetry")); diff != "" {
				t.Errorf("settings differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadSettingsRefuses(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		set  vars
		says []string // parts of the message
	}{
		"no resource":        {vars{"APPMESH_RESOURCE_ARN": ""}, []string{"APPMESH_RESOURCE_ARN is not set", "mesh/MESH/virtualNode/NAME"}},
		"three parts":        {vars{"APPMESH_RESOURCE_ARN": "mesh/shop/virtualNode"}, []string{"APPMESH_RESOURCE_ARN", "four parts"}},
		"another kind":       {vars{"APPMESH_RESOURCE_ARN": "mesh/shop/virtualRouter/r"}, []string{`"virtualRouter"`, "only virtual nodes and virtual gateways"}},
		"bad name":           {vars{"APPMESH_RESOURCE_NAME": "mesh/shop/virtualNode/a b", "APPMESH_RESOURCE_ARN": ""}, []string{"APPMESH_RESOURCE_NAME", `"a b"`}},
		"bad mesh":           {vars{"APPMESH_RESOURCE_ARN": "mesh//virtualNode/a"}, []string{`mesh name ""`}},
		"bad owner":          {vars{"APPMESH_RESOURCE_ARN": "mesh/shop@12/virtualNode/a"}, []string{`mesh owner "12"`, "twelve digits"}},
		"bad account":        {vars{"APPMESH_RESOURCE_ARN": "arn:aws:appmesh:us-east-1:1:mesh/shop/virtualNode/a"}, []string{`account "1"`}},
		"bad region":         {vars{"APPMESH_RESOURCE_ARN": "arn:aws:appmesh::000000000001:mesh/shop/virtualNode/a"}, []string{`region ""`}},
		"another service":    {vars{"APPMESH_RESOURCE_ARN": "arn:aws:ecs:us-east-1:000000000001:mesh/shop/virtualNode/a"}, []string{"not an ARN of App Mesh"}},
		"no endpoint":        {vars{"FAIRLEAD_XDS_ENDPOINT": ""}, []string{"FAIRLEAD_XDS_ENDPOINT is not set", "host:port"}},
		"relative socket":    {vars{"FAIRLEAD_XDS_ENDPOINT": "", "APPMESH_XDS_ENDPOINT": "unix://x.sock"}, []string{`APPMESH_XDS_ENDPOINT is "unix://x.sock"`, "absolute path"}},
		"relative cache":     {vars{"FAIRLEAD_CACHE_DIR": "cache"}, []string{`FAIRLEAD_CACHE_DIR is "cache", allowed is an absolute path`}},
		"long cache":         {vars{"FAIRLEAD_CACHE_DIR": "/" + strings.Repeat("a", 100)}, []string{"FAIRLEAD_CACHE_DIR", "91 bytes at most"}},
		"two caches":         {vars{"FAIRLEAD_XDS_ENDPOINT": "unix:///tmp/x.sock", "FAIRLEAD_CACHE_DIR": "/tmp/x"}, []string{"FAIRLEAD_CACHE_DIR", "unset one of them"}},
		"endpoint as URL":    {vars{"FAIRLEAD_XDS_ENDPOINT": "https://fairlead.example.com:443"}, []string{"FAIRLEAD_XDS_ENDPOINT", "without a scheme"}},
		"no port":            {vars{"FAIRLEAD_XDS_ENDPOINT": "fairlead.example.com"}, []string{"allowed is host:port"}},
		"port too high":      {vars{"FAIRLEAD_XDS_ENDPOINT": "fairlead.example.com:65536"}, []string{"allowed is host:port"}},
		"no region":          {vars{"AWS_REGION": ""}, []string{"AWS_REGION is not set", "us-east-1"}},
		"odd region":         {vars{"AWS_REGION": "US East"}, []string{`AWS_REGION is "US East"`}},
		"two regions":        {vars{"APPMESH_RESOURCE_ARN": "arn:aws:appmesh:eu-west-1:000000000001:mesh/s/virtualNode/a"}, []string{`AWS_REGION is "us-east-1", allowed is "eu-west-1"`}},
		"signing name":       {vars{"APPMESH_SIGNING_NAME": "App/Mesh"}, []string{"APPMESH_SIGNING_NAME"}},
		"half a key":         {vars{"AWS_SECRET_ACCESS_KEY": ""}, []string{"AWS_SECRET_ACCESS_KEY is not"}},
		"other half":         {vars{"AWS_ACCESS_KEY_ID": ""}, []string{"AWS_ACCESS_KEY_ID is not"}},
		"no key":             {vars{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, []string{"no access key", "AWS_SHARED_CREDENTIALS_FILE"}},
		"plaintext far away": {vars{"FAIRLEAD_XDS_PLAINTEXT": "1"}, []string{"FAIRLEAD_XDS_PLAINTEXT", "fairlead.example.com", "loopback", "insecure"}},
		"plaintext maybe":    {vars{"FAIRLEAD_XDS_PLAINTEXT": "maybe"}, []string{`FAIRLEAD_XDS_PLAINTEXT is "maybe", allowed are 1, 0 and insecure`}},
		"fetch timeout":      {vars{"ENVOY_INITIAL_FETCH_TIMEOUT": "-1"}, []string{`ENVOY_INITIAL_FETCH_TIMEOUT is "-1"`, "0 to 86400"}},
		"admin mode":         {vars{"ENVOY_ADMIN_MODE": "http"}, []string{`ENVOY_ADMIN_MODE is "http", allowed are tcp, uds`}},
		"admin port":         {vars{"ENVOY_ADMIN_ACCESS_PORT": "0"}, []string{"ENVOY_ADMIN_ACCESS_PORT", "1 to 65535"}},
		"taken admin port":   {vars{"ENVOY_ADMIN_ACCESS_PORT": "15001"}, []string{"ENVOY_ADMIN_ACCESS_PORT", "15000 and 15001"}},
		"admin IPv6":         {vars{"ENVOY_ADMIN_ACCESS_ENABLE_IPV6": "yes please"}, []string{"ENVOY_ADMIN_ACCESS_ENABLE_IPV6", "1, true, 0 and false"}},
		"log level":          {vars{"ENVOY_LOG_LEVEL": "loud"}, []string{`ENVOY_LOG_LEVEL is "loud"`, "debug"}},
		"concurrency":        {vars{"ENVOY_CONCURRENCY": "0"}, []string{`ENVOY_CONCURRENCY is "0"`, "1 to 1024"}},
		"drain time":         {vars{"LISTENER_DRAIN_WAIT_TIME_S": "4"}, []string{`LISTENER_DRAIN_WAIT_TIME_S is "4"`, "5 to 110"}},
		"drain time unit":    {vars{"LISTENER_DRAIN_WAIT_TIME_S": "20s"}, []string{`LISTENER_DRAIN_WAIT_TIME_S is "20s"`}},
		"bind name":          {vars{"FAIRLEAD_BIND_ADDRESS": "localhost"}, []string{`FAIRLEAD_BIND_ADDRESS is "localhost"`, "IP address"}},
		"bind everything":    {vars{"FAIRLEAD_BIND_ADDRESS": "0.0.0.0"}, []string{"FAIRLEAD_BIND_ADDRESS", "one host"}},
		"application name":   {vars{"FAIRLEAD_APPLICATION_ADDRESS": "app"}, []string{`FAIRLEAD_APPLICATION_ADDRESS is "app"`}},
		"same address":       {vars{"FAIRLEAD_BIND_ADDRESS": "127.0.0.1"}, []string{"FAIRLEAD_BIND_ADDRESS", "FAIRLEAD_APPLICATION_ADDRESS", "127.0.0.2"}},
		"same as given":      {vars{"FAIRLEAD_BIND_ADDRESS": "10.1.2.3", "FAIRLEAD_APPLICATION_ADDRESS": "10.1.2.3"}, []string{"FAIRLEAD_BIND_ADDRESS", "FAIRLEAD_APPLICATION_ADDRESS"}},
		"IPv6 loopback":      {vars{"FAIRLEAD_BIND_ADDRESS": "::1"}, []string{"FAIRLEAD_BIND_ADDRESS", "FAIRLEAD_APPLICATION_ADDRESS"}},
		"same in IPv6 form":  {vars{"FAIRLEAD_BIND_ADDRESS": "::ffff:127.0.0.1"}, []string{"FAIRLEAD_BIND_ADDRESS"}},
		"line break":         {vars{"APPMESH_RESOURCE_CLUSTER": "a\nb"}, []string{"APPMESH_RESOURCE_CLUSTER holds a line break"}},
		"SDS socket":         {vars{"APPMESH_SDS_SOCKET_PATH": "x"}, []string{`APPMESH_SDS_SOCKET_PATH is "x", allowed is an absolute path`}},
		"client certificate": {vars{"FAIRLEAD_CLIENT_CERTIFICATE": "keep"}, []string{`FAIRLEAD_CLIENT_CERTIFICATE is "keep", allowed are remove, set, append`}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := ReadSettings(base().with(c.set).lookup)
			checkRefusal(t, err, c.says...)
		})
	}
}

// checkRefusal checks that err is one line with all parts, and shows no secret.
func checkRefusal(t *testing.T, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range says {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "secret-nobody-uses") {
		t.Errorf("error %q has a line break or a secret", err)
	}
}

func TestReadSettingsWarns(t *testing.T) {
	t.Parallel()
	set := vars{
		"OTEL_EXPORTER_OTLP_HEADERS": "api-key=x", "APPMESH_FIPS_ENDPOINT": "1", "APPMESH_PREVIEW": "0",
		"APPMESH_SET_TRACING_DECISION": "true", "DISABLE_HOT_RESTART": "false",
	}
	_, got, err := ReadSettings(base().with(set).lookup)
	if err != nil {
		t.Fatal(err)
	}
	want := []Warning{
		{Variable: "OTEL_EXPORTER_OTLP_HEADERS"},
		{Variable: "APPMESH_FIPS_ENDPOINT"},
		{Variable: "DISABLE_HOT_RESTART"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Warning{}, "Effect")); diff != "" {
		t.Errorf("warnings differ (-want +got):\n%s", diff)
	}
}

// With a bootstrap of the user's own, nothing about the control plane is needed.
func TestReadSettingsOwnBootstrap(t *testing.T) {
	t.Parallel()
	got, _, err := ReadSettings(vars{"ENVOY_CONFIG_FILE": "/b.yaml", "ENVOY_ADMIN_ACCESS_PORT": "1234"}.lookup)
	if err != nil {
		t.Fatal(err)
	}
	if got.ConfigFile != "/b.yaml" || got.Admin.Port != 1234 || got.XDS != (XDS{}) {
		t.Errorf("settings %+v", got)
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fileOf := func(profile string) Settings {
		return Settings{XDS: XDS{Plaintext: true, Credentials: Credentials{File: "testdata/credentials", Profile: profile}}}
	}
	cases := map[string]struct {
		in   Settings
		says []string // nil: no error
	}{
		"profile":            {fileOf("shop"), nil},
		"no such profile":    {fileOf("nobody"), []string{`no profile "nobody"`, "AWS_PROFILE"}},
		"half a profile":     {fileOf("half"), []string{`profile "half"`, "aws_secret_access_key"}},
		"no credentials":     {Settings{XDS: XDS{Credentials: Credentials{File: dir + "/none", Profile: "default"}}}, []string{"no access key", dir + "/none"}},
		"credentials folder": {Settings{XDS: XDS{Credentials: Credentials{File: dir, Profile: "default"}}}, []string{"AWS_SHARED_CREDENTIALS_FILE"}},
		"roots":              {Settings{XDS: XDS{CAFile: "testdata/ca.pem"}}, nil},
		"no roots":           {Settings{XDS: XDS{CAFile: dir + "/none"}}, []string{"FAIRLEAD_XDS_CA_FILE", dir + "/none"}},
		"roots of no kind":   {Settings{XDS: XDS{CAFile: "testdata/credentials"}}, []string{"FAIRLEAD_XDS_CA_FILE", "no PEM certificate"}},
		"own bootstrap":      {Settings{ConfigFile: write("b.yaml", "node: {id: x}")}, nil},
		"empty bootstrap":    {Settings{ConfigFile: write("empty.yaml", " \n")}, []string{"ENVOY_CONFIG_FILE", "empty"}},
		"missing bootstrap":  {Settings{ConfigFile: dir + "/none"}, []string{"ENVOY_CONFIG_FILE", dir + "/none"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := c.in.Resolve()
			if c.says != nil {
				checkRefusal(t, err, c.says...)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFindRoots(t *testing.T) {
	t.Parallel()
	got, err := findRoots("", []string{"testdata/none.pem", "testdata/ca.pem", "testdata/credentials"}, "FAIRLEAD_XDS_CA_FILE")
	if err != nil || got != "testdata/ca.pem" {
		t.Errorf("got %q, %v", got, err)
	}
	_, err = findRoots("", []string{"testdata/none.pem"}, "FAIRLEAD_XDS_CA_FILE")
	checkRefusal(t, err, "testdata/none.pem", "ca-certificates", "FAIRLEAD_XDS_CA_FILE")
}
