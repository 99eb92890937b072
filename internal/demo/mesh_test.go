package demo

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

func TestCLISpecIsAllowed(t *testing.T) {
	t.Parallel()
	spec, _, bad := mesh.Decode(mesh.KindRoute, "spec", []byte(cliSpec(weights{70, 30})))
	if len(bad) > 0 {
		t.Fatalf("the spec that the reader is shown is refused: %v", bad)
	}
	targets := spec.(*mesh.RouteSpec).HttpRoute.Action.WeightedTargets
	if len(targets) != 2 || targets[0].Weight != 70 || targets[1].Weight != 30 {
		t.Errorf("it has the targets %+v", targets)
	}
}

// TestRefusal has an API that refuses everything, in App Mesh's form.
func TestRefusal(t *testing.T) {
	t.Parallel()
	calls := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls++
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Amzn-ErrorType", "BadRequestException")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"message":"spec.weight must be smaller"}`)
	}))
	defer srv.Close()
	key := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(key, []byte("[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := newDefiner(t.Context(), srv.URL, key, 8080)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := readRefusal(d.shift(t.Context(), weights{101, 0}))
	want := refusal{status: 400, code: "BadRequestException", message: "spec.weight must be smaller"}
	if !ok || got != want || calls != 1 {
		t.Errorf("the refusal is %+v, %v after %d calls; want %+v after one", got, ok, calls, want)
	}
	if _, ok := readRefusal(errors.New("connection refused")); ok {
		t.Error("an error that is no answer is read as a refusal")
	}
}
