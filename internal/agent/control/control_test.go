package control

import (
	"crypto/tls"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A client trusts the roots of the file, shows its certificate and follows no redirect.
func TestClient(t *testing.T) {
	t.Parallel()
	shown := make(chan int, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown <- len(r.TLS.PeerCertificates)
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "roots.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, certificate := range []*tls.Certificate{nil, &server.TLS.Certificates[0]} {
		c, err := API{Endpoint: server.URL, CAFile: file}.Client(time.Minute, certificate)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.CloseIdleConnections)
		resp, err := c.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusFound {
			t.Errorf("the status is %d (%v), want %d", resp.StatusCode, err, http.StatusFound)
		}
		if got := <-shown; got != want {
			t.Errorf("%d certificates were shown, want %d", got, want)
		}
	}
}

func TestRootsRefuses(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{empty: "no PEM certificate in " + empty, empty + ".none": "no such file"} {
		if _, err := (API{Endpoint: "https://f:1", CAFile: file}).Client(time.Second, nil); err == nil ||
			!strings.Contains(err.Error(), "FAIRLEAD_API_CA_FILE") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want one with FAIRLEAD_API_CA_FILE and %q", file, err, want)
		}
	}
	if _, err := (API{Endpoint: "http://127.0.0.1:1", CAFile: empty}).Client(time.Second, nil); err != nil {
		t.Errorf("without TLS no roots are needed: %v", err)
	}
}
