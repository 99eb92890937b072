package tenants

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// attempt is an operation with the permission that it needs.
type attempt struct {
	action   string
	resource string // an ARN, or "*"
	also     []string
	request
}

const arnPrefix = "arn:aws:appmesh:" + meshtest.Region + ":" + meshtest.Account + ":"

// objects are one of each kind, in the order in which they can be made, with a spec and
// what the spec refers to.
var objects = []struct {
	key  mesh.Key
	spec string
	refs []mesh.Key
}{
	{key: mesh.Key{Kind: mesh.KindMesh, Name: "shop"}, spec: `{}`},
	{
		key: mesh.Key{Kind: mesh.KindVirtualNode, Name: "cart"}, refs: []mesh.Key{{Kind: mesh.KindVirtualService, Name: "b.local"}},
		spec: `{"listeners":[` + portMapping + `],"serviceDiscovery":{"dns":{"hostname":"h"}},"backends":[{"virtualService":{"virtualServiceName":"b.local"}}]}`,
	},
	{key: mesh.Key{Kind: mesh.KindVirtualRouter, Name: "r"}, spec: `{"listeners":[` + portMapping + `]}`},
	{
		key: mesh.Key{Kind: mesh.KindRoute, Parent: "r", Name: "x"}, refs: []mesh.Key{{Kind: mesh.KindVirtualNode, Name: "cart"}},
		spec: `{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":"cart","weight":1}]}}}`,
	},
	{
		key: mesh.Key{Kind: mesh.KindVirtualService, Name: "cart.local"}, refs: []mesh.Key{{Kind: mesh.KindVirtualNode, Name: "cart"}},
		spec: `{"provider":{"virtualNode":{"virtualNodeName":"cart"}}}`,
	},
	{key: mesh.Key{Kind: mesh.KindVirtualGateway, Name: "g"}, spec: `{"listeners":[` + portMapping + `]}`},
	{
		key: mesh.Key{Kind: mesh.KindGatewayRoute, Parent: "g", Name: "y"}, refs: []mesh.Key{{Kind: mesh.KindVirtualService, Name: "cart.local"}},
		spec: `{"httpRoute":{"match":{"prefix":"/"},"action":{"target":{"virtualService":{"virtualServiceName":"cart.local"}}}}}`,
	},
}

func arnOf(k mesh.Key) string {
	m := mesh.MeshID{Account: meshtest.Account, Region: meshtest.Region, Name: "shop"}
	if k.Kind == mesh.KindMesh {
		m.Name = k.Name
	}
	return m.Object(k.Kind, k.Parent, k.Name).ARN(meshtest.Account)
}

// attempts returns every operation of the App Mesh API, in an order in which all of them
// succeed for who may: what is created is deleted at the end.
func attempts() []attempt {
	var first, last []attempt
	for _, o := range objects {
		title := o.key.Kind.Title()
		collection, item := paths("shop", o.key)
		fresh := o.key
		fresh.Name += "2"
		_, freshItem := paths("shop", fresh)
		var refs []string
		for _, k := range o.refs {
			refs = append(refs, arnOf(k))
		}
		updateRefs := refs
		if o.key.Kind == mesh.KindVirtualNode {
			updateRefs = nil // an update of a node is checked on the node alone
		}
		in := "*"
		if o.key.Kind != mesh.KindMesh {
			in = arnPrefix + "mesh/shop"
			if p, ok := o.key.ParentKey(); ok {
				in = arnOf(p)
			}
		}
		plural := title + "s"
		if o.key.Kind == mesh.KindMesh {
			plural = "Meshes"
		}
		first = append(first,
			attempt{"appmesh:Create" + title, arnOf(fresh), refs, request{method: http.MethodPut, path: collection, body: fmt.Sprintf(`{%q:%q,"spec":%s}`, o.key.Kind.NameMember(), fresh.Name, o.spec)}},
			attempt{"appmesh:Describe" + title, arnOf(o.key), nil, request{method: http.MethodGet, path: item}},
			attempt{"appmesh:Update" + title, arnOf(o.key), updateRefs, request{method: http.MethodPut, path: item, body: `{"spec":` + o.spec + `}`}},
			attempt{"appmesh:List" + plural, in, nil, request{method: http.MethodGet, path: collection}},
		)
		last = append([]attempt{{"appmesh:Delete" + title, arnOf(fresh), nil, request{method: http.MethodDelete, path: freshItem}}}, last...)
		arn := "?resourceArn=" + url.QueryEscape(arnOf(o.key))
		first = append(first,
			attempt{"appmesh:TagResource", arnOf(o.key), nil, request{method: http.MethodPut, path: api + "/tag" + arn, body: `{"tags":[{"key":"k","value":"v"}]}`}},
			attempt{"appmesh:ListTagsForResource", arnOf(o.key), nil, request{method: http.MethodGet, path: api + "/tags" + arn}},
			attempt{"appmesh:UntagResource", arnOf(o.key), nil, request{method: http.MethodPut, path: api + "/untag" + arn, body: `{"tagKeys":["k"]}`}},
		)
	}
	return append(first, last...)
}

