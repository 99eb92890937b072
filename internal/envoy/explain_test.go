package envoy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// TestExplain explains every case in testdata/explain: a txtar file of the form that
// TestGolden has, but with the file proxies.yaml, and for each proxy in it the explanation.
func TestExplain(t *testing.T) {
	t.Parallel()
	golden.Run(t, "testdata/explain/*.txtar", func(t *testing.T, file *golden.Case) { explainCase(t, readCase(t, file)) })
}

func explainCase(t *testing.T, c *goldenCase) {
	var proxies []struct {
		Name, Node string
		Metadata   map[string]any
	}
	if err := yaml.Unmarshal([]byte(c.Section("proxies.yaml")), &proxies); err != nil || len(proxies) == 0 {
		t.Fatalf("proxies.yaml: %v", err)
	}
	for _, p := range proxies {
		if p.Metadata == nil {
			p.Metadata = map[string]any{"fairlead": map[string]any{}}
		}
		c.proxy.Node, c.profile = p.Node, parseMetadata(t, p.Metadata)
		text := explained(c.view(t, nil), c.profile)
		if diff := cmp.Diff(text, explained(c.view(t, rand.New(rand.NewPCG(1, 1))), c.profile)); diff != "" {
			t.Errorf("%s: the order of the input changes the explanation:\n%s", p.Name, diff)
		}
		c.Equal(t, p.Name, text)
	}
}

// explained writes an explanation as people see it.
func explained(v *mesh.View, p Profile) string {
	resources, _ := Translate(v, p)
	var b strings.Builder
	for _, e := range Explain(v, resources) {
		b.WriteString(strings.Repeat("  ", e.Depth) + e.Text)
		if e.Object.Kind != 0 {
			b.WriteString("   ← " + e.Object.String())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestExplainWide explains a configuration that is wider than anybody can read.
func TestExplainWide(t *testing.T) {
	t.Parallel()
	v := &mesh.View{Key: nodeKey("front"), MeshSpec: &mesh.MeshSpec{}, Node: &mesh.VirtualNodeSpec{}}
	domains, routes := make([]string, 200), make([]*routev3.Route, 200)
	for i := range domains {
		domains[i] = fmt.Sprint(strings.Repeat("ä", 1000), i)
		routes[i] = &routev3.Route{Name: "r", Match: anyPath, Action: answer(503, "")}
	}
	config := &routev3.RouteConfiguration{Name: "rds_egress_http_80"}
	for i := range 300 {
		config.VirtualHosts = append(config.VirtualHosts, &routev3.VirtualHost{Name: fmt.Sprint("host-", i), Domains: domains, Routes: routes})
	}
	resources := []Resource{{Type: TypeRoute, Name: config.Name, Message: config}}
	l := &listenerv3.Listener{Name: "lds_egress"}
	tr := newTranslator(v, Profile{})
	for i := range uint32(500) {
		l.FilterChains = append(l.FilterChains, portChain(i+1, tr.connectionManager(manager{statPrefix: egressStatPrefix, routes: config.Name})))
	}
	resources = append(resources, Resource{Type: TypeListener, Name: l.Name, Message: l})
	for i := range 2000 {
		resources = append(resources, Resource{Type: TypeCluster, Name: fmt.Sprint(i), Message: originalDstCluster(fmt.Sprint(i))})
	}
	all := Explain(v, resources)
	if len(all) > mostLines+mostMore+1 {
		t.Errorf("%d lines", len(all))
	}
	if last := all[len(all)-1].Text; !strings.HasPrefix(last, "and ") || !strings.Contains(last, " more lines; ") {
		t.Errorf("the last line is %q", last)
	}
	for _, e := range all {
		if n := len([]rune(e.Text)); n > (mostNamed+1)*(mostText+3) {
			t.Fatalf("a line of %d characters: %s", n, e.Text)
		}
	}
}

// TestExplainUnreadable explains resources in which nothing can be read.
func TestExplainUnreadable(t *testing.T) {
	t.Parallel()
	v := &mesh.View{Key: nodeKey("front"), Node: &mesh.VirtualNodeSpec{}}
	broken := &anypb.Any{TypeUrl: "type.googleapis.com/some.thing", Value: []byte{0xff}}
	l := &listenerv3.Listener{Name: "odd", FilterChains: []*listenerv3.FilterChain{{
		Filters: []*listenerv3.Filter{{Name: "unheard.of", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: broken}}, {Name: "bare"}},
	}, {}}}
	resources := []Resource{
		{Type: TypeListener, Name: "odd", Message: l},
		{Type: TypeListener, Name: "empty"},
		{Type: TypeCluster, Name: "none"},
		{Type: TypeSecret, Name: "none"},
		{Type: TypeEndpoint, Name: "none"},
		{Type: TypeRoute, Name: "none"},
	}
	var got []string
	for _, e := range Explain(v, resources) {
		got = append(got, e.Text)
	}
	want := []string{
		"listener odd inside the proxy",
		"every connection: network filter unheard.of, which is not explained", "every connection: network filter bare, which is not explained",
		"listener empty: it cannot be read", "targets", "none: it cannot be read", "secrets", "none: it cannot be read",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
