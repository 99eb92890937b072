package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// proxiesVariable tells a process of this test's program that it is proxies, and which.
const proxiesVariable = "FAIRLEAD_BENCH_PROXIES"

// proxies are streams that a process of their own opens, so that what they take is not
// taken for the server's.
type proxies struct {
	Addr      string
	Creds     aws.Credentials
	Node      string
	Authority string // a PEM file; "" without TLS
	Number    int
	Full      bool // state-of-the-world
}

// BenchmarkStreams opens streams, each over a connection of its own, to a whole control
// plane, and prints what each takes there once it is in sync and idle: heap, stacks and
// resident memory after the collector has run and given back what it does not need
// (resident), resident memory as it stood at the end of the synchronisation (resident-sync),
// and goroutines. In the wide world a node calls 1,000 services, each with endpoints of its
// own, so that each stream asks for 1,000 names; in the narrow one it calls ten.
func BenchmarkStreams(b *testing.B) {
	for _, services := range []int{10, 1000} {
		for _, secure := range []bool{false, true} {
			b.Run(fmt.Sprintf("services=%d/tls=%t", services, secure), func(b *testing.B) {
				p := meshtest.StartWith(b, meshtest.Options{TLS: secure, Quotas: meshtest.MostQuotas()})
				fillServices(b, p, services)
				for _, full := range []bool{false, true} {
					b.Run(fmt.Sprintf("full=%t", full), func(b *testing.B) { streamMemory(b, p, full) })
				}
			})
		}
	}
}

// fillServices defines a node "front" that calls a number of services, each a router with
// a route to a node that Cloud Map discovers.
func fillServices(b *testing.B, p *meshtest.Plane, services int) {
	b.Helper()
	p.Put(b, "/meshes", `{"meshName":"bench"}`)
	var backends []string
	for i := range services {
		p.Put(b, "/meshes/bench/virtualNodes", fmt.Sprintf(`{"virtualNodeName":"node%d","spec":{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}],`+
			`"serviceDiscovery":{"awsCloudMap":{"namespaceName":"n","serviceName":"s%[1]d"}}}}`, i))
		service := fmt.Sprintf("service%d.bench.local", i)
		p.Routed(b, "bench", service, fmt.Sprint("router", i), 8080, meshtest.Weights(fmt.Sprint("node", i), 1))
		backends = append(backends, service)
	}
	p.Node(b, "bench", "front", "10.0.0.1", 8080, backends...)
}

func streamMemory(b *testing.B, p *meshtest.Plane, full bool) {
	const n = 500
	of := proxies{Addr: p.Addrs.XDS, Creds: p.Creds, Node: meshtest.ARN("bench", "front"), Full: full}
	if p.CA != nil {
		of.Authority = p.CA.File
	}
	for b.Loop() {
		one, many := of, of
		one.Number, many.Number = 1, n
		endOne := openProxies(b, one) // the feed, and whatever else does not grow with the streams
		before := weigh(true)
		endMany := openProxies(b, many)
		atSync := weigh(false)
		after := weigh(true)
		for unit, bytes := range map[string]float64{
			"heap-KB": after.heap - before.heap, "stack-KB": after.stack - before.stack,
			"resident-KB": after.resident - before.resident, "resident-sync-KB": atSync.resident - before.resident,
		} {
			b.ReportMetric(bytes/n/1024, unit)
		}
		b.ReportMetric((after.goroutines-before.goroutines)/n, "goroutines")
		b.ReportMetric(0, "ns/op")
		endMany()
		endOne()
		runtime.GC()
	}
}

// weight is what the test's process takes, in bytes.
type weight struct{ heap, stack, resident, goroutines float64 }

// weigh weighs the process, clean after it has given back what it does not need.
func weigh(clean bool) weight {
	if clean {
		runtime.GC()
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w := weight{heap: float64(m.HeapAlloc), stack: float64(m.StackInuse), goroutines: float64(runtime.NumGoroutine())}
	if raw, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, resident float64
		if _, err := fmt.Sscan(string(raw), &size, &resident); err == nil {
			w.resident = resident * float64(os.Getpagesize())
		}
	}
	return w
}

// openProxies has a process open streams, waits until all are in sync, and returns what
// ends them.
func openProxies(b *testing.B, of proxies) (end func()) {
	b.Helper()
	raw, err := json.Marshal(of)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), proxiesVariable+"="+string(raw))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		b.Fatalf("the proxies said %q: %v", line, err)
	}
	return func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Errorf("the proxies ended with %v", err)
		}
	}
}

