package relay

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// stage is a control plane with a mesh, and a way to it that can be closed.
type stage struct {
	t     *testing.T
	plane *meshtest.Plane
	way   *way
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, plane: meshtest.Start(t)}
	s.plane.Put(t, "/meshes", `{"meshName":"shop"}`)
	s.plane.Node(t, "shop", "front", "front.example.com", 8080, "cart.local")
	s.plane.Node(t, "shop", "cart", "127.0.0.1", 8080)
	s.plane.Routed(t, "shop", "cart.local", "cart", 8080, route("/"))
	s.way = newWay(t, s.plane.Addrs.XDS)
	return s
}

func route(prefix string) string {
	return `{"httpRoute":{"match":{"prefix":"` + prefix + `"},"action":{"weightedTargets":[{"virtualNode":"cart","weight":1}]}}}`
}

// edit changes the route of the service, and returns what the route configurations hold then.
func (s *stage) edit(prefix string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/shop/virtualRouter/cart/routes/all", `{"spec":`+route(prefix)+`}`)
}

// way is a TCP relay that can be closed, for what is away.
type way struct {
	addr, to string

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
}

func newWay(t *testing.T, to string) *way {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	w := &way{addr: l.Addr().String(), to: to, conns: map[net.Conn]bool{}}
	go meshtest.HandleConns(l, w.pass)
	return w
}

func (w *way) pass(from net.Conn) {
	to, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer to.Close()
	if !w.enter(from, to) {
		return
	}
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}()
	_, _ = io.Copy(from, to)
}

func (w *way) enter(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		w.conns[c] = true
	}
	return !w.closed
}

// close ends all connections and lets no more through; open lets them through again.
func (w *way) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for c := range w.conns {
		_ = c.Close()
	}
	clear(w.conns)
}

func (w *way) open() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = false
}

// running is a relay that runs until the test ends.
type running struct {
	*Relay
	conn *grpc.ClientConn // as an Envoy has it
	log  *meshtest.Log
	stop func()
}

// relay runs one. Its streams are signed as an administrator's.
func (s *stage) relay(copies string) *running {
	s.t.Helper()
	dir, err := os.MkdirTemp("", "relay-") // a socket's path is short
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	up, err := Dial(Server{
		Address: s.way.addr, Region: meshtest.Region, SigningName: "appmesh",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return s.plane.Creds, nil }),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	log := &meshtest.Log{}
	r, err := New(Config{Socket: filepath.Join(dir, "s"), Upstream: up, Copies: copies, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := r.Listen()
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, l) }()
	conn, err := grpc.NewClient("unix://"+filepath.Join(dir, "s"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
		_ = up.Close()
	})
	s.t.Cleanup(stop)
	return &running{Relay: r, conn: conn, log: log, stop: stop}
}

func node(t *testing.T) *corev3.Node {
	t.Helper()
	m, err := structpb.NewStruct(map[string]any{"fairlead": map[string]any{"placement": "bound", "bindAddress": "127.0.0.2"}})
	if err != nil {
		t.Fatal(err)
	}
	return &corev3.Node{
		Id: meshtest.ARN("shop", "front"), Cluster: "front", Metadata: m, UserAgentName: "envoy",
		UserAgentVersionType: &corev3.Node_UserAgentVersion{UserAgentVersion: "1.40.0"},
	}
}

