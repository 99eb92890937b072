package demo

import (
	"net"
	"runtime"
	"strings"
	"testing"
)

func TestPlansDoNotMeet(t *testing.T) {
	t.Parallel()
	needLoopbacks(t)
	seen := map[string]bool{}
	for range 3 {
		p, err := findPlan(portChoices)
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

	p, err := findPlan([]ports{blocked, portChoices[1]})
	if err != nil {
		t.Fatal(err)
	}
	defer p.release()
	if p.ports != portChoices[1] {
		t.Errorf("the plan has the ports %+v, want the second choice", p.ports)
	}
	if _, err := findPlan([]ports{blocked}); err == nil || !strings.Contains(err.Error(), "found no free loopback addresses") {
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
