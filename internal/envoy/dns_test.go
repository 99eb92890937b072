package envoy

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// A name's address stays when others come and go, and no two names of one node have the
// same.
func TestVirtualAddresses(t *testing.T) {
	t.Parallel()
	m := mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"}
	tr := &translator{view: &mesh.View{Mesh: m}, preference: preferIPv4}
	taken, moved := map[netip.Addr]bool{}, 0
	for i := range 20000 { // of which a dozen have another's first address
		name := fmt.Sprintf("service-%d.local", i)
		addrs := tr.addressesOf(name, taken)
		if len(addrs) != 2 || !virtual4.Contains(addrs[0]) || !virtual6.Contains(addrs[1]) {
			t.Fatalf("%s has %v", name, addrs)
		}
		if alone := tr.addressesOf(name, map[netip.Addr]bool{}); alone[0] != addrs[0] || alone[1] != addrs[1] {
			moved++
		}
	}
	if len(taken) != 40000 {
		t.Errorf("%d addresses of 20000 names, want 40000", len(taken))
	}
	if moved == 0 || moved > 50 {
		t.Errorf("%d of 20000 names have another address than alone, want about 12", moved)
	}
	other := m
	other.Account = "000000000002"
	if virtualAddress(virtual4, m, "a", 0) == virtualAddress(virtual4, other, "a", 0) {
		t.Error("the account makes no difference")
	}
}
