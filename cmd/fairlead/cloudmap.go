package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

// cloudMapFlags say which Cloud Maps in AWS are asked for instances.
type cloudMapFlags struct {
	sources    []string
	externalID string
	endpoint   string
	interval   time.Duration
	rate       int
}

func (f *cloudMapFlags) register(fl *pflag.FlagSet) {
	fl.StringSliceVar(&f.sources, "cloud-map", nil, "account whose nodes AWS Cloud Map discovers, ACCOUNT or ACCOUNT=ROLE_ARN to ask as a role; may be given more than once")
	fl.StringVar(&f.externalID, "cloud-map-external-id", "", "external id that the roles of --cloud-map ask for")
	fl.StringVar(&f.endpoint, "cloud-map-endpoint", "", "URL of Cloud Map (default AWS's own)")
	fl.DurationVar(&f.interval, "cloud-map-interval", 5*time.Second, "how often Cloud Map is asked for each service")
	fl.IntVar(&f.rate, "cloud-map-rate", 100, "most requests a second to the Cloud Map of each account")
}

// config checks the flags.
func (f *cloudMapFlags) config() (server.CloudMap, error) {
	out := server.CloudMap{Endpoint: f.endpoint, Interval: f.interval, Rate: float64(f.rate)}
	known := map[string]bool{}
	for _, s := range f.sources {
		account, role, asRole := strings.Cut(s, "=")
		switch {
		case !mesh.ValidAccount(account):
			return out, fmt.Errorf("--cloud-map %q is not allowed: twelve digits, or twelve digits, = and the ARN of a role", s)
		case asRole && (!strings.HasPrefix(role, "arn:") || !strings.Contains(role, ":role/")):
			return out, fmt.Errorf("--cloud-map %q is not allowed: %q is not the ARN of a role, for example arn:aws:iam::123456789012:role/fairlead", s, role)
		case known[account]:
			return out, fmt.Errorf("--cloud-map has account %s twice: one Cloud Map for each account", account)
		}
		known[account] = true
		out.Sources = append(out.Sources, server.CloudMapSource{Account: account, RoleARN: role, ExternalID: f.externalID})
	}
	switch {
	case f.interval < time.Second || f.interval > time.Hour:
		return out, fmt.Errorf("--cloud-map-interval %s is not allowed: 1s to 1h", f.interval)
	case f.rate < 1 || f.rate > 4000:
		return out, fmt.Errorf("--cloud-map-rate %d is not allowed: 1 to 4000", f.rate)
	case len(f.sources) == 0 && (f.endpoint != "" || f.externalID != ""):
		return out, errors.New("--cloud-map is required with --cloud-map-endpoint and --cloud-map-external-id: the accounts whose nodes Cloud Map discovers")
	}
	if u, err := url.Parse(f.endpoint); f.endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		return out, fmt.Errorf("--cloud-map-endpoint %q is not allowed: a URL, for example https://servicediscovery.us-east-1.amazonaws.com", f.endpoint)
	}
	return out, nil
}
