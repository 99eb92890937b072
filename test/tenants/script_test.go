package tenants

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// script makes a tenant's random calls. Which calls it makes depends on its seed and on
// what it was answered, and on nothing else.
type script struct {
	rand *rand.Rand
	// self and other are account ids.
	self, other string
	// next holds the page tokens that lists were answered with.
	next map[string]string
}

func newScript(seed uint64, self, other string) *script {
	return &script{rand: rand.New(rand.NewPCG(seed, 1)), self: self, other: other, next: map[string]string{}}
}

func (s *script) one(of ...string) string { return of[s.rand.IntN(len(of))] }

// Both tenants use these names.
func (s *script) mesh() string    { return s.one("shop", "shop", "shop", "bank", "a.b", "c") }
func (s *script) node() string    { return s.one("cart", "pay", "web", "x-1", "x-2", "x-3") }
func (s *script) router() string  { return s.one("r", "s") }
func (s *script) gateway() string { return s.one("g", "h") }
func (s *script) service() string { return s.one("cart.local", "pay.local", "a/b") }
func (s *script) child() string   { return s.one("1", "2", "3") }

// key returns some object of a kind.
func (s *script) key(k mesh.Kind) mesh.Key {
	switch k {
	case mesh.KindVirtualNode:
		return mesh.Key{Kind: k, Name: s.node()}
	case mesh.KindVirtualRouter:
		return mesh.Key{Kind: k, Name: s.router()}
	case mesh.KindVirtualService:
		return mesh.Key{Kind: k, Name: s.service()}
	case mesh.KindVirtualGateway:
		return mesh.Key{Kind: k, Name: s.gateway()}
	case mesh.KindRoute:
		return mesh.Key{Kind: k, Parent: s.router(), Name: s.child()}
	case mesh.KindGatewayRoute:
		return mesh.Key{Kind: k, Parent: s.gateway(), Name: s.child()}
	}
	return mesh.Key{Kind: k, Name: s.mesh()}
}

// request is one call.
type request struct {
	method, path, body string
	list               string // the list whose page it asks for
}

// call returns the next call.
func (s *script) call() request {
	kind := mesh.Kinds[s.rand.IntN(len(mesh.Kinds))]
	if s.rand.IntN(3) == 0 {
		kind = mesh.KindVirtualNode // so that quotas are met
	}
	key := s.key(kind)
	collection, item := paths(s.meshOf(key), key)
	owner := s.owner()
	switch n := s.rand.IntN(100); {
	case n < 40:
		return request{method: http.MethodPut, path: collection + owner, body: s.createBody(key)}
	case n < 50:
		return request{method: http.MethodPut, path: item + owner, body: `{"spec":` + s.spec(key.Kind) + `}`}
	case n < 62:
		return request{method: http.MethodDelete, path: item + owner}
	case n < 76:
		return request{method: http.MethodGet, path: item + owner}
	case n < 88:
		return s.list(collection, owner)
	}
	return s.tags(key)
}

func (s *script) meshOf(k mesh.Key) string {
	if k.Kind == mesh.KindMesh {
		return k.Name
	}
	return s.mesh()
}

// owner returns a query that now and then names an owner: the caller, the other tenant,
// or nobody's account.
func (s *script) owner() string {
	switch s.rand.IntN(10) {
	case 0:
		return "?meshOwner=" + s.self
	case 1:
		return "?meshOwner=" + s.other
	case 2:
		return "?meshOwner=999999999999"
	}
	return ""
}

func (s *script) list(collection, owner string) request {
	sep := "?"
	if owner != "" {
		sep = "&"
	}
	path := collection + owner + sep + fmt.Sprintf("limit=%d", 1+s.rand.IntN(4))
	r := request{method: http.MethodGet, path: path, list: collection}
	if t := s.next[collection]; t != "" && s.rand.IntN(2) == 0 {
		r.path += "&nextToken=" + url.QueryEscape(t)
	}
	return r
}

