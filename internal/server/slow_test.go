package server_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

// never is a bound that a test does not reach.
const never = time.Hour

// patient are bounds that no test reaches, but for those that it sets.
func patient(change func(*server.Timeouts)) func(*server.Config) {
	return func(c *server.Config) {
		c.Timeouts = server.Timeouts{Header: never, Request: never, Answer: never, Stall: never, Idle: never}
		change(&c.Timeouts)
	}
}

const short = 100 * time.Millisecond

const openConnections = `fairlead_connections{listener="api"}`

func TestSlowHeadersAreCutOff(t *testing.T) {
	t.Parallel()
	p := meshtest.StartWith(t, meshtest.Options{Change: patient(func(to *server.Timeouts) { to.Header = short })})
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		if _, err := io.ReadAll(dial(t, p.Addrs.API)); err != nil {
			t.Errorf("waiting for the end: %v", err)
		}
	})
	t.Run("a byte at a time", func(t *testing.T) {
		t.Parallel()
		c := dial(t, p.Addrs.API)
		send(t, c, "GET / HTTP/1.1\r\nHost: a\r\nX-Long: ")
		trickle(t, c, func() []byte { return []byte("x") })
	})
	t.Run("of the discovery service", func(t *testing.T) {
		t.Parallel()
		c := dial(t, p.Addrs.XDS)
		send(t, c, http2.ClientPreface[:10])
		if _, err := io.Copy(io.Discard, c); isTimeout(err) {
			t.Errorf("waiting for the end: %v", err)
		}
	})
}

func TestIdleConnectionsEnd(t *testing.T) {
	t.Parallel()
	p := meshtest.StartWith(t, meshtest.Options{Change: patient(func(to *server.Timeouts) { to.Idle = short })})
	c := dial(t, p.Addrs.API)
	request, _ := wire(t, signed(t, p, http.MethodGet, "/v20190125/meshes", ""))
	send(t, c, request)
	wantStatus(t, c, http.StatusOK)
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("the API, after a request: %v", err)
	}
	c = dial(t, p.Addrs.XDS)
	send(t, c, http2.ClientPreface)
	if err := http2.NewFramer(c, nil).WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); isTimeout(err) {
		t.Errorf("the discovery service, without a stream: %v", err)
	}
}

func isTimeout(err error) bool {
	var of net.Error
	return errors.As(err, &of) && of.Timeout()
}

func TestSlowHandshakeIsCutOff(t *testing.T) {
	t.Parallel()
	p := meshtest.StartWith(t, meshtest.Options{TLS: true, Change: patient(func(to *server.Timeouts) { to.Header = short })})
	for _, addr := range []string{p.Addrs.API, p.Addrs.XDS, p.Addrs.Ops} {
		c := dial(t, addr)
		send(t, c, "\x16\x03\x01\x02\x00") // a handshake that announces 512 bytes
		if _, err := io.ReadAll(c); isTimeout(err) {
			t.Errorf("waiting for the end: %v", err)
		}
	}
}

