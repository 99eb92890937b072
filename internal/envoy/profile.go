package envoy

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// Placements of a proxy, as node metadata spells them.
const (
	placementRedirected = "redirected"
	placementBound      = "bound"
)

// ParseProfile reads the profile of a proxy from its node metadata, which
// fairlead-agent writes:
//
//	{"fairlead": {"placement": "bound", "bindAddress": "127.0.0.2", "applicationAddress": "127.0.1.2",
//	  "reloadDirectory": "/run/fairlead/reload", "internalListeners": true,
//	  "secretSource": false, "workloadCertificates": true, "clientCertificate": "set", "dnsPort": 15054,
//	  "explicit": true, "egressAddress": "127.0.0.1", "tcpPorts": "redis.local:6379=6379",
//	  "tracing": true, "accessLogs": {"grpc": {"cluster": "fairlead_access_log", "logName": "shop"},
//	  "openTelemetry": {"cluster": "fairlead_otlp_logs", "logName": "shop", "uri": "http://127.0.0.1:4318/v1/logs"}},
//	  "discovery": {"cluster": "fairlead_xds", "authority": "fairlead.example:9080"}}}
//
// Without it the proxy is redirected, its application is on loopback, and it may have
// a tracer, as App Mesh's own agent has it. That agent's {"aws.appmesh.metric_filter":
// {"level": "1"}} asks for the aggregate metrics. The version and the extensions that
// Envoy puts into its node say what the profile cannot have. The error names the field,
// what was given and what is allowed.
func ParseProfile(node *corev3.Node) (Profile, error) {
	p, err := parseFairlead(node)
	if err != nil {
		return Profile{}, err
	}
	if err := p.parseNames(fairleadFields(node), node); err != nil {
		return Profile{}, err
	}
	if err := p.parseExplicit(fairleadFields(node), node); err != nil {
		return Profile{}, err
	}
	have, err := envoyOf(node, p.Bound)
	if err != nil {
		return Profile{}, err
	}
	p.fit(have, metricsAsked(node))
	return p, nil
}

// stateOfTheWorld is the client feature by which a relay says that the Envoy behind it is
// told the state of the world, whatever the relay's own stream is.
const stateOfTheWorld = "fairlead.state-of-the-world"

// Incremental reports whether an Envoy whose stream is incremental is so itself.
func Incremental(node *corev3.Node) bool {
	return !slices.Contains(node.GetClientFeatures(), stateOfTheWorld)
}

// fairleadFields returns what the agent's bootstrap says, nil if it is not ours.
func fairleadFields(node *corev3.Node) map[string]*structpb.Value {
	return node.GetMetadata().GetFields()["fairlead"].GetStructValue().GetFields()
}

// parseFairlead reads what the agent's bootstrap says.
func parseFairlead(node *corev3.Node) (Profile, error) {
	value, ok := node.GetMetadata().GetFields()["fairlead"]
	if !ok {
		return Profile{Tracing: true}, nil
	}
	if _, ok := value.GetKind().(*structpb.Value_StructValue); !ok {
		return Profile{}, fmt.Errorf("node metadata fairlead must be an object")
	}
	fields := value.GetStructValue().GetFields()
	placement, err := text(fields, "placement", placementRedirected)
	if err != nil {
		return Profile{}, err
	}
	p := Profile{}
	switch placement {
	case placementRedirected:
	case placementBound:
		p.Bound = true
		if p.Bind, err = address(fields, "bindAddress"); err != nil {
			return Profile{}, err
		}
		if !p.Bind.IsValid() {
			return Profile{}, fmt.Errorf("node metadata fairlead.bindAddress is required where fairlead.placement is %q", placementBound)
		}
	default:
		return Profile{}, fmt.Errorf("node metadata fairlead.placement is %q, allowed are %q and %q", placement, placementRedirected, placementBound)
	}
	if p.App, err = address(fields, "applicationAddress"); err != nil {
		return Profile{}, err
	}
	if err := p.parseFeatures(fields); err != nil {
		return Profile{}, err
	}
	if p.Bound && (p.App == p.Bind || !p.App.IsValid() && (p.Bind == loopback4 || p.Bind == loopback6)) {
		return Profile{}, fmt.Errorf("node metadata fairlead.applicationAddress must differ from fairlead.bindAddress, both are %s", p.Bind)
	}
	return p, nil
}

