package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
	"github.com/fairlead-mesh/fairlead/test/process"
)

const (
	meshes   = "/v20190125/meshes"
	meshPath = meshes + "/soak"
	port     = 8080
)

// certificateLife is the shortest that there is.
const certificateLife = 5 * time.Minute

// tenant is an account with a mesh that stays: service i is a virtual service s-i before a
// router r-i with one route, to node n-i. Each node calls the four services after its own,
// and the node front all of them.
type tenant struct {
	*process.API
	account  string
	services int
	registry []string // ids of the registry's services
}

func (t *tenant) arn(node string) string {
	return fmt.Sprintf("arn:aws:appmesh:%s:%s:mesh/soak/virtualNode/%s", process.Region, t.account, node)
}

func (t *tenant) resident(sotw bool) string { return fmt.Sprintf("stay-%s-%v", t.account, sotw) }

// proxies says how proxies of the mesh's nodes reach the server.
func (t *tenant) proxies(address string, n int, sotw bool, nodes ...string) load.Config {
	c := load.Config{Address: address, Streams: n, Full: sotw, KeyID: t.Creds.AccessKeyID, Secret: t.Creds.SecretAccessKey, Token: t.Creds.SessionToken, Region: process.Region}
	for _, node := range nodes {
		c.Nodes = append(c.Nodes, t.arn(node))
	}
	for i := 0; len(nodes) == 0 && i < t.services; i++ {
		c.Nodes = append(c.Nodes, t.arn(fmt.Sprintf("n-%d", i)))
	}
	return c
}

// newTenant makes an account and its mesh.
func (s *soak) newTenant(ctx context.Context, i int) (*tenant, error) {
	t := &tenant{API: s.server.API, account: process.Account, services: s.services}
	err := s.server.RaiseQuotas(ctx, process.Account)
	if i > 0 {
		t.account = fmt.Sprintf("%012d", 1+i)
		t.API, err = s.server.NewAccount(ctx, t.account)
	}
	if err != nil {
		return nil, err
	}
	if err := t.Call(ctx, http.MethodPut, meshes, `{"meshName":"soak"}`, nil); err != nil {
		return nil, err
	}
	life := fmt.Sprintf(`{"certificateSeconds":%d}`, certificateLife/time.Second)
	if err := t.Call(ctx, http.MethodPut, "/v1/meshes/soak/authority", life, nil); err != nil {
		return nil, err
	}
	if err := t.register(ctx); err != nil {
		return nil, err
	}
	for i := range t.services {
		if err := t.put(ctx, "/virtualNodes", "virtualNodeName", fmt.Sprintf("n-%d", i), t.node(i, false)); err != nil {
			return nil, err
		}
	}
	for i := range t.services {
		if err := t.routed(ctx, t.service(i), fmt.Sprintf("r-%d", i), fmt.Sprintf("n-%d", i)); err != nil {
			return nil, err
		}
	}
	all := make([]int, t.services)
	for i := range all {
		all[i] = i
	}
	return t, t.put(ctx, "/virtualNodes", "virtualNodeName", "front", `{"backends":[`+t.backends(all)+`]}`)
}

// register makes the registry's services, each with two instances.
func (t *tenant) register(ctx context.Context) error {
	var made struct{ OperationID string }
	if err := t.CloudMap(ctx, "CreateHttpNamespace", map[string]string{"Name": "soak.local"}, &made); err != nil {
		return err
	}
	var op struct {
		Operation struct{ Targets map[string]string }
	}
	if err := t.CloudMap(ctx, "GetOperation", map[string]string{"OperationId": made.OperationID}, &op); err != nil {
		return err
	}
	for i := range t.services {
		var service struct{ Service struct{ ID string } }
		in := map[string]string{"Name": fmt.Sprintf("s-%d", i), "NamespaceId": op.Operation.Targets["NAMESPACE"]}
		if err := t.CloudMap(ctx, "CreateService", in, &service); err != nil {
			return err
		}
		t.registry = append(t.registry, service.Service.ID)
		for n := range 2 {
			if err := t.instance(ctx, i, fmt.Sprintf("i-%d", n), fmt.Sprintf("10.0.%d.%d", i, n+1), 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// instance registers one, with a lease in seconds unless that is 0.
func (t *tenant) instance(ctx context.Context, service int, id, address string, lease int) error {
	attributes := map[string]string{"AWS_INSTANCE_IPV4": address, "AWS_INSTANCE_PORT": fmt.Sprint(port)}
	if lease > 0 {
		attributes["FAIRLEAD_LEASE_SECONDS"] = fmt.Sprint(lease)
	}
	return t.CloudMap(ctx, "RegisterInstance", map[string]any{"ServiceId": t.registry[service], "InstanceId": id, "Attributes": attributes}, nil)
}

func (t *tenant) service(i int) string { return fmt.Sprintf("s-%d.soak.local", i%t.services) }

func (t *tenant) backends(all []int) string {
	list := make([]string, len(all))
	for n, i := range all {
		list[n] = fmt.Sprintf(`{"virtualService":{"virtualServiceName":%q}}`, t.service(i))
	}
	return strings.Join(list, ",")
}

// node is the spec of a node that is found as service i, and has one backend more or less.
func (t *tenant) node(i int, more bool) string {
	calls := []int{i + 1, i + 2, i + 3}
	if more {
		calls = append(calls, i+4)
	}
	return fmt.Sprintf(`{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}}],"serviceDiscovery":{"awsCloudMap":{"namespaceName":"soak.local","serviceName":"s-%d"}},"backends":[%s]}`,
		port, i%t.services, t.backends(calls))
}

func route(node string, mark int) string {
	return fmt.Sprintf(`{"httpRoute":{"match":{"prefix":"/%08d"},"action":{"weightedTargets":[{"virtualNode":%q,"weight":1}]},"retryPolicy":{"maxRetries":2,"perRetryTimeout":{"unit":"s","value":2},"httpRetryEvents":["server-error"]}}}`, mark, node)
}

func (t *tenant) put(ctx context.Context, path, member, name, spec string) error {
	return t.Call(ctx, http.MethodPut, meshPath+path, fmt.Sprintf(`{%q:%q,"spec":%s}`, member, name, spec), nil)
}

// routed makes a router, its route and a service before them.
func (t *tenant) routed(ctx context.Context, service, router, node string) error {
	if err := t.put(ctx, "/virtualRouters", "virtualRouterName", router, fmt.Sprintf(`{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}}]}`, port)); err != nil {
		return err
	}
	if err := t.put(ctx, "/virtualRouter/"+router+"/routes", "routeName", "all", route(node, 0)); err != nil {
		return err
	}
	return t.put(ctx, "/virtualServices", "virtualServiceName", service, fmt.Sprintf(`{"provider":{"virtualRouter":{"virtualRouterName":%q}}}`, router))
}

// editRoute changes a route, and returns the revision of the change.
func (t *tenant) editRoute(ctx context.Context, i, mark int) (string, error) {
	return t.Edit(ctx, http.MethodPut, fmt.Sprintf("%s/virtualRouter/r-%d/routes/all", meshPath, i), `{"spec":`+route(fmt.Sprintf("n-%d", i), mark)+`}`)
}

func (t *tenant) remove(ctx context.Context, paths ...string) error {
	for _, p := range paths {
		if err := t.Call(ctx, http.MethodDelete, p, "", nil); err != nil {
			return err
		}
	}
	return nil
}
