package envoy

import (
	"bytes"
	gocmp "cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// TestGolden translates every case in testdata. A case is one txtar file:
//
//	Why the case is there.
//	-- proxy.yaml --   the node, or virtualGateway/NAME; of its proxy the metadata, the version of Envoy if it
//	                   is not the newest, and extensions that it is without
//	-- mesh.yaml --    the objects: kind, name, parent for a route or gateway route, spec as the API takes it
//	-- instances.yaml -- the services of the registry with their instances, if there are any
//	-- resources.json --
//	-- problems --     one a line: object, field, message
func TestGolden(t *testing.T) {
	t.Parallel()
	golden.Run(t, "testdata/*.txtar", func(t *testing.T, file *golden.Case) {
		c := readCase(t, file)
		resources, problems := c.translate(t, nil)
		checkResources(t, resources)
		got := map[string]string{"resources.json": printResources(t, resources), "problems": printProblems(problems)}
		c.Equal(t, "resources.json", got["resources.json"])
		c.Equal(t, "problems", got["problems"])
		c.checkShuffled(t, got)
		t.Run("envoy", func(t *testing.T) { validateWithEnvoy(t, c.forEnvoy(t)) })
	})
}

// goldenCase is one file of testdata.
type goldenCase struct {
	*golden.Case
	proxy   caseProxy
	profile Profile
	objects []caseObject
	// services are those of the registry.
	services map[mesh.InstancesKey][]mesh.Instance
	// change may change each spec before the view is built.
	change func(mesh.Kind, any)
}

// caseProxy is the proxy of a case.
type caseProxy struct {
	Node     string
	Version  string // of Envoy, such as 1.37
	Without  []string
	Metadata map[string]any
}

// caseService is a service of the registry, of the mesh's account unless another is named.
type caseService struct {
	Account, Namespace, Service string
	Instances                   []caseInstance
}

type caseInstance struct {
	ID         string
	Unhealthy  bool
	Attributes map[string]string
}

// instance reads the attributes that mean something to Cloud Map.
func (i caseInstance) instance() mesh.Instance {
	port, _ := strconv.ParseUint(i.Attributes["AWS_INSTANCE_PORT"], 10, 16)
	return mesh.Instance{
		ID: i.ID, IPv4: i.Attributes["AWS_INSTANCE_IPV4"], IPv6: i.Attributes["AWS_INSTANCE_IPV6"], Port: uint32(port),
		Zone: i.Attributes["AVAILABILITY_ZONE"], Attributes: i.Attributes, Unhealthy: i.Unhealthy,
	}
}

// caseObject is one object of a case's mesh. A stored one does not pass the API's
// checks: an earlier version, or an import, may have let it in.
type caseObject struct {
	Kind, Parent, Name string
	Stored             bool
	Spec               map[string]any
}

func readCase(t testing.TB, file *golden.Case) *goldenCase {
	t.Helper()
	c := &goldenCase{Case: file}
	if strings.TrimSpace(c.Comment) == "" {
		t.Errorf("%s does not say why it is there", c.File)
	}
	d := yaml.NewDecoder(strings.NewReader(c.Section("proxy.yaml")))
	d.KnownFields(true)
	if err := d.Decode(&c.proxy); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("proxy.yaml: %v", err)
	}
	if c.proxy.Metadata == nil {
		c.proxy.Metadata = map[string]any{"fairlead": map[string]any{}}
	}
	c.profile = c.proxy.profile(t)
	c.profile.TrustDomain = "fairlead.internal"
	c.readInstances(t)
	d = yaml.NewDecoder(strings.NewReader(c.Section("mesh.yaml")))
	d.KnownFields(true)
	for {
		var o caseObject
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return c
		}
		if err != nil {
			t.Fatalf("mesh.yaml: %v", err)
		}
		c.objects = append(c.objects, o)
	}
}

// readCases reads every case of TestGolden.
func readCases(t testing.TB) []*goldenCase {
	t.Helper()
	var cases []*goldenCase
	for _, file := range golden.ReadAll(t, "testdata/*.txtar") {
		cases = append(cases, readCase(t, file))
	}
	return cases
}

func (c *goldenCase) readInstances(t testing.TB) {
	t.Helper()
	var services []caseService
	if err := yaml.Unmarshal([]byte(c.Section("instances.yaml")), &services); err != nil {
		t.Fatalf("instances.yaml: %v", err)
	}
	c.services = map[mesh.InstancesKey][]mesh.Instance{}
	for _, s := range services {
		k := mesh.InstancesKey{Account: gocmp.Or(s.Account, "000000000001"), Region: "us-east-1", Namespace: s.Namespace, Service: s.Service}
		c.services[k] = []mesh.Instance{}
		for _, i := range s.Instances {
			c.services[k] = append(c.services[k], i.instance())
		}
	}
}

// instances is what the case's registry knows.
func (c *goldenCase) instances(k mesh.InstancesKey) ([]mesh.Instance, bool) {
	all, ok := c.services[k]
	return all, ok
}

