package server_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// patience bounds every wait.
const patience = 30 * time.Second

// signed returns a signed request for the plane's API.
func signed(t testing.TB, p *meshtest.Plane, method, path, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), p.Creds, req, hex.EncodeToString(sum[:]), "appmesh", meshtest.Region, time.Now()); err != nil {
		t.Fatal(err)
	}
	return req
}

// wire returns a request as HTTP/1.1 sends it.
func wire(t testing.TB, req *http.Request) (headers, body string) {
	t.Helper()
	var b bytes.Buffer
	if err := req.Write(&b); err != nil {
		t.Fatal(err)
	}
	headers, body, _ = strings.Cut(b.String(), "\r\n\r\n")
	return headers + "\r\n\r\n", body
}

// dial opens a connection that is closed with the test, and reads and writes at most
// for as long as the test is patient.
func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

func send(t testing.TB, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

// trickle writes a byte at a time until the other side is fed up, which must happen
// before the test's patience ends.
func trickle(t testing.TB, w io.Writer, next func() []byte) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if _, err := w.Write(next()); err != nil {
			return
		}
		<-tick.C
	}
	t.Errorf("still not cut off after %s", patience)
}

// metric returns the value of a metric's sample.
func metric(p *meshtest.Plane, sample string) (string, error) {
	client := p.HTTP()
	defer client.CloseIdleConnections()
	resp, err := client.Get(strings.Replace(p.URL(), p.Addrs.API, p.Addrs.Ops, 1) + "/metrics")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(all)) {
		if value, ok := strings.CutPrefix(line, sample+" "); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("there is no %s", sample)
}

// wantMetric waits until a sample has a value.
func wantMetric(t testing.TB, p *meshtest.Plane, sample, want string) {
	t.Helper()
	meshtest.Eventually(t, sample+" is "+want, func() error {
		got, err := metric(p, sample)
		if err == nil && got != want {
			err = fmt.Errorf("it is %s", got)
		}
		return err
	})
}

// frames is an HTTP/2 connection by hand.
type frames struct {
	*http2.Framer
	conn net.Conn
	out  bytes.Buffer
	enc  *hpack.Encoder
	dec  *hpack.Decoder
}

// dialFrames opens an HTTP/2 connection over TLS with the given settings.
func dialFrames(t testing.TB, p *meshtest.Plane, settings ...http2.Setting) *frames {
	t.Helper()
	conn := tls.Client(dial(t, p.Addrs.API), &tls.Config{RootCAs: p.CA.Pool, ServerName: "localhost", NextProtos: []string{"h2"}})
	send(t, conn, http2.ClientPreface)
	f := &frames{Framer: http2.NewFramer(conn, conn), conn: conn}
	f.enc, f.dec = hpack.NewEncoder(&f.out), hpack.NewDecoder(4096, nil)
	f.SetMaxReadFrameSize(1 << 20)
	if err := f.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	return f
}

// headers returns a request's header block.
func (f *frames) headers(t testing.TB, req *http.Request) []byte {
	t.Helper()
	f.out.Reset()
	fields := [][2]string{
		{":method", req.Method},
		{":scheme", "https"},
		{":authority", req.URL.Host},
		{":path", req.URL.RequestURI()},
	}
	for name, values := range req.Header {
		for _, v := range values {
			fields = append(fields, [2]string{strings.ToLower(name), v})
		}
	}
	for _, field := range fields {
		if err := f.enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			t.Fatal(err)
		}
	}
	return bytes.Clone(f.out.Bytes())
}

// open sends a request without its body.
func (f *frames) open(t testing.TB, stream uint32, req *http.Request, end bool) {
	t.Helper()
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.headers(t, req), EndHeaders: true, EndStream: end}); err != nil {
		t.Fatal(err)
	}
}

// until reads frames until one is as wanted, and acknowledges settings and pings.
func (f *frames) until(t testing.TB, what string, wanted func(http2.Frame) bool) http2.Frame {
	t.Helper()
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		switch x := frame.(type) {
		case *http2.SettingsFrame:
			if !x.IsAck() {
				err = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !x.IsAck() {
				err = f.WritePing(true, x.Data)
			}
		}
		if wanted(frame) {
			return frame
		}
		if err != nil {
			t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

// status returns the status of an answer's headers, "" if the frame is another. Each
// frame is asked once, in order: header blocks refer to those before.
func (f *frames) status(t testing.TB, frame http2.Frame) string {
	t.Helper()
	h, ok := frame.(*http2.HeadersFrame)
	if !ok {
		return ""
	}
	fields, err := f.dec.DecodeFull(h.HeaderBlockFragment())
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range fields {
		if field.Name == ":status" {
			return field.Value
		}
	}
	return ""
}
