package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/agent/identity"
)

func TestReadRelaySettings(t *testing.T) {
	t.Parallel()
	common := vars{"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "test-secret-nobody-uses"}
	server := XDS{Host: "fairlead.example.com", Port: 9081, Region: "us-east-1", SigningName: "appmesh"}
	keys := identity.Settings{Kind: identity.Keys}
	other := server
	other.Port = 443
	for name, c := range map[string]struct {
		set  vars
		want RelaySettings
	}{
		"defaults": {vars{"FAIRLEAD_XDS_ENDPOINT": "fairlead.example.com:9081"}, RelaySettings{Socket: "/tmp/relay_xds.sock", XDS: server, Identity: keys}},
		"all": {
			vars{"FAIRLEAD_XDS_ENDPOINT": "fairlead.example.com:9081", "APPNET_RELAY_LISTENER_UDS_PATH": "/run/relay", "FAIRLEAD_CACHE_DIR": "/var/cache/fairlead"},
			RelaySettings{Socket: "/run/relay", XDS: server, Identity: keys, CacheDir: "/var/cache/fairlead"},
		},
		"App Mesh's names": {vars{"APPNET_MANAGEMENT_DOMAIN_NAME": "fairlead.example.com"}, RelaySettings{Socket: "/tmp/relay_xds.sock", XDS: other, Identity: keys}},
		"App Mesh's port": {
			vars{"APPNET_MANAGEMENT_DOMAIN_NAME": "fairlead.example.com", "APPNET_MANAGEMENT_PORT": "9081"},
			RelaySettings{Socket: "/tmp/relay_xds.sock", XDS: server, Identity: keys},
		},
		"the endpoint wins": {
			vars{"APPNET_MANAGEMENT_DOMAIN_NAME": "other.example.com", "APPMESH_XDS_ENDPOINT": "fairlead.example.com:9081"},
			RelaySettings{Socket: "/tmp/relay_xds.sock", XDS: server, Identity: keys},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, warnings, err := ReadRelaySettings(common.with(c.set).lookup)
			if err != nil || len(warnings) > 0 {
				t.Fatal(warnings, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadRelaySettingsRefuses(t *testing.T) {
	t.Parallel()
	good := vars{
		"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "test-secret-nobody-uses",
		"FAIRLEAD_XDS_ENDPOINT": "fairlead.example.com:9081",
	}
	for name, c := range map[string]struct {
		set  vars
		says []string
	}{
		"a relay of a relay": {vars{"FAIRLEAD_XDS_ENDPOINT": "unix:///tmp/x"}, []string{"FAIRLEAD_XDS_ENDPOINT", "host:port"}},
		"relative socket":    {vars{"APPNET_RELAY_LISTENER_UDS_PATH": "x"}, []string{`APPNET_RELAY_LISTENER_UDS_PATH is "x"`, "absolute path"}},
		"no endpoint":        {vars{"FAIRLEAD_XDS_ENDPOINT": ""}, []string{"FAIRLEAD_XDS_ENDPOINT is not set"}},
		"no region":          {vars{"AWS_REGION": ""}, []string{"AWS_REGION is not set"}},
		"bad port":           {vars{"FAIRLEAD_XDS_ENDPOINT": "", "APPNET_MANAGEMENT_DOMAIN_NAME": "a", "APPNET_MANAGEMENT_PORT": "http"}, []string{"allowed is host:port"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := ReadRelaySettings(good.with(c.set).lookup)
			checkRefusal(t, err, c.says...)
		})
	}
}

// An Envoy that a relay serves signs nothing and needs no key.
func TestSocketSettings(t *testing.T) {
	t.Parallel()
	s, _, err := ReadSettings(vars{"APPMESH_RESOURCE_ARN": "mesh/shop/virtualNode/cart", "APPMESH_XDS_ENDPOINT": "unix:///tmp/relay_xds.sock"}.lookup)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(XDS{Socket: "/tmp/relay_xds.sock"}, s.XDS); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}
