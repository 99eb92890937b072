package envoy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// A connection that becomes a WebSocket goes through a gateway, in one pass and in two.
func TestGatewayWebSocket(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("app", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			fmt.Fprint(w, "no upgrade")
			return
		}
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, rw) // ends when the client goes
	})).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, matching(1, `{"path":{"regex":".*socket"}}`, "app"))
	d := s.startGateway(s.defineGateway(onPort("http")))
	s.gatewayRoute("one", `{"prefix":"/one"}`, service, `{"prefix":{"defaultPrefix":"DISABLED"}}`)
	s.gatewayRoute("two", `{"prefix":"/two"}`, service, "")
	for _, path := range []string{"/one/socket", "/two/socket"} {
		d.await("GET a "+path, "no upgrade")
		conn, err := net.Dial("tcp", net.JoinHostPort(d.proxy.Bind, strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", path)
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: %v %v, want 101", path, resp, err)
		}
		_ = resp.Body.Close() // it has none
		for range 3 {
			if _, err := io.WriteString(conn, "ping\n"); err != nil {
				t.Fatal(err)
			}
			if line, err := in.ReadString('\n'); err != nil || line != "ping\n" {
				t.Fatalf("%s: %q %v", path, line, err)
			}
		}
	}
	if stats, err := d.proxy.Admin("/stats?filter=cds_internal.*upstream_rq_total"); err != nil || stats == "" {
		t.Errorf("no request took two passes: %q %v", stats, err)
	}
}