// TestEveryOperationAsksForItsPermission tries every operation without a permission, with
// all other permissions, with the permission on other resources, with an explicit denial,
// without the permission on what the request refers to, and last with exactly what is
// needed. Nothing may change before that.
func TestEveryOperationAsksForItsPermission(t *testing.T) {
	t.Parallel()
	plane := meshtest.Start(t)
	admin := plane.Signed(t)
	for _, o := range objects {
		collection, _ := paths("shop", o.key)
		admin.Want(t, http.MethodPut, collection, fmt.Sprintf(`{%q:%q,"spec":%s}`, o.key.Kind.NameMember(), o.key.Name, o.spec), nil)
	}
	caller := admin.As(admin.User(t, "tester", statements(allow("appmesh:ListMeshes", "*"))))
	defer caller.Close()
	operations := map[string]bool{}
	for _, a := range attempts() {
		operations[a.action] = true
		before := dump(t, admin)
		for what, policy := range refusing(a) {
			setPolicy(t, admin, policy)
			got, err := caller.Do(t.Context(), a.method, a.path, a.body)
			if err != nil || got.Status != http.StatusForbidden || got.Code != "ForbiddenException" {
				t.Errorf("%s on %s, %s: %s %v", a.action, a.resource, what, got, err)
			}
		}
		if after := dump(t, admin); before != after {
			t.Errorf("%s was refused and has changed something: %s", a.action, cmp.Diff(before, after))
		}
		setPolicy(t, admin, statements(allow(a.action, append(a.also, a.resource)...)))
		if got, err := caller.Do(t.Context(), a.method, a.path, a.body); err != nil || got.Status != http.StatusOK {
			t.Errorf("%s on %s, allowed: %s %v", a.action, a.resource, got, err)
		}
	}
	if len(operations) != 38 {
		t.Errorf("%d operations were tried, the API has 38", len(operations))
	}
}

// refusing returns the policies that an operation must be refused with.
func refusing(a attempt) map[string]string {
	other := strings.Replace(a.resource, "mesh/shop", "mesh/other", 1)
	if other == "*" {
		other = arnPrefix + "mesh/*"
	}
	out := map[string]string{
		"without any permission":      statements(),
		"with every other permission": statements(fmt.Sprintf(`{"Effect":"Allow","NotAction":%q,"Resource":"*"}`, a.action)),
		"with it on another resource": statements(allow(a.action, append(a.also, other)...)),
		"with an explicit denial":     statements(allow("*", "*"), strings.Replace(allow(a.action, a.resource), "Allow", "Deny", 1)),
	}
	if len(a.also) > 0 {
		out["without it on what it refers to"] = statements(allow(a.action, a.resource))
		out["with a denial on what it refers to"] = statements(allow("*", "*"), strings.Replace(allow(a.action, a.also...), "Allow", "Deny", 1))
	}
	return out
}

func statements(s ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(s, ",") + `]}`
}

func allow(action string, resources ...string) string {
	return fmt.Sprintf(`{"Effect":"Allow","Action":%q,"Resource":["%s"]}`, action, strings.Join(resources, `","`))
}

func setPolicy(t *testing.T, admin *meshtest.Signed, document string) {
	t.Helper()
	policies := `{"test":` + document + `}`
	if document == statements() {
		policies = `{}`
	}
	admin.Want(t, http.MethodPut, "/v1/users/tester", `{"policies":`+policies+`}`, nil)
}

// dump returns all that is in the account.
func dump(t *testing.T, admin *meshtest.Signed) string {
	t.Helper()
	var out strings.Builder
	add := func(path string) {
		a, err := admin.Do(t.Context(), http.MethodGet, path, "")
		if err != nil || a.Status >= http.StatusInternalServerError {
			t.Fatal(path, a, err)
		}
		fmt.Fprintln(&out, path, a)
	}
	for _, o := range objects {
		collection, item := paths("shop", o.key)
		add(collection)
		add(item)
		add(api + "/tags?resourceArn=" + url.QueryEscape(arnOf(o.key)))
	}
	return out.String()
}
