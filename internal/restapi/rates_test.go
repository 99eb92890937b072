package restapi

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/clock"
)

// newClock returns a clock that stands on a full minute.
func newClock() *clock.Fake { return clock.New(time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)) }

// count returns how many of n calls are admitted.
func count(n int, call func() error) (admitted int) {
	for range n {
		if call() == nil {
			admitted++
		}
	}
	return admitted
}

// TestRates holds the rates of accounts: reads and writes apart, each account for itself,
// and that they follow the quotas.
func TestRates(t *testing.T) {
	t.Parallel()
	c, q := newClock(), mesh.DefaultQuotas()
	q[mesh.QuotaReadRate], q[mesh.QuotaWriteRate] = 10, 3
	r := newRates(c.Now, func(string) mesh.Quotas { return q })
	read := func() error { return r.admit("a", "k", true) }
	write := func() error { return r.admit("a", "k", false) }
	if n := count(100, read); n != 20 {
		t.Errorf("%d reads at once, want 20", n)
	}
	if n := count(100, write); n != 6 {
		t.Errorf("%d writes at once, want 6", n)
	}
	var refusal *mesh.Error
	if err := write(); !errors.As(err, &refusal) || refusal.Code != mesh.ErrTooManyRequests ||
		!strings.Contains(refusal.Message, "account a makes more calls than its quota write-rate allows: 3 a second, and 6 at once") {
		t.Errorf("refused with %v", err)
	}
	if n := count(100, func() error { return r.admit("b", "", false) }); n != 6 {
		t.Errorf("%d writes of another account, want 6", n)
	}
	c.Advance(time.Second)
	if n := count(100, read); n != 10 {
		t.Errorf("%d reads after a second, want 10", n)
	}
	c.Advance(time.Hour)
	if n := count(100, read); n != 20 {
		t.Errorf("%d reads after an hour, want 20", n)
	}
	q[mesh.QuotaReadRate] = 1
	c.Advance(time.Second)
	if n := count(100, read); n > 2 {
		t.Errorf("%d reads with a quota of 1", n)
	}
	c.Advance(2 * time.Second)
	if n := count(100, read); n != 2 {
		t.Errorf("%d reads after two seconds with a quota of 1, want 2", n)
	}
}

// TestRatesForget holds that the idle are forgotten, and nobody else.
func TestRatesForget(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := newRates(c.Now, func(string) mesh.Quotas { return mesh.DefaultQuotas() })
	for i := range 100 {
		if err := r.admit(fmt.Sprint(i), fmt.Sprint(i), true); err != nil {
			t.Fatal(err)
		}
		r.failed(r.source(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), ""))
	}
	c.Advance(idleTime / 2)
	if err := r.admit("last", "k", true); err != nil {
		t.Fatal(err)
	}
	if len(r.accounts) != 101 || len(r.keys) != 101 || len(r.sources) != 100 {
		t.Errorf("%d accounts, %d keys, %d sources", len(r.accounts), len(r.keys), len(r.sources))
	}
	c.Advance(idleTime / 2)
	if err := r.admit("last", "k", true); err != nil {
		t.Fatal(err)
	}
	if len(r.accounts) != 1 || len(r.keys) != 101 || len(r.sources) != 0 {
		t.Errorf("%d accounts, %d keys, %d sources are left", len(r.accounts), len(r.keys), len(r.sources))
	}
	c.Advance(keyTime - time.Second)
	if err := r.admit("last", "k", true); err != nil {
		t.Fatal(err)
	}
	if len(r.keys) != 1 {
		t.Errorf("%d keys are left", len(r.keys))
	}
}

// TestFailures holds what is refused to those whose signatures do not hold: addresses for
// themselves, an IPv6 network as one, and not the owner of a good key behind the same
// address.
// TestKeysKeepNoHeaders holds that what is remembered of a key is not the header that it was
// read from, which would be kept for an hour with it.
func TestKeysKeepNoHeaders(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := newRates(c.Now, func(string) mesh.Quotas { return mesh.DefaultQuotas() })
	for range 2 {
		header := "AWS4-HMAC-SHA256 Credential=AKIA1/20261123/" + strings.Repeat("x", 400)
		key := header[len("AWS4-HMAC-SHA256 Credential="):][:5]
		if err := r.admit("a", key, true); err != nil {
			t.Fatal(err)
		}
		for kept := range r.keys {
			if kept != "AKIA1" || unsafe.StringData(kept) == unsafe.StringData(key) {
				t.Errorf("key %s is kept with the header that it was in", kept)
			}
		}
		c.Advance(time.Minute)
	}
	if s := r.source(netip.MustParseAddr("10.0.0.1"), "Credential=AKIA1/x"); s.key != "AKIA1" {
		t.Errorf("the key's calls are counted as those of %+v", s)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := newRates(c.Now, func(string) mesh.Quotas { return mesh.DefaultQuotas() })
	if err := r.admit("a", "GOODKEY", true); err != nil {
		t.Fatal(err)
	}
	const good = "AWS4-HMAC-SHA256 Credential=GOODKEY/20261123/us-east-1/appmesh/aws4_request, SignedHeaders=host, Signature=00"
	try := func(addr, authorization string) error {
		s := r.source(netip.MustParseAddr(addr), authorization)
		if err := r.blocked(s); err != nil {
			return err
		}
		r.failed(s)
		return nil
	}
	if n := count(2*failureBurst, func() error { return try("10.0.0.1", "x") }); n != failureBurst {
		t.Errorf("%d failures at once, want %d", n, failureBurst)
	}
	for addr, blocked := range map[string]bool{"10.0.0.1": true, "::ffff:10.0.0.1": true, "10.0.0.2": false} {
		if err := r.blocked(r.source(netip.MustParseAddr(addr), "Credential=OTHER/x")); (err != nil) != blocked {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if err := r.blocked(r.source(netip.MustParseAddr("10.0.0.1"), good)); err != nil {
		t.Errorf("the owner of a good key: %v", err)
	}
	// Who guesses the secret of a good key stops that key at that address only.
	if n := count(2*failureBurst, func() error { return try("10.0.0.1", good) }); n != failureBurst {
		t.Errorf("%d guesses at once, want %d", n, failureBurst)
	}
	if err := r.blocked(r.source(netip.MustParseAddr("10.0.0.2"), good)); err != nil {
		t.Errorf("the owner elsewhere: %v", err)
	}
	c.Advance(time.Second)
	if n := count(2*failureBurst, func() error { return try("10.0.0.1", "x") }); n != failureRate {
		t.Errorf("%d failures a second later, want %d", n, failureRate)
	}
	for i := range failureBurst {
		if err := try(fmt.Sprintf("2001:db8::%x", i+1), "x"); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if try("2001:db8::ffff", "x") == nil || try("2001:db8:0:1::1", "x") != nil {
		t.Error("networks of IPv6 are not told apart by their first 64 bits")
	}
}

// TestFailuresAreBounded holds that no number of addresses fills the memory.
func TestFailuresAreBounded(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := newRates(c.Now, func(string) mesh.Quotas { return mesh.DefaultQuotas() })
	for i := range maxSources + 100 {
		r.failed(r.source(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), ""))
	}
	for i := range maxKeys + 100 {
		_ = r.admit("a", fmt.Sprint(i), true)
	}
	if len(r.sources) != maxSources || len(r.keys) != maxKeys {
		t.Errorf("%d sources and %d keys are remembered", len(r.sources), len(r.keys))
	}
}