// translate decodes the objects as the API does, puts them into a snapshot, builds
// the view and translates it. With a source of chance the order of the objects, and
// of the lists whose order means nothing, is another each time.
func (c *goldenCase) translate(t *testing.T, chance *rand.Rand) ([]Resource, []Problem) {
	t.Helper()
	return Translate(c.view(t, chance), c.profile)
}

func (c *goldenCase) view(t *testing.T, chance *rand.Rand) *mesh.View {
	t.Helper()
	objects := c.objects
	if chance != nil {
		objects = append([]caseObject(nil), objects...)
		shuffle(chance, objects)
	}
	edit := mesh.NewSnapshot(mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"}).Edit()
	for _, o := range objects {
		item := decodeObject(t, o, chance)
		if c.change != nil {
			c.change(item.Key.Kind, item.Content().Spec)
		}
		edit.Put(item)
		if p, ok := item.Content().Spec.(*mesh.PolicySpec); ok { // as while it is in force
			edit.Put(mesh.NewItem(p.Aimed(edit.Mesh(), item.Key.Name), 1, item.Content))
		}
	}
	key := mesh.Key{Kind: mesh.KindVirtualNode, Name: c.proxy.Node}
	if gateway, ok := strings.CutPrefix(c.proxy.Node, "virtualGateway/"); ok {
		key = mesh.Key{Kind: mesh.KindVirtualGateway, Name: gateway}
	}
	r := mesh.NewReader(edit.Done(1))
	r.Instances = c.instances
	view := mesh.BuildView(r, key)
	if view == nil {
		t.Fatalf("the case has no mesh shop or no %s", key)
	}
	return view
}

func decodeObject(t *testing.T, o caseObject, chance *rand.Rand) *mesh.Item {
	t.Helper()
	kind := kindOf(t, o.Kind)
	if o.Spec == nil {
		o.Spec = map[string]any{}
	}
	raw, err := json.Marshal(o.Spec)
	if err != nil {
		t.Fatal(err)
	}
	if chance != nil {
		raw = shuffleSpec(t, raw, chance)
	}
	key := mesh.Key{Kind: kind, Parent: o.Parent, Name: o.Name}
	if o.Stored {
		spec, err := mesh.ParseSpec(kind, raw)
		if err != nil {
			t.Fatal(err)
		}
		return item(key, spec)
	}
	spec, _, bad := mesh.Decode(kind, "spec", raw)
	if bad != nil {
		t.Fatalf("%s %s: %v", o.Kind, o.Name, bad)
	}
	return item(key, spec)
}

// item returns an object of a snapshot.
func item(key mesh.Key, spec any) *mesh.Item {
	return mesh.NewItem(key, 1, func() *mesh.Content { return &mesh.Content{ResourceOwner: "000000000001", Spec: spec} })
}

func kindOf(t testing.TB, title string) mesh.Kind {
	t.Helper()
	for _, k := range mesh.Kinds {
		if k.Title() == title {
			return k
		}
	}
	t.Fatalf("%q is not a kind", title)
	return 0
}

// shuffleSpec changes the order of a node's backends and of a route's targets.
func shuffleSpec(t *testing.T, raw []byte, chance *rand.Rand) []byte {
	t.Helper()
	var spec map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&spec); err != nil {
		t.Fatal(err)
	}
	if backends, ok := spec["backends"].([]any); ok {
		shuffle(chance, backends)
	}
	for _, kind := range []string{"httpRoute", "http2Route", "grpcRoute", "tcpRoute"} {
		if route, ok := spec[kind].(map[string]any); ok {
			if targets, ok := route["action"].(map[string]any)["weightedTargets"].([]any); ok {
				shuffle(chance, targets)
			}
		}
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func shuffle[T any](chance *rand.Rand, s []T) {
	chance.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}

// checkShuffled translates the case twice more, its objects in another order. The
// problems may then name other places in lists, so only their number is compared.
func (c *goldenCase) checkShuffled(t *testing.T, want map[string]string) {
	t.Helper()
	for seed := range uint64(2) {
		resources, problems := c.translate(t, rand.New(rand.NewPCG(seed, 1)))
		if diff := cmp.Diff(want["resources.json"], printResources(t, resources)); diff != "" {
			t.Errorf("the order of the input changes the output:\n%s", diff)
		}
		if got, want := len(problems), strings.Count(want["problems"], "\n"); got != want {
			t.Errorf("%d problems in another order of the input, want %d", got, want)
		}
	}
}

// printResources prints resources as JSON. protojson varies its spacing on purpose,
// so its output is indented again.
func printResources(t *testing.T, resources []Resource) string {
	t.Helper()
	type printed struct {
		Type     string          `json:"type"`
		Name     string          `json:"name"`
		Resource json.RawMessage `json:"resource"`
	}
	all := make([]printed, 0, len(resources))
	for _, r := range resources {
		raw, err := protojson.Marshal(r.Message)
		if err != nil {
			t.Fatalf("%s %s: %v", r.Type, r.Name, err)
		}
		all = append(all, printed{r.Type.String(), r.Name, raw})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(all); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func printProblems(problems []Problem) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&b, "%s %s: %s\n", p.Object, p.Field, p.Message)
	}
	return b.String()
}
