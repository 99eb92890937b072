package agent

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/agent/logfile"
)

// Supervision is what the variables say of the agent itself: how it looks after Envoy, and
// what it tells of it.
type Supervision struct {
	Restarts   int            // how often Envoy is started again that ended by itself
	HealthPoll time.Duration  // how often the agent looks at an Envoy that serves
	Away       time.Duration  // how long the control plane may be away before Envoy counts as unhealthy
	Server     StatusServer   // the agent's own server; the zero value is none
	LogReset   time.Duration  // for how long a level of logging holds that the server was asked for
	Snapshots  bool           // statistics are put down each minute, for the server
	LogFile    logfile.Config // where the agent's and Envoy's output goes; the zero value is to the agent's own
	// StopTime is how long an application that the agent runs may take to end before it is
	// killed.
	StopTime time.Duration
}

// StatusServer is where the agent's own server listens.
type StatusServer struct {
	Socket  string         // path of a Unix socket
	Address netip.AddrPort // where Socket is ""
}

// On reports whether there is a server.
func (s StatusServer) On() bool { return s.Socket != "" || s.Address.IsValid() }

// address returns host:port to listen at or to connect to. The unspecified IPv6 address is
// written as none, so that IPv4 alone will do.
func (s StatusServer) address() string {
	port := strconv.Itoa(int(s.Address.Port()))
	if s.Address.Addr() == netip.IPv6Unspecified() {
		return ":" + port
	}
	return net.JoinHostPort(s.Address.Addr().String(), port)
}

// String says where the server is.
func (s StatusServer) String() string {
	if s.Socket != "" {
		return s.Socket
	}
	return s.Address.String()
}

// Defaults of App Mesh's agent. Its guide says that Envoy is never started again, its source
// that it is three times.
const (
	defaultRestarts   = 3
	maxRestarts       = 10
	statusPort        = 9902
	statusSocket      = "/var/run/ecs/appnet_admin.sock"
	defaultHealthPoll = 10 * time.Second
	logName           = "appnet_envoy.log"
	mebibyte          = 1 << 20
)

func readSupervision(e *env, p Placement, a Admin) Supervision {
	s := Supervision{
		Restarts:   e.integer("APPNET_ENVOY_RESTART_COUNT", defaultRestarts, 0, maxRestarts),
		HealthPoll: readHealthPoll(e),
		Away:       e.seconds("HC_DISCONNECTED_TIMEOUT_S", 604800, 3600, 604800),
		Server:     readStatusServer(e, p, a),
		LogReset:   e.seconds("APPNET_AGENT_LOGGING_RESET_TIMEOUT", 300, 1, 86400),
		Snapshots:  e.yes("ENABLE_STATS_SNAPSHOT", false),
		LogFile:    readLogFile(e),
		StopTime:   e.seconds("FAIRLEAD_APPLICATION_STOP_TIME_S", 10, 1, 3600),
	}
	e.integer("PID_POLL_INTERVAL_MS", 100, 1, 60000) // the system tells when Envoy ends; nobody polls
	return s
}

// seconds reads a whole number of seconds from low to high.
func (e *env) seconds(name string, fallback, low, high int) time.Duration {
	return time.Duration(e.integer(name, fallback, low, high)) * time.Second
}

// readHealthPoll reads how often an Envoy that serves is looked at. As with App Mesh's agent,
// the interval of readiness polls stands in for the one of health checks.
func readHealthPoll(e *env) time.Duration {
	const least, most = 2000, 30000
	if e.text("HC_POLL_INTERVAL_MS", "") != "" {
		return time.Duration(e.integer("HC_POLL_INTERVAL_MS", 0, least, most)) * time.Millisecond
	}
	interval, _ := readReadiness(e)
	if e.text(readinessInterval, "") == "" {
		return defaultHealthPoll
	}
	return min(max(interval, least*time.Millisecond), most*time.Millisecond)
}

// The variables of the readiness poll, for those who call the agent to ask.
const (
	readinessInterval = "APPNET_AGENT_POLL_ENVOY_READINESS_INTERVAL_S"
	readinessTimeout  = "APPNET_AGENT_POLL_ENVOY_READINESS_TIMEOUT_S"
)