// runProxies opens streams, says when all are in sync, and holds them until its input ends.
func runProxies(settings string) error {
	debug.SetGCPercent(50)
	var of proxies
	if err := json.Unmarshal([]byte(settings), &of); err != nil {
		return err
	}
	transport := insecure.NewCredentials()
	if of.Authority != "" {
		pem, err := os.ReadFile(of.Authority)
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		transport = credentials.NewTLS(&tls.Config{RootCAs: pool})
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var opening errgroup.Group
	opening.SetLimit(32)
	for range of.Number {
		opening.Go(func() error {
			conn, err := grpc.NewClient(of.Addr, grpc.WithTransportCredentials(transport), grpc.WithReadBufferSize(4<<10),
				grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
			if err != nil {
				return err
			}
			sync := make(chan error, 1)
			if of.Full {
				go func() { sync <- of.full(ctx, conn, sync) }()
			} else {
				go func() { sync <- of.delta(ctx, conn, sync) }()
			}
			return <-sync
		})
	}
	if err := opening.Wait(); err != nil {
		return err
	}
	fmt.Println("in sync")
	_, _ = io.Copy(io.Discard, os.Stdin) // its end is all that is waited for
	return nil
}

// subscription is what a proxy asks for next, after a response.
type subscription struct {
	typ   envoy.Type
	names []string
}

// routeName finds the names of route configurations in an encoded listener.
var routeName = regexp.MustCompile(`rds_[a-z0-9_]+`)

// next returns what a proxy asks for because of a response.
func next(t envoy.Type, resources []*anypb.Any) (all []subscription) {
	var names []string
	for _, r := range resources {
		switch t {
		case envoy.TypeCluster:
			c := new(clusterv3.Cluster)
			if r.UnmarshalTo(c) == nil && c.GetEdsClusterConfig() != nil {
				names = append(names, c.GetName())
			}
		case envoy.TypeListener:
			names = append(names, routeName.FindAllString(string(r.GetValue()), -1)...)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if t == envoy.TypeCluster {
		return []subscription{{envoy.TypeEndpoint, names}}
	}
	return []subscription{{envoy.TypeRoute, names}}
}

// delta runs a delta stream, and tells sync once it has routes and endpoints.
func (of *proxies) delta(ctx context.Context, conn *grpc.ClientConn, sync chan<- error) error {
	ctx, err := meshtest.SignStream(ctx, of.Creds, of.Addr, "DeltaAggregatedResources")
	if err != nil {
		return err
	}
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	node := &corev3.Node{Id: of.Node}
	ask := func(t envoy.Type, nonce string, names []string) {
		_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{ // Recv tells why it cannot be sent
			Node: node, TypeUrl: t.URL(), ResponseNonce: nonce, ResourceNamesSubscribe: names,
		})
		node = nil
	}
	ask(envoy.TypeCluster, "", nil)
	ask(envoy.TypeListener, "", nil)
	have := map[envoy.Type]bool{}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("receiving: %w", err)
		}
		t, _ := envoy.ParseType(resp.GetTypeUrl())
		ask(t, resp.GetNonce(), nil)
		if !have[t] {
			var resources []*anypb.Any
			for _, r := range resp.GetResources() {
				resources = append(resources, r.GetResource())
			}
			for _, s := range next(t, resources) {
				ask(s.typ, "", s.names)
			}
			if t == envoy.TypeRoute {
				ask(envoy.TypeVirtualHost, "", nil)
			}
		}
		synced(have, t, sync)
	}
}

// full runs a state-of-the-world stream, and tells sync once it has routes and endpoints.
func (of *proxies) full(ctx context.Context, conn *grpc.ClientConn, sync chan<- error) error {
	ctx, err := meshtest.SignStream(ctx, of.Creds, of.Addr, "StreamAggregatedResources")
	if err != nil {
		return err
	}
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return err
	}
	node := &corev3.Node{Id: of.Node}
	asked := map[envoy.Type][]string{}
	ask := func(t envoy.Type, nonce, version string) {
		_ = stream.Send(&discoveryv3.DiscoveryRequest{ // Recv tells why it cannot be sent
			Node: node, TypeUrl: t.URL(), ResponseNonce: nonce, VersionInfo: version, ResourceNames: asked[t],
		})
		node = nil
	}
	ask(envoy.TypeCluster, "", "")
	ask(envoy.TypeListener, "", "")
	have := map[envoy.Type]bool{}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("receiving: %w", err)
		}
		t, _ := envoy.ParseType(resp.GetTypeUrl())
		ask(t, resp.GetNonce(), resp.GetVersionInfo())
		for _, s := range next(t, resp.GetResources()) {
			if asked[s.typ] == nil {
				asked[s.typ] = s.names
				ask(s.typ, "", "")
			}
		}
		synced(have, t, sync)
	}
}

// synced notes that a type has come, and tells sync once routes and endpoints have.
func synced(have map[envoy.Type]bool, t envoy.Type, sync chan<- error) {
	before := have[envoy.TypeEndpoint] && have[envoy.TypeRoute]
	have[t] = true
	if !before && have[envoy.TypeEndpoint] && have[envoy.TypeRoute] {
		select {
		case sync <- nil:
		default:
		}
	}
}
