package agent

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The file says what Envoy says, as JSON or as variables, and is written when that changes.
func TestPortsFile(t *testing.T) {
	t.Parallel()
	ready := false
	listeners := map[string]int{"lds_egress_127.0.0.1_15001": 15001, "lds_internal_tunnels": 0, "lds_local_redis.local_6379": 20001, "lds_local_a_b_1": 20002}
	envoy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ready":
			fmt.Fprintln(w, "LIVE")
		case "/stats":
			fmt.Fprintf(w, "listener_manager.lds.update_success: %d\nlistener_manager.total_listeners_active: 3\n", map[bool]int{true: 1}[ready])
		case "/listeners":
			var all []any
			for name, port := range listeners {
				all = append(all, map[string]any{"name": name, "local_address": map[string]any{"socket_address": map[string]any{"address": "127.0.0.1", "port_value": port}}})
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"listener_statuses": all})
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(envoy.Close)
	dir := t.TempDir()
	admin := &adminClient{base: envoy.URL, http: envoy.Client()}
	files := []*portsWriter{
		{admin: admin, file: filepath.Join(dir, "ports.json"), logger: slog.New(slog.DiscardHandler)},
		{admin: admin, file: filepath.Join(dir, "ports.env"), logger: slog.New(slog.DiscardHandler)},
	}
	look := func(json, env string) {
		t.Helper()
		for i, want := range []string{json, env} {
			files[i].look(t.Context())
			got, err := os.ReadFile(files[i].file)
			if diff := cmp.Diff(want, string(got)); diff != "" || (err != nil) != (want == "") {
				t.Errorf("%s %v:\n%s", files[i].file, err, diff)
			}
		}
	}
	look("", "") // before Envoy has its configuration nothing is said
	ready = true
	look("{\n  \"a_b:1\": \"127.0.0.1:20002\",\n  \"redis.local:6379\": \"127.0.0.1:20001\"\n}\n", "A_B_1=127.0.0.1:20002\nREDIS_LOCAL_6379=127.0.0.1:20001\n")
	delete(listeners, "lds_local_a_b_1")
	look("{\n  \"redis.local:6379\": \"127.0.0.1:20001\"\n}\n", "REDIS_LOCAL_6379=127.0.0.1:20001\n")
	delete(listeners, "lds_local_redis.local_6379")
	for _, w := range files {
		w.look(t.Context())
		if text, err := os.ReadFile(w.file); err != nil || len(w.known) > 0 || len(text) > 3 {
			t.Errorf("without a port: %q %v", text, err)
		}
		w.remove()
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); w == files[1] && len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}
