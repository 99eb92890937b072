package live_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/live"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

const policyNode = `{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}],"serviceDiscovery":{"dns":{"hostname":"a"}}}`

func faultAt(target, more string) string {
	return `{"target":` + target + `,` + more + `"action":{"fault":{"abort":{"percentage":1,"httpStatus":503}}}}`
}

// policiesOf are the names of the policies in the view of a virtual node, in their order.
func (r *rig) policiesOf(node string) []string {
	v := r.live.View(shop.Object(mesh.KindVirtualNode, "", node))
	if v == nil {
		return nil
	}
	names := []string{}
	for _, p := range v.Policies {
		names = append(names, p.Name)
	}
	return names
}

func (r *rig) awaitPolicies(node string, want ...string) {
	r.t.Helper()
	r.await(fmt.Sprintf("the policies of %s are %v", node, want), func(*mesh.Snapshot) bool { return slices.Equal(r.policiesOf(node), want) })
}

// TestPoliciesAreFound follows a policy through the views: those of its target have it, the
// most specific first, and when it is aimed elsewhere others do.
func TestPoliciesAreFound(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.create(mesh.KindVirtualNode, "", "a", policyNode)
	r.create(mesh.KindVirtualNode, "", "b", policyNode)
	r.create(mesh.KindPolicy, "", "all", faultAt(`{"mesh":{}}`, ""))
	r.create(mesh.KindPolicy, "", "one", faultAt(`{"virtualNode":{"virtualNodeName":"a"}}`, ""))
	r.awaitPolicies("a", "one", "all")
	r.awaitPolicies("b", "all")

	notices := make(chan struct{}, 100)
	w := r.live.Watch(shop.Object(mesh.KindVirtualNode, "", "b"), func() { notices <- struct{}{} })
	defer w.Close()
	w.Build()
	if one := (mesh.Key{Kind: mesh.KindPolicy, Name: "one"}); w.Reads(one) {
		t.Error("b's view depends on a policy of a")
	}
	if all := (mesh.Key{Kind: mesh.KindPolicy, Name: "all"}); !w.Reads(all) {
		t.Error("b's view does not depend on the mesh's policy")
	}
	r.update(mesh.KindPolicy, "", "one", faultAt(`{"virtualNode":{"virtualNodeName":"b","port":8080}}`, ""))
	<-notices
	r.awaitPolicies("a", "all")
	r.awaitPolicies("b", "one", "all")
	r.delete(mesh.KindPolicy, "", "one")
	<-notices
	r.awaitPolicies("b", "all")
	r.delete(mesh.KindPolicy, "", "all")
	r.awaitPolicies("b")
}

// TestPoliciesInTime has policies begin and end: a watch hears of both, and one whose time is
// over is in no view.
func TestPoliciesInTime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.create(mesh.KindVirtualNode, "", "a", policyNode)
	r.create(mesh.KindPolicy, "", "over", faultAt(`{"mesh":{}}`, `"notAfter":"2026-01-01T00:00:00Z",`))
	r.awaitVersion(mesh.Key{Kind: mesh.KindPolicy, Name: "over"}, 1)
	notices := make(chan struct{}, 100)
	w := r.live.Watch(shop.Object(mesh.KindVirtualNode, "", "a"), func() { notices <- struct{}{} })
	defer w.Close()
	w.Build()
	begin := time.Now().Add(time.Second)
	end := begin.Add(2 * time.Second)
	at := func(t time.Time) string { return t.Format(time.RFC3339Nano) }
	r.create(mesh.KindPolicy, "", "now", faultAt(`{"mesh":{}}`, fmt.Sprintf(`"notBefore":%q,"notAfter":%q,`, at(begin), at(end))))
	r.create(mesh.KindPolicy, "", "next", faultAt(`{"mesh":{}}`, fmt.Sprintf(`"notBefore":%q,`, at(end))))
	for _, want := range []struct {
		policy string
		from   time.Time
	}{{"now", begin}, {"next", end}} {
		<-notices
		if time.Now().Before(want.from) {
			t.Errorf("%s began %s early", want.policy, time.Until(want.from))
		}
		if got := r.policiesOf("a"); !slices.Equal(got, []string{want.policy}) {
			t.Errorf("at %s the policies are %v", want.from, got)
		}
		w.Build()
	}
}

// TestAimlessPolicies deletes what a policy is about, and brings it back.
func TestAimlessPolicies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.create(mesh.KindVirtualNode, "", "a", policyNode)
	r.create(mesh.KindPolicy, "", "all", faultAt(`{"mesh":{}}`, ""))
	r.create(mesh.KindPolicy, "", "one", faultAt(`{"virtualNode":{"virtualNodeName":"a"}}`, ""))
	await := func(want ...live.AimlessPolicy) {
		t.Helper()
		r.await(fmt.Sprintf("aimless are %v", want), func(*mesh.Snapshot) bool { return slices.Equal(r.live.AimlessPolicies(shop), want) })
	}
	r.awaitPolicies("a", "one", "all")
	await()
	r.delete(mesh.KindVirtualNode, "", "a")
	await(live.AimlessPolicy{
		ARN: "arn:aws:appmesh:us-east-1:000000000001:mesh/shop/policy/one",
		Key: mesh.Key{Kind: mesh.KindPolicy, Name: "one"}, Target: mesh.Key{Kind: mesh.KindVirtualNode, Name: "a"},
	})
	r.create(mesh.KindVirtualNode, "", "a", policyNode)
	await()
	r.awaitPolicies("a", "one", "all")
}