// delta opens a stream as an Envoy does that brings along versions.
func (s *stage) delta(r *running, have map[envoy.Type]map[string]string) *meshtest.Delta {
	s.t.Helper()
	d, err := meshtest.DeltaOver(s.t.Context(), r.conn)
	if err == nil {
		err = d.Begin(node(s.t), have)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// has waits until a client has resources of all types, the routes of which lead to a path.
func (s *stage) has(d *meshtest.Delta, prefix string) {
	s.t.Helper()
	d.Await(s.t, "the routes have "+prefix, func() bool {
		for _, r := range d.Resources(envoy.TypeRoute) {
			if strings.Contains(string(r.GetResource().GetValue()), prefix) {
				return len(d.Resources(envoy.TypeCluster)) > 0 && len(d.Resources(envoy.TypeListener)) > 0
			}
		}
		return false
	})
}

// What comes through the relay is what comes without one, edits and refusals too.
func TestPassesOn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	r := s.relay("")
	d, direct := s.delta(r, nil), s.plane.Delta(t, node(t))
	s.has(d, "/")
	s.has(direct, "/")
	if diff := cmp.Diff(direct.Versions(), d.Versions()); diff != "" {
		t.Errorf("without the relay (-) and with it (+):\n%s", diff)
	}
	s.edit("/second")
	s.has(d, "/second")
	if st := r.Standing(); !st.Connected || st.Streams != 1 || st.FromCopy != 0 || st.Reason != "" {
		t.Errorf("standing %+v", st)
	}
}

// A refusal reaches the control plane, which sends each resource by itself then and shows
// a problem.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	r := s.relay("")
	d, err := meshtest.DeltaOver(t.Context(), r.conn)
	if err != nil {
		t.Fatal(err)
	}
	d.Refuse = func(typ envoy.Type, resp *discoveryv3.DeltaDiscoveryResponse) string {
		if typ == envoy.TypeCluster && len(resp.GetResources()) > 0 {
			return "no room for " + resp.GetResources()[0].GetName()
		}
		return ""
	}
	if err := d.Begin(node(t), nil); err != nil {
		t.Fatal(err)
	}
	owner := s.plane.Signed(t)
	meshtest.Eventually(t, "there is a problem", func() error {
		answer, err := owner.Do(t.Context(), "GET", "/v1/meshes/shop/problems", "")
		if err == nil && !strings.Contains(answer.Body, "no room for") {
			err = errors.New(answer.String())
		}
		return err
	})
}

// While the control plane is away, an Envoy that comes is served what the last one had;
// when it is back, what changed meanwhile comes, and what went goes.
func TestAway(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	r := s.relay("")
	first := s.delta(r, nil)
	s.edit("/before")
	s.has(first, "/before")
	want := first.Versions()
	s.kept(r)
	s.way.close()
	meshtest.Eventually(t, "it is noticed", func() error {
		if st := r.Standing(); st.Connected || st.Code != codes.Unavailable || st.Reason == "" {
			return errors.New(st.Reason)
		}
		return nil
	})
	second := s.delta(r, nil)
	s.has(second, "/before")
	if diff := cmp.Diff(want, second.Versions()); diff != "" {
		t.Errorf("what the first Envoy had (-) and what the second is served (+):\n%s", diff)
	}
	if r.Standing().FromCopy == 0 {
		t.Error("nothing was served from the copy")
	}

	s.edit("/meanwhile")
	s.plane.Delete(t, "/meshes/shop/virtualRouter/cart/routes/all")
	s.plane.Put(t, "/meshes/shop/virtualRouter/cart/routes", `{"routeName":"other","spec":`+route("/afterwards")+`}`)
	s.plane.Put(t, "/meshes/shop/virtualNodes/front", `{"spec":`+meshtest.NodeSpec("front.example.com", 8081, "cart.local")+`}`)
	s.way.open()
	for _, d := range []*meshtest.Delta{first, second} {
		s.has(d, "/afterwards")
	}
	direct := s.plane.Delta(t, node(t))
	s.has(direct, "/afterwards")
	second.Await(t, "all of it is the same", func() bool { return cmp.Equal(direct.Versions(), second.Versions()) })
}

// kept waits until what a client has is the copy.
func (s *stage) kept(r *running) {
	s.t.Helper()
	key := copyKey(node(s.t))
	meshtest.Eventually(s.t, "there is a copy", func() error {
		all := r.copies.get(key)
		if len(all[envoy.TypeRoute.URL()]) == 0 {
			return errors.New("it has no routes")
		}
		return nil
	})
}

// A stream that is opened again is sent nothing that Envoy has.
func TestResumes(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	r := s.relay("")
	d := s.delta(r, nil)
	s.has(d, "/")
	s.kept(r)
	before := len(d.Responses())
	s.way.close()
	meshtest.Eventually(t, "it is noticed", func() error {
		if r.Standing().Connected {
			return errors.New("it is connected")
		}
		return nil
	})
	s.way.open()
	s.edit("/next")
	s.has(d, "/next")
	if st := r.Standing(); st.Streams != 2 {
		t.Errorf("%d streams, want 2", st.Streams)
	}
	for _, resp := range d.Responses()[before:] {
		if resp.GetTypeUrl() != envoy.TypeRoute.URL() {
			t.Errorf("%d resources of %s came again", len(resp.GetResources()), resp.GetTypeUrl())
		}
	}
}

