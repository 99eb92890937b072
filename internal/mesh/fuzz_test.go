package mesh_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// FuzzDecodeSpec holds that Decode never panics, and that what it accepts is
// accepted again, unchanged: the stored document is a fixed point.
func FuzzDecodeSpec(f *testing.F) {
	for _, cases := range [][]ruleCase{nodeRules, listenerRules, routeRules, gatewayRouteRules, bothCases} {
		for _, c := range cases {
			f.Add(uint8(c.kind)-1, []byte(c.spec))
		}
	}
	f.Add(uint8(0), []byte(`{"egressFilter":{"type":"x"}} {}`))
	f.Add(uint8(0), []byte(`[1e999,-0,"\ud800"]`))
	f.Fuzz(func(t *testing.T, index uint8, raw []byte) {
		kind := mesh.Kinds[int(index)%len(mesh.Kinds)]
		spec, stored, bad := mesh.Decode(kind, "spec", raw)
		if len(bad) > 0 {
			if spec != nil || stored != nil || bad.Error() == "" {
				t.Fatalf("refused %q, yet gave %v, %s, %q", raw, spec, stored, bad)
			}
			return
		}
		again, storedAgain, bad := mesh.Decode(kind, "spec", stored)
		if len(bad) > 0 {
			t.Fatalf("stored %s, then refused it: %v", stored, bad)
		}
		if diff := cmp.Diff(string(stored), string(storedAgain)); diff != "" {
			t.Errorf("stored document changed (-first +second):\n%s", diff)
		}
		if diff := cmp.Diff(spec, again); diff != "" {
			t.Errorf("spec changed (-first +second):\n%s", diff)
		}
		if _, err := mesh.ParseSpec(kind, stored); err != nil {
			t.Error(err)
		}
		mesh.References(spec)
	})
}
