//go:build linux

package redirected

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/intercept/rules"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// call is one request on a connection of its own.
type call struct {
	began  time.Time
	took   time.Duration
	answer string
	err    error
}

// patience is how long a caller waits: longer than any Envoy is away.
const patience = 30 * time.Second

// callers opens connections without a pause, from a host to an address, until stop is
// called, which returns what became of them.
func callers(from *meshtest.Host, to ...netip.Addr) (stop func() []call) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var all []call
	var running sync.WaitGroup
	for _, a := range to {
		for range 4 {
			running.Go(func() {
				tick := time.NewTicker(10 * time.Millisecond)
				defer tick.Stop()
				for ctx.Err() == nil {
					<-tick.C
					c := call{began: time.Now()}
					c.answer, c.err = callOnce(from, a)
					c.took = time.Since(c.began)
					mu.Lock()
					all = append(all, c)
					mu.Unlock()
				}
			})
		}
	}
	return func() []call {
		cancel()
		running.Wait()
		return all
	}
}

// callOnce asks for the service at an address, on a connection of its own.
func callOnce(from *meshtest.Host, to netip.Addr) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", netip.AddrPortFrom(to, port).String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", service); err != nil {
		return "", err
	}
	var b strings.Builder
	_, err = io.Copy(&b, c)
	return b.String(), err
}

// died kills a proxy's Envoy and returns when it was dead: its ports are closed.
func died(t *testing.T, x *meshtest.Proxy) time.Time {
	t.Helper()
	pid := x.EnvoyPid(t)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	return time.Now()
}

// gone waits until a killed process is dead. Before, the kernel may open connections for it
// that it then resets.
func gone(t *testing.T, pid int) {
	t.Helper()
	meshtest.Eventually(t, "Envoy is dead", func() error {
		// A process whose parent does not ask how it ended stays, without its threads.
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && (len(threads) > 1 || !strings.Contains(string(state), ") Z ")) {
			return errStill
		}
		return nil
	})
}

// While an Envoy is away, what is opened waits for it or is refused, as the setting says,
// both ways and in both families. Nothing goes past it.
func TestConnectionsWhileEnvoyIsAway(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{rules.Wait, rules.Refuse} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, `{"egressFilter":{"type":"DROP_ALL"},"serviceDiscovery":{"ipPreference":"IPv4_PREFERRED"}}`)
			blue, blueProxy := s.app("blue", echo("blue"))
			s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
			s.caller(service)
			blueProxy.Ready(t)
			// What would answer if a call went past Envoy, on its way out.
			outside := s.hosts.Add("outside")
			outside.Serve(port, echo("past Envoy"))
			variable := rules.WhileAwayName + "=" + setting
			s.front.Intercept(variable)
			blue.Intercept(variable, fmt.Sprintf("APPMESH_APP_PORTS=%d", port))

			for _, way := range []struct {
				name string
				from *meshtest.Host
				to   *meshtest.Host
				by   *meshtest.Proxy
			}{{"out", s.front, outside, s.proxy}, {"in", outside, blue, blueProxy}} {
				to := []netip.Addr{way.to.V4, way.to.V6}
				works := func() error {
					for _, a := range to {
						answer, err := callOnce(way.from, a)
						if err == nil && !throughEnvoy(answer) {
							err = errors.New(answer)
						}
						if err != nil {
							return err
						}
					}
					return nil
				}
				meshtest.Eventually(t, "calls are answered", works)
				for round := range 3 {
					stop := callers(way.from, to...)
					dead := died(t, way.by)
					meshtest.Eventually(t, "Envoy is started again", func() error {
						if strings.Count(way.by.Log.String(), "Envoy started again") <= round {
							return errStill
						}
						return nil
					})
					meshtest.Eventually(t, "calls are answered again", works)
					back := time.Since(dead)
					judge(t, fmt.Sprintf("%s, round %d (back after %v)", way.name, round, back), setting, dead, stop())
				}
			}
		})
	}
}

// throughEnvoy reports whether the service has answered, through an Envoy, which adds a
// header.
func throughEnvoy(answer string) bool {
	return strings.HasPrefix(answer, "HTTP/1.1 200 ") && strings.Contains(answer, "blue: ") && strings.Contains(strings.ToLower(answer), "\r\nx-envoy-")
}

// judge looks at calls of which some were made while there was no Envoy, from dead on.
func judge(t *testing.T, when, setting string, dead time.Time, all []call) {
	t.Helper()
	var before, refused, waited int
	var slowest, longest time.Duration
	for _, c := range all {
		switch {
		case c.err == nil && throughEnvoy(c.answer):
			if c.took > time.Second {
				waited++
			}
			longest = max(longest, c.took)
		case c.answer != "" && !strings.HasPrefix(c.answer, fmt.Sprintf("HTTP/1.1 %d ", http.StatusServiceUnavailable)):
			t.Errorf("%s: %s answered %q", when, setting, c.answer)
		case c.began.Before(dead):
			before++ // the kernel had opened it for the Envoy that was killed, or it was under way
		case errors.Is(c.err, syscall.ECONNREFUSED) && setting == rules.Refuse:
			refused++
			slowest = max(slowest, c.took)
		default:
			t.Errorf("%s: %s: %v %q, %v after Envoy had died, took %v", when, setting, c.err, c.answer, c.began.Sub(dead), c.took)
		}
	}
	if setting == rules.Refuse && refused == 0 || setting == rules.Wait && waited == 0 {
		t.Errorf("%s: %s: %d refused, %d waited: nothing was tried while there was no Envoy", when, setting, refused, waited)
	}
	if !slices.ContainsFunc(all, func(c call) bool { return c.err == nil && c.began.After(dead) }) {
		t.Errorf("%s: no call after Envoy had died was answered", when)
	}
	t.Logf("%s: %s: %d calls; %d that Envoy took with it; %d refused, the slowest after %v; %d waited, the longest %v", when, setting, len(all), before, refused, slowest, waited, longest)
}
