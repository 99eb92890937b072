package envoy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// TestAccessLogFormats has the access log of requests and of connections in each format,
// changed while the proxy runs.
func TestAccessLogFormats(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.logging.accessLog.file.{path,format.text,format.json}")
	s := newInbound(t)
	s.serveHTTP(httpPort, false, version)
	s.serveTCP(tcpPort, echo)
	listeners := []string{listener(httpPort, "http", ""), listener(tcpPort, "tcp", "")}
	call := func(path string) {
		s.get(false, httpPort, path).want(t, path, http.StatusOK, "")
		c := s.dial(tcpPort)
		if _, err := ask(c, "0123456789"); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}

	s.define("", listeners...)
	s.start(nil)
	call("/default")
	s.logged(`"GET /default HTTP/1.1" 200 - 0 8`, s.app+":8080")
	s.logged(`"- - -" 0 - 11 11`, s.app+":9000")

	s.define(`{"text":"text path=%REQ(:PATH)% status=%RESPONSE_CODE% 100%% sent=%BYTES_SENT% %PROTOCOL% to %UPSTREAM_CLUSTER%\n"}`, listeners...)
	s.calledAndLogged(call, "/text", `text path=/text status=200 100% sent=8 HTTP/1.1 to cds_ingress_test_target_http_8080`)
	// What only a request has is "-" of a connection.
	s.calledAndLogged(call, "/text", `text path=- status=0 100% sent=11 - to cds_ingress_test_target_tcp_9000`)

	s.define(`{"json":[{"key":"path","value":"%REQ(:PATH)%"},{"key":"status","value":"%RESPONSE_CODE%"},{"key":"line","value":"%BYTES_SENT% bytes"}]}`, listeners...)
	for _, want := range []map[string]any{
		{"path": "/json", "status": 200.0, "line": "8 bytes"},
		{"path": nil, "status": 0.0, "line": "11 bytes"},
	} {
		line := s.calledAndLogged(call, "/json", `{"`, want["line"].(string))
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// calledAndLogged calls until the access log has a line with all the texts: the first
// calls may be logged as before.
func (s *inboundStage) calledAndLogged(call func(path string), path string, texts ...string) (line string) {
	s.t.Helper()
	meshtest.Eventually(s.t, fmt.Sprintf("a call is logged with %q", texts), func() (err error) {
		call(path)
		line, err = s.findLogged(texts...)
		return err
	})
	return line
}
