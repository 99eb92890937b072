package restapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	meshes   = api + "/meshes"
	nodes    = meshes + "/shop/virtualNodes"
	cartNode = nodes + "/cart"
	tagShop  = "/tag?resourceArn=arn:aws:appmesh:us-east-1:000000000001:mesh/shop"
)

// badInputs are requests that must be refused, and what the answer must say.
var badInputs = []struct {
	name, method, path, body string
	status                   int
	code                     string
	says                     string // part of the message
}{
	// The body as a whole.
	{"no body", "PUT", nodes, "", 400, "BadRequestException", "request body is required: a JSON object with spec, virtualNodeName"},
	{"not JSON", "PUT", nodes, "spec=1", 400, "BadRequestException", "request body is not valid JSON: invalid character 's' looking for beginning of value (at byte 1)"},
	{"cut off", "PUT", nodes, `{"spec":{`, 400, "BadRequestException", "request body is not valid JSON: unexpected end of JSON input (at byte 9)"},
	{"two values", "PUT", nodes, `{} {}`, 400, "BadRequestException", "request body is not valid JSON"},
	{"a list", "PUT", nodes, `[{}]`, 400, "BadRequestException", "request body must be a JSON object"},
	{"null", "PUT", nodes, `null`, 400, "BadRequestException", "request body must be a JSON object"},
	{"not UTF-8", "PUT", meshes, "{\"meshName\":\"a\xff\"}", 400, "BadRequestException", "request body must be JSON in UTF-8"},
	{"deep nesting", "PUT", nodes, `{"spec":` + strings.Repeat(`[`, 20000), 400, "BadRequestException", "request body is not valid JSON"},
	{"wrapped", "PUT", meshes, `{"mesh":{"meshName":"a"}}`, 400, "BadRequestException", "meshName is required"},

	// Members.
	{"missing members", "PUT", nodes, `{}`, 400, "BadRequestException", "virtualNodeName is required; spec is required"},
	{"null members", "PUT", nodes, `{"virtualNodeName":null,"spec":null}`, 400, "BadRequestException", "virtualNodeName is required; spec is required"},
	{"name is a number", "PUT", meshes, `{"meshName":7}`, 400, "BadRequestException", "meshName must be a string, the number 7 was given"},
	{"name is an object", "PUT", meshes, `{"meshName":{"a":1}}`, 400, "BadRequestException", "meshName must be a string, an object was given"},
	{"name is too long", "PUT", meshes, `{"meshName":"` + strings.Repeat("x", 256) + `"}`, 400, "BadRequestException", "1 to 255 letters, digits, dots, hyphens and underscores"},
	{"name is two dots", "PUT", meshes, `{"meshName":".."}`, 400, "BadRequestException", `meshName ".." is not allowed`},
	{"service without a name", "PUT", meshes + "/shop/virtualServices", `{"virtualServiceName":"","spec":{}}`, 400, "BadRequestException", `virtualServiceName "" is not allowed: 1 to 255 printable characters`},
	{"service with a line break", "PUT", meshes + "/shop/virtualServices", `{"virtualServiceName":"a\nb","spec":{}}`, 400, "BadRequestException", "virtualServiceName"},
	{"token is empty", "PUT", meshes, `{"meshName":"a","clientToken":""}`, 400, "BadRequestException", "clientToken must be 1 to 36 letters, digits, hyphens and underscores"},
	{"token is too long", "PUT", meshes, `{"meshName":"a","clientToken":"` + strings.Repeat("t", 37) + `"}`, 400, "BadRequestException", "clientToken must be 1 to 36"},
	{"spec is a string", "PUT", nodes, `{"virtualNodeName":"a","spec":"x"}`, 400, "BadRequestException", `spec must be an object, the string "x" was given`},
	{"spec is wrong inside", "PUT", nodes, `{"virtualNodeName":"a","spec":{"listeners":[{"portMapping":{"port":"80","protocol":"HTTP"}}]}}`, 400, "BadRequestException", `spec.listeners[0].portMapping.port must be a whole number, the string "80" was given; spec.listeners[0].portMapping.protocol must be one of http, tcp, http2, grpc`},
	{"spec breaks a rule", "PUT", cartNode, `{"spec":{"serviceDiscovery":{"dns":{"hostname":"a"}}}}`, 400, "BadRequestException", "spec.serviceDiscovery is allowed only with a listener"},
	{"tags are an object", "PUT", meshes, `{"meshName":"a","tags":{"a":"b"}}`, 400, "BadRequestException", "tags must be a list, an object was given"},
	{"tag without a value", "PUT", meshes, `{"meshName":"a","tags":[{"key":"a"}]}`, 400, "BadRequestException", "tags[0].value is required"},
	{"tag twice", "PUT", meshes, `{"meshName":"a","tags":[{"key":"a","value":"1"},{"key":"b","value":"1"},{"key":"a","value":"2"}]}`, 400, "BadRequestException", `tags[2].key must differ from the other tags, "a" is also tags[0]'s`},
	{"reserved tag", "PUT", meshes, `{"meshName":"a","tags":[{"key":"AWS:x","value":"1"}]}`, 400, "BadRequestException", `tags[0].key must not begin with "aws:"`},
	{"too many tags", "PUT", meshes, `{"meshName":"a",` + tags(51)[1:], 400, "BadRequestException", "tags must have 0 to 50 members, 51 were given"},
	{"tag keys are text", "PUT", api + "/un" + tagShop[1:], `{"tagKeys":"a"}`, 400, "BadRequestException", "tagKeys must be a list, a string was given"},
	{"tag key is a number", "PUT", api + "/un" + tagShop[1:], `{"tagKeys":["a",1,null,""]}`, 400, "BadRequestException", "tagKeys[1] must be a string, the number 1 was given; tagKeys[2] must be a string, null was given; tagKeys[3] must have 1 to 128 characters"},

	// The query.
	{"limit 0", "GET", meshes + "?limit=0", "", 400, "BadRequestException", `limit must be a whole number from 1 to 100, "0" was given`},
	{"limit 101", "GET", nodes + "?limit=101", "", 400, "BadRequestException", `limit must be a whole number from 1 to 100, "101" was given`},
	{"limit 51 of tags", "GET", api + "/tags" + tagShop[4:] + "&limit=51", "", 400, "BadRequestException", `limit must be a whole number from 1 to 50, "51" was given`},
	{"limit with a sign", "GET", meshes + "?limit=%2B5", "", 400, "BadRequestException", "limit must be a whole number"},
	{"limit twice", "GET", meshes + "?limit=5&limit=5", "", 400, "BadRequestException", "limit must be given once, 2 were given"},
	{"owner is short", "GET", nodes + "?meshOwner=1", "", 400, "BadRequestException", `meshOwner must be twelve digits, "1" was given`},
	{"query cannot be read", "GET", meshes + "?limit=%zz", "", 400, "BadRequestException", "query string cannot be read"},
	{"token is made up", "GET", meshes + "?nextToken=abc", "", 400, "BadRequestException", "nextToken does not belong to this list"},
	{"no ARN", "GET", api + "/tags", "", 400, "BadRequestException", "resourceArn is required"},
	{"half an ARN", "GET", api + "/tags?resourceArn=mesh/shop", "", 400, "BadRequestException", `resourceArn must be a whole ARN, "mesh/shop" was given`},
	{"ARN of another service", "GET", api + "/tags?resourceArn=arn:aws:s3:::shop", "", 400, "BadRequestException", "resourceArn cannot be used"},
	{"ARN of another region", "GET", api + "/tags?resourceArn=arn:aws:appmesh:eu-west-1:000000000001:mesh/shop", "", 400, "BadRequestException", "resourceArn is in region"},
	{"ARN of another partition", "GET", api + "/tags?resourceArn=arn:aws-cn:appmesh:us-east-1:000000000001:mesh/shop", "", 400, "BadRequestException", "resourceArn cannot be used"},
	{"ARN of another account", "PUT", api + strings.Replace(tagShop, "000000000001", "000000000002", 1), `{"tags":[{"key":"a","value":"b"}]}`, 403, "ForbiddenException", "not authorized"},
	{"another account's in our mesh", "PUT", api + "/tag?resourceArn=arn:aws:appmesh:us-east-1:000000000002:mesh/shop@000000000001", `{"tags":[]}`, 403, "ForbiddenException", "not authorized"},

	// The path and the method.
	{"unknown path", "GET", api + "/meshs", "", 404, "UnknownOperationException", "GET /v20190125/meshs is not an operation"},
	{"unknown version", "PUT", "/v20181001/meshes", `{"meshName":"a"}`, 404, "UnknownOperationException", ""},
	{"root", "GET", "/", "", 404, "UnknownOperationException", ""},
	{"plural parent", "GET", meshes + "/shop/virtualRouters/cart/routes", "", 404, "UnknownOperationException", ""},
	{"singular item", "GET", meshes + "/shop/virtualRouter/cart", "", 404, "UnknownOperationException", ""},
	{"trailing slash", "GET", meshes + "/", "", 404, "UnknownOperationException", ""},
	{"empty segment", "GET", api + "//meshes", "", 404, "UnknownOperationException", ""},
	{"empty name", "GET", meshes + "//virtualNodes", "", 404, "UnknownOperationException", ""},
	{"dot segments", "GET", meshes + "/shop/../shop", "", 404, "UnknownOperationException", ""},
	{"dots as a name", "GET", meshes + "/..", "", 400, "BadRequestException", `meshName ".." is not allowed`},
	{"escaped dots as a name", "DELETE", meshes + "/%2e%2e", "", 400, "BadRequestException", `meshName ".." is not allowed`},
	{"slash in a mesh's name", "GET", meshes + "/shop%2FvirtualNodes", "", 400, "BadRequestException", `meshName "shop/virtualNodes" is not allowed`},
	{"zero byte in a name", "GET", meshes + "/shop/virtualServices/a%00b", "", 400, "BadRequestException", "virtualServiceName"},
	{"POST", "POST", meshes, `{"meshName":"a"}`, 404, "UnknownOperationException", ""},
	{"PUT on an action's list", "DELETE", nodes, "", 404, "UnknownOperationException", ""},
	{"OPTIONS", "OPTIONS", meshes, "", 404, "UnknownOperationException", ""},
	{"HEAD", "HEAD", meshes, "", 404, "UnknownOperationException", ""},

	// What the store refuses.
	{"missing mesh", "PUT", meshes + "/other/virtualNodes", `{"virtualNodeName":"a","spec":{}}`, 404, "NotFoundException", "Mesh"},
	{"missing parent", "PUT", meshes + "/shop/virtualRouter/other/routes", `{"routeName":"a","spec":{"tcpRoute":{"action":{"weightedTargets":[{"virtualNode":"cart","weight":1}]}}}}`, 404, "NotFoundException", "VirtualRouter"},
	{"missing target", "PUT", meshes + "/shop/virtualRouter/cart/routes", `{"routeName":"a","spec":{"tcpRoute":{"action":{"weightedTargets":[{"virtualNode":"no","weight":1}]}}}}`, 404, "NotFoundException", "VirtualNode with name no is missing"},
	{"name is taken", "PUT", nodes, `{"virtualNodeName":"cart","spec":{}}`, 409, "ConflictException", "cart"},
	{"in use", "DELETE", cartNode, "", 409, "ResourceInUseException", "cart"},
}

