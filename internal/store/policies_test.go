package store

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// specFault is a policy that aborts the requests of a target; more is empty, or members of
// the spec that end in a comma.
func specFault(target, more string) string {
	return `{"target":` + target + `,` + more + `"action":{"fault":{"abort":{"percentage":1,"httpStatus":503}}}}`
}

const (
	atMesh = `{"mesh":{}}`
	atNode = `{"virtualNode":{"virtualNodeName":"n"}}`
)

// TestPolicyTargets holds that a policy is made for what is there only, on a port that it
// has, and that its target goes without asking.
func TestPolicyTargets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mesh("m")
	w.create(m.MeshObject(), specMesh)
	id := m.Object(mesh.KindPolicy, "", "p")
	create := func(spec string) error {
		_, err := w.s.Create(t.Context(), w.c, w.object(id, spec))
		return err
	}
	for target, missing := range map[string]string{
		atNode: "VirtualNode with name n is missing",
		`{"virtualService":{"virtualServiceName":"s"}}`:                      "VirtualService with name s is missing",
		`{"virtualRouter":{"virtualRouterName":"r"}}`:                        "VirtualRouter with name r is missing",
		`{"route":{"virtualRouterName":"r","routeName":"x"}}`:                "Route with name x is missing",
		`{"virtualGateway":{"virtualGatewayName":"g"}}`:                      "VirtualGateway with name g is missing",
		`{"gatewayRoute":{"virtualGatewayName":"g","gatewayRouteName":"x"}}`: "GatewayRoute with name x is missing",
		`{"virtualNode":{"virtualNodeName":"n","port":8081}}`:                "VirtualNode with name n is missing",
	} {
		wantCode(t, create(specFault(target, "")), mesh.ErrNotFound, missing)
	}
	w.create(m.Object(mesh.KindVirtualNode, "", "n"), specOn(mesh.KindVirtualNode, "http:8080 http:8082 tcp:8083"))
	wantCode(t, create(specFault(`{"virtualNode":{"virtualNodeName":"n","port":8081}}`, "")), mesh.ErrBadRequest,
		"spec.target.virtualNode.port must be the port of a listener of virtualNode/n, allowed are 8080, 8082, 8083, 8081 was given")
	wantCode(t, create(specFault(`{"virtualNode":{"virtualNodeName":"n","port":8083}}`, "")), mesh.ErrBadRequest,
		"spec.target.virtualNode.port must be a port for requests, 8083 of virtualNode/n is for TCP")
	w.create(id, specFault(`{"virtualNode":{"virtualNodeName":"n","port":8080}}`, ""))
	w.delete(m.Object(mesh.KindVirtualNode, "", "n"))
	w.get(id)
	_, err := w.s.Update(t.Context(), w.c, w.change(id, specFault(atNode, "")))
	wantCode(t, err, mesh.ErrNotFound, "VirtualNode with name n is missing")
	w.update(id, specFault(atMesh, ""))
	w.delete(id)
}

// TestPoliciesThatContradict holds that of two that do one is refused, on creation and on
// update, and that an update of one does not contradict itself.
func TestPoliciesThatContradict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mesh("m")
	w.create(m.MeshObject(), specMesh)
	policy := func(name string) mesh.ID { return m.Object(mesh.KindPolicy, "", name) }
	w.create(policy("a"), specFault(atMesh, ""))
	_, err := w.s.Create(t.Context(), w.c, w.object(policy("b"), specFault(atMesh, "")))
	wantCode(t, err, mesh.ErrBadRequest, "spec contradicts policy a: both are a fault for mesh/m, and neither is more specific")
	w.create(policy("b"), specFault(atMesh, `"match":{"method":"GET"},`))
	_, err = w.s.Update(t.Context(), w.c, w.change(policy("b"), specFault(atMesh, "")))
	wantCode(t, err, mesh.ErrBadRequest, "spec contradicts policy a")
	w.update(policy("b"), specFault(atMesh, `"match":{"method":"PUT"},`))
	w.update(policy("a"), specFault(atMesh, ""))
	// The same in another mesh.
	other := w.mesh("other")
	w.create(other.MeshObject(), specMesh)
	w.create(other.Object(mesh.KindPolicy, "", "a"), specFault(atMesh, ""))
}

// TestContradictingAtOnce makes policies that contradict each other at the same time: one of
// them is made.
func TestContradictingAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mesh("m")
	w.create(m.MeshObject(), specMesh)
	for round := range 10 {
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			wg.Go(func() {
				id := m.Object(mesh.KindPolicy, "", strings.Repeat("x", round+1)+string(rune('a'+i)))
				_, errs[i] = w.s.Create(t.Context(), w.c, w.object(id, specFault(atMesh, "")))
			})
		}
		wg.Wait()
		made := 0
		for i, err := range errs {
			if err == nil {
				made++
				w.delete(m.Object(mesh.KindPolicy, "", strings.Repeat("x", round+1)+string(rune('a'+i))))
				continue
			}
			wantCode(t, err, mesh.ErrBadRequest, "contradicts policy")
		}
		if made != 1 {
			t.Errorf("%d of the policies were made", made)
		}
	}
}

