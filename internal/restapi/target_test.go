package restapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// echoAPI is an API with an operation that answers with its body, and one that fails as it
// is told.
func echoAPI() restapi.Target {
	return restapi.Target{
		Prefix: "Echo_1", Service: "echo", Source: "echo.example",
		ReadOnly: func(name string) (readOnly, ok bool) { return name == "Echo", name == "Echo" || name == "Fail" },
		Call: func(_ context.Context, c store.Caller, name string, body []byte) (any, string, error) {
			switch {
			case name == "Echo":
				return map[string]string{"account": c.Account, "body": string(body)}, "arn:x", nil
			case string(body) == "panic":
				panic("told to")
			case string(body) == "unknown":
				return nil, "", errors.New("a secret of the server")
			}
			return nil, "", fmt.Errorf("failing: %w", mesh.Errorf("Told", "told to"))
		},
		Refusal: func(name string, _ error, refusal *mesh.Error) (int, mesh.Code, map[string]string) {
			if refusal.Code == mesh.ErrInternalServerError {
				return http.StatusInternalServerError, "Internal", nil
			}
			return http.StatusTeapot, refusal.Code, map[string]string{"Operation": name}
		},
	}
}

// TestTarget holds how an API of another room is served: by the header, in its own words,
// with the signature of its own service.
func TestTarget(t *testing.T) {
	t.Parallel()
	services := make(chan string, 20)
	srv := serve(t, restapi.New(restapi.Config{
		Store: openStore(t), Targets: []restapi.Target{echoAPI()},
		Verify: func(r access.Request) (access.Caller, error) {
			services <- r.Service
			return verifyAll(r)
		},
	}))
	for _, c := range []struct {
		name, target, body string
		status             int
		code, want         string
	}{
		{"an answer", "Echo_1.Echo", `{"a":"<b>"}`, 200, "", `{"account":"000000000001","body":"{\"a\":\"<b>\"}"}`},
		{"a refusal", "Echo_1.Fail", ``, 418, "Told", `{"Message":"told to","Operation":"Fail","__type":"Told"}`},
		{"a fault", "Echo_1.Fail", `unknown`, 500, "Internal", ""},
		{"a panic", "Echo_1.Fail", `panic`, 500, "Internal", ""},
		{"an unknown operation", "Echo_1.Nothing", ``, 418, "UnknownOperationException", ""},
	} {
		req := request(t, srv, http.MethodPost, "/", c.body)
		req.Header.Set("X-Amz-Target", c.target)
		a := send(t, srv, req)
		if a.Status != c.status || a.code() != c.code || c.want != "" && a.Body != c.want {
			t.Errorf("%s: %d %s %s", c.name, a.Status, a.code(), a.Body)
		}
		if a.Header.Get("Content-Type") != "application/x-amz-json-1.1" || a.Header.Get("X-Amzn-Requestid") == "" || strings.Contains(a.Body, "secret") {
			t.Errorf("%s: %v %s", c.name, a.Header, a.Body)
		}
		var fields map[string]string
		if err := json.Unmarshal([]byte(a.Body), &fields); err != nil || fields["__type"] != c.code {
			t.Errorf("%s: the body %s has not the code", c.name, a.Body)
		}
	}
	for range 4 {
		if got := <-services; got != "echo" {
			t.Errorf("the signature was to be for %q", got)
		}
	}
	// What is no call of it stays what it was.
	wantNoTarget(t, srv, http.MethodPost, "/", "")
	wantNoTarget(t, srv, http.MethodPost, "/", "Other.Echo")
	wantNoTarget(t, srv, http.MethodGet, "/", "Echo_1.Echo")
	wantNoTarget(t, srv, http.MethodPost, "/x", "Echo_1.Echo")
	req := request(t, srv, http.MethodPut, api+"/meshes", `{"meshName":"m"}`)
	req.Header.Set("X-Amz-Target", "Echo_1.Echo")
	if a := send(t, srv, req); a.Status != http.StatusOK || <-services != "" {
		t.Errorf("App Mesh's operation: %d %s", a.Status, a.Body)
	}
}

func wantNoTarget(t *testing.T, srv *httptest.Server, method, path, target string) {
	t.Helper()
	req := request(t, srv, method, path, "")
	req.Header.Set("X-Amz-Target", target)
	a := send(t, srv, req)
	if diff := cmp.Diff([]any{404, "UnknownOperationException", "application/json"}, []any{a.Status, a.code(), a.Header.Get("Content-Type")}); diff != "" {
		t.Errorf("%s %s for %q (-want +got)\n%s", method, path, target, diff)
	}
}
