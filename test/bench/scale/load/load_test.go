package load

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/test/process"
)

func TestMarks(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]uint32{
		"":          nil,
		"/old 10.0": nil,
		"x\x12\x0b" + RouteMark(7) + "\x1a" + RouteMark(12345678) + "!":                  {7, 12345678},
		"\x0a\x0c" + AddressMark(3) + "\x18\x90" + AddressMark(AddressMarks-1) + "\x18":  {3, AddressMarks - 1},
		RouteMark(9) + AddressMark(1<<16) + "\x00" + RouteMark(9) + "/zq123" + "198.18.": {9, 1 << 16},
	} {
		if diff := cmp.Diff(want, marksIn([]byte(text))); diff != "" {
			t.Errorf("marks in %q (-want +got):\n%s", text, diff)
		}
	}
}

func TestSince(t *testing.T) {
	t.Parallel()
	a, b := &fact{marks: []uint32{1, 5}}, &fact{marks: []uint32{5}}
	f := &fact{marks: []uint32{1, 2, 5, 9}}
	for range 2 { // once more from memory
		if diff := cmp.Diff([]uint32{2, 9}, f.since(a)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]uint32{1, 2, 9}, f.since(b)); diff != "" {
			t.Error(diff)
		}
	}
}

// plane is a control plane with a node that calls a service, the route of which is changed
// by the function that it returns.
func plane(t *testing.T, tls bool) (p *meshtest.Plane, change func(mark uint32)) {
	t.Helper()
	p = meshtest.StartWith(t, meshtest.Options{TLS: tls})
	p.Put(t, "/meshes", `{"meshName":"test"}`)
	p.Node(t, "test", "blue", "10.0.0.1", 8080)
	p.Routed(t, "test", "colour.local", "colour", 8080, meshtest.Weights("blue", 1))
	p.Node(t, "test", "front", "", 0, "colour.local")
	return p, func(mark uint32) {
		spec := strings.ReplaceAll(meshtest.Weights("blue", 1), `"prefix":"/"`, fmt.Sprintf(`"prefix":%q`, RouteMark(mark)))
		status, answer, err := p.Call(t.Context(), http.MethodPut, "/meshes/test/virtualRouter/colour/routes/all", `{"spec":`+spec+`}`)
		if err != nil || status != http.StatusOK {
			t.Fatalf("changing the route: %d %s %v", status, answer, err)
		}
	}
}

func config(p *meshtest.Plane, streams int) Config {
	c := Config{
		Address: p.Addrs.XDS, Nodes: []string{meshtest.ARN("test", "front")}, Streams: streams,
		KeyID: p.Creds.AccessKeyID, Secret: p.Creds.SecretAccessKey, Region: meshtest.Region, Keep: true, Ping: 5 * time.Second,
	}
	if p.CA != nil {
		c.CA = p.CA.File
	}
	return c
}