func TestSlowBodyIsCutOff(t *testing.T) {
	t.Parallel()
	p := meshtest.StartWith(t, meshtest.Options{Change: patient(func(to *server.Timeouts) { to.Request = 3 * short })})
	c := dial(t, p.Addrs.API)
	headers, body := wire(t, signed(t, p, http.MethodPut, "/v20190125/meshes", `{"meshName":"slow","tags":[`+strings.Repeat(" ", 1<<19)+`]}`))
	send(t, c, headers)
	go func() { // until the test closes the connection
		for _, b := range []byte(body) {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest || !resp.Close {
		t.Errorf("a body that does not come: %s, closing %v", resp.Status, resp.Close)
	}
	wantMetric(t, p, openConnections, "0")
}

// large fills a mesh with a node whose description is large, and returns its path.
func large(t *testing.T, p *meshtest.Plane) string {
	t.Helper()
	p.Put(t, "/meshes", `{"meshName":"test"}`)
	var backends []string
	for i := range 300 {
		backends = append(backends, strings.Repeat("x", 200)+string(rune('a'+i%26))+string(rune('a'+i/26)))
	}
	p.Node(t, "test", "large", "10.0.0.1", 8080, backends...)
	return "/v20190125/meshes/test/virtualNodes/large"
}

func TestReaderThatDoesNotReadIsCutOff(t *testing.T) {
	t.Parallel()
	p := meshtest.StartWith(t, meshtest.Options{Change: patient(func(to *server.Timeouts) { to.Answer = 5 * short })})
	path := large(t, p)
	p.CloseIdle()
	wantMetric(t, p, openConnections, "0")
	c := dial(t, p.Addrs.API)
	if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	request, _ := wire(t, signed(t, p, http.MethodGet, path, ""))
	go func() { // until the server or the test closes the connection
		for range 400 {
			if _, err := io.WriteString(c, request); err != nil {
				return
			}
		}
	}()
	wantMetric(t, p, openConnections, "1")
	wantMetric(t, p, openConnections, "0")
}

func TestSlowClientsOfHTTP2AreCutOff(t *testing.T) {
	t.Parallel()
	t.Run("headers without an end", func(t *testing.T) {
		t.Parallel()
		p := meshtest.StartWith(t, meshtest.Options{TLS: true, Change: patient(func(to *server.Timeouts) { to.Idle = short })})
		f := dialFrames(t, p)
		block := f.headers(t, signed(t, p, http.MethodGet, "/v20190125/meshes", ""))
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:1], EndStream: true}); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, f.conn) }() // ends with the connection
		trickle(t, f.conn, func() []byte {
			return []byte{0, 0, 0, byte(http2.FrameContinuation), 0, 0, 0, 0, 1} // a fragment of nothing
		})
	})
	t.Run("a body that trickles", func(t *testing.T) {
		t.Parallel()
		p := meshtest.StartWith(t, meshtest.Options{TLS: true, Change: patient(func(to *server.Timeouts) { to.Request, to.Idle = 3*short, short })})
		f := dialFrames(t, p)
		req := signed(t, p, http.MethodPut, "/v20190125/meshes", `{"meshName":"slow"}`)
		f.open(t, 1, req, false)
		if err := f.WriteData(1, false, []byte("{")); err != nil {
			t.Fatal(err)
		}
		var got string
		f.until(t, "an answer", func(x http2.Frame) bool { got = f.status(t, x); return got != "" })
		if got != "400" {
			t.Errorf("a body that does not come: %s", got)
		}
		f.until(t, "the connection's end", func(x http2.Frame) bool { return x.Header().Type == http2.FrameGoAway })
	})
	t.Run("no room for the answer", func(t *testing.T) {
		t.Parallel()
		p := meshtest.StartWith(t, meshtest.Options{TLS: true, Change: patient(func(to *server.Timeouts) { to.Answer, to.Idle = 3*short, short })})
		f := dialFrames(t, p, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		f.open(t, 1, signed(t, p, http.MethodGet, "/v20190125/meshes", ""), true)
		f.until(t, "the stream's end", func(x http2.Frame) bool {
			if d, ok := x.(*http2.DataFrame); ok && len(d.Data()) > 0 {
				t.Error("data was sent that there is no room for")
			}
			return x.Header().Type == http2.FrameRSTStream
		})
		f.until(t, "the connection's end", func(x http2.Frame) bool { return x.Header().Type == http2.FrameGoAway })
	})
	t.Run("a reader that does not read", func(t *testing.T) {
		t.Parallel()
		p := meshtest.StartWith(t, meshtest.Options{TLS: true, Change: patient(func(to *server.Timeouts) { to.Stall = 5 * short })})
		path := large(t, p)
		p.CloseIdle()
		wantMetric(t, p, openConnections, "0")
		f := dialFrames(t, p, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
		if err := f.WriteWindowUpdate(0, 1<<30); err != nil {
			t.Fatal(err)
		}
		req := signed(t, p, http.MethodGet, path, "")
		go func() { // until the server or the test closes the connection
			for i := range uint32(400) {
				block := f.headers(t, req)
				if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block, EndHeaders: true, EndStream: true}); err != nil {
					return
				}
			}
		}()
		wantMetric(t, p, openConnections, "1")
		wantMetric(t, p, openConnections, "0")
	})
}

func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	p := meshtest.StartWith(t, meshtest.Options{TLS: true})
	req := signed(t, p, http.MethodGet, "/v20190125/meshes", "")
	req.Header.Set("X-Long", strings.Repeat("x", 80<<10))
	for _, c := range []struct {
		what string
		h2   bool
	}{{"HTTP/1.1", false}, {"HTTP/2", true}} {
		client := p.HTTP()
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = c.h2
		resp, err := client.Do(req.Clone(t.Context()))
		if err != nil {
			if !c.h2 { // whose server may end the connection instead
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: %s", c.what, resp.Status)
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	p := meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) { c.APIConnections = 2 }})
	p.CloseIdle()
	wantMetric(t, p, openConnections, "0")
	request, _ := wire(t, signed(t, p, http.MethodGet, "/v20190125/meshes", ""))
	one, two := dial(t, p.Addrs.API), dial(t, p.Addrs.API)
	wantMetric(t, p, openConnections, "2")
	three := dial(t, p.Addrs.API)
	send(t, three, request)
	for _, c := range []net.Conn{one, two} { // those that are in are served
		send(t, c, request)
		wantStatus(t, c, http.StatusOK)
	}
	if got, err := metric(p, openConnections); got != "2" || err != nil {
		t.Errorf("%s connections are open (%v), allowed are 2", got, err)
	}
	_ = one.Close()
	wantStatus(t, three, http.StatusOK)
	if got, err := metric(p, `fairlead_connections_limit{listener="api"}`); got != "2" || err != nil {
		t.Errorf("the limit is shown as %s (%v)", got, err)
	}
}

func wantStatus(t *testing.T, c net.Conn, want int) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != want {
		t.Fatalf("%s %v, want %d", resp.Status, err, want)
	}
}