// A relay that begins anew has the copies of the one before, and an Envoy that has all
// that is in them is sent nothing.
func TestCopiesOnDisk(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	dir := filepath.Join(t.TempDir(), "copies")
	r := s.relay(dir)
	d := s.delta(r, nil)
	s.has(d, "/")
	s.kept(r)
	want := d.Versions()
	r.stop()
	s.way.close()

	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v, want mode 600", info, err)
	}
	again := s.relay(dir)
	second := s.delta(again, nil)
	s.has(second, "/")
	if diff := cmp.Diff(want, second.Versions()); diff != "" {
		t.Errorf("what was had (-) and what is served (+):\n%s", diff)
	}
	s.way.open()
	third := s.delta(again, want)
	routes := want[envoy.TypeRoute]
	if err := third.Send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: envoy.TypeRoute.URL(), ResourceNamesSubscribe: slices.Sorted(maps.Keys(routes)), InitialResourceVersions: routes,
	}); err != nil {
		t.Fatal(err)
	}
	s.edit("/third")
	third.Await(t, "the edit comes", func() bool {
		return slices.ContainsFunc(slices.Collect(maps.Values(third.Resources(envoy.TypeRoute))), func(r *discoveryv3.Resource) bool {
			return strings.Contains(string(r.GetResource().GetValue()), "/third")
		})
	})
	if got := third.Resources(envoy.TypeCluster); len(got) > 0 {
		t.Errorf("clusters that it had come again: %v", slices.Sorted(maps.Keys(got)))
	}
}

// Files that are not whole, or are something else, are left out with a warning.
func TestBadCopies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "good"+fileSuffix)
	all := snapshot{typeCluster: {"c": {Name: "c", Version: "1"}}}
	if err := writeCopy(good, all); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(raw)
	flipped[len(flipped)-1] ^= 1
	for name, content := range map[string][]byte{"short": raw[:20], "cut": raw[:len(raw)-1], "flipped": flipped, "other": []byte("something else"), "empty": nil} {
		meshtest.WriteFile(t, filepath.Join(dir, name+fileSuffix), content)
	}
	log := &meshtest.Log{}
	c, err := openCopies(dir, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(maps.Keys(c.all)); !slices.Equal(got, []string{"good"}) || c.all["good"][typeCluster]["c"].GetVersion() != "1" {
		t.Errorf("copies %v", c.all)
	}
	if n := strings.Count(log.String(), "cannot be read"); n != 5 {
		t.Errorf("%d warnings, want 5:\n%s", n, log)
	}
	old := time.Now().Add(-2 * keepCopies)
	c.used["good"] = true
	for _, name := range []string{"good", "short"} {
		if err := os.Chtimes(filepath.Join(dir, name+fileSuffix), old, old); err != nil {
			t.Fatal(err)
		}
	}
	c.forget(time.Now())
	if _, err := os.Stat(good); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "short"+fileSuffix)); !os.IsNotExist(err) {
		t.Errorf("an old file is still there: %v", err)
	}
}

// Another resource, placement or version is another Envoy: it is not served what this one
// had. Where its host and its addresses are is no matter.
func TestCopyKey(t *testing.T) {
	t.Parallel()
	key := copyKey(node(t))
	changes := map[string]func(*corev3.Node){
		"id":        func(n *corev3.Node) { n.Id = meshtest.ARN("shop", "cart") },
		"placement": func(n *corev3.Node) { n.Metadata.Fields["fairlead"] = structpb.NewStringValue("other") },
		"version": func(n *corev3.Node) {
			n.UserAgentVersionType = &corev3.Node_UserAgentVersion{UserAgentVersion: "1.39.0"}
		},
	}
	for name, change := range changes {
		n := node(t)
		change(n)
		if copyKey(n) == key {
			t.Errorf("another %s has the same key", name)
		}
	}
	n := node(t)
	n.Metadata.Fields["aws.appmesh.task.interfaces"] = structpb.NewStringValue("10.0.0.1")
	if copyKey(n) != key {
		t.Error("another address has another key")
	}
}
