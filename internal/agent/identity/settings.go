package identity

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/agent/control"
	"github.com/fairlead-mesh/fairlead/internal/lazy"
)

// Kind is a way to credentials.
type Kind string

// The ways, as FAIRLEAD_IDENTITY names them.
const (
	Keys        Kind = "keys"         // an access key in the environment
	File        Kind = "file"         // an access key in a shared credentials file
	WebIdentity Kind = "web-identity" // a token of OpenID Connect in a file
	Certificate Kind = "certificate"  // a client certificate in files
	AWS         Kind = "aws"          // an AWS role
)

var kinds = []string{string(Keys), string(File), string(WebIdentity), string(Certificate), string(AWS)}

// Exchanges reports whether credentials are got in exchange for something.
func (k Kind) Exchanges() bool { return k == WebIdentity || k == Certificate || k == AWS }

// Settings say where credentials come from.
type Settings struct {
	Kind Kind
	// API is where the control plane's API is. Whoever calls Read sets it; only an exchange
	// needs it.
	API control.API

	// RoleARN is the role to take on, Session what the session is called, "" for a name
	// that the control plane makes, and Duration how long it lasts, 0 for an hour.
	RoleARN, Session string
	Duration         time.Duration
	// RenewAfter is when credentials are renewed; 0 when two thirds of their time are over.
	RenewAfter time.Duration

	TokenFile         string // of WebIdentity
	CertFile, KeyFile string // of Certificate
	Amazon            Amazon // of AWS
}

// Amazon says how an AWS role is proven.
type Amazon struct {
	// Audience is the server's own name, which the proof is bound to.
	Audience string
	// STS is the URL of STS, and Region its region.
	STS, Region string
	// Environment is set if the keys in AWS_ACCESS_KEY_ID and so on are AWS's.
	Environment bool
	// ContainerURL is where a container gets its role's credentials, "" for none, with what
	// it authorizes itself: a token, or a file that holds one.
	ContainerURL, ContainerToken, ContainerTokenFile string
	// Metadata is the URL of EC2's metadata service; "" if it is not asked.
	Metadata string
}

// The variables. Those of Fairlead's come first, so that an AWS role and one of Fairlead's
// can be named in one environment.
var (
	roleVariables  = []string{"FAIRLEAD_ROLE_ARN", "AWS_ROLE_ARN"}
	tokenVariables = []string{"FAIRLEAD_WEB_IDENTITY_TOKEN_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"}
	nameVariables  = []string{"FAIRLEAD_ROLE_SESSION_NAME", "AWS_ROLE_SESSION_NAME"}
)

const (
	kindVariable     = "FAIRLEAD_IDENTITY"
	certVariable     = "FAIRLEAD_CLIENT_CERT_FILE"
	keyVariable      = "FAIRLEAD_CLIENT_KEY_FILE"
	audienceVariable = "FAIRLEAD_IDENTITY_AUDIENCE"
	endpointVariable = "FAIRLEAD_API_ENDPOINT"
)

// Read reads the variables. text returns a variable's value, "" if it is not set. region
// is that of the mesh. The error is one line that names the variable, what was given and
// what is allowed.
func Read(text func(string) string, region string) (Settings, error) {
	r := &reader{text: text}
	s := Settings{Kind: r.kind()}
	if r.err != nil || !s.Kind.Exchanges() {
		return s, r.err
	}
	var name string
	if name, s.RoleARN = r.first(roleVariables); s.RoleARN == "" {
		r.refuse("%s is not set, allowed is the ARN of the role to take on: arn:aws:iam::ACCOUNT:role/NAME; the identity %s needs it", roleVariables[0], s.Kind)
	} else if !roleForm.MatchString(s.RoleARN) {
		r.refuse("%s is %q, allowed is the ARN of a role of Fairlead: arn:aws:iam::ACCOUNT:role/NAME", name, s.RoleARN)
	}
	if name, s.Session = r.first(nameVariables); s.Session != "" && !sessionForm.MatchString(s.Session) {
		r.refuse("%s is %q, allowed are 2 to 64 letters, digits and _+=,.@-", name, s.Session)
	}
	s.Duration = r.seconds("FAIRLEAD_SESSION_SECONDS", 900, 43200)
	s.RenewAfter = r.seconds("FAIRLEAD_IDENTITY_RENEW_SECONDS", 1, 43200)
	switch s.Kind {
	case WebIdentity:
		_, s.TokenFile = r.first(tokenVariables)
		if s.TokenFile == "" {
			r.refuse("%s is %s and %s is not set, allowed is the file that holds the token", kindVariable, s.Kind, tokenVariables[0])
		}
	case Certificate:
		s.CertFile, s.KeyFile = text(certVariable), text(keyVariable)
		if s.CertFile == "" || s.KeyFile == "" {
			r.refuse("%s and %s are needed both, PEM files of the client certificate and its key", certVariable, keyVariable)
		}
	case AWS:
		s.Amazon = r.amazon(region)
	}
	return s, r.err
}

var (
	roleForm     = lazy.NewRegexp(`^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@-]{1,64}$`)
	sessionForm  = lazy.NewRegexp(`^[A-Za-z0-9_+=,.@-]{2,64}$`)
	audienceForm = lazy.NewRegexp(`^[A-Za-z0-9._:/-]{1,255}$`)
	regionForm   = lazy.NewRegexp(`^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$`)
)

// reader reads variables; the first complaint counts.
type reader struct {
	text func(string) string
	err  error
}

