package ecs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/lazy"
)

// Options say what the new task definition is to have. They are named after the flags of
// "fairlead-agent ecs", by which complaints speak of them.
type Options struct {
	Image       string // --image: the image of Envoy with the agent
	XDSEndpoint string // --xds-endpoint: host:port
	APIEndpoint string // --api-endpoint: a URL; "" for none
	CAFile      string // --ca-file: PEM file in the container, of both; "" for the system's roots
	Region      string // --region: "" for what the task definition says
	Container   string // --container: Envoy's; "" finds it
	CacheVolume string // --cache-volume: name of a volume; "" for no cache
	Intercept   string // --intercept: one of the constants below; "" is InterceptPlatform

	// Identity is --identity, one of the constants below; "" is what the other flags are for.
	Identity string
	// RoleARN is --role-arn and Audience --identity-audience, both of IdentityAWSRole.
	RoleARN, Audience string
	// CredentialsSecret is --credentials-secret of IdentitySecrets: where ECS finds the access
	// key, either one JSON secret or the id and the key, each for itself, with a comma in
	// between.
	CredentialsSecret string

	// Set is --set: more variables of Envoy's container.
	Set []Variable
}

// Variable is one of a container's environment.
type Variable struct{ Name, Value string }

// Ways in which connections come to Envoy.
const (
	InterceptPlatform = "platform"       // ECS sets the rules, as proxyConfiguration says
	InterceptInit     = "init-container" // a container of the task sets them and ends
)

// Ways in which the agent comes to credentials of Fairlead.
const (
	IdentityAWSRole = "aws-role" // by the task's role in AWS
	IdentitySecrets = "secrets"  // an access key that ECS takes from its secrets
	IdentityKeep    = "keep"     // whatever the task definition has
)

// Names of variables that are set. Those of the identity are read by the agent's
// exchange of credentials.
const (
	xdsVariable      = "FAIRLEAD_XDS_ENDPOINT"
	caVariable       = "FAIRLEAD_XDS_CA_FILE"
	apiVariable      = "FAIRLEAD_API_ENDPOINT"
	cacheVariable    = "FAIRLEAD_CACHE_DIR"
	regionVariable   = "AWS_REGION"
	identityVariable = "FAIRLEAD_IDENTITY"
	roleVariable     = "FAIRLEAD_ROLE_ARN"
	audienceVariable = "FAIRLEAD_IDENTITY_AUDIENCE"
	keyIDVariable    = "AWS_ACCESS_KEY_ID"
	secretVariable   = "AWS_SECRET_ACCESS_KEY"
)

// CacheDir is where a container has its cache volume.
const CacheDir = "/var/lib/fairlead"

var (
	imageForm    = lazy.NewRegexp(`^[A-Za-z0-9][A-Za-z0-9._:/@-]*$`)
	nameForm     = lazy.NewRegexp(`^[A-Za-z0-9_-]{1,255}$`)
	regionForm   = lazy.NewRegexp(`^[a-z0-9-]{1,64}$`)
	roleForm     = lazy.NewRegexp(`^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,512}$`)
	secretForm   = lazy.NewRegexp(`^arn:[a-z-]+:(secretsmanager|ssm):[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9/_+=.@:-]+$`)
	variableForm = lazy.NewRegexp(`^[A-Za-z_][A-Za-z0-9_]*$`)
	audienceForm = lazy.NewRegexp(`^[A-Za-z0-9._:-]{1,253}$`)
)

