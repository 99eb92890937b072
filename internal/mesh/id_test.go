package mesh

import (
	"strings"
	"testing"
)

func TestARNs(t *testing.T) {
	t.Parallel()
	shop := MeshID{Account: "111122223333", Region: "eu-west-1", Name: "shop"}
	for _, c := range []struct {
		id    ID
		owner string
		arn   string
	}{
		{shop.MeshObject(), "111122223333", "arn:aws:appmesh:eu-west-1:111122223333:mesh/shop"},
		{shop.Object(KindVirtualNode, "", "cart"), "111122223333", "arn:aws:appmesh:eu-west-1:111122223333:mesh/shop/virtualNode/cart"},
		{shop.Object(KindRoute, "r", "all"), "111122223333", "arn:aws:appmesh:eu-west-1:111122223333:mesh/shop/virtualRouter/r/route/all"},
		{shop.Object(KindGatewayRoute, "g", "all"), "111122223333", "arn:aws:appmesh:eu-west-1:111122223333:mesh/shop/virtualGateway/g/gatewayRoute/all"},
		{shop.Object(KindVirtualNode, "", "cart"), "444455556666", "arn:aws:appmesh:eu-west-1:444455556666:mesh/shop@111122223333/virtualNode/cart"},
		{shop.Object(KindVirtualService, "", "a/b c"), "111122223333", "arn:aws:appmesh:eu-west-1:111122223333:mesh/shop/virtualService/a/b c"},
	} {
		if got := c.id.ARN(c.owner); got != c.arn {
			t.Errorf("ARN of %v: %s, want %s", c.id, got, c.arn)
		}
		id, owner, err := ParseARN(c.arn, "999999999999", "us-east-1")
		if err != nil || id != c.id || owner != c.owner {
			t.Errorf("ParseARN(%s) = %v, %s, %v", c.arn, id, owner, err)
		}
	}
	short, owner, err := ParseARN("mesh/shop/virtualNode/cart", "111122223333", "eu-west-1")
	if want := shop.Object(KindVirtualNode, "", "cart"); err != nil || short != want || owner != "111122223333" {
		t.Errorf("the short form gives %v, %s, %v", short, owner, err)
	}
}

func TestARNsThatAreRefused(t *testing.T) {
	t.Parallel()
	for arn, says := range map[string]string{
		"":                                      "names no mesh",
		"mesh/":                                 "meshName",
		"mesh/shop/":                            "type",
		"mesh/shop/virtualNode":                 "virtualNodeName",
		"mesh/shop/virtualNode/a/b":             "virtualNodeName",
		"mesh/shop/route/r":                     "type",
		"mesh/shop/virtualRouter/a/route/":      "routeName",
		"mesh/shop@1/virtualNode/cart":          "mesh owner",
		"mesh/..":                               "meshName",
		"arn:aws:s3:::bucket":                   "not of the form",
		"arn:aws:appmesh:eu-west-1:1:mesh/shop": "twelve digits",
		"arn:aws-cn:appmesh:eu-west-1:111122223333:mesh/shop": "not of the form",
	} {
		if _, _, err := ParseARN(arn, "111122223333", "eu-west-1"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("ParseARN(%q): %v, want an error that says %q", arn, err, says)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 255)
	for _, c := range []struct {
		kind Kind
		name string
		ok   bool
	}{
		{KindMesh, "shop", true},
		{KindVirtualNode, "cart_default.v1-2", true},
		{KindVirtualNode, long, true},
		{KindVirtualNode, long + "x", false},
		{KindVirtualNode, "", false},
		{KindVirtualNode, "a/b", false},
		{KindVirtualNode, "a@b", false},
		{KindVirtualNode, "..", false},
		{KindVirtualService, "cart.shop.local:8080", true},
		{KindVirtualService, "a/b c", true},
		{KindVirtualService, "tab\there", false},
		{KindVirtualService, "", false},
		{KindVirtualService, long + "x", false},
	} {
		if err := CheckName(c.kind, c.name); (err == nil) != c.ok {
			t.Errorf("CheckName(%s, %.40q) = %v", c.kind, c.name, err)
		}
	}
}
