package cloudmap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// mostInstances is how many instances Cloud Map tells of a service at most.
const mostInstances = 1000

// clients are those of one source, by region. They are made when they are first needed.
type clients struct {
	source         Source
	endpoint, self string
	timeout        time.Duration

	mu       sync.Mutex
	byRegion map[string]*client
}

// client asks in one region.
type client struct {
	*servicediscovery.Client
	credentials aws.CredentialsProvider
}

// get returns the client of a region, once it has credentials. They are found where AWS's
// clients find them, and the source's role is assumed with them.
func (c *clients) get(ctx context.Context, region string) (*servicediscovery.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	found, err := c.of(ctx, region)
	if err != nil {
		return nil, err
	}
	if _, err := found.credentials.Retrieve(ctx); err != nil { // kept until they expire
		if c.source.RoleARN != "" {
			return nil, fmt.Errorf("assuming the role %s: %w", c.source.RoleARN, err)
		}
		return nil, fmt.Errorf("looking for credentials where AWS's clients do (variables, files, the role of the machine or task): %w", err)
	}
	return found.Client, nil
}

// of returns the client of a region.
func (c *clients) of(ctx context.Context, region string) (*client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.byRegion[region]; known != nil {
		return known, nil
	}
	made, err := c.open(ctx, region)
	if err != nil {
		return nil, err
	}
	if c.byRegion == nil {
		c.byRegion = map[string]*client{}
	}
	c.byRegion[region] = made
	return made, nil
}

func (c *clients) open(ctx context.Context, region string) (*client, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(region), config.WithRetryer(func() aws.Retryer {
		// It waits as long as the service asks for when it is throttled.
		return retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
			o.StandardOptions = append(o.StandardOptions, func(o *retry.StandardOptions) { o.MaxAttempts = 2 })
		})
	}))
	if err != nil {
		return nil, fmt.Errorf("reading the settings of AWS's clients: %w", err)
	}
	if c.source.RoleARN != "" {
		role := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), c.source.RoleARN, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = "fairlead"
			if c.source.ExternalID != "" {
				o.ExternalID = aws.String(c.source.ExternalID)
			}
		})
		cfg.Credentials = aws.NewCredentialsCache(role, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = time.Minute })
	}
	var itself error
	made := servicediscovery.NewFromConfig(cfg, func(o *servicediscovery.Options) {
		if c.endpoint != "" {
			o.BaseEndpoint = aws.String(c.endpoint)
		}
		if o.BaseEndpoint != nil { // the settings of AWS's clients can name one, too
			o.APIOptions = append(o.APIOptions, withoutHostPrefix)
			if leads(*o.BaseEndpoint, c.self) {
				itself = fmt.Errorf("the endpoint of Cloud Map, %s, is this server: set --cloud-map-endpoint, or take AWS_ENDPOINT_URL_SERVICEDISCOVERY "+
					"out of the server's variables", *o.BaseEndpoint)
			}
		}
	})
	return &client{made, cfg.Credentials}, itself
}

// leads reports whether a URL leads to an address of this machine, host:port, as far as
// can be said without asking for names.
func leads(endpoint, address string) bool {
	host, port, err := net.SplitHostPort(address)
	u, uerr := url.Parse(endpoint)
	if err != nil || uerr != nil || u.Port() != port {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == host || u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// withoutHostPrefix keeps the SDK from writing "data-" before the host, which AWS's own
// hosts have and no others.
func withoutHostPrefix(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("fairlead.WithoutHostPrefix",
		func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, true), in)
		}), middleware.Before)
}

// call makes a request when there is room for it, and bounds its time.
func (p *Poller) call(ctx context.Context, s *source, operation string, f func(context.Context) error) error {
	if err := s.limit.Wait(ctx); err != nil {
		return err
	}
	p.asked.WithLabelValues(s.Account, operation).Inc()
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	return f(ctx)
}

