package mesh

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A gateway's view has its routes, whoever made them, and all that they lead to; what
// was looked for and is not there is noted as well.
func TestGatewayView(t *testing.T) {
	t.Parallel()
	edit := NewSnapshot(MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"}).Edit()
	put := func(owner string, kind Kind, parent, name, spec string) {
		typed, err := ParseSpec(kind, json.RawMessage(spec))
		if err != nil {
			t.Fatal(err)
		}
		edit.Put(NewItem(Key{kind, parent, name}, 1, func() *Content { return &Content{ResourceOwner: owner, Spec: typed} }))
	}
	const us, them = "000000000001", "000000000002"
	route := func(service string) string {
		return `{"httpRoute":{"match":{"prefix":"/"},"action":{"target":{"virtualService":{"virtualServiceName":"` + service + `"}}}}}`
	}
	put(us, KindMesh, "", "shop", `{}`)
	put(us, KindVirtualGateway, "", "edge", `{"listeners":[]}`)
	put(us, KindGatewayRoute, "edge", "b", route("routed"))
	put(them, KindGatewayRoute, "edge", "a", route("routed"))
	put(us, KindGatewayRoute, "edge", "c", route("missing"))
	put(us, KindGatewayRoute, "other", "d", route("unused"))
	put(us, KindVirtualService, "", "routed", `{"provider":{"virtualRouter":{"virtualRouterName":"router"}}}`)
	put(us, KindVirtualService, "", "unused", `{"provider":{"virtualRouter":{"virtualRouterName":"unused"}}}`)
	put(us, KindVirtualRouter, "", "router", `{"listeners":[]}`)
	put(us, KindRoute, "router", "all", `{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":"blue","weight":1},{"virtualNode":"gone","weight":1}]}}}`)
	put(us, KindVirtualNode, "", "blue", `{}`)

	r := NewReader(edit.Done(1))
	v := BuildView(r, Key{KindVirtualGateway, "", "edge"})
	var routes, services []string
	for _, g := range v.GatewayRoutes {
		routes = append(routes, g.Name)
	}
	for _, s := range v.Services {
		services = append(services, s.Name)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, routes); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"missing", "routed"}, services); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	if !v.Services[0].Missing || v.Services[1].Router == nil || len(v.Services[1].Router.Routes) != 1 || len(v.Services[1].Nodes) != 1 || v.Services[1].Node("blue") == nil {
		t.Errorf("the view lacks what the routes lead to: %+v", v)
	}
	keys := map[Key]struct{}{}
	for _, k := range []Key{
		{KindMesh, "", "shop"},
		{KindVirtualGateway, "", "edge"},
		{KindVirtualService, "", "routed"},
		{KindVirtualService, "", "missing"},
		{KindVirtualRouter, "", "router"},
		{KindVirtualNode, "", "blue"},
		{KindVirtualNode, "", "gone"},
	} {
		keys[k] = struct{}{}
	}
	want := Reads{Keys: keys, Ranges: map[Range]struct{}{
		{KindGatewayRoute, "edge"}: {}, {KindRoute, "router"}: {},
		{KindPolicy, "virtualGateway/edge"}: {}, {KindPolicy, "virtualService/routed"}: {}, {KindPolicy, "virtualRouter/router"}: {},
	}, Instances: map[InstancesKey]struct{}{}}
	if diff := cmp.Diff(want, r.Reads); diff != "" {
		t.Errorf("reads (-want +got):\n%s", diff)
	}
}
