package mesh

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The names of a registry are those of the account that owns the virtual node, which in a
// shared mesh need not be the mesh's; the region is the mesh's.
func TestWhoseInstancesAViewReads(t *testing.T) {
	t.Parallel()
	id := MeshID{Account: "000000000001", Region: "eu-west-1", Name: "shop"}
	edit := NewSnapshot(id).Edit()
	put := func(k Kind, name, owner, spec string) {
		typed, _, bad := Decode(k, "spec", []byte(spec))
		if bad != nil {
			t.Fatal(bad)
		}
		edit.Put(NewItem(Key{Kind: k, Name: name}, 1, func() *Content { return &Content{ResourceOwner: owner, Spec: typed} }))
	}
	discovered := func(service string) string {
		return `{"listeners":[{"portMapping":{"port":80,"protocol":"http"}}],"serviceDiscovery":{"awsCloudMap":{"namespaceName":"n","serviceName":"` + service + `"}}}`
	}
	put(KindMesh, "shop", id.Account, `{}`)
	put(KindVirtualNode, "front", id.Account, `{"backends":[{"virtualService":{"virtualServiceName":"a"}},{"virtualService":{"virtualServiceName":"b"}}]}`)
	for name, owner := range map[string]string{"a": id.Account, "b": "000000000002", "stranger": id.Account} {
		put(KindVirtualNode, name, owner, discovered("s"))
		put(KindVirtualService, name, owner, `{"provider":{"virtualNode":{"virtualNodeName":"`+name+`"}}}`)
	}
	a := InstancesKey{"000000000001", "eu-west-1", "n", "s"}
	b := InstancesKey{"000000000002", "eu-west-1", "n", "s"}
	one := []Instance{{ID: "1", IPv4: "10.0.0.1"}}
	r := NewReader(edit.Done(1))
	r.Instances = func(k InstancesKey) ([]Instance, bool) {
		if k != a {
			return nil, false
		}
		return one, true
	}
	v := BuildView(r, Key{Kind: KindVirtualNode, Name: "front"})
	want := []*Discovered{{Key: a, Exists: true, Instances: one}, {Key: b}}
	if diff := cmp.Diff(want, []*Discovered{v.Services[0].Node("a").Discovered, v.Services[1].Node("b").Discovered}); diff != "" {
		t.Errorf("discovered (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[InstancesKey]struct{}{a: {}, b: {}}, r.Reads.Instances); diff != "" {
		t.Errorf("read, those that do not exist included (-want +got):\n%s", diff)
	}
}