// revision returns the number that grows with each change of a service's instances.
func (p *Poller) revision(ctx context.Context, s *source, c *servicediscovery.Client, k mesh.InstancesKey) (n int64, err error) {
	err = p.call(ctx, s, opRevision, func(ctx context.Context) error {
		out, err := c.DiscoverInstancesRevision(ctx, &servicediscovery.DiscoverInstancesRevisionInput{
			NamespaceName: aws.String(k.Namespace), ServiceName: aws.String(k.Service),
		})
		if err == nil {
			n = aws.ToInt64(out.InstancesRevision)
		}
		return err
	})
	return n, err
}

// discover asks for a service's instances.
func (p *Poller) discover(ctx context.Context, s *source, c *servicediscovery.Client, one *service) (answer, error) {
	var out *servicediscovery.DiscoverInstancesOutput
	err := p.call(ctx, s, opDiscover, func(ctx context.Context) (err error) {
		out, err = c.DiscoverInstances(ctx, &servicediscovery.DiscoverInstancesInput{
			NamespaceName: aws.String(one.key.Namespace), ServiceName: aws.String(one.key.Service),
			HealthStatus: types.HealthStatusFilterAll, MaxResults: aws.Int32(mostInstances),
		})
		return err
	})
	switch {
	case is(err, notThere...):
		return answer{}, nil
	case err != nil:
		return answer{}, err
	}
	if full := len(out.Instances) == mostInstances; full != one.full {
		if one.full = full; full {
			p.cfg.Logger.WarnContext(ctx, "AWS Cloud Map tells of no more instances of a service than these; there may be others",
				"account", one.key.Account, "namespace", one.key.Namespace, "service", one.key.Service, "instances", mostInstances)
		}
	}
	return answer{exists: true, instances: instances(out.Instances), revision: aws.ToInt64(out.InstancesRevision)}, nil
}

// instances reads a list of instances, in the order of their ids. Of several with one id
// the last counts, and one without an id counts for nothing.
func instances(list []types.HttpInstanceSummary) []mesh.Instance {
	byID := make(map[string]mesh.Instance, len(list))
	for _, i := range list {
		if id := aws.ToString(i.InstanceId); id != "" {
			byID[id] = instance(i)
		}
	}
	return slices.SortedFunc(maps.Values(byID), func(a, b mesh.Instance) int { return strings.Compare(a.ID, b.ID) })
}

// instance reads an instance. A port that is no port counts as none.
func instance(i types.HttpInstanceSummary) mesh.Instance {
	out := mesh.Instance{
		ID: aws.ToString(i.InstanceId), Attributes: i.Attributes,
		IPv4: i.Attributes["AWS_INSTANCE_IPV4"], IPv6: i.Attributes["AWS_INSTANCE_IPV6"], Zone: i.Attributes["AVAILABILITY_ZONE"],
		Unhealthy: i.HealthStatus == types.HealthStatusUnhealthy,
	}
	if port, err := strconv.ParseUint(i.Attributes["AWS_INSTANCE_PORT"], 10, 16); err == nil {
		out.Port = uint32(port)
	}
	return out
}

// notThere are the codes by which Cloud Map says that there is no such service.
var notThere = []string{"NamespaceNotFound", "ServiceNotFound"}

// notTold are the codes by which a caller is told that revisions are not for it.
var notTold = []string{"AccessDeniedException", "UnknownOperationException", "InvalidAction", "NotImplemented"}

// is reports whether an error of the API has one of some codes.
func is(err error, codes ...string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode())
}

// refused reports whether an error is an answer of Cloud Map to one request, and not that
// it is away or that there were too many requests.
func refused(err error) bool {
	var response *smithyhttp.ResponseError
	throttled := retry.ThrottleErrorCode{Codes: retry.DefaultThrottleErrorCodes}.IsErrorThrottle(err)
	return errors.As(err, &response) && throttled != aws.TrueTernary
}
