package envoy

import (
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

// requestsUnderWay is how many requests are under way when the end comes.
const requestsUnderWay = 500

// TestRequestsUnderWayAreFinished has an agent told to end while requests are under way
// through its Envoy: those that come in, and those that go out.
func TestRequestsUnderWayAreFinished(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var waiting atomic.Int32
	finish := make(chan struct{})
	held := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		waiting.Add(1)
		<-finish
		fmt.Fprint(w, strings.Repeat("x", 2000))
	})
	blue := s.app("blue", held)
	blue.Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	s.caller()

	client := &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: requestsUnderWay}}
	t.Cleanup(client.CloseIdleConnections)
	out := s.front.Outbound()
	out.Timeout = 2 * time.Minute
	underWay := func(all int) {
		t.Helper()
		meshtest.Eventually(t, fmt.Sprint(all, " requests are under way"), func() error {
			if n := waiting.Load(); n < int32(all) {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
	}
	var all sync.WaitGroup
	var bad atomic.Int32
	for i := range requestsUnderWay {
		c, url := client, "http://"+net.JoinHostPort(blue.Bind, fmt.Sprint(port))+"/"
		if i%2 == 0 {
			c, url = out, fmt.Sprintf("http://%s:%d/", service, port)
		}
		if i%50 == 0 { // a slow machine takes long for so many connections at once
			underWay(i)
		}
		all.Go(func() {
			status, body, err := meshtest.Get(c, url)
			if err != nil || status != http.StatusOK || len(body) != 2000 {
				if bad.Add(1) <= 3 {
					t.Errorf("a request under way: %d, %d bytes, %v", status, len(body), err)
				}
			}
		})
	}
	underWay(requestsUnderWay)
	blue.Drain()
	s.front.Drain()
	meshtest.Eventually(t, "both drain", func() error {
		for _, x := range []*meshtest.Proxy{blue, s.front} {
			if !strings.Contains(x.Log.String(), "draining Envoy") {
				return errors.New(x.Bind + " does not")
			}
		}
		return nil
	})
	close(finish)
	all.Wait()
	if n := bad.Load(); n > 0 {
		t.Errorf("%d of %d requests were cut", n, requestsUnderWay)
	}
	for _, x := range []*meshtest.Proxy{blue, s.front} {
		<-x.Ended()
		if x.ExitCode() != 0 {
			t.Errorf("the agent at %s ended with code %d", x.Bind, x.ExitCode())
		}
	}
}

// An application that its agent runs finds its proxy in its first moment, and still in its
// last.
func TestAnApplicationsFirstCall(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	c := s.defineFront()
	target := fmt.Sprintf("http://%s:%d/", service, port)
	command, env := meshtest.FirstCall(t, target, net.JoinHostPort(c.Bind, "15001"))
	c.Command, c.Env = command, append(c.Env, env...)
	for range 3 {
		// Without waiting for Envoy the call fails: there is nobody yet.
		if conn, err := net.Dial("tcp", net.JoinHostPort(c.Bind, "15001")); err == nil {
			_ = conn.Close()
			t.Fatal("something listens already")
		}
		x := s.plane.Proxy(t, c)
		called := func(n int) error {
			if got := strings.Count(x.Log.String(), "call "); got < n {
				return fmt.Errorf("%d calls", got)
			}
			return nil
		}
		meshtest.Eventually(t, "the application has called", func() error { return called(1) })
		x.Drain()
		<-x.Ended()
		log := x.Log.String()
		if strings.Count(log, "call answered: 200 blue") != 2 || strings.Contains(log, "call failed") || x.ExitCode() != 7 {
			t.Errorf("code %d, log %s", x.ExitCode(), log)
		}
	}
}

// The commands that ask, as processes: of a proxy without a server, and with one.
func TestReadyCommands(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.plane.Node(t, "test", "front", "", 0)
	for _, env := range [][]string{nil, {"APPNET_AGENT_ADMIN_MODE=tcp"}, {"APPNET_AGENT_ADMIN_MODE=uds", "APPNET_AGENT_ADMIN_UDS_PATH=" + t.TempDir() + "/agent.sock"}} {
		x := s.plane.Proxy(t, meshtest.ProxyConfig{
			ARN: meshtest.ARN("test", "front"), Bind: meshtest.Address(t), App: meshtest.Address(t), Env: env,
		})
		for _, args := range [][]string{{"wait", "--timeout", "60s"}, {"ready"}, {"ready", "--timeout", "10s"}, {"-envoyReadiness"}} {
			if out, code := x.Agent(t, args...); out != "ready\n" || code != 0 {
				t.Errorf("%v with %v: code %d, %q", args, env, code, out)
			}
		}
		out, code := x.Agent(t, "status")
		if env == nil && (code != 1 || !strings.Contains(out, "APPNET_AGENT_ADMIN_MODE is not set")) ||
			env != nil && (code != 0 || !strings.Contains(out, "healthy, serving\n") || !strings.Contains(out, meshtest.ARN("test", "front"))) {
			t.Errorf("status with %v: code %d, %q", env, code, out)
		}
		x.Kill()
		for _, args := range [][]string{{"ready"}, {"wait", "--timeout", "1s"}} {
			if out, code := x.Agent(t, args...); code != 1 || !strings.HasPrefix(out, "not ready: ") || strings.Count(out, "\n") != 1 {
				t.Errorf("%v with %v, killed: code %d, %q", args, env, code, out)
			}
		}
	}
}

// An Envoy that is killed is started again and serves.
func TestAKilledEnvoyIsBack(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	s.caller()
	s.awaitAnswer("/", http.StatusOK)
	killed := time.Now()
	if err := syscall.Kill(s.front.EnvoyPid(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	meshtest.Eventually(t, "it is started again", func() error {
		if !strings.Contains(s.front.Log.String(), "Envoy started again") {
			return errors.New("not yet")
		}
		return nil
	})
	s.awaitAnswer("/", http.StatusOK)
	t.Logf("requests are answered %v after Envoy was killed", time.Since(killed))
}
