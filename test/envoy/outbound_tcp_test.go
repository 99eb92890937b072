package envoy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// serveTCP runs an application that says its name to each connection before the client
// says anything, as many databases do, and then sends back what it is sent.
func serveTCP(t *testing.T, name string) (addr string) {
	t.Helper()
	addr = meshtest.Address(t)
	l := listen(t, addr, port)
	t.Cleanup(func() { _ = l.Close() })
	go meshtest.HandleConns(l, func(c net.Conn) {
		fmt.Fprintln(c, name)
		_, _ = io.Copy(c, c)
	})
	return addr
}

// hello connects to a port of front's way out and returns the first line that comes.
func (s *stage) hello(port int) (string, error) {
	c, err := net.DialTimeout("tcp", s.front.Bind+":"+fmt.Sprint(port), 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// greeters counts who answers n connections.
func (s *stage) greeters(n int) map[string]int {
	s.t.Helper()
	seen := map[string]int{}
	for range n {
		name, err := s.hello(port)
		if err != nil {
			s.t.Fatalf("connecting to the service: %v", err)
		}
		seen[name]++
	}
	return seen
}

func TestTCPRoutes(t *testing.T) {
	t.Parallel()
	covers(t, "Route.tcpRoute.action.weightedTargets.{virtualNode,weight}")
	s := newStage(t)
	for _, name := range []string{"blue", "green", "red"} {
		s.node(name, nodeSpec(serveTCP(t, name), "tcp", ""))
	}
	s.routed("tcp")
	s.addRoute("all", "tcpRoute", `{}`, "", "blue", 80, "green", 20, "red", 0)
	s.caller()
	awaitGreeter := func(want string) {
		t.Helper()
		meshtest.Eventually(t, want+" takes all connections", func() error {
			if seen := s.greeters(10); seen[want] != 10 {
				return fmt.Errorf("connections went to %v", seen)
			}
			return nil
		})
	}
	meshtest.Eventually(t, "the service takes connections", func() error {
		_, err := s.hello(port)
		return err
	})
	// 500 draws at 0.2 have a standard deviation of 1.8 points; 9 points are five of them.
	if seen := s.greeters(500); seen["red"] != 0 || seen["green"] < 55 || seen["green"] > 145 {
		t.Errorf("500 connections went to %v, want a fifth to green and none to red", seen)
	}
	s.setRoute("all", "tcpRoute", `{}`, "", "blue", 0, "green", 0, "red", 1)
	awaitGreeter("red")
	// One target with a weight is left of two.
	s.setRoute("all", "tcpRoute", `{}`, "", "blue", 1, "red", 0)
	awaitGreeter("blue")
}

// A TCP connection that nobody uses is closed after the time that its route says.
func TestTCPIdleTimeout(t *testing.T) {
	t.Parallel()
	covers(t, "Route.tcpRoute.timeout.idle")
	s := newStage(t)
	s.node("blue", nodeSpec(serveTCP(t, "blue"), "tcp", ""))
	s.routed("tcp")
	s.addRoute("all", "tcpRoute", `{}`, `,"timeout":{"idle":{"unit":"ms","value":300}}`, "blue", 1)
	s.caller()
	meshtest.Eventually(t, "the service takes connections", func() error {
		_, err := s.hello(port)
		return err
	})
	c, err := net.Dial("tcp", s.front.Bind+":"+fmt.Sprint(port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// The application never closes a connection, so it is the timeout that ends it.
	if text, err := io.ReadAll(c); err != nil || string(text) != "blue\n" {
		t.Errorf("an idle connection: %q, %v, want its end", text, err)
	}
}

// What cannot be served is closed, and two services on one port have connections go to
// one of them only.
func TestTCPServicesThatCannotBeServed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	addr := serveTCP(t, "blue")
	s.node("blue", nodeSpec(addr, "tcp", ""))
	s.node("gone", nodeSpec(addr, "tcp", `,"tls":{"mode":"STRICT","certificate":{"acm":{"certificateArn":"arn:aws:acm:us-east-1:000000000001:certificate/x"}}}`))
	s.provided("blue.test.local", "blue")
	s.provided("zebra.test.local", "blue")
	s.plane.Put(t, "/meshes/test/virtualRouters", `{"virtualRouterName":"r","spec":{"listeners":[{"portMapping":{"port":7000,"protocol":"tcp"}}]}}`)
	s.plane.Put(t, "/meshes/test/virtualRouter/r/routes", `{"routeName":"all","spec":`+routeSpec("tcpRoute", `{}`, "", "gone", 1)+`}`)
	s.plane.Put(t, "/meshes/test/virtualServices", `{"virtualServiceName":"gone.test.local","spec":{"provider":{"virtualRouter":{"virtualRouterName":"r"}}}}`)
	s.callerOf("", "blue.test.local", "zebra.test.local", "gone.test.local")
	meshtest.Eventually(t, "the service takes connections", func() error {
		_, err := s.hello(port)
		return err
	})
	if line, err := s.hello(7000); err == nil {
		t.Errorf("a service that must be encrypted and cannot be answers %q", line)
	}
	if status, body, err := meshtest.Get(s.http, "http://blue.test.local:8080/"); err != nil || status != 503 || !strings.Contains(body, "TCP connections on port 8080") {
		t.Errorf("a request to a service for TCP: %d %q %v, want 503 and why", status, body, err)
	}
}

// A real Redis behind a virtual service, and a client's pipeline of commands.
func TestRedis(t *testing.T) {
	t.Parallel()
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("no redis-server on PATH (Debian's package redis-server has it)")
	}
	s := newStage(t)
	addr := meshtest.Address(t)
	cmd := exec.Command(redis, "--bind", addr, "--port", fmt.Sprint(port), "--save", "", "--appendonly", "no",
		"--dir", t.TempDir(), "--protected-mode", "no", "--daemonize", "no")
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s.node("cache", nodeSpec(addr, "tcp", `,"healthCheck":{"protocol":"tcp","healthyThreshold":2,"unhealthyThreshold":2,"timeoutMillis":2000,"intervalMillis":5000}`))
	s.provided(service, "cache")
	s.caller()
	var c net.Conn
	var r *bufio.Reader
	meshtest.Eventually(t, "Redis answers through the mesh", func() (err error) {
		if c != nil {
			_ = c.Close()
		}
		if c, err = net.Dial("tcp", s.front.Bind+":"+fmt.Sprint(port)); err != nil {
			return err
		}
		if err = c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		r = bufio.NewReader(c)
		fmt.Fprint(c, "PING\r\n")
		return expect(r, "+PONG")
	})
	defer c.Close()
	big := strings.Repeat("x", 1<<20)
	fmt.Fprintf(c, "SET big %d\r\nINCR n\r\nINCR n\r\n", 1)
	fmt.Fprintf(c, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%s\r\n*2\r\n$6\r\nSTRLEN\r\n$1\r\nk\r\n", len(big), big)
	for _, want := range []string{"+OK", ":1", ":2", "+OK", fmt.Sprintf(":%d", len(big))} {
		if err := expect(r, want); err != nil {
			t.Fatal(err)
		}
	}
}

// expect reads a line and compares it.
func expect(r *bufio.Reader, want string) error {
	line, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	if got := strings.TrimRight(line, "\r\n"); got != want {
		return fmt.Errorf("Redis answered %q, want %q", got, want)
	}
	return nil
}
