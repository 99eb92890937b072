package xds

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

func TestAStreamDoesNotOutliveItsCredentials(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	one := &session{}
	if d := s.lifetime(one); d < 24*time.Minute || d > 36*time.Minute || one.expired() {
		t.Errorf("with a long-lived key it may be open for %v", d)
	}
	one.caller.Expires = time.Now().Add(15 * time.Minute)
	if d := s.lifetime(one); d > 15*time.Minute || d < 14*time.Minute || one.expired() {
		t.Errorf("with 15 minutes to go it may be open for %v", d)
	}
	one.caller.Expires = time.Now().Add(-time.Second)
	if d := s.lifetime(one); d > 0 || !one.expired() {
		t.Errorf("with expired credentials it may be open for %v", d)
	}
}

func TestRepeatedRefusalsAreCounted(t *testing.T) {
	t.Parallel()
	var r refusals
	now := time.Unix(1, 0)
	a, b := refusalKey{account: "a"}, refusalKey{account: "b"}
	for i, c := range []struct {
		key   refusalKey
		after time.Duration
		write bool
		left  int
	}{
		{a, 0, true, 0},
		{a, time.Second, false, 0},
		{b, 0, true, 0},
		{a, 58 * time.Second, false, 0},
		{a, time.Second, true, 2},
		{a, time.Second, false, 0},
		{a, time.Hour, true, 1},
		{a, time.Hour, true, 0},
	} {
		now = now.Add(c.after)
		if write, left := r.note(c.key, now); write != c.write || left != c.left {
			t.Errorf("step %d: written %t after %d were left out, want %t, %d", i, write, left, c.write, c.left)
		}
	}
	for i := range 3 * mostRefusals {
		r.note(refusalKey{node: fmt.Sprint(i)}, now)
		if len(r.seen) > mostRefusals {
			t.Fatalf("%d refusals are remembered", len(r.seen))
		}
	}
}

// What is withdrawn goes in the order of a change, and then the stream ends.
func TestWithdrawing(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("c/a=1", "l/in=1")
	for _, typ := range []envoy.Type{envoy.TypeCluster, envoy.TypeListener} {
		r.ask(typ, &discoveryv3.DeltaDiscoveryRequest{})
	}
	r.ack(r.expect(envoy.TypeCluster, []string{"a"}, nil))
	r.ack(r.expect(envoy.TypeListener, []string{"in"}, nil))
	r.expectNothing()
	r.feed.withdraw(r.now)
	listeners := r.expect(envoy.TypeListener, nil, []string{"in"})
	r.expectNothing()
	r.ack(listeners)
	r.ack(r.expect(envoy.TypeCluster, nil, []string{"a"}))
	if _, _, err := r.st.next(r.now); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a stream that has lost everything goes on: %v", err)
	}
	r.publish("c/a=1") // shared again before the stream has ended
	r.expect(envoy.TypeCluster, []string{"a"}, nil)
}

func TestWithdrawingWaitsForAProxyButNotForLong(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	r.publish("l/in=1")
	r.ask(envoy.TypeListener, &discoveryv3.DeltaDiscoveryRequest{})
	r.ack(r.expect(envoy.TypeListener, []string{"in"}, nil))
	r.feed.withdraw(r.now)
	r.expect(envoy.TypeListener, nil, []string{"in"})
	_, wait, err := r.st.next(r.now)
	if err != nil || wait <= 0 || wait > withdrawWait {
		t.Errorf("it waits %v for the answer, %v", wait, err)
	}
	r.now = r.now.Add(withdrawWait)
	if _, _, err := r.st.next(r.now); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a stream that does not answer goes on: %v", err)
	}
}

func TestInSync(t *testing.T) {
	t.Parallel()
	r := newRig(t, false)
	check := func(when string, want bool, rejected string) {
		t.Helper()
		_, got, text := r.st.status()
		if got != want || text != rejected {
			t.Errorf("%s: in sync %t, rejected %q, want %t, %q", when, got, text, want, rejected)
		}
	}
	check("before anything", false, "")
	r.publish("c/a=1", "c/b=1")
	r.ask(envoy.TypeCluster, &discoveryv3.DeltaDiscoveryRequest{})
	check("before the first answer", false, "")
	first := r.expect(envoy.TypeCluster, []string{"a", "b"}, nil)
	check("before the acknowledgement", false, "")
	r.ack(first)
	r.expectNothing()
	check("with everything acknowledged", true, "")
	r.publish("c/a=2", "c/b=2")
	check("with a change", false, "")
	r.nack(r.expect(envoy.TypeCluster, []string{"a", "b"}, nil))
	check("with both refused", false, "Cluster a, b: no")
	r.ack(r.expect(envoy.TypeCluster, []string{"a"}, nil))
	r.nack(r.expect(envoy.TypeCluster, []string{"b"}, nil))
	r.expectNothing()
	check("with one refused", false, "Cluster b: no")
	r.publish("c/a=2", "c/b=3")
	r.ack(r.expect(envoy.TypeCluster, []string{"b"}, nil))
	r.expectNothing()
	check("with a better one", true, "")
}

func TestWhatWasRefusedIsToldAtABoundedLength(t *testing.T) {
	t.Parallel()
	var many []*resource
	for i := range 1000 {
		many = append(many, &resource{key: resourceKey{name: fmt.Sprint(i)}})
	}
	got := rejectionText(envoy.TypeRoute, many, strings.Repeat("ü", 10_000))
	if len(got) > 1200 || !strings.HasPrefix(got, "RouteConfiguration 0, 1, 2, 3, 4, 995 more: ü") {
		t.Errorf("%d bytes: %.80s", len(got), got)
	}
}

// A refusal reaches the proxy with its status, and the audit with its code, however it
// is wrapped.
func TestRefusals(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("opening: %w", refuse(codes.ResourceExhausted, mesh.ErrLimitExceeded, "%d", 7))
	if s := status.Convert(err); s.Code() != codes.ResourceExhausted || codeOf(err) != "LimitExceededException" {
		t.Errorf("%v, %s", s, codeOf(err))
	}
	if got := codeOf(status.Error(codes.Unavailable, "x")); got != "Unavailable" {
		t.Errorf("another error has the code %q", got)
	}
	if !errors.Is(endOf(status.Error(codes.Canceled, "")), errGone) {
		t.Error("a proxy that goes is taken for something else")
	}
}
