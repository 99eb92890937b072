package server_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// makeService makes a namespace and a service in it, and returns the service's id.
func makeService(t *testing.T, c *servicediscovery.Client, namespace, service string) string {
	t.Helper()
	made, err := c.CreateHttpNamespace(t.Context(), &servicediscovery.CreateHttpNamespaceInput{Name: &namespace})
	if err != nil {
		t.Fatal(err)
	}
	op, err := c.GetOperation(t.Context(), &servicediscovery.GetOperationInput{OperationId: made.OperationId})
	if err != nil {
		t.Fatal(err)
	}
	if op.Operation.Status != types.OperationStatusSuccess || time.Since(*op.Operation.CreateDate) > time.Hour {
		t.Errorf("the operation is %+v", op.Operation)
	}
	id := op.Operation.Targets["NAMESPACE"]
	out, err := c.CreateService(t.Context(), &servicediscovery.CreateServiceInput{Name: &service, NamespaceId: &id})
	if err != nil {
		t.Fatal(err)
	}
	return *out.Service.Id
}

// The SDK for Go registers and discovers, gets its own types of errors, and finds all of
// it again after a restart; what the server has in memory is the same.
func TestCloudMap(t *testing.T) {
	t.Parallel()
	p := meshtest.Start(t)
	c := p.CloudMap()
	id := makeService(t, c, "shop", "cart")
	register := func(c *servicediscovery.Client, instance string, attributes map[string]string) error {
		_, err := c.RegisterInstance(t.Context(), &servicediscovery.RegisterInstanceInput{ServiceId: &id, InstanceId: &instance, Attributes: attributes})
		return err
	}
	for i := range 3 {
		if err := register(c, fmt.Sprintf("i%d", i), map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.1", "FAIRLEAD_LEASE_SECONDS": "3600"}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.DeleteService(t.Context(), &servicediscovery.DeleteServiceInput{Id: &id})
	if e := new(types.ResourceInUse); !errors.As(err, &e) || e.ErrorMessage() == "" {
		t.Errorf("%T %v", err, err)
	}
	_, err = c.CreateHttpNamespace(t.Context(), &servicediscovery.CreateHttpNamespaceInput{Name: aws.String("shop")})
	if e := new(types.NamespaceAlreadyExists); !errors.As(err, &e) || e.NamespaceId == nil {
		t.Errorf("%T %v", err, err)
	}
	err = register(c, "bad", map[string]string{"AWS_INSTANCE_PORT": "x"})
	if e := new(types.InvalidInput); !errors.As(err, &e) {
		t.Errorf("%T %v", err, err)
	}
	wantMetric(t, p, `fairlead_registry_instances{account="000000000001",region="us-east-1",source="registered"}`, "3")
	p.Stop(t)
	p.Run(t)
	c = p.CloudMap()
	known, ok := p.Server().Registry().Instances(mesh.InstancesKey{Account: meshtest.Account, Region: meshtest.Region, Namespace: "shop", Service: "cart"})
	if !ok || len(known) != 3 {
		t.Errorf("after a restart there are %v, %v", known, ok)
	}
	if err := register(c, "i0", map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.1", "FAIRLEAD_LEASE_SECONDS": "3600"}); err != nil {
		t.Error(err)
	}
	found, err := c.DiscoverInstances(t.Context(), &servicediscovery.DiscoverInstancesInput{NamespaceName: aws.String("shop"), ServiceName: aws.String("cart")})
	if err != nil || len(found.Instances) != 3 || *found.InstancesRevision == 0 {
		t.Errorf("%+v %v", found, err)
	}
}
