package agent

import (
	"net/netip"
	"testing"
)

func TestReadExplicit(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	for name, c := range map[string]struct {
		set  vars
		want Placement
		says []string // nil: no error
	}{
		"off":               {vars{"FAIRLEAD_EXPLICIT": "0"}, Placement{}, nil},
		"on":                {vars{"FAIRLEAD_EXPLICIT": "1"}, Placement{Explicit: Explicit{Address: addr("127.0.0.1")}}, nil},
		"bound to loopback": {vars{"FAIRLEAD_EXPLICIT": "1", "FAIRLEAD_BIND_ADDRESS": "127.0.0.2"}, Placement{Bind: addr("127.0.0.2"), Explicit: Explicit{Address: addr("127.0.0.2")}}, nil},
		"bound elsewhere":   {vars{"FAIRLEAD_EXPLICIT": "1", "FAIRLEAD_BIND_ADDRESS": "10.0.0.5"}, Placement{Bind: addr("10.0.0.5"), Explicit: Explicit{Address: addr("127.0.0.1")}}, nil},
		"all of it": {
			vars{
				"FAIRLEAD_EXPLICIT": "1", "FAIRLEAD_BIND_ADDRESS": "10.0.0.5", "FAIRLEAD_EXPLICIT_ADDRESS": "::1", "FAIRLEAD_APPLICATION_ADDRESS": "127.0.0.3",
				"FAIRLEAD_TCP_PORTS": "redis:6379=6379, db.local:5432=15432", "FAIRLEAD_PORTS_FILE": "/run/ports.env",
			},
			Placement{Bind: addr("10.0.0.5"), Application: addr("127.0.0.3"), Explicit: Explicit{
				Address: addr("::1"), TCPPorts: "db.local:5432=15432,redis:6379=6379", PortsFile: "/run/ports.env",
			}},
			nil,
		},
		"a file without a proxy":    {vars{"FAIRLEAD_PORTS_FILE": "/run/ports.json"}, Placement{}, []string{"FAIRLEAD_PORTS_FILE is set and FAIRLEAD_EXPLICIT is not"}},
		"a file of no folder":       {vars{"FAIRLEAD_EXPLICIT": "1", "FAIRLEAD_PORTS_FILE": "ports.json"}, Placement{}, []string{"FAIRLEAD_PORTS_FILE", "absolute path"}},
		"a port of no service":      {vars{"FAIRLEAD_EXPLICIT": "1", "FAIRLEAD_TCP_PORTS": "6379=6379"}, Placement{}, []string{`FAIRLEAD_TCP_PORTS holds "6379=6379"`, "SERVICE:PORT=LOCAL"}},
		"no local port":             {vars{"FAIRLEAD_EXPLICIT": "1", "FAIRLEAD_TCP_PORTS": "redis:6379"}, Placement{}, []string{"FAIRLEAD_TCP_PORTS", "SERVICE:PORT=LOCAL"}},
		"port 0":                    {vars{"FAIRLEAD_EXPLICIT": "1", "FAIRLEAD_TCP_PORTS": "redis:6379=0"}, Placement{}, []string{"FAIRLEAD_TCP_PORTS", "SERVICE:PORT=LOCAL"}},
		"one port twice":            {vars{"FAIRLEAD_EXPLICIT": "1", "FAIRLEAD_TCP_PORTS": "a:1=7000,b:1=7000"}, Placement{}, []string{"FAIRLEAD_TCP_PORTS", "port 7000 is that of a:1"}},
		"the proxy's port":          {vars{"FAIRLEAD_EXPLICIT": "1", "FAIRLEAD_TCP_PORTS": "a:1=15001"}, Placement{}, []string{"FAIRLEAD_TCP_PORTS", "the HTTP proxy"}},
		"with DNS":                  {vars{"FAIRLEAD_EXPLICIT": "1", "FAIRLEAD_DNS_PORT": "15053"}, Placement{}, []string{"FAIRLEAD_EXPLICIT is set and so is FAIRLEAD_DNS_PORT"}},
		"with an own bootstrap":     {vars{"FAIRLEAD_EXPLICIT": "1", "ENVOY_CONFIG_FILE": "/b.yaml"}, Placement{}, []string{"FAIRLEAD_EXPLICIT is set and so is ENVOY_CONFIG_FILE"}},
		"the application's address": {vars{"FAIRLEAD_EXPLICIT": "1", "FAIRLEAD_BIND_ADDRESS": "127.0.0.1"}, Placement{}, []string{"FAIRLEAD_BIND_ADDRESS", "an address of its own"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _, err := ReadSettings(base().with(c.set).lookup)
			if c.says != nil {
				checkRefusal(t, err, c.says...)
				return
			}
			if err != nil || got.Placement != c.want {
				t.Errorf("%+v %v, want %+v", got.Placement, err, c.want)
			}
			if x := got.Placement.Explicit; x.On() && got.Admin.Address != x.Address {
				t.Errorf("the admin interface is at %s, want %s, where nobody else calls", got.Admin.Address, x.Address)
			}
		})
	}
}
