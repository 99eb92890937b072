package restapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

const (
	testAccount = "000000000001"
	testRegion  = "us-east-1"
	// accountHeader tells the stub which account calls.
	accountHeader = "X-Test-Account"
)

// openStore opens a store of the test's own.
func openStore(tb testing.TB) *store.Store {
	tb.Helper()
	return openStoreWith(tb, store.Config{})
}

// fast are quotas that let a benchmark call as often as it can.
func fast() mesh.Quotas {
	q := mesh.DefaultQuotas()
	q[mesh.QuotaReadRate], q[mesh.QuotaWriteRate] = mesh.QuotaReadRate.Most(), mesh.QuotaWriteRate.Most()
	q[mesh.QuotaVirtualNodes] = mesh.QuotaVirtualNodes.Most()
	return q
}

// openStoreWith opens a store of the test's own with settings.
func openStoreWith(tb testing.TB, cfg store.Config) *store.Store {
	tb.Helper()
	cfg.DataDir, cfg.Unsafe = tb.TempDir(), true
	s, err := store.Open(context.Background(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// verifyAll is a Verify that believes everybody who signs with anything but
// "forged" and lets them do everything.
func verifyAll(r access.Request) (access.Caller, error) {
	account := r.Header.Get(accountHeader)
	switch r.Header.Get("Authorization") {
	case "forged":
		return access.Caller{}, mesh.Errorf(mesh.ErrInvalidSignature, "the signature does not match")
	case "":
		return access.Caller{}, mesh.Errorf(mesh.ErrMissingAuthentication, "the request is not signed")
	}
	if account == "" {
		account = testAccount
	}
	return access.Caller{Caller: store.Caller{
		Account: account, Region: testRegion,
		ARN:   "arn:aws:iam::" + account + ":user/tester",
		Allow: func(store.Question) error { return nil },
	}}, nil
}

// serve starts a server on a port of its own.
func serve(tb testing.TB, h http.Handler) *httptest.Server {
	tb.Helper()
	srv := httptest.NewServer(h)
	tb.Cleanup(srv.Close)
	return srv
}

// newServer starts a server over a new store that believes every caller.
func newServer(tb testing.TB) (*httptest.Server, *store.Store) {
	tb.Helper()
	s := openStore(tb)
	return serve(tb, restapi.New(restapi.Config{Store: s, Verify: verifyAll, Logger: testLogger(tb)})), s
}

// testLogger logs to the test.
func testLogger(tb testing.TB) *slog.Logger {
	if _, ok := tb.(*testing.B); ok {
		return nil
	}
	return slog.New(slog.NewTextHandler(tb.Output(), nil))
}

// answer is what the server sent.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

// code returns the name of the exception.
func (a answer) code() string { return a.Header.Get("X-Amzn-Errortype") }

// request makes a request as the tester. path is sent as it is.
func request(tb testing.TB, srv *httptest.Server, method, path, body string) *http.Request {
	tb.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, srv.URL+path, r)
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Authorization", "signed")
	return req
}

// send sends a request and reads the answer whole.
func send(tb testing.TB, srv *httptest.Server, req *http.Request) answer {
	tb.Helper()
	resp, err := srv.Client().Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		tb.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b.String()}
}

// do makes and sends a request.
func do(tb testing.TB, srv *httptest.Server, method, path, body string) answer {
	tb.Helper()
	return send(tb, srv, request(tb, srv, method, path, body))
}

// must does a request that has to succeed.
func must(tb testing.TB, srv *httptest.Server, method, path, body string) answer {
	tb.Helper()
	a := do(tb, srv, method, path, body)
	if a.Status != http.StatusOK {
		tb.Fatalf("%s %s %s: %d %s", method, path, body, a.Status, a.Body)
	}
	return a
}

const api = "/v20190125"

// base is one object of each kind: the paths and bodies that create them, in order.
var base = [][2]string{
	{"/meshes", `{"meshName":"shop","tags":[{"key":"team","value":"web"},{"key":"stage","value":"test"}]}`},
	{"/meshes/shop/virtualNodes", `{"virtualNodeName":"cart","spec":{"listeners":[{"portMapping":{"port":8080,"protocol":"http"},"healthCheck":{"protocol":"http","path":"/ping","healthyThreshold":2,"intervalMillis":5000,"timeoutMillis":2000,"unhealthyThreshold":2}}],"serviceDiscovery":{"dns":{"hostname":"cart.local"}},"backends":[]}}`},
	{"/meshes/shop/virtualRouters", `{"virtualRouterName":"cart","spec":{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}]}}`},
	{"/meshes/shop/virtualRouter/cart/routes", `{"routeName":"all","spec":{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":"cart","weight":1}]}}}}`},
	{"/meshes/shop/virtualServices", `{"virtualServiceName":"cart.local/v1","spec":{"provider":{"virtualRouter":{"virtualRouterName":"cart"}}}}`},
	{"/meshes/shop/virtualGateways", `{"virtualGatewayName":"edge","spec":{"listeners":[{"portMapping":{"port":80,"protocol":"http"}}]}}`},
	{"/meshes/shop/virtualGateway/edge/gatewayRoutes", `{"gatewayRouteName":"cart","spec":{"httpRoute":{"match":{"prefix":"/cart"},"action":{"target":{"virtualService":{"virtualServiceName":"cart.local/v1"}}}}}}`},
}

// createBase creates the base for an account.
func createBase(tb testing.TB, srv *httptest.Server, account string) {
	tb.Helper()
	for _, b := range base {
		req := request(tb, srv, http.MethodPut, api+b[0], b[1])
		req.Header.Set(accountHeader, account)
		if a := send(tb, srv, req); a.Status != http.StatusOK {
			tb.Fatalf("creating %s: %d %s", b[0], a.Status, a.Body)
		}
	}
}

// dump returns everything in the store, a line for each object.
func dump(tb testing.TB, s *store.Store) string {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var b strings.Builder
	err := s.Follow(ctx, store.System("test"), func(batch store.Batch) {
		for _, e := range batch.Events {
			o := e.Object()
			fmt.Fprintf(&b, "%d %s %d %s %v\n", o.Revision, o.ARN(), o.Version, o.Spec, o.Tags)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		tb.Fatal(err)
	}
	return b.String()
}
