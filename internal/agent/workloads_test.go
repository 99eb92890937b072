package agent

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// Where the socket's path would be too long there is none, and the agent starts all the same.
func TestWorkloadSocket(t *testing.T) {
	t.Parallel()
	served := Settings{API: API{Endpoint: "https://fairlead.example.com:9080"}, XDS: XDS{Host: "fairlead.example.com"}}
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
