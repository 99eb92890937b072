package agent

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/agent/control"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// Where the socket's path would be too long there is none, and the agent starts all the same.
func TestWorkloadSocket(t *testing.T) {
	t.Parallel()
	served := Settings{API: control.API{Endpoint: "https://fairlead.example.com:9080"}, XDS: XDS{Host: "fairlead.example.com"}}
	relayed := served
	relayed.XDS = XDS{Socket: "/run/relay"}
	for name, c := range map[string]struct {
		settings Settings
		dir      string
		want     string
		warns    bool
	}{
		"served":           {served, "/run/a", "/run/a/workload", false},
		"without the API":  {Settings{XDS: served.XDS}, "/run/a", "", false},
		"behind a relay":   {relayed, "/run/a", "", false},
		"a long directory": {served, "/" + strings.Repeat("a", 100), "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &meshtest.Log{}
			got := c.settings.workloadSocket(c.dir, slog.New(slog.NewTextHandler(log, nil)))
			if got != c.want || strings.Contains(log.String(), "TMPDIR") != c.warns {
				t.Errorf("%q, log %s", got, log)
			}
		})
	}
}

// Requests for certificates are signed by the key of the moment: that of a role is another
// after an hour.
func TestIssuerTakesNewKeys(t *testing.T) {
	t.Parallel()
	var signed []string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
		key, _, _ := strings.Cut(rest, "/")
		signed = append(signed, key)
		_ = json.NewEncoder(w).Encode(map[string]string{"certificateChain": key})
	}))
	t.Cleanup(api.Close)
	file := filepath.Join(t.TempDir(), "credentials")
	issue, err := issuer(Settings{
		API: control.API{Endpoint: api.URL}, Resource: Resource{ARN: "mesh/shop/virtualNode/cart"},
		XDS: XDS{Region: "us-east-1", Credentials: Credentials{File: file, Profile: "default"}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"FIRST", "SECOND"} {
		meshtest.WriteFile(t, file, []byte("[default]\naws_access_key_id = "+key+"\naws_secret_access_key = test-secret-nobody-uses\n"))
		if i, err := issue(t.Context(), []byte("request")); err != nil || i.Chain != key {
			t.Errorf("signed by %q, %v, want %s", signed, err, key)
		}
	}
}
