package envoy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// deadline bounds what a test does on one connection.
const deadline = 30 * time.Second

// inboundStage is a virtual node named target with its application, called straight at
// its Envoy's listeners.
type inboundStage struct {
	*stage
	app, bind string
	proxy     *meshtest.Proxy
	logFile   string // its access log
}

func newInbound(t *testing.T) *inboundStage {
	t.Helper()
	s := newStage(t)
	return &inboundStage{stage: s, app: meshtest.Address(t), bind: meshtest.Address(t), logFile: filepath.Join(t.TempDir(), "access.log")}
}

// in returns the stage for a part of its test.
func (s *inboundStage) in(t *testing.T) *inboundStage {
	part, same := *s, *s.stage
	same.t = t
	part.stage = &same
	return &part
}

// listener is one of a node's; settings are members of it as JSON, with a comma in front.
func listener(port int, protocol, settings string) string {
	return fmt.Sprintf(`{"portMapping":{"port":%d,"protocol":%q}%s}`, port, protocol, settings)
}

// define makes or changes the virtual node; format is that of its access log, "" for
// Envoy's own.
func (s *inboundStage) define(format string, listeners ...string) {
	s.t.Helper()
	if format != "" {
		format = `,"format":` + format
	}
	spec := fmt.Sprintf(`{"listeners":[%s],"serviceDiscovery":{"dns":{"hostname":%q}},"logging":{"accessLog":{"file":{"path":%q%s}}}}`,
		strings.Join(listeners, ","), s.bind, s.logFile, format)
	if s.proxy == nil {
		s.plane.Put(s.t, "/meshes/test/virtualNodes", `{"virtualNodeName":"target","spec":`+spec+`}`)
		return
	}
	s.plane.Put(s.t, "/meshes/test/virtualNodes/target", `{"spec":`+spec+`}`)
}

// start starts the node's Envoy, its bootstrap changed first unless change is nil, and
// waits for it.
func (s *inboundStage) start(change func(bootstrap map[string]any)) {
	s.t.Helper()
	c := meshtest.ProxyConfig{ARN: meshtest.ARN("test", "target"), Bind: s.bind, App: s.app}
	if change != nil {
		b := s.plane.Bootstrap(s.t, c)
		change(b)
		text, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		file := filepath.Join(s.t.TempDir(), "bootstrap.json")
		meshtest.WriteFile(s.t, file, text)
		c.Env = []string{"ENVOY_CONFIG_FILE=" + file}
	}
	s.proxy = s.plane.Proxy(s.t, c).Ready(s.t)
}

// nodeMetadata changes what a bootstrap says of its proxy to the control plane.
func nodeMetadata(bootstrap map[string]any) map[string]any {
	return bootstrap["node"].(map[string]any)["metadata"].(map[string]any)["fairlead"].(map[string]any)
}

// at is the address of one of the Envoy's listeners.
func (s *inboundStage) at(port int) string { return fmt.Sprintf("%s:%d", s.bind, port) }

func (s *inboundStage) listen(port int) net.Listener {
	s.t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", s.app, port))
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// serveHTTP runs an application that speaks HTTP/1.1, or HTTP/2 without TLS.
func (s *inboundStage) serveHTTP(port int, http2 bool, h http.Handler) {
	s.t.Helper()
	var p http.Protocols
	p.SetHTTP1(!http2)
	p.SetUnencryptedHTTP2(http2)
	server := &http.Server{Handler: h, ReadHeaderTimeout: deadline, Protocols: &p}
	l := s.listen(port)
	go func() { _ = server.Serve(l) }()
	s.t.Cleanup(func() { _ = server.Close() })
}

// serveTCP runs an application that handles each connection.
func (s *inboundStage) serveTCP(port int, handle func(net.Conn)) {
	s.t.Helper()
	l := s.listen(port)
	s.t.Cleanup(func() { _ = l.Close() })
	go meshtest.HandleConns(l, handle)
}

// echo sends back what comes until the other side has sent everything.
func echo(c net.Conn) { _, _ = io.Copy(c, c) }

// serveGRPC runs a gRPC application.
func (s *inboundStage) serveGRPC(port int, service grpc_testing.TestServiceServer) {
	s.t.Helper()
	server := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(server, service)
	l := s.listen(port)
	go func() { _ = server.Serve(l) }()
	s.t.Cleanup(server.Stop)
}

// callGRPC returns a client of a gRPC listener; transport is nil for plain text.
func (s *inboundStage) callGRPC(port int, transport credentials.TransportCredentials) grpc_testing.TestServiceClient {
	s.t.Helper()
	if transport == nil {
		transport = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient(s.at(port), grpc.WithTransportCredentials(transport), grpc.WithDisableRetry())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return grpc_testing.NewTestServiceClient(conn)
}

// limited returns a context that ends with the test's patience.
func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// dial opens a connection to one of the Envoy's listeners.
func (s *inboundStage) dial(port int) *net.TCPConn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.at(port))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
		s.t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// ask sends a line over a connection and returns the line that comes back.
func ask(c net.Conn, line string) (string, error) {
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	return readLine(c)
}

func readLine(c net.Conn) (string, error) {
	got, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSuffix(got, "\n"), err
}

// client returns an HTTP client that opens a connection for each request, in one version
// of the protocol.
func client(http2 bool) *http.Client {
	var p http.Protocols
	p.SetHTTP1(!http2)
	p.SetUnencryptedHTTP2(http2)
	return &http.Client{Timeout: deadline, Transport: &http.Transport{Protocols: &p, DisableKeepAlives: true}}
}

// logged waits for a line of the access log that has all the texts in it.
func (s *inboundStage) logged(texts ...string) (line string) {
	s.t.Helper()
	meshtest.Eventually(s.t, fmt.Sprintf("the access log has a line with %q", texts), func() (err error) {
		line, err = s.findLogged(texts...)
		return err
	})
	return line
}

// findLogged looks for such a line.
func (s *inboundStage) findLogged(texts ...string) (string, error) {
	if err := s.proxy.Post("/reopen_logs"); err != nil { // or Envoy would write in 10 s
		return "", err
	}
	raw, err := os.ReadFile(s.logFile)
	if err != nil {
		return "", err
	}
lines:
	for line := range strings.Lines(string(raw)) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue lines
			}
		}
		return line, nil
	}
	return "", fmt.Errorf("it holds:\n%s", raw)
}

// awaitStat waits until one of the Envoy's statistics has a value.
func (s *inboundStage) awaitStat(name string, want int) {
	s.t.Helper()
	meshtest.Eventually(s.t, name+" is "+fmt.Sprint(want), func() error {
		text, err := s.proxy.Admin("/stats?filter=^" + name + "$")
		if err == nil && text != fmt.Sprintf("%s: %d", name, want) {
			return fmt.Errorf("it says %q", text)
		}
		return err
	})
}