// Check returns the first complaint about the flags, one line, and fills in what follows from
// others or has a default. Convert begins with it.
func (o *Options) Check() error {
	if o.Intercept == "" {
		o.Intercept = InterceptPlatform
	}
	switch {
	case !imageForm.MatchString(o.Image):
		return fmt.Errorf("--image is %q, allowed is the image of Envoy with the agent, for example registry.example.com/fairlead-envoy:1.0", o.Image)
	case !validEndpoint(o.XDSEndpoint):
		return fmt.Errorf("--xds-endpoint is %q, allowed is host:port of the control plane, for example fairlead.example.com:9081", o.XDSEndpoint)
	case o.APIEndpoint != "" && !validURL(o.APIEndpoint):
		return fmt.Errorf("--api-endpoint is %q, allowed is a URL of a scheme, a host and a port, for example https://fairlead.example.com:9080", o.APIEndpoint)
	case o.CAFile != "" && !strings.HasPrefix(o.CAFile, "/"):
		return fmt.Errorf("--ca-file is %q, allowed is an absolute path in Envoy's container", o.CAFile)
	case o.Region != "" && !regionForm.MatchString(o.Region):
		return fmt.Errorf("--region is %q, allowed is the name of a region, for example us-east-1", o.Region)
	case o.CacheVolume != "" && !nameForm.MatchString(o.CacheVolume):
		return fmt.Errorf("--cache-volume is %q, allowed is the name of a volume: up to 255 letters, digits, _ and -", o.CacheVolume)
	case o.Intercept != InterceptPlatform && o.Intercept != InterceptInit:
		return fmt.Errorf("--intercept is %q, allowed are %s and %s", o.Intercept, InterceptPlatform, InterceptInit)
	}
	for _, v := range o.Set {
		switch {
		case !variableForm.MatchString(v.Name):
			return fmt.Errorf("--set names the variable %q, allowed is NAME=VALUE with a name of letters, digits and _", v.Name)
		case looksSecret(v.Name):
			return fmt.Errorf("--set names %s, which looks like a secret and would stand in the task definition for all to read; put it into the container's \"secrets\"", v.Name)
		}
	}
	return o.checkIdentity()
}

func (o *Options) checkIdentity() error {
	switch {
	case o.Identity != "":
	case o.RoleARN != "" && o.CredentialsSecret != "":
		return errors.New("--role-arn and --credentials-secret are both set; say by --identity which is meant, aws-role or secrets")
	case o.RoleARN != "":
		o.Identity = IdentityAWSRole
	case o.CredentialsSecret != "":
		o.Identity = IdentitySecrets
	}
	switch o.Identity {
	case IdentityAWSRole:
		switch {
		case !roleForm.MatchString(o.RoleARN):
			return fmt.Errorf("--role-arn is %q, allowed is the ARN of a role in Fairlead, for example arn:aws:iam::000000000001:role/cart", o.RoleARN)
		case o.APIEndpoint == "":
			return errors.New("--api-endpoint is missing; with --identity aws-role the agent gets its credentials there")
		case o.Audience != "" && !audienceForm.MatchString(o.Audience):
			return fmt.Errorf("--identity-audience is %q, allowed is the name that the server has as its --identity-audience", o.Audience)
		}
		if u, err := url.Parse(o.APIEndpoint); err == nil && o.Audience == "" {
			o.Audience = u.Hostname()
		}
	case IdentitySecrets:
		if !o.validSecrets() {
			return fmt.Errorf("--credentials-secret is %q, allowed is the ARN of a JSON secret in Secrets Manager with the members %s and %s, or the ARNs of two secrets or parameters with a comma in between",
				o.CredentialsSecret, keyIDVariable, secretVariable)
		}
	case IdentityKeep:
	case "":
		return errors.New("nothing says how the agent comes to credentials: give --role-arn, --credentials-secret, or --identity keep where the task definition has them")
	default:
		return fmt.Errorf("--identity is %q, allowed are %s, %s and %s", o.Identity, IdentityAWSRole, IdentitySecrets, IdentityKeep)
	}
	return nil
}

// validSecrets reports whether CredentialsSecret is one secret that has members, or two of
// any kind.
func (o *Options) validSecrets() bool {
	parts := strings.Split(o.CredentialsSecret, ",")
	for _, p := range parts {
		if !secretForm.MatchString(p) {
			return false
		}
	}
	return len(parts) == 2 || len(parts) == 1 && strings.Contains(parts[0], ":secretsmanager:")
}

// keySecrets returns where ECS finds the id and the secret of the access key.
func (o *Options) keySecrets() (id, secret string) {
	if id, secret, two := strings.Cut(o.CredentialsSecret, ","); two {
		return id, secret
	}
	return o.CredentialsSecret + ":" + keyIDVariable + "::", o.CredentialsSecret + ":" + secretVariable + "::"
}

func validEndpoint(v string) bool {
	host, port, err := net.SplitHostPort(v)
	n, perr := strconv.Atoi(port)
	return err == nil && perr == nil && n > 0 && n < 65536 && validHost(host)
}

var hostForm = lazy.NewRegexp(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?$`)

func validHost(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Zone() == ""
	}
	return hostForm.MatchString(host)
}

func validURL(v string) bool {
	u, err := url.Parse(v)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && validHost(u.Hostname()) && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}
