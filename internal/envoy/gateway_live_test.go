package envoy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
)

// TestOnePassIsTwoOnEnvoy is TestOnePassIsTwo with an Envoy in place of the evaluator
// of Envoy's routes.
func TestOnePassIsTwoOnEnvoy(t *testing.T) {
	t.Parallel()
	program := needEnvoy(t)
	nodes := map[string]uint32{} // the ports of the nodes' applications
	for _, s := range []string{"s1", "s2"} {
		for i := range 4 {
			node := fmt.Sprint(s, "n", i)
			nodes[node] = echo(t, node)
		}
	}
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			g := &generator{Rand: rand.New(rand.NewPCG(seed, 13)), t: t}
			v := g.gatewayView(8080)
			bind := freeAddress(t)
			resources, _ := Translate(v, Profile{Bound: true, Bind: bind, Internal: true})
			for _, r := range resources {
				if c, ok := r.Message.(*clusterv3.Cluster); ok && strings.HasPrefix(c.Name, "cds_egress_") {
					c.LoadAssignment = oneEndpoint(c.Name, "127.0.0.1", nodes[nodeOf(c.Name)])
				}
			}
			addr := bind.String() + ":8080"
			runEnvoy(t, program, writeBootstrap(t, resources), addr)
			for range 150 {
				in := g.request()
				if got, want := call(t, addr, in), reference(v, in); got != want {
					t.Fatalf("%s\ngot  %+v\nwant %+v\n%s", in, got, want, printResources(t, resources))
				}
			}
		})
	}
}

// echo runs an application that answers with how it was called.
func echo(t *testing.T, node string) (port uint32) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-node", node)
		w.Header().Set("x-path", r.URL.EscapedPath())
		w.Header().Set("x-host", r.Host)
		w.Header().Set("x-query", r.URL.RawQuery)
	}))
	t.Cleanup(s.Close)
	return uint32(s.Listener.Addr().(*net.TCPAddr).Port)
}

// freeAddress returns a loopback address whose port 8080 nobody uses.
func freeAddress(t *testing.T) netip.Addr {
	t.Helper()
	for range 100 {
		ip := netip.AddrFrom4([4]byte{127, byte(1 + rand.IntN(250)), byte(rand.IntN(250)), byte(2 + rand.IntN(250))})
		if l, err := net.Listen("tcp", ip.String()+":8080"); err == nil {
			_ = l.Close()
			return ip
		}
	}
	t.Skip("this system lets nobody bind addresses in 127.0.0.0/8 beside 127.0.0.1")
	return netip.Addr{}
}

// runEnvoy runs an Envoy until the test ends, and waits until it listens.
func runEnvoy(t *testing.T, program, file, addr string) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(program, "-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "warning")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // how it ends does not matter
		if t.Failed() {
			t.Log(log.String())
		}
	})
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("Envoy does not listen")
		}
	}
}

// call sends a request to an Envoy and returns what became of it.
func call(t *testing.T, addr string, in request) verdict {
	t.Helper()
	url := "http://" + addr + in.path
	if in.query != "" {
		url += "?" + in.query
	}
	req, err := http.NewRequestWithContext(t.Context(), in.method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = in.host
	for k, v := range in.headers {
		req.Header.Set(k, v)
	}
	resp, err := (&http.Client{Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return verdict{Status: resp.StatusCode}
	}
	if got := resp.Header.Get("x-query"); got != in.query {
		t.Errorf("%s: the query became %q", in, got)
	}
	return verdict{Node: resp.Header.Get("x-node"), Path: resp.Header.Get("x-path"), Host: resp.Header.Get("x-host")}
}