// opened opens a group until the test ends.
func opened(t *testing.T, cfg Config) *group {
	t.Helper()
	g, err := newGroup(cfg, &facts{seed: maphash.MakeSeed()}, &changes{all: map[uint32]*change{}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	g.open()
	t.Cleanup(g.close)
	return g
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func awaitAll(t *testing.T, g *group) {
	t.Helper()
	g.awaitSynced(within(t))
	if st := g.tell(); st.Synced != len(g.streams) || len(st.Ended)+len(st.Refused) > 0 {
		t.Fatalf("not all streams have all: %+v", st)
	}
}

// Streams get all, notice each change, and come back without being sent anything twice.
func TestStreams(t *testing.T) {
	t.Parallel()
	for _, tls := range []bool{false, true} {
		for _, full := range []bool{false, true} {
			t.Run(fmt.Sprintf("tls=%v full=%v", tls, full), func(t *testing.T) {
				t.Parallel()
				p, edit := plane(t, tls)
				cfg := config(p, 3)
				cfg.Full = full
				g := opened(t, cfg)
				awaitAll(t, g)
				for _, mark := range []uint32{1, 2} {
					edit(mark)
					if at := g.changes.await(within(t), mark, 3); len(at) != 3 {
						t.Fatalf("%d of 3 streams have change %d", len(at), mark)
					}
				}
				dumped(t, g, RouteMark(2))
				before := g.streams[0].digest()
				g.close()
				edit(3) // while nobody listens
				g.open()
				awaitAll(t, g)
				meshtest.Eventually(t, "all streams that came back have what changed meanwhile", func() error {
					for _, s := range g.streams { // it may be on its way to the server's own view still
						if s.digest() == before {
							return fmt.Errorf("stream %d has not", s.index)
						}
					}
					return nil
				})
				dumped(t, g, RouteMark(3))
			})
		}
	}
}

// dumped checks that what a group's first stream holds is written, with a text in it.
func dumped(t *testing.T, g *group, want string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dump")
	if err := g.dump(file); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all discoveryv3.DiscoveryResponse
	if err := proto.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	if len(all.GetResources()) < 3 || !strings.Contains(string(raw), want) {
		t.Errorf("%d resources are dumped, and among them is %q: %v", len(all.GetResources()), want, strings.Contains(string(raw), want))
	}
}

// A group can be asked how it stands at any time.
func TestAskedWhileOpening(t *testing.T) {
	t.Parallel()
	p, _ := plane(t, false)
	g := opened(t, config(p, 50))
	for range 5 {
		for st := g.tell(); st.Synced < 50; st = g.tell() {
			if len(st.Ended)+len(st.Refused) > 0 || t.Context().Err() != nil {
				t.Fatalf("not all streams have all: %+v", st)
			}
		}
		g.close()
		g.open()
	}
	awaitAll(t, g)
}

// Why a stream is refused is told.
func TestRefused(t *testing.T) {
	t.Parallel()
	p, _ := plane(t, false)
	cfg := config(p, 1)
	cfg.Secret = "wrong"
	g := opened(t, cfg)
	meshtest.Eventually(t, "the stream is refused", func() error {
		for why := range g.tell().Refused {
			if strings.Contains(why, "grpc status 16") {
				return nil
			}
		}
		return fmt.Errorf("it is not: %+v", g.tell())
	})
}

// A stream that is told not to read hears of nothing, and of everything afterwards.
func TestPaused(t *testing.T) {
	t.Parallel()
	p, edit := plane(t, false)
	g := opened(t, config(p, 2))
	awaitAll(t, g)
	g.pause(1, true)
	edit(1) // the read that is under way still takes this one
	if at := g.changes.await(within(t), 1, 2); len(at) != 2 {
		t.Fatalf("%d of 2 streams have change 1", len(at))
	}
	edit(2)
	if at := g.changes.await(within(t), 2, 1); len(at) != 1 {
		t.Fatalf("%d streams have change 2, want the one that reads", len(at))
	}
	g.pause(1, false)
	if at := g.changes.await(within(t), 2, 2); len(at) != 2 {
		t.Fatalf("%d of 2 streams have change 2", len(at))
	}
}

// Connections are pinged: a server that is pinged far too often ends them.
func TestPings(t *testing.T) {
	t.Parallel()
	p, _ := plane(t, false)
	cfg := config(p, 1)
	cfg.Ping = 5 * time.Millisecond
	g := opened(t, cfg)
	meshtest.Eventually(t, "the server has enough of it", func() error {
		if st := g.tell(); len(st.Ended)+len(st.Refused) == 0 {
			return fmt.Errorf("it has not: %+v", st)
		}
		return nil
	})
}

// A stream goes as it is told to, and the server has none of it any more. One with a first
// request as long as an Envoy's, and temporary credentials, is served as any other.
func TestLeaving(t *testing.T) {
	t.Parallel()
	p, _ := plane(t, false)
	api := process.NewAPI(p.URL(), p.Creds)
	var session struct {
		Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	}
	if err := api.Call(t.Context(), http.MethodPut, "/v1/sessions", `{"durationSeconds":900}`, &session); err != nil {
		t.Fatal(err)
	}
	for _, how := range []Leave{LeaveClosing, LeaveSaying, LeaveResetting} {
		cfg := config(p, 3)
		cfg.KeyID, cfg.Secret, cfg.Token = session.Credentials.AccessKeyID, session.Credentials.SecretAccessKey, session.Credentials.SessionToken
		cfg.Extensions, cfg.Leave = 400, how
		g := opened(t, cfg)
		if n := len(g.streams[0].node); n < 30_000 {
			t.Errorf("the first request says %d bytes of its node, fewer than an Envoy's", n)
		}
		awaitAll(t, g)
		began := time.Now()
		g.close()
		if took := time.Since(began); took >= leaveTime {
			t.Errorf("leaving by %q took %s: the server did not answer", how, took)
		}
		meshtest.Eventually(t, "the server has no streams", func() error {
			var has struct{ Proxies []json.RawMessage }
			err := api.Call(t.Context(), http.MethodGet, "/v1/meshes/test/proxies", "", &has)
			if err == nil && len(has.Proxies) > 0 {
				err = fmt.Errorf("after leaving by %q it has %d", how, len(has.Proxies))
			}
			return err
		})
	}
}
