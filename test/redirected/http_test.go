//go:build linux

package redirected

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// A mesh of three hosts, in which no application knows of an Envoy: the service is called
// by its name on its port, and answered by applications on their own ports.
func TestApplicationsAreUnchanged(t *testing.T) {
	t.Parallel()
	meshtest.Covers(t, "Mesh.egressFilter.type")
	s := newStage(t, `{"egressFilter":{"type":"DROP_ALL"}}`)
	blue, blueProxy := s.app("blue", echo("blue"))
	_, greenProxy := s.app("green", echo("green"))
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 80, "green", 20))
	s.caller(service)
	blueProxy.Ready(t)
	greenProxy.Ready(t)
	calls := s.front.HTTP("tcp")
	await(t, calls, serviceURL, http.StatusOK, "")

	t.Run("what the application gets", func(t *testing.T) {
		// The host is the service's, and the answer has passed two Envoys.
		want(t, calls, serviceURL+"a/path?q=1", http.StatusOK, "GET colour.test.local:8080 /a/path?q=1")
	})
	t.Run("an application of another make", func(t *testing.T) { s.python(t) })
	t.Run("weights", func(t *testing.T) { s.weights(t, calls) })
	t.Run("in through 15000", func(t *testing.T) { s.inbound(t, blue, blueProxy) })
	t.Run("out through 15001", func(t *testing.T) { s.dropAll(t, calls) })
}

// echo answers with its name and what it was asked.
func echo(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s: %s %s %s", name, r.Method, r.Host, r.RequestURI)
	})
}

// python calls the service with a program of its own on front, which resolves the name
// by the system's means.
func (s *stage) python(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	cmd := s.front.Command(python, "-c", "import urllib.request as u; print(u.urlopen('"+serviceURL+"python', timeout=10).read().decode())")
	cmd.Env = append(os.Environ(), "no_proxy=*")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.front.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "GET colour.test.local:8080 /python") {
		t.Errorf("a Python program gets: %v %s", err, out.String())
	}
}

func (s *stage) weights(t *testing.T, calls *http.Client) {
	share := func(n int) float64 {
		green := 0
		for range n {
			status, body, err := meshtest.Get(calls, serviceURL)
			if err != nil || status != http.StatusOK {
				t.Fatalf("answered %d %q %v", status, body, err)
			}
			if strings.HasPrefix(body, "green") {
				green++
			}
		}
		return float64(green) / float64(n)
	}
	// 1,000 draws at 0.2 have a standard deviation of 1.3 points; 6 points are more than
	// four of them.
	if got := share(1000); got < 0.14 || got > 0.26 {
		t.Errorf("green got a share of %.3f, want 0.20", got)
	}
	s.plane.Put(t, "/meshes/test/virtualRouter/colour/routes/all", `{"spec":`+meshtest.Weights("blue", 1, "green", 0)+`}`)
	meshtest.Eventually(t, "all requests go to blue", func() error {
		if got := share(20); got != 0 {
			return fmt.Errorf("green got a share of %.2f", got)
		}
		return nil
	})
}

// inbound shows which of blue's ports its Envoy stands before.
func (s *stage) inbound(t *testing.T, blue *meshtest.Host, proxy *meshtest.Proxy) {
	blue.Serve(9090, echo("past the mesh"))
	outside := s.hosts.Add("outside")
	calls := outside.HTTP("tcp4")
	before := count(t, proxy, "http.ingress.downstream_rq_total")
	want(t, calls, "http://blue:8080/", http.StatusOK, "blue: GET blue:8080 /")
	if after := count(t, proxy, "http.ingress.downstream_rq_total"); after != before+1 {
		t.Errorf("blue's Envoy counts %d requests more, want 1", after-before)
	}
	// A port that the kernel redirects and no listener has is closed, though the
	// application listens there.
	guarded := s.hosts.Add("guarded")
	s.node("guarded", meshtest.NodeSpec("guarded", port))
	guarded.Redirect(port, 9090).Proxy(s.plane, meshtest.ARN("test", "guarded")).Ready(t)
	guarded.Serve(9090, echo("guarded"))
	wantClosed(t, outside, "guarded:9090")
	// One that the route manager was not told of does not concern the mesh.
	want(t, calls, "http://blue:9090/", http.StatusOK, "past the mesh")
	// Nor does what the application calls on its own host.
	want(t, guarded.HTTP("tcp4"), "http://guarded:9090/", http.StatusOK, "guarded: GET guarded:9090")
}

// dropAll shows what front may not call.
func (s *stage) dropAll(t *testing.T, calls *http.Client) {
	other := s.hosts.Add("other")
	other.Serve(port, echo("other"))
	greet(other, 9000)
	want(t, calls, "http://other:8080/", http.StatusNotFound, "other:8080 is not a backend of virtual node front in mesh test")
	want(t, calls, "http://"+other.V4.String()+":8080/", http.StatusNotFound, other.V4.String()+":8080 is not a backend")
	wantClosed(t, s.front, "other:9000")
	if n := count(t, s.proxy, "listener.0.0.0.0_15001.no_filter_chain_match"); n == 0 {
		t.Error("front's Envoy has closed no connection for want of a filter chain")
	}
}

