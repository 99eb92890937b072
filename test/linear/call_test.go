package linear

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// meshName is the mesh that all writers share. It is there from the beginning.
const meshName = "shared"

// verb is what a call does.
type verb string

const (
	create   verb = "create"
	update   verb = "update"
	remove   verb = "delete"
	describe verb = "describe"
	list     verb = "list"
)

// op is one call and what came of it.
type op struct {
	id    int // of its writer
	verb  verb
	key   mesh.Key // of a list: the name is empty
	spec  string
	start time.Duration // since the test began
	end   time.Duration
	// unknown is set if no answer came, or one that does not say what was done.
	unknown bool
	status  int
	code    string
	text    string // the refusal's message
	uid     string
	version int64
	listed  []string // "NAME VERSION", in order
	got     string   // the spec that was answered

	// event is the change that a successful write made, found afterwards.
	event *event
}

func (o *op) String() string {
	return fmt.Sprintf("writer %d: %s %s at %s to %s: %d %s %s v%d %q %v", o.id, o.verb, o.key, o.start, o.end, o.status, o.code, o.uid, o.version, o.text, o.listed)
}

func (o *op) write() bool { return o.verb == create || o.verb == update || o.verb == remove }
func (o *op) done() bool  { return !o.unknown && o.status == http.StatusOK }

var (
	nodes    = []string{"a", "b", "c", "d"}
	routers  = []string{"r", "s"}
	routes   = []string{"x", "y", "z"}
	services = []string{"t.local", "u.local", "v/w"}
	gateways = []string{"g"}
	paths    = []string{"p", "q"}
)

func one(of []string) string { return of[rand.N(len(of))] }

// randomOp returns a call on some object of few, so that writers meet.
func randomOp() *op {
	o := &op{key: randomKey()}
	switch n := rand.N(100); {
	case n < 40:
		o.verb = create
	case n < 62:
		o.verb = update
	case n < 82:
		o.verb = remove
	case n < 95:
		o.verb = describe
	default:
		o.verb, o.key.Name = list, ""
	}
	if o.verb == create || o.verb == update {
		o.spec = randomSpec(o.key)
	}
	return o
}

func randomKey() mesh.Key {
	switch n := rand.N(100); {
	case n < 25:
		return mesh.Key{Kind: mesh.KindVirtualNode, Name: one(nodes)}
	case n < 35:
		return mesh.Key{Kind: mesh.KindVirtualRouter, Name: one(routers)}
	case n < 65:
		return mesh.Key{Kind: mesh.KindRoute, Parent: one(routers), Name: one(routes)}
	case n < 85:
		return mesh.Key{Kind: mesh.KindVirtualService, Name: one(services)}
	case n < 90:
		return mesh.Key{Kind: mesh.KindVirtualGateway, Name: one(gateways)}
	default:
		return mesh.Key{Kind: mesh.KindGatewayRoute, Parent: one(gateways), Name: one(paths)}
	}
}

const portMapping = `{"portMapping":{"port":8080,"protocol":"http"}}`

func randomSpec(k mesh.Key) string {
	switch k.Kind {
	case mesh.KindVirtualNode:
		return fmt.Sprintf(`{"listeners":[%s],"serviceDiscovery":{"dns":{"hostname":"h%d.local"}}}`, portMapping, rand.N(1_000_000))
	case mesh.KindVirtualRouter, mesh.KindVirtualGateway:
		return `{"listeners":[` + portMapping + `]}`
	case mesh.KindRoute:
		return fmt.Sprintf(`{"httpRoute":{"match":{"prefix":"/%d"},"action":{"weightedTargets":[{"virtualNode":%q,"weight":1},{"virtualNode":%q,"weight":2}]}}}`,
			rand.N(1_000_000), one(nodes), one(nodes))
	case mesh.KindVirtualService:
		if rand.N(2) == 0 {
			return fmt.Sprintf(`{"provider":{"virtualNode":{"virtualNodeName":%q}}}`, one(nodes))
		}
		return fmt.Sprintf(`{"provider":{"virtualRouter":{"virtualRouterName":%q}}}`, one(routers))
	default:
		return fmt.Sprintf(`{"httpRoute":{"match":{"prefix":"/%d"},"action":{"target":{"virtualService":{"virtualServiceName":%q}}}}}`,
			rand.N(1_000_000), one(services))
	}
}

// request returns the HTTP request of a call.
func (o *op) request() (method, path, body string) {
	path = "/v20190125/meshes/" + meshName + "/"
	if p := o.key.Kind.Parent(); p != 0 {
		path += p.String() + "/" + o.key.Parent + "/"
	}
	path += o.key.Kind.String() + "s"
	item := path + "/" + strings.ReplaceAll(o.key.Name, "/", "%2F")
	switch o.verb {
	case create:
		return http.MethodPut, path, fmt.Sprintf(`{%q:%q,"spec":%s}`, o.key.Kind.NameMember(), o.key.Name, o.spec)
	case update:
		return http.MethodPut, item, `{"spec":` + o.spec + `}`
	case remove:
		return http.MethodDelete, item, ""
	case list:
		return http.MethodGet, path, ""
	}
	return http.MethodGet, item, ""
}

// take reads what was answered.
func (o *op) take(a meshtest.Answer) error {
	o.status, o.code = a.Status, a.Code
	o.unknown = a.Status >= http.StatusInternalServerError
	if a.Status != http.StatusOK {
		var refusal struct{ Message string }
		err := json.Unmarshal([]byte(a.Body), &refusal)
		o.text = refusal.Message
		return err
	}
	if o.verb == list {
		return o.takeList(a.Body)
	}
	var data struct {
		Metadata struct {
			UID     string
			Version int64
		}
		Spec json.RawMessage
	}
	err := json.Unmarshal([]byte(a.Body), &data)
	o.uid, o.version, o.got = data.Metadata.UID, data.Metadata.Version, string(data.Spec)
	return err
}

func (o *op) takeList(body string) error {
	var lists map[string][]map[string]any
	if err := json.Unmarshal([]byte(body), &lists); err != nil {
		return err
	}
	for _, l := range lists {
		for _, ref := range l {
			o.listed = append(o.listed, fmt.Sprintf("%v %v", ref[o.key.Kind.NameMember()], ref["version"]))
		}
	}
	return nil
}
