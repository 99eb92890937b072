package agent

import (
	"net/netip"
	"slices"
	"testing"
)

func TestReadNames(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set  vars
		want Names
		says []string // nil: no error
	}{
		"none": {vars{}, Names{}, nil},
		"port": {vars{"FAIRLEAD_DNS_PORT": "15053"}, Names{Port: 15053}, nil},
		"name servers": {vars{"FAIRLEAD_DNS_PORT": "15053", "FAIRLEAD_DNS_UPSTREAMS": "10.0.0.2, [fd00::2]:5353,fd00::3"}, Names{
			Port: 15053, Servers: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:53"), netip.MustParseAddrPort("[fd00::2]:5353"), netip.MustParseAddrPort("[fd00::3]:53")},
		}, nil},
		"the last port":    {vars{"FAIRLEAD_DNS_PORT": "65535"}, Names{}, []string{"FAIRLEAD_DNS_PORT", "1 to 65534"}},
		"Envoy's port":     {vars{"FAIRLEAD_DNS_PORT": "15001"}, Names{}, []string{`FAIRLEAD_DNS_PORT is "15001"`, "a port of its own"}},
		"the admin port":   {vars{"FAIRLEAD_DNS_PORT": "9901"}, Names{}, []string{"FAIRLEAD_DNS_PORT", "ENVOY_ADMIN_ACCESS_PORT"}},
		"a name":           {vars{"FAIRLEAD_DNS_PORT": "15053", "FAIRLEAD_DNS_UPSTREAMS": "ns.local"}, Names{}, []string{`FAIRLEAD_DNS_UPSTREAMS holds "ns.local"`}},
		"no port":          {vars{"FAIRLEAD_DNS_UPSTREAMS": "10.0.0.2"}, Names{}, []string{"FAIRLEAD_DNS_UPSTREAMS is set and FAIRLEAD_DNS_PORT is not"}},
		"a gateway":        {vars{"FAIRLEAD_DNS_PORT": "15053", "APPMESH_RESOURCE_ARN": "mesh/shop/virtualGateway/door"}, Names{}, []string{"FAIRLEAD_DNS_PORT", "virtual gateway"}},
		"an own bootstrap": {vars{"FAIRLEAD_DNS_PORT": "15053", "ENVOY_CONFIG_FILE": "/b.yaml"}, Names{}, []string{"FAIRLEAD_DNS_PORT", "ENVOY_CONFIG_FILE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _, err := ReadSettings(base().with(c.set).lookup)
			if c.says != nil {
				checkRefusal(t, err, c.says...)
				return
			}
			if err != nil || got.Names.Port != c.want.Port || !slices.Equal(got.Names.Servers, c.want.Servers) {
				t.Errorf("%+v %v, want %+v", got.Names, err, c.want)
			}
			if own, _ := nodeMetadata(got)["fairlead"].(map[string]any); c.want.Port != 0 && own["dnsPort"] != c.want.Port+1 {
				t.Errorf("the metadata have port %v", own["dnsPort"])
			}
		})
	}
}
