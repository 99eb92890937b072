package main

import (
	"maps"
	"slices"
	"strings"
)

// model is the part of a service description, in botocore's form, that gen reads.
type model struct {
	Operations map[string]operation `json:"operations"`
	Shapes     map[string]shape     `json:"shapes"`
	Doc        string               `json:"documentation"`
	// Examples are requests and answers, by operation. Ours alone has them.
	Examples map[string]struct {
		Input, Output map[string]any
	} `json:"examples"`
}

type operation struct {
	HTTP struct {
		Method string `json:"method"`
		URI    string `json:"requestUri"`
	} `json:"http"`
	Input      member   `json:"input"`
	Output     member   `json:"output"`
	Errors     []member `json:"errors"`
	Doc        string   `json:"documentation"`
	Idempotent bool     `json:"idempotent"`
	// Auth is "none" for requests that need no signature.
	Auth string `json:"authtype"`
	// Kind is the kind of object that an operation of ours is about, "" for none.
	Kind string `json:"kind"`
}

type shape struct {
	Type     string            `json:"type"`
	Required []string          `json:"required"`
	Members  map[string]member `json:"members"`
	Member   member            `json:"member"`
	Value    member            `json:"value"` // of a map, whose keys are Key
	Key      member            `json:"key"`
	Min      *int64            `json:"min"`
	Max      *int64            `json:"max"`
	Pattern  string            `json:"pattern"`
	Enum     []string          `json:"enum"`
	Union    bool              `json:"union"`
	Payload  string            `json:"payload"`
	Document bool              `json:"document"` // a structure of any members
	Doc      string            `json:"documentation"`
	Error    *struct {
		Status int `json:"httpStatusCode"`
	} `json:"error"`
	Exception bool `json:"exception"`
}

type member struct {
	Shape    string `json:"shape"`
	Location string `json:"location"`
	Doc      string `json:"documentation"`
}

// specs are the roots of what a client may send as the body of a resource.
var specs = []string{
	"MeshSpec", "VirtualNodeSpec", "VirtualRouterSpec", "RouteSpec",
	"VirtualServiceSpec", "VirtualGatewaySpec", "GatewayRouteSpec", "PolicySpec",
}

// reachable returns the names of the structures that the roots lead to, sorted.
func (m *model) reachable(roots ...string) []string {
	seen := map[string]bool{}
	var walk func(name string)
	walk = func(name string) {
		s := m.Shapes[name]
		switch {
		case s.Type == "list":
			walk(s.Member.Shape)
		case s.Type == "map":
			walk(s.Value.Shape)
		case s.Type == "structure" && !s.Document && !seen[name]:
			seen[name] = true
			for _, f := range s.Members {
				walk(f.Shape)
			}
		}
	}
	for _, r := range roots {
		walk(r)
	}
	return slices.Sorted(maps.Keys(seen))
}

func (s shape) required(field string) bool { return slices.Contains(s.Required, field) }

func (s shape) fields() []string { return slices.Sorted(maps.Keys(s.Members)) }

func exported(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

// unsigned reports whether an operation's requests need no signature.
func (op operation) unsigned() bool { return op.Auth == "none" }
