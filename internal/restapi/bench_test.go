package restapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/restapi"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// The benchmarks are of whole requests without connection and signature. Those called
// Audited write the audit log too.

func BenchmarkDescribeRoute(b *testing.B) { benchmarkDescribe(b, nil) }

func BenchmarkDescribeRouteAudited(b *testing.B) { benchmarkDescribe(b, openAudit(b)) }

func benchmarkDescribe(b *testing.B, log *audit.Log) {
	h := benchHandler(b, log)
	const path = meshes + "/shop/virtualRouter/cart/routes/all"
	benchmark(b, h, func(int) (string, string, string) { return http.MethodGet, path, "" })
}

// BenchmarkDescribeVirtualNode and BenchmarkCreateVirtualNode are what is measured beside
// a bare etcd in test/bench.
func BenchmarkDescribeVirtualNode(b *testing.B) {
	h := benchHandler(b, nil)
	benchmark(b, h, func(int) (string, string, string) { return http.MethodGet, cartNode, "" })
}

func BenchmarkCreateVirtualNode(b *testing.B) { benchmarkCreate(b, nil) }

func BenchmarkCreateVirtualNodeAudited(b *testing.B) { benchmarkCreate(b, openAudit(b)) }

func benchmarkCreate(b *testing.B, log *audit.Log) {
	h := benchHandler(b, log)
	const spec = `{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}],"serviceDiscovery":{"dns":{"hostname":"cart.shop.internal"}},"backends":[{"virtualService":{"virtualServiceName":"payment.shop.internal"}}]}`
	benchmark(b, h, func(i int) (string, string, string) {
		return http.MethodPut, nodes, fmt.Sprintf(`{"virtualNodeName":"made-%d","spec":%s,"clientToken":"t-%d"}`, i, spec, i)
	})
}

// BenchmarkList is a page of 100 virtual nodes.
func BenchmarkList(b *testing.B) {
	h := benchHandler(b, nil)
	for i := range 100 {
		if w := serveOne(h, http.MethodPut, nodes, fmt.Sprintf(`{"virtualNodeName":"n%d","spec":{}}`, i)); w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
	benchmark(b, h, func(int) (string, string, string) { return http.MethodGet, nodes, "" })
}

// benchHandler returns a handler over the base.
func benchHandler(b *testing.B, log *audit.Log) http.Handler {
	b.Helper()
	s := openStoreWith(b, store.Config{Quotas: fast()})
	h := restapi.New(restapi.Config{Store: s, Verify: verifyAll, Audit: log})
	createBase(b, serve(b, h), testAccount)
	return h
}

// openAudit opens an audit log of the test's own.
func openAudit(tb testing.TB) *audit.Log {
	tb.Helper()
	l, err := audit.Open(audit.Config{Path: filepath.Join(tb.TempDir(), "audit.log")})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}

// serveOne serves one request.
func serveOne(h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.Header.Set("Authorization", "signed")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

func benchmark(b *testing.B, h http.Handler, request func(i int) (method, path, body string)) {
	b.Helper()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		method, path, body := request(i)
		if w := serveOne(h, method, path, body); w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}
