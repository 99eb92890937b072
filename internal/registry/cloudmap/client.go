package cloudmap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

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
	source   Source
	endpoint string

	mu       sync.Mutex
	byRegion map[string]*servicediscovery.Client
}

// get returns the client of a region. Credentials are found where AWS's clients find
// them, and the source's role is assumed with them.
func (c *clients) get(ctx context.Context, region string) (*servicediscovery.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.byRegion[region]; known != nil {
		return known, nil
	}
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
		cfg.Credentials = aws.NewCredentialsCache(role)
	}
	client := servicediscovery.NewFromConfig(cfg, func(o *servicediscovery.Options) {
		if c.endpoint != "" {
			o.BaseEndpoint = aws.String(c.endpoint)
		}
		if o.BaseEndpoint != nil { // the settings of AWS's clients can name one, too
			o.APIOptions = append(o.APIOptions, withoutHostPrefix)
		}
	})
	if c.byRegion == nil {
		c.byRegion = map[string]*servicediscovery.Client{}
	}
	c.byRegion[region] = client
	return client, nil
}

// withoutHostPrefix keeps the SDK from writing "data-" before the host, which AWS's own
// hosts have and no others.
func withoutHostPrefix(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("fairlead.WithoutHostPrefix",
		func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, true), in)
		}), middleware.Before)
}

// revision returns the number that grows with each change of a service's instances.
func (p *Poller) revision(ctx context.Context, s *source, c *servicediscovery.Client, k mesh.InstancesKey) (int64, error) {
	if err := s.limit.Wait(ctx); err != nil {
		return 0, err
	}
	p.asked.WithLabelValues(s.Account, "DiscoverInstancesRevision").Inc()
	out, err := c.DiscoverInstancesRevision(ctx, &servicediscovery.DiscoverInstancesRevisionInput{
		NamespaceName: aws.String(k.Namespace), ServiceName: aws.String(k.Service),
	})
	switch {
	case is(err, notThere...):
		return 0, nil // as good as a change
	case is(err, "AccessDeniedException", "UnknownOperationException", "InvalidAction", "NotImplemented"):
		if !s.noRevisions.Swap(true) {
			p.cfg.Logger.WarnContext(ctx, "AWS Cloud Map does not tell revisions, all instances are asked for each time",
				"account", s.Account, "error", err)
		}
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("asking for the revision of %s in %s: %w", k.Service, k.Namespace, err)
	}
	return aws.ToInt64(out.InstancesRevision), nil
}

// discover returns a service's instances, in the order of their ids. A service that does
// not exist has none.
func (p *Poller) discover(ctx context.Context, s *source, c *servicediscovery.Client, k mesh.InstancesKey) ([]mesh.Instance, int64, error) {
	if err := s.limit.Wait(ctx); err != nil {
		return nil, 0, err
	}
	p.asked.WithLabelValues(s.Account, "DiscoverInstances").Inc()
	out, err := c.DiscoverInstances(ctx, &servicediscovery.DiscoverInstancesInput{
		NamespaceName: aws.String(k.Namespace), ServiceName: aws.String(k.Service),
		HealthStatus: types.HealthStatusFilterAll, MaxResults: aws.Int32(mostInstances),
	})
	switch {
	case is(err, notThere...):
		return nil, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("asking for the instances of %s in %s: %w", k.Service, k.Namespace, err)
	}
	if len(out.Instances) == mostInstances {
		p.cfg.Logger.WarnContext(ctx, "AWS Cloud Map tells of no more instances of a service than these; there may be others",
			"account", k.Account, "namespace", k.Namespace, "service", k.Service, "instances", mostInstances)
	}
	found := make([]mesh.Instance, 0, len(out.Instances))
	for _, i := range out.Instances {
		found = append(found, instance(i))
	}
	slices.SortFunc(found, func(a, b mesh.Instance) int { return strings.Compare(a.ID, b.ID) })
	return found, aws.ToInt64(out.InstancesRevision), nil
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

// is reports whether an error of the API has one of some codes.
func is(err error, codes ...string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode())
}