// TestBadInput holds what each bad request is answered, and that all of them
// together change nothing.
func TestBadInput(t *testing.T) {
	t.Parallel()
	srv, s := newServer(t)
	createBase(t, srv, testAccount)
	before := dump(t, s)
	t.Run("all", func(t *testing.T) {
		for _, c := range badInputs {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				req := request(t, srv, c.method, "", c.body)
				req.URL.Opaque = strings.SplitN(c.path, "?", 2)[0] // sent as it is
				if _, query, ok := strings.Cut(c.path, "?"); ok {
					req.URL.RawQuery = query
				}
				wantRefusal(t, send(t, srv, req), c.status, c.code, c.says)
			})
		}
	})
	if diff := cmp.Diff(before, dump(t, s)); diff != "" {
		t.Errorf("bad requests changed the store (-before +after):\n%s", diff)
	}
}

// wantRefusal checks the form of a refusal.
func wantRefusal(t *testing.T, a answer, status int, code, says string) {
	t.Helper()
	if a.Status != status || a.code() != code {
		t.Errorf("got %d %s %s, want %d %s", a.Status, a.code(), a.Body, status, code)
	}
	if a.Header.Get("Content-Type") != "application/json" || !uuidPattern.MatchString(a.Header.Get("X-Amzn-Requestid")) {
		t.Errorf("headers %v", a.Header)
	}
	if a.Body == "" && a.Header.Get("Content-Length") != "" {
		return // the answer to HEAD
	}
	var body struct{ Message string }
	if err := json.Unmarshal([]byte(a.Body), &body); err != nil || body.Message == "" || strings.Contains(body.Message, "\n") {
		t.Errorf("body %s (%v)", a.Body, err)
	}
	if !strings.Contains(body.Message, says) {
		t.Errorf("the message is\n%s\nwant in it\n%s", body.Message, says)
	}
}

