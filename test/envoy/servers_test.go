package envoy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// serveWith runs a server on an address of its own until the test ends.
func serveWith(t *testing.T, srv *http.Server) (addr string) {
	t.Helper()
	addr = meshtest.Address(t)
	l := listen(t, addr, port)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return addr
}

// serveAt runs an application that takes HTTP/1.1 and HTTP/2 without TLS on a port of an
// address.
func serveAt(t *testing.T, addr string, port int, h http.Handler) *http.Server {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: h, Protocols: protocols}
	l := listen(t, addr, port)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return srv
}

func listen(t *testing.T, addr string, port int) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", addr, port))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// dialer connects to an Envoy's way out, whatever address is asked for.
func dialer(x *meshtest.Proxy) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", x.Bind+":15001")
	}
}
