package envoy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead-mesh/fairlead/internal/envoybin"
)

// newest is the version of a case's Envoy that names none.
const newest = "1.40"

// extensions are all that the resources may ask of an Envoy.
func extensions() []string {
	all := append([]string{originalDstName, dnsFilterName, forwardFilter, forwardCluster}, essential...)
	for _, f := range features {
		all = append(all, f.extensions...)
	}
	return all
}

// envoyNode returns a node as an Envoy of a version sends it, without some extensions.
func envoyNode(t testing.TB, version string, without []string, metadata map[string]any) *corev3.Node {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		t.Fatal(err)
	}
	var node corev3.Node
	if err := protojson.Unmarshal(raw, &node); err != nil {
		t.Fatal(err)
	}
	node.UserAgentName = "envoy"
	for _, name := range extensions() {
		node.Extensions = append(node.Extensions, &corev3.Extension{Name: name, Disabled: slices.Contains(without, name)})
	}
	v := &typev3.SemanticVersion{}
	if _, err := fmt.Sscanf(version, "%d.%d", &v.MajorNumber, &v.MinorNumber); err != nil {
		t.Fatalf("%q is not a version such as 1.40: %v", version, err)
	}
	node.UserAgentVersionType = &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{Version: v}}
	return &node
}

// profile returns the profile of a case's proxy.
func (p caseProxy) profile(t testing.TB) Profile {
	t.Helper()
	if p.Version == "" {
		p.Version = newest
	}
	out, err := ParseProfile(envoyNode(t, p.Version, p.Without, p.Metadata))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func parseMetadata(t testing.TB, metadata map[string]any) Profile {
	t.Helper()
	return caseProxy{Metadata: metadata}.profile(t)
}

// testedVersion returns the version of the Envoy to test with, the newest without one.
func testedVersion(t testing.TB) string {
	t.Helper()
	path, err := findEnvoy()
	if err != nil {
		return newest
	}
	version, err := envoybin.Version(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := envoybin.Minor(version); !ok {
		return newest
	}
	return version
}

// forEnvoy returns what the Envoy to test with would be sent in the place of the case's.
func (c *goldenCase) forEnvoy(t *testing.T) []Resource {
	t.Helper()
	one := *c
	one.proxy.Version = testedVersion(t)
	one.profile = one.proxy.profile(t)
	resources, _ := one.translate(t, nil)
	return resources
}

// Envoys of several versions share a profile, and so their resources, unless something
// that they would get differs.
func TestVersionsShareProfiles(t *testing.T) {
	t.Parallel()
	logs := map[string]any{"accessLogs": map[string]any{"openTelemetry": map[string]any{"cluster": "otlp"}}}
	for name, c := range map[string]struct {
		metadata map[string]any
		same     [][]string // versions that share a profile
	}{
		"plain":   {map[string]any{"fairlead": map[string]any{"internalListeners": true}}, [][]string{{"1.34", "1.37", "1.38", "1.39", "1.40", "1.41", "2.0"}}},
		"metrics": {map[string]any{"aws.appmesh.metric_filter": map[string]any{"level": "1"}}, [][]string{{"1.34", "1.37", "1.38"}, {"1.39", "1.40", "1.41", "2.0"}}},
		"logs":    {map[string]any{"fairlead": logs}, [][]string{{"1.34", "1.37", "1.38", "1.39"}, {"1.40", "1.41", "2.0"}}},
	} {
		seen := map[Profile]string{}
		for _, group := range c.same {
			p := caseProxy{Version: group[0], Metadata: c.metadata}.profile(t)
			if other := seen[p]; other != "" {
				t.Errorf("%s: Envoy %s has the profile of %s", name, group[0], other)
			}
			seen[p] = group[0]
			for _, version := range group[1:] {
				if other := (caseProxy{Version: version, Metadata: c.metadata}).profile(t); other != p {
					t.Errorf("%s: Envoy %s has profile %+v, %s has %+v", name, version, other, group[0], p)
				}
			}
		}
	}
}

// A node that does not say what it is gets what the oldest supported Envoy takes.
func TestUnknownEnvoyIsTheOldest(t *testing.T) {
	t.Parallel()
	metadata := map[string]any{
		"aws.appmesh.metric_filter": map[string]any{"level": "1"},
		"fairlead":                  map[string]any{"accessLogs": map[string]any{"openTelemetry": map[string]any{"cluster": "otlp"}}},
	}
	want := caseProxy{Version: "1.37", Metadata: metadata}.profile(t)
	for name, change := range map[string]func(*corev3.Node){
		"no version, no extensions": func(n *corev3.Node) { n.UserAgentVersionType, n.Extensions = nil, nil },
		"a text for a version": func(n *corev3.Node) {
			n.UserAgentVersionType = &corev3.Node_UserAgentVersion{UserAgentVersion: "1.40.0"}
		},
		"version 0": func(n *corev3.Node) { n.GetUserAgentBuildVersion().Version.MajorNumber = 0 },
		"not Envoy": func(n *corev3.Node) { n.UserAgentName = "other" },
	} {
		node := envoyNode(t, newest, nil, metadata)
		change(node)
		if got, err := ParseProfile(node); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
}

// An Envoy that cannot serve a mesh at all is told so.
func TestEssentialExtensions(t *testing.T) {
	t.Parallel()
	bound := map[string]any{"fairlead": map[string]any{"placement": "bound", "bindAddress": "127.0.0.2"}}
	for _, name := range append([]string{originalDstName}, essential...) {
		if _, err := ParseProfile(envoyNode(t, newest, []string{name}, nil)); err == nil || !strings.Contains(err.Error(), "without "+name) {
			t.Errorf("an Envoy without %s: %v", name, err)
		}
		if _, err := ParseProfile(envoyNode(t, newest, []string{name}, bound)); (err == nil) != (name == originalDstName) {
			t.Errorf("a bound Envoy without %s: %v", name, err)
		}
	}
}

// What only some settings need is asked of the Envoys of those.
func TestExtensionsOfSettings(t *testing.T) {
	t.Parallel()
	explicit := map[string]any{
		"placement": "bound", "bindAddress": "127.0.0.2", "explicit": true, "egressAddress": "127.0.0.2", "internalListeners": true,
	}
	for name, metadata := range map[string]map[string]any{
		dnsFilterName: {"dnsPort": 15054}, forwardFilter: explicit, internalBoot: explicit, internalSocket: explicit, rawSocket: explicit,
	} {
		for _, asked := range []bool{true, false} {
			all := map[string]any{}
			if asked {
				all["fairlead"] = metadata
			}
			_, err := ParseProfile(envoyNode(t, newest, []string{name}, all))
			if (err != nil) != asked || err != nil && !strings.Contains(err.Error(), "without "+name) {
				t.Errorf("an Envoy without %s, asked for %v: %v", name, asked, err)
			}
		}
	}
}

// What a case's resources name is what an Envoy is asked for: no extension is used that
// features or essential does not have, and none that the case's proxy is without.
func TestExtensionsAreAskedFor(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, c := range readCases(t) {
		resources, _ := c.translate(t, nil)
		for _, r := range resources {
			walkExtensions(t, r.Message.ProtoReflect(), func(name string) {
				// Filters of policies have names of ours, and configurations of these types.
				switch name {
				case faultInName, faultOutName:
					name = faultExtension
				case accessInName, accessOutName:
					name = requestAccessExtension
				case limitName, limitTriedName:
					name = limitExtension
				case limitKeyName, quotaIn.key, quotaOut.key:
					name = keyExtension
				case "skip", "quota": // actions of the matchers of those
					return
				case quotaIn.keep, quotaOut.keep:
					used[headerInput] = true // it has no typed_config of its own
					name = delegateExtension
				}
				used[name] = true
				if slices.Contains(c.proxy.Without, name) {
					t.Errorf("%s: %s %q has %s, which its proxy is without", c.Name, r.Type, r.Name, name)
				}
			})
		}
	}
	for name := range used {
		if !slices.Contains(extensions(), name) {
			t.Errorf("%s is not in features", name)
		}
	}
	for _, name := range extensions() {
		if !used[name] && name != internalBoot { // that is of the bootstrap
			t.Errorf("no case has %s", name)
		}
	}
}

// walkExtensions finds the names that stand beside a configuration of any type.
func walkExtensions(t *testing.T, m protoreflect.Message, found func(string)) {
	t.Helper()
	if a, ok := m.Interface().(*anypb.Any); ok {
		m = unpack(t, a).ProtoReflect()
	}
	fields := m.Descriptor().Fields()
	if name, typed := fields.ByName("name"), fields.ByName("typed_config"); name != nil && typed != nil && m.Has(typed) {
		found(m.Get(name).String())
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				if f.MapValue().Message() != nil {
					walkExtensions(t, v.Message(), found)
				}
				return true
			})
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				walkExtensions(t, v.List().Get(i).Message(), found)
			}
		default:
			walkExtensions(t, v.Message(), found)
		}
		return true
	})
}

// A second pass is made where both bootstrap and Envoy can.
func TestInternalListenersNeedTheirExtensions(t *testing.T) {
	t.Parallel()
	metadata := map[string]any{"fairlead": map[string]any{"internalListeners": true}}
	for _, name := range []string{"", internalBoot, internalSocket, rawSocket} {
		want := Profile{Internal: name == ""}
		if got := (caseProxy{Metadata: metadata, Without: []string{name}}).profile(t); got != want {
			t.Errorf("without %q: %+v, want %+v", name, got, want)
		}
	}
}
