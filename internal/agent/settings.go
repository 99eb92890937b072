package agent

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/agent/control"
	"github.com/fairlead-mesh/fairlead/internal/agent/identity"
	"github.com/fairlead-mesh/fairlead/internal/agent/platform"
)

// Settings is all that the variables say, with the defaults filled in. Two agents
// with equal Settings write the same bootstrap.
type Settings struct {
	Resource  Resource          // whose proxy this is; zero with ConfigFile
	Cluster   string            // node.cluster
	XDS       XDS               // the control plane; zero with ConfigFile
	Identity  identity.Settings // where the credentials come from; zero with ConfigFile
	Admin     Admin             // Envoy's admin interface
	Placement Placement         // how traffic reaches this Envoy

	EnvoyPath          string        // ENVOY_PATH; "" looks for Envoy, see envoybin.Find
	ConfigFile         string        // ENVOY_CONFIG_FILE: a whole bootstrap in place of ours; "" for ours
	LogLevel           string        // Envoy's -l
	Concurrency        int           // Envoy's --concurrency; 0 leaves it to Envoy
	DrainTime          time.Duration // how long listeners drain before Envoy is ended; whole seconds
	ShowDeprecated     bool          // leave --skip-deprecated-logs out
	OutlierLog         string        // file of the outlier detection events
	RequestsPerIOCycle int           // runtime key http.max_requests_per_io_cycle; 0 leaves it to Envoy

	CacheDir          string            // where a relay of the agent's own keeps what Envoy has accepted; "" for no relay
	Telemetry         Telemetry         // zero with ConfigFile, as all below
	API               control.API       // zero without FAIRLEAD_API_ENDPOINT
	CertificateRenew  time.Duration     // when the workload's certificate is renewed; 0 for when the control plane says
	WorkloadSocket    string            // where the agent serves its workload's certificate; set by Run, "" for not at all
	SDSSocket         string            // Unix socket of a source of certificates; "" for none
	ClientCertificate string            // what is told of clients' certificates: remove, set, append; "" for the default
	OverlayFiles      map[string]string // files of the user's own by their variables
	Overlays          []Overlay         // what stands in them, from Resolve on
	Names             Names             // where names of virtual services are answered
	Registration      Registration      // how this instance registers itself
	Supervision       Supervision       // how the agent looks after Envoy; never zero
	Platform          platform.Platform // where this Envoy runs, from Locate on
	ReloadDir         string            // where a file is moved to when certificates are to be read again; set by Run
}

// Admin is where Envoy's admin interface listens.
type Admin struct {
	Socket    string     // path of a Unix socket; "" for TCP
	Address   netip.Addr // with TCP
	Port      int        // with TCP
	AccessLog string     // file; "" for none
}

// Placement says how traffic reaches this Envoy.
type Placement struct {
	Bind        netip.Addr // the bound profile's own address; the zero Addr is the redirected profile
	Application netip.Addr // where the application listens; the zero Addr is loopback
	Explicit    Explicit   // where the application calls, if it knows of Envoy
}

// Bound reports whether Envoy binds an address of its own. An explicit proxy's is found by
// Resolve where none is given.
func (p Placement) Bound() bool { return p.Bind.IsValid() || p.Explicit.On() }