// TestPoliciesGoWithTheirMesh deletes a mesh that holds policies only: they go with it, with
// their places in the quota, and a mesh of the same name has none.
func TestPoliciesGoWithTheirMesh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mesh("m")
	w.limit(map[mesh.Quota]int{mesh.QuotaPolicies: 1})
	for range 2 {
		w.create(m.MeshObject(), specMesh)
		w.create(m.Object(mesh.KindVirtualNode, "", "n"), specNode)
		w.create(m.Object(mesh.KindPolicy, "", "p"), specFault(atNode, ""))
		_, err := w.s.Delete(t.Context(), w.c, m.MeshObject())
		wantCode(t, err, mesh.ErrResourceInUse, "has active VirtualNodes")
		w.get(m.Object(mesh.KindPolicy, "", "p"))
		w.delete(m.Object(mesh.KindVirtualNode, "", "n"))
		w.delete(m.MeshObject())
		w.wantGone(m.Object(mesh.KindPolicy, "", "p"))
	}
	_, all, err := w.s.listAll(t.Context(), rootPrefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range all {
		if strings.Contains(string(kv.Key), "/policy/") {
			t.Errorf("%s is left", kv.Key)
		}
	}
}

// TestPoliciesOfGuests holds that in a shared mesh accounts say what is done with requests to
// what is their own, and the owner with all.
func TestPoliciesOfGuests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mesh("m")
	w.create(m.MeshObject(), specMesh)
	w.create(m.Object(mesh.KindVirtualNode, "", "n"), specNode)
	if _, err := w.s.Share(t.Context(), w.c, m, consumerID); err != nil {
		t.Fatal(err)
	}
	guest := w.as(consumerID)
	guest.create(m.Object(mesh.KindVirtualNode, "", "own"), specNode)
	for _, target := range []string{atMesh, atNode} {
		_, err := guest.s.Create(t.Context(), guest.c, guest.object(m.Object(mesh.KindPolicy, "", "p"), specFault(target, "")))
		wantCode(t, err, mesh.ErrForbidden, "it belongs to account "+m.Account)
	}
	id := m.Object(mesh.KindPolicy, "", "p")
	atOwn := specFault(`{"virtualNode":{"virtualNodeName":"own"}}`, "")
	guest.create(id, atOwn)
	_, err := guest.s.Update(t.Context(), guest.c, guest.change(id, specFault(atNode, "")))
	wantCode(t, err, mesh.ErrForbidden, "it belongs to account "+m.Account)
	guest.delete(id)
	w.create(id, atOwn)
	_, err = guest.s.Delete(t.Context(), guest.c, id)
	wantCode(t, err, mesh.ErrForbidden, "it belongs to account "+m.Account)
	w.delete(id)
}

