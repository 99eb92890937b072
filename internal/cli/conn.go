package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"

	"github.com/fairlead-mesh/fairlead/api/client"
)

// Where a server is, and the region it serves, if nothing says otherwise: what "fairlead
// server" has by default.
const (
	DefaultEndpoint = "http://127.0.0.1:9080"
	DefaultRegion   = "us-east-1"
)

// Options say which server to talk to, and as whom. What is empty is taken from where AWS's
// clients take it: the variables AWS_…, then the shared config and credentials files.
type Options struct {
	// Endpoint is the server's URL; else AWS_ENDPOINT_URL_APP_MESH, AWS_ENDPOINT_URL, the
	// profile's endpoint_url, and last DefaultEndpoint.
	Endpoint string
	// Region is what calls are signed for; else AWS_REGION, the profile's, DefaultRegion.
	Region string
	// Profile is a profile of the shared files; else AWS_PROFILE, "default".
	Profile string
	// CredentialsFile is read in place of the shared files, for its profile "default" or
	// Profile.
	CredentialsFile string
	// CAFile holds certificates, in PEM form, that the server's is checked against; else
	// AWS_CA_BUNDLE.
	CAFile string
	// Timeout bounds one call, tries included; 0 is 30 seconds.
	Timeout time.Duration
	// Once sends each call once: a failure is not tried again.
	Once bool
}

// Session is a connection to a server, for one caller. It is safe for concurrent use.
type Session struct {
	api      *appmesh.Client
	own      *client.Client // of /v1
	aws      aws.Config
	endpoint string
	timeout  time.Duration
	written  written
	unheard  unheard

	self struct {
		sync.Mutex
		account string
	}
}

// Connect prepares a session. It reads settings and finds credentials; the server is not
// asked for anything yet.
func Connect(ctx context.Context, o Options) (*Session, error) {
	load, err := o.load()
	if err != nil {
		return nil, err
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("reading the AWS settings: %s", oneLine(err.Error()))
	}
	if cfg.Region == "" {
		cfg.Region = DefaultRegion
	}
	s := &Session{aws: cfg, timeout: o.Timeout}
	if s.timeout == 0 {
		s.timeout = 30 * time.Second
	}
	s.api = appmesh.NewFromConfig(cfg, func(opts *appmesh.Options) {
		// The SDK has looked into the variables and files by now.
		switch {
		case o.Endpoint != "":
			opts.BaseEndpoint = aws.String(o.Endpoint)
		case opts.BaseEndpoint == nil:
			opts.BaseEndpoint = aws.String(DefaultEndpoint)
		}
		s.endpoint = *opts.BaseEndpoint
	})
	if u, err := url.Parse(s.endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usagef("endpoint %q is not allowed: a URL such as %s", s.endpoint, DefaultEndpoint)
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return nil, noCredentials(o, err)
	}
	return s, s.connectOwn(o)
}

// connectOwn prepares the client of /v1, with the settings of the other.
func (s *Session) connectOwn(o Options) error {
	attempts := 0
	if o.Once {
		attempts = 1
	}
	h := &http.Client{Timeout: s.timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if b, ok := s.aws.HTTPClient.(*awshttp.BuildableClient); ok {
		h.Transport = b.GetTransport()
	}
	own, err := client.New(client.Config{
		Endpoint: s.endpoint, Region: s.aws.Region, Credentials: s.aws.Credentials, HTTPClient: h, MaxAttempts: attempts, UserAgent: "fairlead",
	})
	s.own = own
	return err
}

// load returns the SDK's options.
func (o Options) load() ([]func(*config.LoadOptions) error, error) {
	out := []func(*config.LoadOptions) error{
		// The metadata service of a cloud's machine hands out keys of AWS, which no
		// Fairlead knows; elsewhere asking for it hangs.
		config.WithEC2IMDSClientEnableState(imds.ClientDisabled),
		config.WithHTTPClient(awshttp.NewBuildableClient()),
		config.WithRetryer(o.retryer()),
	}
	if o.Region != "" {
		out = append(out, config.WithRegion(o.Region))
	}
	if o.CredentialsFile != "" {
		if _, err := os.Stat(o.CredentialsFile); err != nil {
			return nil, fmt.Errorf("reading --credentials-file: %w", err)
		}
		files := []string{o.CredentialsFile}
		out = append(out, config.WithSharedCredentialsFiles(files), config.WithSharedConfigFiles(files))
		if o.Profile == "" {
			// Named, it is stronger than keys in the environment.
			o.Profile = "default"
		}
	}
	if o.Profile != "" {
		out = append(out, config.WithSharedConfigProfile(o.Profile))
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading --ca-file: %w", err)
		}
		out = append(out, config.WithCustomCABundle(bytes.NewReader(pem)))
	}
	return out, nil
}

// retryer tries again what failed on the way or was too much at once, for a few seconds: a
// server that starts anew does not break a long apply.
func (o Options) retryer() func() aws.Retryer {
	if o.Once {
		return func() aws.Retryer { return aws.NopRetryer{} }
	}
	return func() aws.Retryer {
		return retry.NewStandard(func(r *retry.StandardOptions) {
			r.MaxAttempts, r.MaxBackoff = 5, time.Second
			// The SDK takes a quota that is reached for a rate that will be lower soon.
			r.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(notQuota)}, r.Retryables...)
		})
	}
}

func notQuota(err error) aws.Ternary {
	if code(err) == codeLimit {
		return aws.FalseTernary
	}
	return aws.UnknownTernary
}

func noCredentials(o Options, err error) error {
	why := oneLine(err.Error())
	if strings.Contains(why, "IMDS") {
		why = "it holds no access key" // the last place that the SDK looks into, and not here
	}
	switch {
	case o.CredentialsFile != "":
		return fmt.Errorf("--credentials-file %s gives no credentials: %s", o.CredentialsFile, why)
	case o.Profile != "":
		return fmt.Errorf("profile %q gives no credentials: %s", o.Profile, why)
	}
	return errors.New("no access key was found: give --credentials-file DATA_DIR/credentials (the server's first start wrote it), --profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
}

// Endpoint returns the URL of the server.
func (s *Session) Endpoint() string { return s.endpoint }

// Region returns the region that calls are signed for.
func (s *Session) Region() string { return s.aws.Region }
