package agent

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/agent/control"
	"github.com/fairlead-mesh/fairlead/internal/agent/identity"
	"github.com/fairlead-mesh/fairlead/internal/lazy"
)

// XDS is how Envoy reaches the control plane and signs to it.
type XDS struct {
	Socket       string // Unix socket of a relay, which signs; "" for Host and Port. Then nothing below is set but FetchTimeout
	Host         string // DNS name or IP address
	Port         int
	Plaintext    bool          // no TLS
	CAFile       string        // PEM file of the roots; "" until Resolve finds the system's
	Region       string        // of the signature
	SigningName  string        // service of the signature
	Credentials  Credentials   // where Envoy reads the access key
	FetchTimeout time.Duration // initial_fetch_timeout of listeners and clusters; 0 waits for ever
}

// Address returns host:port, or the path of the socket.
func (x XDS) Address() string {
	if x.Socket != "" {
		return x.Socket
	}
	return net.JoinHostPort(x.Host, strconv.Itoa(x.Port))
}

func readXDS(e *env, r Resource) XDS {
	x := XDS{
		SigningName:  e.text("APPMESH_SIGNING_NAME", "appmesh"),
		CAFile:       e.text("FAIRLEAD_XDS_CA_FILE", ""),
		FetchTimeout: time.Duration(e.integer("ENVOY_INITIAL_FETCH_TIMEOUT", 0, 0, 86400)) * time.Second,
	}
	if !scopeWord.MatchString(x.SigningName) {
		e.refuse("APPMESH_SIGNING_NAME is %q, allowed are lower-case letters, digits and hyphens", x.SigningName)
	}
	if x.Socket = readRelaySocket(e); x.Socket != "" {
		out := XDS{Socket: x.Socket, FetchTimeout: x.FetchTimeout}
		if e.text(registerService, "") != "" { // the API knows no relay
			out.CAFile, out.Region = x.CAFile, readRegion(e, r)
		}
		return out
	}
	x.Host, x.Port = readEndpoint(e)
	x.Region = readRegion(e, r)
	x.Plaintext = readPlaintext(e, x)
	return x
}

// readEndpoint reads host:port of the control plane.
func readEndpoint(e *env) (host string, port int) {
	name, v := e.first("FAIRLEAD_XDS_ENDPOINT", "APPMESH_XDS_ENDPOINT")
	if v == "" {
		e.refuse("FAIRLEAD_XDS_ENDPOINT is not set, allowed is the host:port where the control plane serves xDS, for example fairlead.example.com:9081, or unix:///PATH of a relay's socket")
		return "", 0
	}
	host, p, err := net.SplitHostPort(v)
	port, perr := strconv.Atoi(p)
	if err != nil || perr != nil || port < 1 || port > 65535 || !validHost(host) {
		e.refuse("%s is %q, allowed is host:port without a scheme, for example fairlead.example.com:9081 or [::1]:9081", name, v)
		return "", 0
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return a.String(), port
	}
	return strings.ToLower(strings.TrimSuffix(host, ".")), port
}

var (
	hostName  = lazy.NewRegexp(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)
	scopeWord = lazy.NewRegexp(`^[a-z0-9-]{1,64}$`)
)

func validHost(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
	}
	return len(host) <= 253 && hostName.MatchString(host)
}

// readRegion reads the region of the signature: AWS_REGION, or that of a full ARN.
// They must not differ: the control plane would refuse the stream.
func readRegion(e *env, r Resource) string {
	region := e.text("AWS_REGION", r.Region)
	switch {
	case region == "":
		e.refuse("AWS_REGION is not set, and %s is not a full ARN, which would name the region; set it to the region of the mesh, for example us-east-1", r.Variable)
	case !scopeWord.MatchString(region):
		e.refuse("AWS_REGION is %q, allowed is the name of a region, for example us-east-1", region)
	case r.Region != "" && r.Region != region:
		e.refuse("AWS_REGION is %q, allowed is %q, the region in %s", region, r.Region, r.Variable)
	}
	return region
}

// readPlaintext reads FAIRLEAD_XDS_PLAINTEXT: off, on for loopback, or "insecure".
func readPlaintext(e *env, x XDS) bool {
	const name = "FAIRLEAD_XDS_PLAINTEXT"
	v := e.text(name, "0")
	if strings.EqualFold(v, "insecure") {
		return true
	}
	on, ok := parseSwitch(v)
	switch {
	case !ok:
		e.refuse("%s is %q, allowed are 1, 0 and insecure", name, v)
	case on && !isLoopback(x.Host):
		e.refuse(`%s is %q and %s is not this host, allowed without TLS are only loopback addresses; say "insecure" if the connection is secured by other means`,
			name, v, x.Host)
	}
	return on
}

func isLoopback(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	return host == "localhost"
}

// Credentials says where Envoy reads its access key. The key itself is never in
// Settings, nor in the bootstrap.
type Credentials struct {
	File    string // of the AWS shared credentials format; "" for the environment
	Profile string // section in File
}

// identityPath stands in a bootstrap that is only printed for the credentials file that
// Run makes, in a private folder of its own.
const identityPath = "/tmp/fairlead-agent-identity/credentials"

// readIdentity finds out where credentials come from, and completes x with where Envoy
// finds them.
func readIdentity(e *env, x *XDS, api control.API) identity.Settings {
	if x.Socket != "" && x.Region == "" { // a relay signs, and nothing else is to be
		return identity.Settings{}
	}
	s, err := identity.Read(func(name string) string { return e.text(name, "") }, x.Region)
	if err != nil {
		e.refuse("%w", err)
		return s
	}
	if !s.Kind.Exchanges() {
		x.Credentials = readCredentials(e, s.Kind)
		return s
	}
	needAPI(e, api, "the identity "+string(s.Kind))
	s.API = api
	if s.Kind == identity.Certificate && strings.HasPrefix(api.Endpoint, "http:") {
		e.refuse("FAIRLEAD_API_ENDPOINT is %q, allowed with a client certificate is https://", api.Endpoint)
	}
	x.Credentials = Credentials{File: identityPath, Profile: identity.Profile}
	return s
}

// readCredentials finds out which of the two places is meant; the file is looked at
// by Resolve.
func readCredentials(e *env, kind identity.Kind) Credentials {
	key, secret := e.text("AWS_ACCESS_KEY_ID", ""), e.text("AWS_SECRET_ACCESS_KEY", "")
	switch {
	case kind == identity.File && e.text("FAIRLEAD_IDENTITY", "") != "":
	case key != "" && secret != "":
		return Credentials{}
	case kind == identity.Keys && key == "" && secret == "":
		e.refuse("FAIRLEAD_IDENTITY is keys and AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set")
		return Credentials{}
	case key != "":
		e.refuse("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not; set both, or neither and AWS_SHARED_CREDENTIALS_FILE")
	case secret != "":
		e.refuse("AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not; set both, or neither and AWS_SHARED_CREDENTIALS_FILE")
	}
	c := Credentials{File: e.text("AWS_SHARED_CREDENTIALS_FILE", ""), Profile: e.text("AWS_PROFILE", "default")}
	if home := e.text("HOME", ""); c.File == "" && home != "" {
		c.File = filepath.Join(home, ".aws", "credentials")
	}
	if c.File == "" {
		e.refuse("%w", errNoCredentials)
	}
	return c
}

var errNoCredentials = errors.New("no access key to sign the stream with: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE, to a key that Fairlead issued, or FAIRLEAD_ROLE_ARN and FAIRLEAD_IDENTITY to get one")
