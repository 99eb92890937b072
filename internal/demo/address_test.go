package demo

import (
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
)

func TestPlansDoNotMeet(t *testing.T) {
	t.Parallel()
	needLoopbacks(t)
	seen := map[string]bool{}
	for range 3 {
		p, err := findPlan(portChoices, false)
		if err != nil {
			t.Fatal(err)
		}
		defer p.release()
		for _, a := range p.all() {
			if seen[a] {
				t.Errorf("two plans, or one twice, have %s", a)
			}
			seen[a] = true
		}
		if p.front.envoy == p.front.app {
			t.Errorf("front and its Envoy share the address %s", p.front.app)
		}
	}
}

// TestPlanOfNamespaces has what is the machine's and what is the instances' own.
func TestPlanOfNamespaces(t *testing.T) {
	t.Parallel()
	needLoopbacks(t)
	p, err := findPlan([]ports{portChoices[1]}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer p.release()
	for _, a := range p.all() {
		if strings.HasSuffix(a, ":15001") {
			t.Errorf("the plan takes %s of the machine, where no Envoy is", a)
		}
	}
	p.front.inside = netip.MustParseAddr("10.0.0.7")
	if got := p.found(p.front); got != p.front.inside {
		t.Errorf("Envoys find front at %s, want %s", got, p.front.inside)
	}
	if got := p.colourURL(); got != "http://colour:8080" {
		t.Errorf("front calls %s, whatever ports the machine has free", got)
	}
}

func TestNetworks(t *testing.T) {
	t.Parallel()
	for _, n := range []Network{Auto, Namespaces, Loopback} {
		if err := n.Check(); err != nil {
			t.Error(err)
		}
	}
	if err := Network("bridge").Check(); err == nil || err.Error() != `--network is "bridge", allowed are auto, namespaces, loopback` {
		t.Errorf("of another: %v", err)
	}
}

// TestTakenPort has a program that listens on all addresses.
func TestTakenPort(t *testing.T) {
	t.Parallel()
	needLoopbacks(t)
	taken, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	blocked := portChoices[0]
	blocked.http = taken.Addr().(*net.TCPAddr).Port

	p, err := findPlan([]ports{blocked, portChoices[1]}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.release()
	if p.ports != portChoices[1] {
		t.Errorf("the plan has the ports %+v, want the second choice", p.ports)
	}
	if _, err := findPlan([]ports{blocked}, false); err == nil || !strings.Contains(err.Error(), "found no free loopback addresses") {
		t.Errorf("without another choice: %v", err)
	}
}

// needLoopbacks skips where 127.0.0.1 is the only loopback address.
func needLoopbacks(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
}