// TestPages holds that pages neither lose nor repeat what stays while other objects
// come and go, and that a token holds for its own list only.
func TestPages(t *testing.T) {
	t.Parallel()
	srv, _ := newServer(t)
	createBase(t, srv, testAccount)
	for _, n := range []string{"b", "d", "f", "h"} {
		must(t, srv, http.MethodPut, nodes, `{"virtualNodeName":"`+n+`","spec":{}}`)
	}
	page := func(query string) (names []string, token string) {
		t.Helper()
		var list struct {
			VirtualNodes []struct{ VirtualNodeName string }
			NextToken    string
		}
		if err := json.Unmarshal([]byte(must(t, srv, http.MethodGet, nodes+query, "").Body), &list); err != nil {
			t.Fatal(err)
		}
		for _, n := range list.VirtualNodes {
			names = append(names, n.VirtualNodeName)
		}
		return names, list.NextToken
	}
	names, token := page("?limit=2&nextToken=") // b, cart
	must(t, srv, http.MethodDelete, nodes+"/b", "")
	must(t, srv, http.MethodPut, nodes, `{"virtualNodeName":"a","spec":{}}`)
	must(t, srv, http.MethodPut, nodes, `{"virtualNodeName":"e","spec":{}}`)
	must(t, srv, http.MethodDelete, nodes+"/d", "")
	rest, last := page("?limit=3&meshOwner=" + testAccount + "&nextToken=" + token)
	if got := fmt.Sprint(names, rest, last); got != "[b cart] [e f h]" {
		t.Errorf("pages %s", got)
	}
	damaged := token[:len(token)-1] + string(token[len(token)-1]^1)
	for what, path := range map[string]string{
		"of another kind":    meshes + "/shop/virtualRouters?nextToken=" + token,
		"of another list":    meshes + "?nextToken=" + token,
		"of another mesh":    meshes + "/other/virtualNodes?nextToken=" + token,
		"damaged":            nodes + "?nextToken=" + damaged,
		"with a line break":  nodes + "?nextToken=" + token + "%0A",
		"of another version": nodes + "?nextToken=B" + token[1:],
		"of tags":            api + "/tags" + tagShop[4:] + "&nextToken=" + token,
	} {
		if a := do(t, srv, http.MethodGet, path, ""); a.code() != "BadRequestException" || !strings.Contains(a.Body, "nextToken") {
			t.Errorf("a token %s: %d %s", what, a.Status, a.Body)
		}
	}
}

