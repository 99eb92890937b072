package agent

import (
	"path"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/agent/identity"
)

// maxSocketPath is the longest path of a Unix socket, in bytes, on all systems.
const maxSocketPath = 100

// RelaySettings is what a relay for the Envoys of a host needs.
type RelaySettings struct {
	Socket string // where it listens
	XDS    XDS    // the control plane; resolved by Resolve
	// Identity is where the credentials come from.
	Identity identity.Settings
	// CacheDir is where it keeps what Envoys have accepted; "" for in memory only.
	CacheDir string
}

// relaySocket is where App Mesh's relay listens.
const relaySocket = "/tmp/relay_xds.sock"

// RelayWanted reports whether the variables ask the agent to be a relay and run no Envoy,
// as App Mesh's agent is asked.
func RelayWanted(lookup func(string) (string, bool)) (bool, error) {
	e := &env{lookup: lookup}
	wanted := e.yes("APPNET_ENABLE_RELAY_MODE_FOR_XDS", false)
	return wanted, e.err
}

// ReadRelaySettings reads the variables of a relay by lookup. The error is one line that
// names the variable, what was given and what is allowed.
func ReadRelaySettings(lookup func(string) (string, bool)) (RelaySettings, []Warning, error) {
	e := &env{lookup: managementEndpoint(lookup)}
	s := RelaySettings{Socket: e.socketPath("APPNET_RELAY_LISTENER_UDS_PATH", relaySocket)}
	s.XDS = readXDS(e, Resource{Variable: "a relay's setting"})
	if s.XDS.Socket != "" {
		e.refuse("FAIRLEAD_XDS_ENDPOINT is the socket of a relay, allowed for a relay is the control plane's host:port")
	}
	s.Identity = readIdentity(e, &s.XDS, readAPI(e))
	s.CacheDir = readCacheDir(e, s.XDS)
	var warnings []Warning
	for _, name := range []string{"RELAY_STREAM_IDLE_TIMEOUT", "RELAY_BUFFER_LIMIT_BYTES"} {
		if e.text(name, "") != "" {
			warnings = append(warnings, Warning{name, "streams end when one of their sides ends, and what is under way is bounded by HTTP/2's windows"})
		}
	}
	return s, warnings, e.err
}

// managementEndpoint has App Mesh's two variables of a relay stand for the endpoint where
// that is not given.
func managementEndpoint(lookup func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := lookup(name)
		if name != "FAIRLEAD_XDS_ENDPOINT" || v != "" {
			return v, ok
		}
		if other, _ := lookup("APPMESH_XDS_ENDPOINT"); other != "" {
			return v, ok
		}
		host, _ := lookup("APPNET_MANAGEMENT_DOMAIN_NAME")
		if host == "" {
			return v, ok
		}
		port, _ := lookup("APPNET_MANAGEMENT_PORT")
		if port == "" {
			port = "443"
		}
		return host + ":" + port, true
	}
}

// readRelaySocket returns the path of the relay's socket that the endpoint is, "" if it is
// none.
func readRelaySocket(e *env) string {
	name, v := e.first("FAIRLEAD_XDS_ENDPOINT", "APPMESH_XDS_ENDPOINT")
	if !strings.HasPrefix(v, "unix:") {
		return ""
	}
	p := strings.TrimPrefix(strings.TrimPrefix(v, "unix:"), "//")
	if !path.IsAbs(p) || len(p) > maxSocketPath {
		e.refuse("%s is %q, allowed for a socket is unix:// and an absolute path of %d bytes at most, for example unix://%s", name, v, maxSocketPath, relaySocket)
	}
	return p
}

func readCacheDir(e *env, x XDS) string {
	const name = "FAIRLEAD_CACHE_DIR"
	dir := e.absolute(name)
	switch {
	case dir == "":
	case x.Socket != "":
		e.refuse("%s is set, and FAIRLEAD_XDS_ENDPOINT is the socket of a relay, which keeps copies itself; unset one of them", name)
	case len(dir)+len(cacheSocket) > maxSocketPath:
		e.refuse("%s is %q, allowed is a path of %d bytes at most, because a socket is made in it", name, dir, maxSocketPath-len(cacheSocket))
	}
	return dir
}

// cacheSocket is the socket of an agent's own relay in its folder.
const cacheSocket = "/xds.sock"

// socketPath reads the path of a Unix socket that is made.
func (e *env) socketPath(name, fallback string) string {
	v := e.text(name, fallback)
	if !path.IsAbs(v) || len(v) > maxSocketPath {
		e.refuse("%s is %q, allowed is an absolute path of %d bytes at most", name, v, maxSocketPath)
	}
	return v
}
