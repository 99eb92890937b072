package bench

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

const (
	// turns is how often the API and etcd take turns, and turn is how long each works
	// then: a machine that is slower for a while is slower for both.
	turns = 5
	turn  = time.Second
	// valueSize is about what a stored virtual node of nodeSpec takes, in bytes.
	valueSize = 550
	// described is how many objects there are to be read.
	described = 1000
)

const nodeSpec = `{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}],` +
	`"serviceDiscovery":{"dns":{"hostname":"cart.shop.internal"}},` +
	`"backends":[{"virtualService":{"virtualServiceName":"payment.shop.internal"}}]}`

// BenchmarkAPI measures CreateVirtualNode and DescribeVirtualNode through the API of
// bin/fairlead, with 1, 16 and 64 clients that each have a connection of their own, and in
// turns with it puts and gets of values of the same size by clientv3 over loopback gRPC on
// an etcd with the settings of the embedded one. Each server is a process of its own.
// Calls per second of both (api/s, etcd/s), what share of etcd's rate the API reaches
// (ratio), and the slowest hundredth (p99-ms, etcd-p99-ms).
func BenchmarkAPI(b *testing.B) {
	p := startServer(b)
	admin := meshtest.NewSigned(p.url, p.creds)
	for _, quota := range []string{"virtual-nodes", "read-rate", "write-rate"} {
		admin.Want(b, http.MethodPut, "/v1/quotas/"+quota, `{"value":1000000}`, nil)
	}
	admin.Want(b, http.MethodPut, "/v20190125/meshes", `{"meshName":"bench"}`, nil)
	for i := range described {
		admin.Want(b, http.MethodPut, "/v20190125/meshes/bench/virtualNodes", fmt.Sprintf(`{"virtualNodeName":"n%d","spec":%s}`, i, nodeSpec), nil)
	}
	endpoint := startEtcd(b)
	for _, n := range []int{1, 16, 64} {
		mesh := fmt.Sprintf("bench-%d", n) // of its own, or the last ones would be made in a mesh nearly full
		admin.Want(b, http.MethodPut, "/v20190125/meshes", fmt.Sprintf(`{"meshName":%q}`, mesh), nil)
		b.Run(fmt.Sprintf("create/clients=%d", n), func(b *testing.B) {
			compare(b, apiClients(b, p, n, createIn(mesh)), etcdClients(b, endpoint, n, put))
		})
	}
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("describe/clients=%d", n), func(b *testing.B) {
			compare(b, apiClients(b, p, n, describe), etcdClients(b, endpoint, n, get))
		})
	}
}

// A call makes one call; i is different each time.
type call func(ctx context.Context, i int64) error

// compare lets the clients of both sides work in turns and reports what they did.
func compare(b *testing.B, api, etcd []call) {
	b.Helper()
	var apiTook, etcdTook []time.Duration
	var apiTime, etcdTime time.Duration
	for b.Loop() {
		for range turns {
			took, whole := work(b, api)
			apiTook, apiTime = append(apiTook, took...), apiTime+whole
			took, whole = work(b, etcd)
			etcdTook, etcdTime = append(etcdTook, took...), etcdTime+whole
		}
	}
	perSecond := func(took []time.Duration, whole time.Duration) float64 { return float64(len(took)) / whole.Seconds() }
	b.ReportMetric(perSecond(apiTook, apiTime), "api/s")
	b.ReportMetric(perSecond(etcdTook, etcdTime), "etcd/s")
	b.ReportMetric(perSecond(apiTook, apiTime)/perSecond(etcdTook, etcdTime), "ratio")
	report(b, apiTook, "p99-ms", 99)
	report(b, etcdTook, "etcd-p99-ms", 99)
	b.ReportMetric(0, "ns/op") // of a turn: it says nothing
}

// calls numbers all calls, so that no two make an object of the same name.
var calls atomic.Int64

// work lets all clients call for a turn, and returns how long each call took and how
// long it all took.
func work(b *testing.B, clients []call) (took []time.Duration, whole time.Duration) {
	b.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	for _, c := range clients {
		wg.Go(func() {
			var mine []time.Duration
			for time.Since(start) < turn {
				from := time.Now()
				if err := c(b.Context(), calls.Add(1)); err != nil {
					b.Error(err)
					return
				}
				mine = append(mine, time.Since(from))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	wg.Wait()
	return took, time.Since(start)
}

func createIn(mesh string) func(int64) (method, path, body string) {
	path := "/v20190125/meshes/" + mesh + "/virtualNodes"
	return func(i int64) (string, string, string) {
		return http.MethodPut, path, fmt.Sprintf(`{"virtualNodeName":"made-%d","spec":%s,"clientToken":%q}`, i, nodeSpec, uuid.NewString())
	}
}

func describe(i int64) (method, path, body string) {
	return http.MethodGet, fmt.Sprintf("/v20190125/meshes/bench/virtualNodes/n%d", i%described), ""
}

// apiClients returns n clients of the API, each with a connection of its own.
func apiClients(b *testing.B, p *process, n int, request func(int64) (method, path, body string)) []call {
	b.Helper()
	out := make([]call, n)
	for c := range out {
		l := newLine(b, p)
		out[c] = func(ctx context.Context, i int64) error {
			method, path, body := request(i)
			return l.call(ctx, method, path, body)
		}
	}
	return out
}

func put(ctx context.Context, c *clientv3.Client, i int64) error {
	_, err := c.Put(ctx, fmt.Sprintf("bench/made-%d", i), value)
	return err
}

func get(ctx context.Context, c *clientv3.Client, i int64) error {
	r, err := c.Get(ctx, fmt.Sprintf("bench/n%d", i%described))
	if err == nil && len(r.Kvs) != 1 {
		err = fmt.Errorf("etcd has no key bench/n%d", i%described)
	}
	return err
}

var value = strings.Repeat("v", valueSize)

// etcdClients returns n clients of an etcd, each with a connection of its own.
func etcdClients(b *testing.B, endpoint string, n int, do func(context.Context, *clientv3.Client, int64) error) []call {
	b.Helper()
	out := make([]call, n)
	for c := range out {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = client.Close() })
		out[c] = func(ctx context.Context, i int64) error { return do(ctx, client, i) }
	}
	return out
}
