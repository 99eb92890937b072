package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
	"github.com/fairlead-mesh/fairlead/test/process"
)

// pace keeps what is done over and over from taking all of the machine.
func (s *soak) pace(ctx context.Context, every time.Duration) error {
	t := time.NewTimer(min(every, s.round/4))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// objects makes a node with a router, a route and a service, edits each and deletes all.
func (s *soak) objects(ctx context.Context, t *tenant, _ *load.Process) error {
	n := int(s.ids.Add(1))
	node, router, service := fmt.Sprintf("made-%d", n), fmt.Sprintf("made-%d", n), fmt.Sprintf("made-%d.soak.local", n)
	if err := t.put(ctx, "/virtualNodes", "virtualNodeName", node, t.node(n, false)); err != nil {
		return err
	}
	if err := t.routed(ctx, service, router, node); err != nil {
		return err
	}
	for mark := range 3 {
		if err := t.Call(ctx, http.MethodPut, meshPath+"/virtualNodes/"+node, `{"spec":`+t.node(n, mark%2 == 0)+`}`, nil); err != nil {
			return err
		}
		if err := t.Call(ctx, http.MethodPut, meshPath+"/virtualRouter/"+router+"/routes/all", `{"spec":`+route(node, mark+1)+`}`, nil); err != nil {
			return err
		}
	}
	s.did.add("objects made", 4)
	if err := t.remove(ctx, meshPath+"/virtualServices/"+service, meshPath+"/virtualRouter/"+router+"/routes/all",
		meshPath+"/virtualRouters/"+router, meshPath+"/virtualNodes/"+node); err != nil {
		return err
	}
	return s.pace(ctx, 100*time.Millisecond)
}

// edits changes what proxies that stay have: routes, backends and addresses.
func (s *soak) edits(ctx context.Context, t *tenant, _ *load.Process) error {
	n := int(s.ids.Add(1))
	i := n % t.services
	if _, err := t.editRoute(ctx, i, n); err != nil {
		return err
	}
	if err := t.Call(ctx, http.MethodPut, fmt.Sprintf("%s/virtualNodes/n-%d", meshPath, i), `{"spec":`+t.node(i, n%2 == 0)+`}`, nil); err != nil {
		return err
	}
	s.did.add("edits", 2)
	return s.pace(ctx, 100*time.Millisecond)
}

// waits waits until a change is with all proxies, and gives up waiting for one that never
// comes.
func (s *soak) waits(ctx context.Context, t *tenant, _ *load.Process) error {
	n := int(s.ids.Add(1))
	revision, err := t.editRoute(ctx, n%t.services, n)
	if err != nil {
		return err
	}
	var out struct{ Replicas []struct{} }
	if err := t.Call(ctx, http.MethodGet, "/v1/meshes/soak/propagation?limit=1&wait=5&revision="+revision, "", &out); err != nil {
		return err
	}
	s.did.add("waits", 1)
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	err = t.Call(short, http.MethodGet, "/v1/meshes/soak/propagation?wait=30&revision=9"+revision, "", &out)
	if !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("a wait for a change that never comes ended with %w", err)
	}
	s.did.add("waits given up", 1)
	return s.pace(ctx, 200*time.Millisecond)
}

// reads lists and describes.
func (s *soak) reads(ctx context.Context, t *tenant, _ *load.Process) error {
	for _, path := range []string{
		meshes, meshPath, meshPath + "/virtualNodes?limit=7", meshPath + "/virtualNodes/n-0", meshPath + "/virtualRouters", meshPath + "/virtualServices",
		"/v1/meshes/soak/proxies?limit=20", "/v1/meshes/soak/problems", "/v1/meshes/soak/certificates?limit=20", "/v1/events?limit=50",
		"/v1/quotas", "/v1/users",
	} {
		var out any
		if err := t.Call(ctx, http.MethodGet, path, "", &out); err != nil {
			return err
		}
		s.did.add("reads", 1)
	}
	var out any
	in := map[string]string{"NamespaceName": "soak.local", "ServiceName": "s-0"}
	if err := t.CloudMap(ctx, "DiscoverInstances", in, &out); err != nil {
		return err
	}
	return s.pace(ctx, 200*time.Millisecond)
}

// leaseTime is how long instances live that are not registered again, in seconds: the least
// that there is.
const leaseTime = 10

// instances registers one, renews it, and takes it out, or leaves it to its lease.
func (s *soak) instances(ctx context.Context, t *tenant, _ *load.Process) error {
	n := int(s.ids.Add(1))
	service, id := n%t.services, fmt.Sprintf("i-of-%d", n)
	for range 3 {
		if err := t.instance(ctx, service, id, fmt.Sprintf("10.1.%d.%d", n/250%250, 1+n%250), leaseTime); err != nil {
			return err
		}
	}
	s.did.add("instances", 1)
	if n%5 == 0 || s.did.get("instances that lapse") == 0 {
		s.did.add("instances that lapse", 1)
		return s.pace(ctx, 2*time.Second)
	}
	in := map[string]string{"ServiceId": t.registry[service], "InstanceId": id}
	if err := t.CloudMap(ctx, "DeregisterInstance", in, nil); err != nil {
		return err
	}
	return s.pace(ctx, 2*time.Second)
}

// account makes an account with a mesh, uses both and deletes them.
func (s *soak) account(ctx context.Context) error {
	id := fmt.Sprintf("%012d", 100_000+s.ids.Add(1))
	a, err := s.server.NewAccount(ctx, id)
	if err != nil {
		return err
	}
	defer a.Close()
	t := &tenant{API: a, account: id, services: s.services}
	if err := t.Call(ctx, http.MethodPut, meshes, `{"meshName":"soak"}`, nil); err != nil {
		return err
	}
	if err := t.put(ctx, "/virtualNodes", "virtualNodeName", "n-0", t.node(0, false)); err != nil {
		return err
	}
	if err := t.remove(ctx, meshPath+"/virtualNodes/n-0", meshPath); err != nil {
		return err
	}
	s.did.add("accounts", 1)
	return s.server.Call(ctx, http.MethodDelete, "/v1/accounts/"+id, "", nil)
}

// newUser makes a user who may do one thing, and returns the tenant as seen by them.
func (s *soak) newUser(ctx context.Context, t *tenant, name, action string) (*tenant, error) {
	body := fmt.Sprintf(`{"userName":%q,"policies":{"all":{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":%q,"Resource":"*"}}}}`, name, action)
	if err := t.Call(ctx, http.MethodPut, "/v1/users", body, nil); err != nil {
		return nil, err
	}
	var made struct {
		AccessKey       struct{ AccessKeyID string }
		SecretAccessKey string
	}
	if err := t.Call(ctx, http.MethodPut, "/v1/users/"+name+"/accessKeys", `{}`, &made); err != nil {
		return nil, err
	}
	u := *t
	u.API = process.NewAPI(t.Endpoint, credentials(made.AccessKey.AccessKeyID, made.SecretAccessKey, ""))
	return &u, nil
}