// TestTagPages holds that no tag is left out of pages when one of those that were
// shown is removed.
func TestTagPages(t *testing.T) {
	t.Parallel()
	srv, _ := newServer(t)
	createBase(t, srv, testAccount)
	must(t, srv, http.MethodPut, api+tagShop, `{"tags":[{"key":"a","value":"1"},{"key":"b","value":"2"}]}`)
	page := func(token string) (keys []string, next string) {
		t.Helper()
		var list struct {
			Tags      []struct{ Key string }
			NextToken string
		}
		a := must(t, srv, http.MethodGet, api+"/tags"+tagShop[4:]+"&limit=2&nextToken="+token, "")
		if err := json.Unmarshal([]byte(a.Body), &list); err != nil {
			t.Fatal(err)
		}
		for _, tag := range list.Tags {
			keys = append(keys, tag.Key)
		}
		return keys, list.NextToken
	}
	first, token := page("")
	second, end := page(token)
	if got := fmt.Sprint(first, second, end); got != "[team stage] [a b]" {
		t.Errorf("pages %s", got)
	}
	must(t, srv, http.MethodPut, api+"/untag"+tagShop[4:], `{"tagKeys":["team"]}`)
	if again, next := page(token); fmt.Sprint(again) != "[stage a]" || next == "" {
		t.Errorf("the page after the removal is %q", again)
	}
}