// TestMirrors holds that copies go to a port for requests of a virtual node that is there, and
// not to where the requests go themselves; and that mirrors of one target add up.
func TestMirrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mesh("m")
	w.create(m.MeshObject(), specMesh)
	w.create(m.Object(mesh.KindVirtualNode, "", "n"), specNode)
	w.create(m.Object(mesh.KindVirtualRouter, "", "r"), specRouter)
	w.create(m.Object(mesh.KindRoute, "r", "x"), specRoute("n"))
	w.create(m.Object(mesh.KindVirtualService, "", "s"), specService(mesh.KindVirtualNode, "n"))
	mirror := func(target, node, port string) string {
		return `{"target":` + target + `,"action":{"mirror":{"percentage":1,"to":{"virtualNode":{"virtualNodeName":"` + node + `"` + port + `}}}}}`
	}
	const atRoute, atService = `{"route":{"virtualRouterName":"r","routeName":"x"}}`, `{"virtualService":{"virtualServiceName":"s"}}`
	create := func(name, spec string) error {
		_, err := w.s.Create(t.Context(), w.c, w.object(m.Object(mesh.KindPolicy, "", name), spec))
		return err
	}
	wantCode(t, create("p", mirror(atRoute, "to", "")), mesh.ErrNotFound, "VirtualNode with name to is missing")
	for target, what := range map[string]string{atRoute: "virtualRouter/r/route/x", atService: "virtualService/s"} {
		wantCode(t, create("p", mirror(target, "n", "")), mesh.ErrBadRequest,
			"spec.action.mirror.to.virtualNode.virtualNodeName must not be where the requests go themselves, as "+what+` leads to "n"`)
	}
	w.create(m.Object(mesh.KindVirtualNode, "", "bare"), `{}`)
	wantCode(t, create("p", mirror(atRoute, "bare", "")), mesh.ErrBadRequest, `spec.action.mirror.to.virtualNode must have a listener, virtual node "bare" has none`)
	w.create(m.Object(mesh.KindVirtualNode, "", "to"), specOn(mesh.KindVirtualNode, "tcp:5432 http:8080"))
	wantCode(t, create("p", mirror(atRoute, "to", `,"port":80`)), mesh.ErrBadRequest, `spec.action.mirror.to.virtualNode.port must be the port of a listener of virtual node "to", allowed are 5432, 8080, 80 was given`)
	wantCode(t, create("p", mirror(atRoute, "to", `,"port":5432`)), mesh.ErrBadRequest, `spec.action.mirror.to.virtualNode.port must be a port for requests, 5432 of virtual node "to" is for TCP`)
	away := func(target, service string) string {
		return `{"target":` + target + `,"action":{"mirror":{"percentage":1,"to":{"virtualService":{"virtualServiceName":"` + service + `"}}}}}`
	}
	w.create(m.Object(mesh.KindVirtualService, "", "routed"), specService(mesh.KindVirtualRouter, "r"))
	w.create(m.Object(mesh.KindVirtualService, "", "away"), specService(mesh.KindVirtualNode, "to"))
	wantCode(t, create("p", away(atRoute, "missing")), mesh.ErrNotFound, "VirtualService with name missing is missing")
	wantCode(t, create("p", away(atService, "s")), mesh.ErrBadRequest, `spec.action.mirror.to.virtualService.virtualServiceName must not be where the requests go themselves, as virtualService/s leads to "s"`)
	wantCode(t, create("p", away(atRoute, "routed")), mesh.ErrBadRequest, `spec.action.mirror.to.virtualService.virtualServiceName must not be where the requests go themselves, as virtual router "r" provides "routed"`)
	if err := create("away", away(atRoute, "away")); err != nil {
		t.Error(err)
	}
	w.delete(m.Object(mesh.KindVirtualService, "", "away"))
	for _, name := range []string{"a", "b"} {
		if err := create(name, mirror(atRoute, "to", "")); err != nil {
			t.Error(err)
		}
	}
	w.delete(m.Object(mesh.KindVirtualNode, "", "to"))
}

// TestAccess holds that who a client is can be asked where a listener knows, and only there,
// and that ports for TCP take what asks nothing about requests.
func TestAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mesh("m")
	w.create(m.MeshObject(), specMesh)
	const tls = `,"tls":{"mode":"STRICT","certificate":{"sds":{"secretName":"c"}},"validation":{"trust":{"sds":{"secretName":"%s"}}}}`
	listener := func(port int, protocol, tls string) string {
		return fmt.Sprintf(`{"portMapping":{"port":%d,"protocol":%q}%s}`, port, protocol, tls)
	}
	w.create(m.Object(mesh.KindVirtualNode, "", "n"), `{"serviceDiscovery":{"dns":{"hostname":"n"}},"listeners":[`+
		listener(80, "http", "")+`,`+listener(81, "http", fmt.Sprintf(tls, "others"))+`,`+listener(82, "tcp", fmt.Sprintf(tls, "fairlead:trust"))+`]}`)
	create := func(name, target, rest string) error {
		_, err := w.s.Create(t.Context(), w.c, w.object(m.Object(mesh.KindPolicy, "", name), `{"target":{"virtualNode":{"virtualNodeName":"n"`+target+`}},`+rest+`,"action":{"access":{"rule":"allow"}}}`))
		return err
	}
	const byNode, byName, byHeader = `"from":[{"ipRanges":["10.0.0.0/8"]},{"virtualNode":"a"}]`, `"from":[{"spiffeId":"spiffe://a/b"}]`, `"from":[{"headers":[{"name":"x"}]}]`
	own := `(tls.validation.trust.sds.secretName "fairlead:trust")`
	for _, c := range []struct{ target, rest, want string }{
		{`,"port":80`, byNode, "spec.from[1].virtualNode cannot be proven: not the listener on port 80 of virtualNode/n asks its clients for such a certificate " + own},
		{`,"port":81`, byNode, "spec.from[1].virtualNode cannot be proven: not the listener on port 81 of virtualNode/n asks its clients for such a certificate " + own},
		{`,"port":80`, byName, "spec.from[0].spiffeId cannot be proven: not the listener on port 80 of virtualNode/n asks its clients for such a certificate (tls.validation)"},
		{`,"port":82`, byHeader, "spec.target.virtualNode.port must be a port for requests, 82 of virtualNode/n is for TCP"},
		{`,"port":82`, `"match":{"method":"GET"}`, "spec.target.virtualNode.port must be a port for requests, 82 of virtualNode/n is for TCP"},
	} {
		wantCode(t, create("p", c.target, c.rest), mesh.ErrBadRequest, c.want)
	}
	for i, c := range []struct{ target, rest string }{{"", byNode}, {`,"port":81`, byName}, {`,"port":82`, byNode}, {`,"port":80`, byHeader}} {
		if err := create(fmt.Sprint("p", i), c.target, c.rest); err != nil {
			t.Error(err)
		}
	}
}