// A mesh that allows all lets calls to hosts outside go where they were made to, whatever
// their Host header says, and in whatever protocol.
func TestAllowAll(t *testing.T) {
	t.Parallel()
	meshtest.Covers(t, "Mesh.egressFilter.type")
	s := newStage(t, `{"egressFilter":{"type":"ALLOW_ALL"}}`)
	s.app("blue", echo("blue"))
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	s.caller(service)
	one, two := s.hosts.Add("one"), s.hosts.Add("two")
	for _, h := range []*meshtest.Host{one, two} {
		h.Serve(port, echo(h.Name))
		h.Serve(9090, echo(h.Name))
		greet(h, 9000)
	}
	calls := s.front.HTTP("tcp")
	await(t, calls, serviceURL, http.StatusOK, "blue: GET colour.test.local:8080")

	// On a port that services have, and on one that none has.
	for _, port := range []string{":8080/", ":9090/"} {
		want(t, calls, "http://one"+port, http.StatusOK, "one: GET one"+port[:5]+" /")
		want(t, calls, "http://two"+port, http.StatusOK, "two: GET two"+port[:5]+" /")
		want(t, calls, "http://"+two.V4.String()+port, http.StatusOK, "two: ")
		// The address decides, not the name.
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+one.V4.String()+port, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "two"
		if status, body, err := meshtest.Do(calls, req); err != nil || status != http.StatusOK || body != "one: GET two /" {
			t.Errorf("a call to one with two's name: %d %q %v", status, body, err)
		}
	}
	// Bytes, with the server speaking first.
	for _, h := range []*meshtest.Host{one, two} {
		if got, err := greeted(s.front, h.Name+":9000"); err != nil || got != "hello from "+h.Name {
			t.Errorf("a server that speaks first: %q %v", got, err)
		}
	}
	if _, err := greeted(s.front, s.hosts.Nowhere()[0].String()+":9000"); err == nil {
		t.Error("a connection to nowhere is answered")
	}
	// An edit of the mesh takes it back.
	s.plane.Put(t, "/meshes/test", `{"spec":{"egressFilter":{"type":"DROP_ALL"}}}`)
	await(t, calls, "http://one:8080/", http.StatusNotFound, "one:8080 is not a backend")
	meshtest.Eventually(t, "the port is closed", func() error {
		if _, err := greeted(s.front, "one:9000"); err == nil {
			return errStill
		}
		return nil
	})
	want(t, calls, serviceURL, http.StatusOK, "blue: ")
}

// greet has a host say hello to every connection on a port, and then echo lines.
func greet(h *meshtest.Host, port int) { greetAt(h, fmt.Sprintf(":%d", port)) }

// greetAt is greet at an address.
func greetAt(h *meshtest.Host, address string) {
	l := h.Listen(address)
	go meshtest.HandleConns(l, func(c net.Conn) {
		fmt.Fprintf(c, "hello from %s\n", h.Name)
		_, _ = io.Copy(c, c)
	})
}

// greeted connects from a host, reads a greeting, and has a line echoed.
func greeted(from *meshtest.Host, address string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(c)
	hello, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(c, "and back"); err != nil {
		return "", err
	}
	if line, err := r.ReadString('\n'); err != nil || line != "and back\n" {
		return "", fmt.Errorf("echoed %q %w", line, err)
	}
	return strings.TrimSpace(hello), nil
}

// wantClosed fails the test unless a connection is ended without a byte.
func wantClosed(t *testing.T, from *meshtest.Host, address string) {
	t.Helper()
	c, err := from.Dial(t.Context(), "tcp4", address)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	b, err := io.ReadAll(c)
	var timeout net.Error
	if len(b) > 0 || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%s answers %q %v, want it closed", address, b, err)
	}
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	s := newStage(t, `{}`)
	_, proxy := s.app("blue", websocket.Handler(func(c *websocket.Conn) {
		var message string
		for websocket.Message.Receive(c, &message) == nil && websocket.Message.Send(c, message) == nil {
			continue
		}
	}))
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	s.caller(service)
	proxy.Ready(t)
	config, err := websocket.NewConfig("ws://"+service+":8080/chat", "http://"+service)
	if err != nil {
		t.Fatal(err)
	}
	meshtest.Eventually(t, "a WebSocket is opened", func() error {
		conn, err := s.front.Dial(t.Context(), "tcp", service+":8080")
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		ws, err := websocket.NewClient(config, conn)
		if err != nil {
			return err
		}
		for _, message := range []string{"one", strings.Repeat("many ", 20000)} {
			var got string
			if err := websocket.Message.Send(ws, message); err != nil {
				t.Fatal(err)
			}
			if err := websocket.Message.Receive(ws, &got); err != nil || got != message {
				t.Fatalf("%d bytes were echoed as %d: %v", len(message), len(got), err)
			}
		}
		return nil
	})
	if n := count(t, proxy, "http.ingress.downstream_cx_upgrades_total"); n == 0 {
		t.Error("blue's Envoy counts no upgrade")
	}
}
