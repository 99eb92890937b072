package main

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// cloudMapOf returns a client of the Cloud Map API.
func cloudMapOf(p *meshtest.Plane) *servicediscovery.Client {
	return servicediscovery.New(servicediscovery.Options{
		Region: meshtest.Region, BaseEndpoint: aws.String(p.URL()), HTTPClient: p.HTTP(),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return p.Creds, nil }),
	})
}

// registerInstances fills a plane's registry: a service with instances of all sources and
// states, one without any, and one that was imported as a whole.
func registerInstances(t *testing.T, p *meshtest.Plane) {
	t.Helper()
	c := cloudMapOf(p)
	made, err := c.CreateHttpNamespace(t.Context(), &servicediscovery.CreateHttpNamespaceInput{Name: aws.String("shop")})
	if err != nil {
		t.Fatal(err)
	}
	op, err := c.GetOperation(t.Context(), &servicediscovery.GetOperationInput{OperationId: made.OperationId})
	if err != nil {
		t.Fatal(err)
	}
	service := func(name string) *string {
		out, err := c.CreateService(t.Context(), &servicediscovery.CreateServiceInput{
			Name: &name, NamespaceId: aws.String(op.Operation.Targets["NAMESPACE"]), HealthCheckCustomConfig: &types.HealthCheckCustomConfig{},
		})
		if err != nil {
			t.Fatal(err)
		}
		return out.Service.Id
	}
	service("empty")
	cart := service("cart")
	for id, attributes := range map[string]map[string]string{
		"plain": {"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": "8080", "AVAILABILITY_ZONE": "z1", "version": "2"},
		"beats": {"AWS_INSTANCE_IPV4": "10.0.0.2", "FAIRLEAD_LEASE_SECONDS": "3600"},
		"six":   {"AWS_INSTANCE_IPV6": "fd00::1", "AWS_INSTANCE_PORT": "8080", "AWS_INIT_HEALTH_STATUS": "UNHEALTHY"},
	} {
		if _, err := c.RegisterInstance(t.Context(), &servicediscovery.RegisterInstanceInput{ServiceId: cart, InstanceId: &id, Attributes: attributes}); err != nil {
			t.Fatal(err)
		}
	}
	imported := []mesh.Instance{{ID: "far", IPv4: "10.9.0.1", Port: 80, Attributes: map[string]string{"AWS_INSTANCE_IPV4": "10.9.0.1", "AWS_INSTANCE_PORT": "80"}}}
	for service, namespace := range map[string]string{"cart": "shop", "pay": "elsewhere"} {
		if err := p.Server().Registry().Import(t.Context(), meshtest.Account, meshtest.Region, namespace, service, imported); err != nil {
			t.Fatal(err)
		}
	}
}
