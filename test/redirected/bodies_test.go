//go:build linux

package redirected

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

const (
	bodySize = 1 << 30
	// bodyMemory is how much an Envoy may grow while bodies pass: it holds no more than
	// its buffers.
	bodyMemory = 64 << 20
)

// untimed is the spec of a route to a node without time limits.
const untimed = `{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":"blue","weight":1}]},` +
	`"timeout":{"perRequest":{"unit":"s","value":0},"idle":{"unit":"s","value":0}}}}`

// Bodies of a gibibyte pass two Envoys in either direction, whole, and are held by none.
func TestGreatBodies(t *testing.T) {
	t.Parallel()
	s := newStage(t, `{}`)
	s.node("blue", `{"listeners":[{"portMapping":{"port":8080,"protocol":"http"},`+
		`"timeout":{"http":{"perRequest":{"unit":"s","value":0},"idle":{"unit":"s","value":0}}}}],"serviceDiscovery":{"dns":{"hostname":"blue"}}}`)
	blue, blueProxy := s.start("blue", port)
	blue.Serve(port, http.HandlerFunc(bodies))
	s.plane.Routed(t, "test", service, "colour", port, untimed)
	s.caller(service)
	calls := s.front.HTTP("tcp")
	calls.Timeout = 0
	await(t, calls, serviceURL+"?size=1", http.StatusOK, "")
	before := []int{peak(t, s.proxy), peak(t, blueProxy)}

	sent := crc32.New(table)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, serviceURL, io.TeeReader(content(bodySize), sent))
	if err != nil {
		t.Fatal(err)
	}
	if status, body, err := meshtest.Do(calls, req); err != nil || status != http.StatusOK || body != fmt.Sprint(bodySize, sent.Sum32()) {
		t.Errorf("a request's body: %d %q %v, want length and sum %d %d", status, body, err, bodySize, sent.Sum32())
	}
	resp, err := calls.Get(serviceURL + "?size=" + strconv.Itoa(bodySize))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := crc32.New(table)
	if n, err := io.Copy(got, resp.Body); err != nil || n != bodySize || got.Sum32() != sent.Sum32() {
		t.Errorf("an answer's body: %d bytes %v with sum %d, want %d with %d", n, err, got.Sum32(), bodySize, sent.Sum32())
	}
	for i, x := range []*meshtest.Proxy{s.proxy, blueProxy} {
		if grown := peak(t, x) - before[i]; grown > bodyMemory {
			t.Errorf("Envoy %d took %d MiB more for the bodies", i, grown>>20)
		}
	}
}

var table = crc32.MakeTable(crc32.Castagnoli)

// bodies answers a POST with the length and sum of its body, and a GET with a body of the
// length that is asked for.
func bodies(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		sum := crc32.New(table)
		n, err := io.Copy(sum, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, n, sum.Sum32())
		return
	}
	size, err := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = io.Copy(w, content(size))
}

// content returns bytes that are the same for everyone, and in which no two pieces of a
// size that anything here passes on at once are equal.
func content(size int64) io.Reader {
	random, block := rand.NewChaCha8([32]byte{}), make([]byte, 1<<20+7)
	_, _ = random.Read(block)
	var parts []io.Reader
	for left := size; left > 0; left -= int64(len(block)) {
		parts = append(parts, bytes.NewReader(block[:min(left, int64(len(block)))]))
	}
	return io.MultiReader(parts...)
}

// peak returns the most memory that an Envoy has had, in bytes.
func peak(t *testing.T, x *meshtest.Proxy) int {
	t.Helper()
	pid := regexp.MustCompile(`msg="Envoy started".* pid=(\d+)`).FindStringSubmatch(x.Log.String())
	if pid == nil {
		t.Fatal("the agent does not say which process Envoy is")
	}
	status, err := os.ReadFile("/proc/" + pid[1] + "/status")
	if err != nil {
		t.Fatal(err)
	}
	kib := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	if kib == nil {
		t.Fatalf("no VmHWM in %s", status)
	}
	n, err := strconv.Atoi(string(kib[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}
