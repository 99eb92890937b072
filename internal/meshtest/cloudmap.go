package meshtest

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
)

// CloudMap returns AWS's client for Cloud Map, as the plane's administrator. It is not for
// DiscoverInstances, for which the client asks another host.
func (p *Plane) CloudMap() *servicediscovery.Client {
	return servicediscovery.New(servicediscovery.Options{
		Region: Region, BaseEndpoint: aws.String(p.URL()), HTTPClient: p.HTTP(), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return p.Creds, nil }),
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
