package meshtest

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/fairlead-mesh/fairlead/internal/server"
)

// CloudMap returns AWS's client for Cloud Map, as the plane's administrator.
func (p *Plane) CloudMap() *servicediscovery.Client {
	// The SDK would put "data-" in front of the host's name for DiscoverInstances.
	plain := func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("PlainHost",
			func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, true), in)
			}), middleware.Before)
	}
	return servicediscovery.New(servicediscovery.Options{
		Region: Region, BaseEndpoint: aws.String(p.URL()), HTTPClient: p.HTTP(), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return p.Creds, nil }),
		APIOptions:  []func(*middleware.Stack) error{plain},
	})
}

// MakeNamespace makes a namespace of Cloud Map and returns its id.
func (p *Plane) MakeNamespace(t testing.TB, name string) string {
	t.Helper()
	c := p.CloudMap()
	made, err := c.CreateHttpNamespace(context.Background(), &servicediscovery.CreateHttpNamespaceInput{Name: &name})
	if err != nil {
		t.Fatal(err)
	}
	op, err := c.GetOperation(context.Background(), &servicediscovery.GetOperationInput{OperationId: made.OperationId})
	if err != nil {
		t.Fatal(err)
	}
	return op.Operation.Targets["NAMESPACE"]
}

// MakeService makes a service in a namespace that is there, and returns its ARN.
func (p *Plane) MakeService(t testing.TB, namespaceID, name string) string {
	t.Helper()
	made, err := p.CloudMap().CreateService(context.Background(), &servicediscovery.CreateServiceInput{Name: &name, NamespaceId: &namespaceID})
	if err != nil {
		t.Fatal(err)
	}
	return *made.Service.Arn
}

// CloudMapService is a service that was made by the Cloud Map API, whose instances tests
// register.
type CloudMapService struct {
	Client *servicediscovery.Client
	ID     string
}

// CloudMapService makes a namespace and in it a service with custom health.
func (p *Plane) CloudMapService(t testing.TB, namespace, service string) *CloudMapService {
	t.Helper()
	c := p.CloudMap()
	out, err := c.CreateService(t.Context(), &servicediscovery.CreateServiceInput{
		Name: &service, NamespaceId: aws.String(p.MakeNamespace(t, namespace)),
		HealthCheckCustomConfig: &types.HealthCheckCustomConfig{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &CloudMapService{c, *out.Service.Id}
}

// Register registers an instance.
func (s *CloudMapService) Register(t testing.TB, id string, attributes map[string]string) {
	t.Helper()
	_, err := s.Client.RegisterInstance(t.Context(), &servicediscovery.RegisterInstanceInput{ServiceId: &s.ID, InstanceId: &id, Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
}

// Deregister deregisters an instance.
func (s *CloudMapService) Deregister(t testing.TB, id string) {
	t.Helper()
	if _, err := s.Client.DeregisterInstance(t.Context(), &servicediscovery.DeregisterInstanceInput{ServiceId: &s.ID, InstanceId: &id}); err != nil {
		t.Fatal(err)
	}
}

// Health sets the custom health of an instance.
func (s *CloudMapService) Health(t testing.TB, id string, status types.CustomHealthStatus) {
	t.Helper()
	_, err := s.Client.UpdateInstanceCustomHealthStatus(t.Context(), &servicediscovery.UpdateInstanceCustomHealthStatusInput{
		ServiceId: &s.ID, InstanceId: &id, Status: status,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Importing is an Options.Change for tests that import instances: those of an account
// without a Cloud Map in AWS do not count. Nobody answers at this one.
func Importing(c *server.Config) {
	c.CloudMap = server.CloudMap{Sources: []server.CloudMapSource{{Account: Account}}, Endpoint: "http://127.0.0.1:1"}
}
