package main

import (
	"maps"
	"slices"
	"strings"
)

// model is the part of a botocore service description that gen reads.
type model struct {
	Operations map[string]operation `json:"operations"`
	Shapes     map[string]shape     `json:"shapes"`
}

type operation struct {
	HTTP struct {
		Method string `json:"method"`
		URI    string `json:"requestUri"`
	} `json:"http"`
	Input  member `json:"input"`
	Output member `json:"output"`
}

type shape struct {
	Type     string            `json:"type"`
	Required []string          `json:"required"`
	Members  map[string]member `json:"members"`
	Member   member            `json:"member"`
	Min      *int64            `json:"min"`
	Max      *int64            `json:"max"`
	Pattern  string            `json:"pattern"`
	Enum     []string          `json:"enum"`
	Union    bool              `json:"union"`
	Payload  string            `json:"payload"`
	Error    *struct {
		Status int `json:"httpStatusCode"`
	} `json:"error"`
	Exception bool `json:"exception"`
}

type member struct {
	Shape    string `json:"shape"`
	Location string `json:"location"`
}

// specs are the roots of what a client may send as the body of a resource.
var specs = []string{
	"MeshSpec", "VirtualNodeSpec", "VirtualRouterSpec", "RouteSpec",
	"VirtualServiceSpec", "VirtualGatewaySpec", "GatewayRouteSpec",
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
		case s.Type == "structure" && !seen[name]:
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