func (s *script) tags(k mesh.Key) request {
	id := mesh.MeshID{Account: s.one(s.self, s.self, s.self, s.other), Region: meshtest.Region, Name: s.meshOf(k)}.Object(k.Kind, k.Parent, k.Name)
	arn := "?resourceArn=" + url.QueryEscape(id.ARN(id.Mesh.Account))
	key := s.one("team", "stage", "cost")
	switch s.rand.IntN(3) {
	case 0:
		return request{method: http.MethodPut, path: api + "/tag" + arn, body: fmt.Sprintf(`{"tags":[{"key":%q,"value":"%d"}]}`, key, s.rand.IntN(9))}
	case 1:
		return request{method: http.MethodPut, path: api + "/untag" + arn, body: fmt.Sprintf(`{"tagKeys":[%q]}`, key)}
	}
	return request{method: http.MethodGet, path: api + "/tags" + arn}
}

func (s *script) createBody(k mesh.Key) string {
	tags := ""
	if s.rand.IntN(4) == 0 {
		tags = `,"tags":[{"key":"team","value":"a"}]`
	}
	return fmt.Sprintf(`{%q:%q,"spec":%s%s}`, k.Kind.NameMember(), k.Name, s.spec(k.Kind), tags)
}

const portMapping = `{"portMapping":{"port":8080,"protocol":"http"}}`

// spec returns a spec, which now and then breaks a bound.
func (s *script) spec(k mesh.Kind) string {
	if s.rand.IntN(20) == 0 {
		return `{"listeners":[{"portMapping":{"port":70000,"protocol":"http"}}],"priority":1001}`
	}
	switch k {
	case mesh.KindMesh:
		return `{}`
	case mesh.KindVirtualNode:
		return fmt.Sprintf(`{"listeners":[%s],"serviceDiscovery":{"dns":{"hostname":"h%d.local"}}}`, portMapping, s.rand.IntN(100))
	case mesh.KindVirtualRouter, mesh.KindVirtualGateway:
		return `{"listeners":[` + portMapping + `]}`
	case mesh.KindVirtualService:
		return fmt.Sprintf(`{"provider":{"virtualNode":{"virtualNodeName":%q}}}`, s.node())
	case mesh.KindRoute:
		return fmt.Sprintf(`{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":%q,"weight":1}]}}}`, s.node())
	default:
		return fmt.Sprintf(`{"httpRoute":{"match":{"prefix":"/"},"action":{"target":{"virtualService":{"virtualServiceName":%q}}}}}`, s.service())
	}
}

// api is where the App Mesh API begins.
const api = "/v20190125"

// paths returns an object's collection and its own path.
func paths(meshName string, k mesh.Key) (collection, item string) {
	if k.Kind == mesh.KindMesh {
		return api + "/meshes", api + "/meshes/" + k.Name
	}
	collection = api + "/meshes/" + meshName + "/"
	if p := k.Kind.Parent(); p != 0 {
		collection += p.String() + "/" + k.Parent + "/"
	}
	collection += k.Kind.String() + "s"
	return collection, collection + "/" + strings.ReplaceAll(k.Name, "/", "%2F")
}

var (
	nextToken = regexp.MustCompile(`"nextToken":"([^"]*)"`)
	uid       = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	stamp     = regexp.MustCompile(`"(createdAt|lastUpdatedAt)":[0-9.]+`)
)

// take notes what a call was answered and returns it without what differs from run to
// run: uids, times and page tokens.
func (s *script) take(r request, a meshtest.Answer) string {
	if r.list != "" {
		s.next[r.list] = ""
		if m := nextToken.FindStringSubmatch(a.Body); m != nil {
			s.next[r.list] = m[1]
		}
	}
	text := uid.ReplaceAllString(a.String(), "UID")
	text = stamp.ReplaceAllString(text, `"$1":TIME`)
	return nextToken.ReplaceAllString(text, `"nextToken":TOKEN`)
}