// readReadiness reads how often and for how long those ask who wait for Envoy; 0 is once.
func readReadiness(e *env) (interval, timeout time.Duration) {
	return e.seconds(readinessInterval, 5, 0, 3600), e.seconds(readinessTimeout, 180, 0, 86400)
}

// readStatusServer reads where the agent's server listens. In the bound profile several
// agents share a host, and so the server is at the bound address, as Envoy's admin interface
// is.
func readStatusServer(e *env, p Placement, a Admin) StatusServer {
	const name = "APPNET_AGENT_ADMIN_MODE"
	if e.text(name, "") == "" {
		return StatusServer{}
	}
	if e.oneOf(name, "tcp", "tcp", "uds") == "uds" {
		s := StatusServer{Socket: e.absolute("APPNET_AGENT_ADMIN_UDS_PATH")}
		if s.Socket == "" {
			s.Socket = statusSocket
		}
		if s.Socket == a.Socket {
			e.refuse("APPNET_AGENT_ADMIN_UDS_PATH is %q, where Envoy's admin interface is; allowed is any other path", s.Socket)
		}
		return s
	}
	port := e.integer("APPNET_AGENT_HTTP_PORT", statusPort, 1, 65535)
	if port == ingressPort || port == egressPort || a.Socket == "" && port == a.Port {
		e.refuse("APPNET_AGENT_HTTP_PORT is %q, allowed is any port that Envoy does not use", strconv.Itoa(port))
	}
	address := netip.IPv6Unspecified()
	if p.Bound() {
		address = p.Bind
	}
	const bind = "APPNET_AGENT_HTTP_BIND_ADDRESS"
	if v := e.text(bind, ""); v != "" {
		given, err := netip.ParseAddr(strings.Trim(v, "[]"))
		if err != nil || given.IsMulticast() {
			e.refuse("%s is %q, allowed is an IP address, for example 127.0.0.1 or [::]", bind, v)
		}
		address = given.Unmap()
	}
	return StatusServer{Address: netip.AddrPortFrom(address, uint16(port))}
}

// readLogFile reads where output goes. The words for the usual place are those of App Mesh's
// documentation.
func readLogFile(e *env) logfile.Config {
	c := logfile.Config{Dir: e.text("APPNET_ENVOY_LOG_DESTINATION", ""), Name: e.text("APPNET_ENVOY_LOG_NAME", logName)}
	if strings.ContainsAny(c.Name, "/\x00") || c.Name == "." || c.Name == ".." {
		e.refuse("APPNET_ENVOY_LOG_NAME is %q, allowed is the name of a file without a folder", c.Name)
	}
	const size = "APPNET_AGENT_MAX_LOG_FILE_SIZE"
	c.MaxBytes = int64(e.decimal(size, 1, 0.01, 10240) * mebibyte)
	c.Keep = e.integer("APPNET_AGENT_MAX_RETENTION_COUNT", 5, 0, 1000)
	switch strings.ToLower(c.Dir) {
	case "", "stdout", "stderr", "stdout/stderr":
		return logfile.Config{}
	}
	return c
}

// decimal reads a number from low to high.
func (e *env) decimal(name string, fallback, low, high float64) float64 {
	v := e.text(name, "")
	if v == "" {
		return fallback
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || !(f >= low && f <= high) {
		e.refuse("%s is %q, allowed are numbers from %g to %g", name, v, low, high)
		return fallback
	}
	return f
}

// LogFile is the open log file of an agent.
type LogFile = logfile.File

// OpenLogFile opens the log file that the variables name; nil for none. The error names the
// variable.
func OpenLogFile(s Settings) (*LogFile, error) {
	c := s.Supervision.LogFile
	if !c.Set() {
		return nil, nil
	}
	f, err := logfile.Open(c)
	if err != nil {
		return nil, fmt.Errorf("APPNET_ENVOY_LOG_DESTINATION is %q, allowed is a folder in which %s can be written, or stdout: %w", c.Dir, c.Name, err)
	}
	return f, nil
}
