package rules

import (
	"net/netip"
	"time"
)

// Settings is all that the variables say, with the defaults filled in.
type Settings struct {
	// Start has run install the rules when it starts, instead of when it is told to.
	Start bool
	// UIDs and GIDs are the users and groups whose connections are left alone: the
	// proxy's own first.
	UIDs, GIDs []uint32
	// AppPorts are where the application listens. Without any nothing that comes in is
	// intercepted.
	AppPorts []uint16
	// IngressPort and EgressPort are where Envoy takes what comes in and what goes out.
	IngressPort, EgressPort uint16
	// IgnoredPorts and IgnoredNets are destinations of connections that are left alone;
	// port 22 is always among them. Both are sorted.
	IgnoredPorts []uint16
	IgnoredNets  []netip.Prefix
	// IgnoredSources are where connections come from that are left alone on their way in.
	IgnoredSources []netip.Prefix
	// DNSPort is where the agent answers DNS questions; 0 leaves DNS alone.
	DNSPort uint16
	// DNSServers are the name servers whose questions go to DNSPort; none means those of
	// all addresses but the host's own.
	DNSServers []netip.Addr
	// IPv6 has the same rules set for IPv6. Without it IPv6 is left alone.
	IPv6 bool
	// WhileAway is what becomes of new connections while no Envoy listens: Refuse or Wait.
	WhileAway string
	// Backend is auto, nftables or iptables.
	Backend string
	// Keep has run leave the rules in force when it ends.
	Keep bool
	// CheckEvery is how often run looks whether the rules are still there.
	CheckEvery time.Duration
}

// What Backend may be.
const (
	Auto     = "auto"
	NFTables = "nftables"
	IPTables = "iptables"
)

// What WhileAway may be.
const (
	// Refuse has the kernel answer as it does where nobody listens.
	Refuse = "refuse"
	// Wait has it drop what opens a connection, so that the caller's kernel asks again
	// after a second, and again, until Envoy is there.
	Wait = "wait"
)

// WhileAwayName is the variable of WhileAway, for what is said of it elsewhere.
const WhileAwayName = "FAIRLEAD_INTERCEPT_WHILE_AWAY"

// Defaults of App Mesh's route manager.
const (
	defaultOwner   = 1337
	defaultIngress = 15000
	defaultEgress  = 15001
	defaultIgnored = "169.254.169.254,169.254.170.2"
	sshPort        = 22
)

// ReadSettings reads all variables by lookup (os.LookupEnv has its form). The error is
// one line that names the variable, what was given and what is allowed.
func ReadSettings(lookup func(string) (string, bool)) (Settings, error) {
	return ReadNamed(lookup, nil)
}

// ReadNamed is ReadSettings for values that users know by other names than the
// variables': shown has these by the variables' names, for errors.
func ReadNamed(lookup func(string) (string, bool), shown map[string]string) (Settings, error) {
	r := &reader{lookup: lookup, shown: shown}
	s := Settings{
		Start:        r.yes("APPMESH_START_ENABLED", true),
		AppPorts:     r.ports("APPMESH_APP_PORTS"),
		IngressPort:  r.port("APPMESH_ENVOY_INGRESS_PORT", defaultIngress),
		EgressPort:   r.port("APPMESH_ENVOY_EGRESS_PORT", defaultEgress),
		IgnoredPorts: sorted(append(r.ports("APPMESH_EGRESS_IGNORED_PORTS"), sshPort)),
		IgnoredNets:  r.nets("APPMESH_EGRESS_IGNORED_IP", defaultIgnored),
		IPv6:         r.yes("APPMESH_ENABLE_IPV6", false),

		IgnoredSources: r.nets("FAIRLEAD_INGRESS_IGNORED_IPS", ""),
		DNSPort:        r.port("FAIRLEAD_DNS_PORT", 0),
		DNSServers:     r.servers("FAIRLEAD_DNS_SERVERS"),
		WhileAway:      r.oneOf(WhileAwayName, Refuse, Refuse, Wait),
		Backend:        r.oneOf("FAIRLEAD_INTERCEPT_BACKEND", Auto, Auto, NFTables, IPTables),
		Keep:           r.yes("FAIRLEAD_INTERCEPT_KEEP", true),
		CheckEvery:     time.Duration(r.integer("FAIRLEAD_INTERCEPT_CHECK_SECONDS", 5, 1, 3600)) * time.Second,
	}
	r.owners(&s)
	r.together(s)
	if r.err != nil {
		return Settings{}, r.err
	}
	return s, nil
}

// owners reads whose connections are left alone. One of App Mesh's two variables is
// enough; with neither both have its default.
func (r *reader) owners(s *Settings) {
	const uid, gid = "APPMESH_IGNORE_UID", "APPMESH_IGNORE_GID"
	s.UIDs, s.GIDs = r.ids(uid, 1), r.ids(gid, 1)
	if r.text(uid) == "" && r.text(gid) == "" {
		s.UIDs, s.GIDs = []uint32{defaultOwner}, []uint32{defaultOwner}
	}
	s.UIDs = once(append(s.UIDs, r.ids("FAIRLEAD_IGNORE_UIDS", maxList)...))
	s.GIDs = once(append(s.GIDs, r.ids("FAIRLEAD_IGNORE_GIDS", maxList)...))
}

// together refuses what does not fit together.
func (r *reader) together(s Settings) {
	const ingress, egress, dns = "APPMESH_ENVOY_INGRESS_PORT", "APPMESH_ENVOY_EGRESS_PORT", "FAIRLEAD_DNS_PORT"
	envoys := map[uint16]string{s.EgressPort: egress}
	if other := envoys[s.IngressPort]; other != "" && s.IngressPort != 0 {
		r.refuse("%s is \"%d\", and so is %s; allowed are two ports that differ", r.show(ingress), s.IngressPort, r.show(other))
	}
	envoys[s.IngressPort] = ingress
	if other := envoys[s.DNSPort]; other != "" && s.DNSPort != 0 {
		r.refuse("%s is \"%d\", and so is %s; allowed is a port of its own", r.show(dns), s.DNSPort, r.show(other))
	}
	for _, p := range s.AppPorts {
		if other := envoys[p]; other != "" {
			r.refuse("%s holds \"%d\", which is %s; allowed are ports of the application", r.show("APPMESH_APP_PORTS"), p, r.show(other))
		}
	}
	if s.DNSPort == 0 && len(s.DNSServers) > 0 {
		r.refuse("%s is set and %s is not, which says where Envoy answers; set both or neither", r.show("FAIRLEAD_DNS_SERVERS"), r.show(dns))
	}
}