func (r *reader) refuse(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// first returns the first of the variables that is set, and its value.
func (r *reader) first(names []string) (name, value string) {
	for _, n := range names {
		if v := r.text(n); v != "" {
			return n, v
		}
	}
	return names[0], ""
}

func (r *reader) seconds(name string, low, high int) time.Duration {
	v := r.text(name)
	if v == "" {
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		r.refuse("%s is %q, allowed are whole numbers from %d to %d", name, v, low, high)
	}
	return time.Duration(n) * time.Second
}

// kind finds out which way is meant: the one that is said, else the first that is set up.
// Two that were both set up for Fairlead are a mistake that somebody has to look at.
func (r *reader) kind() Kind {
	if said := strings.ToLower(r.text(kindVariable)); said != "" {
		if !slices.Contains(kinds, said) {
			r.refuse("%s is %q, allowed are %s", kindVariable, said, strings.Join(kinds, ", "))
		}
		return Kind(said)
	}
	keys := r.text("AWS_ACCESS_KEY_ID") != "" || r.text("AWS_SECRET_ACCESS_KEY") != ""
	var set []Kind
	var by []string
	for _, c := range []struct {
		kind     Kind
		variable string
		is       bool
	}{
		{Keys, "AWS_ACCESS_KEY_ID", keys},
		{File, "AWS_SHARED_CREDENTIALS_FILE", r.text("AWS_SHARED_CREDENTIALS_FILE") != ""},
		{WebIdentity, tokenVariables[0], r.text(tokenVariables[0]) != ""},
		{Certificate, certVariable, r.text(certVariable) != "" || r.text(keyVariable) != ""},
		{AWS, audienceVariable, r.text(audienceVariable) != ""},
	} {
		if c.is {
			set, by = append(set, c.kind), append(by, c.variable)
		}
	}
	// AWS's own variables are set by platforms, unasked, and so never contradict.
	own := slices.IndexFunc(set, Kind.Exchanges)
	switch {
	case own >= 0 && len(set) > 1:
		i, j := 0, own
		if own == 0 {
			j = 1
		}
		r.refuse("%s is set and so is %s; say with %s which of %s and %s is meant", by[i], by[j], kindVariable, set[i], set[j])
		return set[0]
	case len(set) > 0:
		return set[0]
	case r.text(tokenVariables[1]) != "":
		return WebIdentity
	}
	return File
}

// amazon reads how an AWS role is proven.
func (r *reader) amazon(region string) Amazon {
	a := Amazon{Audience: r.text(audienceVariable), Region: r.text("FAIRLEAD_STS_REGION")}
	if !audienceForm.MatchString(a.Audience) {
		r.refuse("%s is %q, allowed is the name of the control plane as its --identity-audience has it; the identity aws needs it", audienceVariable, a.Audience)
	}
	if a.Region == "" {
		a.Region = region
	}
	if a.STS = r.text("FAIRLEAD_STS_ENDPOINT"); a.STS == "" {
		if !regionForm.MatchString(a.Region) {
			r.refuse("FAIRLEAD_STS_REGION is %q, allowed is a region of AWS, for example eu-west-1: the mesh's is none", a.Region)
		}
		a.STS = "https://sts." + a.Region + ".amazonaws.com"
		if strings.HasPrefix(a.Region, "cn-") {
			a.STS += ".cn"
		}
	} else if u, err := url.Parse(a.STS); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		r.refuse("FAIRLEAD_STS_ENDPOINT is %q, allowed is a URL without a path", a.STS)
	}
	a.STS = strings.TrimSuffix(a.STS, "/") + "/"
	a.Environment = r.text("AWS_ACCESS_KEY_ID") != "" && r.text("AWS_SECRET_ACCESS_KEY") != ""
	r.container(&a)
	if !strings.EqualFold(r.text("AWS_EC2_METADATA_DISABLED"), "true") {
		if a.Metadata = strings.TrimSuffix(r.text("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "/"); a.Metadata == "" {
			a.Metadata = "http://169.254.169.254"
		}
	}
	if !a.Environment && a.ContainerURL == "" && a.Metadata == "" {
		r.refuse("%s is aws and there is no AWS role: no keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, no AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or "+
			"AWS_CONTAINER_CREDENTIALS_FULL_URI, and AWS_EC2_METADATA_DISABLED is true", kindVariable)
	}
	return a
}

// ecsHost is where ECS has its credentials endpoint.
const ecsHost = "http://169.254.170.2"

// container reads where a container gets its role's credentials.
func (r *reader) container(a *Amazon) {
	relative, full := r.text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"), r.text("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	switch {
	case relative != "":
		a.ContainerURL = ecsHost + "/" + strings.TrimPrefix(relative, "/")
	case full != "":
		if err := checkContainer(full); err != nil {
			r.refuse("AWS_CONTAINER_CREDENTIALS_FULL_URI %w", err)
		}
		a.ContainerURL = full
	}
	a.ContainerToken, a.ContainerTokenFile = r.text("AWS_CONTAINER_AUTHORIZATION_TOKEN"), r.text("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
}

// containerHosts are who may be asked without TLS beside this host: ECS's and EKS's agents.
var containerHosts = []netip.Addr{
	netip.MustParseAddr("169.254.170.2"), netip.MustParseAddr("169.254.170.23"), netip.MustParseAddr("fd00:ec2::23"),
}

func checkContainer(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil {
		return errors.New("is not a URL")
	}
	if u.Scheme == "https" || u.Scheme == "http" && u.Hostname() == "localhost" {
		return nil
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Scheme == "http" && err == nil && (ip.IsLoopback() || slices.Contains(containerHosts, ip)) {
		return nil
	}
	return fmt.Errorf("is %q, allowed without TLS are only this host, 169.254.170.2, 169.254.170.23 and fd00:ec2::23", s)
}
