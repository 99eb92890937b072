//go:build linux

package redirected

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// While there is no Envoy nothing goes past it: what an application calls is refused, and so
// is what calls it. When Envoy is back, all is as before.
func TestNothingGoesPastAKilledEnvoy(t *testing.T) {
	t.Parallel()
	s := newStage(t, `{"egressFilter":{"type":"DROP_ALL"}}`)
	blue, blueProxy := s.app("blue", echo("blue"))
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	s.caller(service)
	blueProxy.Ready(t)
	other, outside := s.hosts.Add("other"), s.hosts.Add("outside")
	greet(other, 9000)
	other.Serve(port, echo("other"))
	calls := s.front.HTTP("tcp")
	await(t, calls, serviceURL, http.StatusOK, "blue: GET colour.test.local")

	// What would get through if the proxies were not in the way.
	ctx, stop := context.WithCancel(t.Context())
	var probes sync.WaitGroup
	var refused, past atomic.Int32
	probe := func(try func(context.Context) (through bool, err error)) {
		probes.Go(func() {
			// Not as fast as can be: the kernel keeps each connection in mind for a while, and
			// drops what it has no room for, the proxies' own connections too.
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				through, err := try(ctx)
				if through {
					past.Add(1)
				}
				if errors.Is(err, syscall.ECONNREFUSED) {
					refused.Add(1)
				}
			}
		})
	}
	for range 4 {
		probe(func(ctx context.Context) (bool, error) { return hears(ctx, s.front, "other:9000") })
	}
	probe(func(ctx context.Context) (bool, error) { return finds(ctx, s.front, "other", "other: ") })
	probe(func(ctx context.Context) (bool, error) { return unproxied(ctx, outside, blue) })

	for round := range 3 {
		for _, x := range []*meshtest.Proxy{s.proxy, blueProxy} {
			if err := syscall.Kill(x.EnvoyPid(t), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		killed := time.Now()
		for _, x := range []*meshtest.Proxy{s.proxy, blueProxy} {
			meshtest.Eventually(t, "Envoy is started again", func() error {
				if strings.Count(x.Log.String(), "Envoy started again") <= round {
					return errStill
				}
				return nil
			})
		}
		await(t, calls, serviceURL, http.StatusOK, "blue: GET colour.test.local")
		t.Logf("round %d: the service answers %v after both Envoys were killed", round, time.Since(killed))
	}
	stop()
	probes.Wait()
	if n := past.Load(); n > 0 {
		t.Errorf("%d connections went past an Envoy", n)
	}
	if refused.Load() == 0 {
		t.Error("no connection was refused: nothing was tried while there was no Envoy")
	}
	t.Logf("%d connections were refused", refused.Load())
}

// hears reports whether a server that speaks first is heard.
func hears(ctx context.Context, from *meshtest.Host, address string) (bool, error) {
	c, err := from.Dial(ctx, "tcp4", address)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return false, err
	}
	n, err := c.Read(make([]byte, 100))
	return n > 0, err
}

// finds reports whether a host's application answers itself.
func finds(ctx context.Context, from *meshtest.Host, host, says string) (bool, error) {
	answer, err := raw(ctx, from, host)
	return strings.Contains(answer, says), err
}

// unproxied reports whether a host's application answers without its Envoy, which would add
// a header.
func unproxied(ctx context.Context, from, to *meshtest.Host) (bool, error) {
	answer, err := raw(ctx, from, to.Name)
	return strings.Contains(answer, "200 OK") && !strings.Contains(strings.ToLower(answer), "x-envoy-"), err
}

// raw returns what is answered to a request on a connection of its own.
func raw(ctx context.Context, from *meshtest.Host, host string) (string, error) {
	c, err := from.Dial(ctx, "tcp4", fmt.Sprintf("%s:%d", host, port))
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); err != nil {
		return "", err
	}
	var b strings.Builder
	buffer := make([]byte, 4096)
	for {
		n, err := c.Read(buffer)
		b.Write(buffer[:n])
		if err != nil {
			var network net.Error
			if errors.As(err, &network) && !errors.Is(err, syscall.ECONNREFUSED) {
				err = nil
			}
			return b.String(), err
		}
	}
}

// An application that its agent runs calls out by the kernel's redirection in its first
// moment, as another user than Envoy's, and again when it is told to end.
func TestARedirectedApplicationsFirstCall(t *testing.T) {
	t.Parallel()
	s := newStage(t, `{"egressFilter":{"type":"DROP_ALL"}}`)
	_, blueProxy := s.app("blue", echo("blue"))
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	s.node("front", frontSpec(service))
	blueProxy.Ready(t)
	s.front = s.hosts.Add("front").Redirect()
	wantClosed(t, s.front, service+":8080") // without an Envoy there is no way out
	command, env := meshtest.FirstCall(t, serviceURL, "")
	x := s.front.ProxyWith(s.plane, meshtest.ARN("test", "front"), command, env...)
	meshtest.Eventually(t, "the application has called", func() error {
		if !strings.Contains(x.Log.String(), "call ") {
			return errStill
		}
		return nil
	})
	x.Drain()
	<-x.Ended()
	if log := x.Log.String(); strings.Count(log, "call answered: 200 blue: GET") != 2 || x.ExitCode() != 7 {
		t.Errorf("code %d, log:\n%s", x.ExitCode(), log)
	}
}