// parseFeatures reads what the agent's bootstrap lets a proxy do.
func (p *Profile) parseFeatures(fields map[string]*structpb.Value) (err error) {
	if p.ReloadDir, err = text(fields, "reloadDirectory", ""); err != nil {
		return err
	}
	if p.ReloadDir != "" && !path.IsAbs(p.ReloadDir) {
		return fmt.Errorf("node metadata fairlead.reloadDirectory is %q, allowed is an absolute path", p.ReloadDir)
	}
	if p.Internal, err = truth(fields, "internalListeners", false); err != nil {
		return err
	}
	if p.Tracing, err = truth(fields, "tracing", false); err != nil {
		return err
	}
	if p.Logs, err = logServices(fields); err != nil {
		return err
	}
	if p.Discovery, err = discovery(fields); err != nil {
		return err
	}
	source, err := truth(fields, "secretSource", true)
	if err != nil {
		return err
	}
	p.NoSecretSource = !source
	if p.Workloads, err = truth(fields, "workloadCertificates", false); err != nil {
		return err
	}
	switch how, err := text(fields, "clientCertificate", "remove"); {
	case err != nil:
		return err
	case how == "remove":
	case how == "set":
		p.ClientCertificate = ClientCertificateSet
	case how == "append":
		p.ClientCertificate = ClientCertificateAppended
	default:
		return fmt.Errorf("node metadata fairlead.clientCertificate is %q, allowed are \"remove\", \"set\" and \"append\"", how)
	}
	return nil
}

// hostName is what can be the host of a request, or nothing.
var hostName = regexp.MustCompile(`^[][A-Za-z0-9_.:%-]{0,260}$`)

// discovery reads how a proxy reaches the server.
func discovery(fields map[string]*structpb.Value) (d Discovery, err error) {
	value, ok := fields["discovery"]
	if !ok {
		return d, nil
	}
	if _, ok := value.GetKind().(*structpb.Value_StructValue); !ok {
		return d, fmt.Errorf("node metadata fairlead.discovery must be an object")
	}
	within := value.GetStructValue().GetFields()
	for member, into := range map[string]*string{"cluster": &d.Cluster, "authority": &d.Authority} {
		if *into, err = text(within, member, ""); err != nil {
			return d, fmt.Errorf("node metadata fairlead.discovery.%s must be a string", member)
		}
	}
	switch {
	case !clusterName.MatchString(d.Cluster):
		return d, fmt.Errorf("node metadata fairlead.discovery.cluster is %q, allowed is the name of a cluster of the bootstrap", d.Cluster)
	case !hostName.MatchString(d.Authority):
		return d, fmt.Errorf("node metadata fairlead.discovery.authority is %q, allowed is a host with a port", d.Authority)
	}
	return d, nil
}

// The addresses on which an application is looked for where its proxy's metadata
// names none.
var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// application returns the address of the proxy's application, given the IP
// preference that holds for the node.
func (p Profile) application(preference string) netip.Addr {
	switch {
	case p.App.IsValid():
		return p.App
	case preference == preferIPv6 || preference == onlyIPv6:
		return loopback6
	}
	return loopback4
}

// listenOn returns the address that the proxy's listeners bind, given the IP
// preference that holds for the node. A redirected proxy takes both families where
// any preference is set.
func (p Profile) listenOn(preference string) netip.Addr {
	switch {
	case p.Bound:
		return p.Bind
	case preference != "":
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// text returns a member that must be a string, or what stands in for it.
func text(fields map[string]*structpb.Value, name, absent string) (string, error) {
	v, ok := fields[name]
	if !ok {
		return absent, nil
	}
	s, ok := v.GetKind().(*structpb.Value_StringValue)
	if !ok {
		return "", fmt.Errorf("node metadata fairlead.%s must be a string", name)
	}
	return s.StringValue, nil
}

// truth returns a member that must be true or false, or what stands in for it.
func truth(fields map[string]*structpb.Value, name string, absent bool) (bool, error) {
	v, ok := fields[name]
	if !ok {
		return absent, nil
	}
	b, ok := v.GetKind().(*structpb.Value_BoolValue)
	if !ok {
		return false, fmt.Errorf("node metadata fairlead.%s must be true or false", name)
	}
	return b.BoolValue, nil
}

// address returns a member that must be an IP address of one host; absent or empty,
// it is not valid.
func address(fields map[string]*structpb.Value, name string) (netip.Addr, error) {
	s, err := text(fields, name, "")
	if err != nil || s == "" {
		return netip.Addr{}, err
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
		return netip.Addr{}, fmt.Errorf("node metadata fairlead.%s is %q, allowed is the IPv4 or IPv6 address of one host", name, s)
	}
	return a.Unmap(), nil
}