// Defaults and bounds of App Mesh's own agent.
const (
	adminSocket    = "/tmp/envoy_admin.sock"
	adminAccessLog = "/tmp/envoy_admin_access.log"
	ingressPort    = 15000
	egressPort     = 15001
)

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// ReadSettings reads all variables by lookup (os.LookupEnv has its form) and looks
// at nothing else. The warnings name variables that are set and not obeyed yet. The
// error is one line that names the variable, what was given and what is allowed.
func ReadSettings(lookup func(string) (string, bool)) (Settings, []Warning, error) {
	e := &env{lookup: lookup}
	var s Settings
	s.ConfigFile = e.text("ENVOY_CONFIG_FILE", "")
	s.Placement = readPlacement(e)
	if s.ConfigFile == "" {
		s.Resource = readResource(e)
		_, s.Cluster = e.first("APPMESH_RESOURCE_CLUSTER", "APPMESH_VIRTUAL_NODE_CLUSTER")
		if s.Cluster == "" {
			s.Cluster = s.Resource.ARN
		}
		s.XDS = readXDS(e, s.Resource)
		s.API = readAPI(e)
		s.Identity = readIdentity(e, &s.XDS, s.API)
		s.CacheDir = readCacheDir(e, s.XDS)
		s.CertificateRenew = time.Duration(e.integer("FAIRLEAD_CERTIFICATE_RENEW_SECONDS", 0, 1, 86400)) * time.Second
		s.OverlayFiles = readOverlays(e)
		s.Telemetry = readTelemetry(e, s.Resource, s.OverlayFiles)
		s.SDSSocket = e.absolute("APPMESH_SDS_SOCKET_PATH")
		if e.text("FAIRLEAD_CLIENT_CERTIFICATE", "") != "" {
			s.ClientCertificate = e.oneOf("FAIRLEAD_CLIENT_CERTIFICATE", "remove", "remove", "set", "append")
		}
		s.Registration = readRegistration(e, s.Placement, s.API)
		s.Names = readNames(e, s.Resource)
	} else if e.text(dnsPort, "") != "" {
		e.refuse("%s is set and so is ENVOY_CONFIG_FILE, with which Envoy does not know the names of virtual services; unset one of them", dnsPort)
	} else if e.text(registerService, "") != "" {
		e.refuse("%s is set and so is ENVOY_CONFIG_FILE, with which the agent does not know the control plane; unset one of them", registerService)
	}
	s.Admin = readAdmin(e, s.Placement)
	s.Names.apart(e, s.Admin)
	s.EnvoyPath = e.text("ENVOY_PATH", "")
	s.LogLevel = e.oneOf("ENVOY_LOG_LEVEL", "info", "trace", "debug", "info", "warning", "warn", "error", "critical", "off")
	s.Concurrency = e.concurrency()
	s.DrainTime = e.seconds("LISTENER_DRAIN_WAIT_TIME_S", 20, 5, 110)
	s.Supervision = readSupervision(e, s.Placement, s.Admin)
	s.ShowDeprecated = !e.yes("ENVOY_SKIP_DEPRECATED_LOGS", true)
	s.OutlierLog = e.text("ENVOY_OUTLIER_DETECTION_EVENT_LOG_PATH", "/dev/stdout")
	s.RequestsPerIOCycle = e.integer("MAX_REQUESTS_PER_IO_CYCLE", 0, 1, 1<<20)
	warnings := e.warn()
	if e.err != nil {
		return Settings{}, nil, e.err
	}
	return s, warnings, nil
}

// concurrency reads ENVOY_CONCURRENCY; App Mesh's "not set" is -1.
func (e *env) concurrency() int {
	if e.text("ENVOY_CONCURRENCY", "-1") == "-1" {
		return 0
	}
	return e.integer("ENVOY_CONCURRENCY", 0, 1, 1024)
}

func readPlacement(e *env) Placement {
	p := Placement{Bind: e.address("FAIRLEAD_BIND_ADDRESS"), Application: e.address("FAIRLEAD_APPLICATION_ADDRESS")}
	p.Explicit = readExplicit(e, p.Bind)
	switch {
	case !p.Bind.IsValid():
	case p.Bind == p.Application:
		e.refuse("FAIRLEAD_BIND_ADDRESS is %q, and so is FAIRLEAD_APPLICATION_ADDRESS; Envoy needs an address of its own, for example 127.0.0.2", p.Bind)
	case !p.Application.IsValid() && (p.Bind == loopback4 || p.Bind == netip.IPv6Loopback()):
		e.refuse("FAIRLEAD_BIND_ADDRESS is %q, where the application is unless FAIRLEAD_APPLICATION_ADDRESS says otherwise; "+
			"Envoy needs an address of its own, for example 127.0.0.2", p.Bind)
	}
	return p
}

func readAdmin(e *env, p Placement) Admin {
	if e.oneOf("ENVOY_ADMIN_MODE", "tcp", "tcp", "uds") == "uds" {
		return Admin{Socket: adminSocket, AccessLog: e.adminAccessLog(p)}
	}
	a := Admin{Address: netip.IPv4Unspecified(), AccessLog: e.adminAccessLog(p)}
	a.Port = e.integer("ENVOY_ADMIN_ACCESS_PORT", 9901, 1, 65535)
	if a.Port == ingressPort || a.Port == egressPort {
		e.refuse("ENVOY_ADMIN_ACCESS_PORT is %q, allowed is any port but %d and %d, where Envoy takes the application's traffic",
			strconv.Itoa(a.Port), ingressPort, egressPort)
	}
	switch ipv6 := e.yes("ENVOY_ADMIN_ACCESS_ENABLE_IPV6", false); {
	case p.Explicit.On(): // not where others call
		a.Address = p.Explicit.Address
	case p.Bound():
		a.Address = p.Bind
	case ipv6:
		a.Address = netip.IPv6Unspecified()
	}
	return a
}

// adminAccessLog is App Mesh's file where an Envoy has a container to itself. Bound
// Envoys share a host, and the file of one user cannot be opened by another: none.
func (e *env) adminAccessLog(p Placement) string {
	if p.Bound() {
		return e.text("ENVOY_ADMIN_ACCESS_LOG_FILE", "")
	}
	return e.text("ENVOY_ADMIN_ACCESS_LOG_FILE", adminAccessLog)
}
