package envoy

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/fairlead-mesh/fairlead/internal/cli"
	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/randmesh"
)

var (
	meshes = flag.Int("meshes", 30, "how many random meshes TestRandomMeshesAreTaken makes of one another")
	first  = flag.Uint64("first", 0, "the seed of the first of them")
)

// TestRandomMeshesAreTaken makes a mesh into one random mesh after the other, through the
// API, while two Envoys are connected: a virtual node's and a virtual gateway's. Each must
// take all that it is sent, and have nothing left that warms.
func TestRandomMeshesAreTaken(t *testing.T) {
	t.Parallel()
	r := newRandom(t)
	r.apply(r.mesh(*first))
	all := []*taker{
		r.taker(mesh.Key{Kind: mesh.KindVirtualNode, Name: randmesh.Node}),
		r.taker(mesh.Key{Kind: mesh.KindVirtualGateway, Name: randmesh.Gateway}),
	}
	for i := range uint64(*meshes) {
		m := r.mesh(*first + i)
		r.apply(m)
		for _, x := range all {
			r.settled(*first+i, m, x)
		}
	}
}

// random is a mesh that becomes one random mesh after the other.
type random struct {
	t       *testing.T
	plane   *meshtest.Plane
	session *cli.Session
	owner   *meshtest.Signed
	dir     string // of the certificates
	socket  string // of the source of secrets
	dns     int    // port of the name server
}

func newRandom(t *testing.T) *random {
	t.Helper()
	meshtest.EnvoyPath(t) // skips before anything is started
	r := &random{t: t, dir: t.TempDir(), plane: meshtest.StartWith(t, meshtest.Options{Quotas: meshtest.MostQuotas()})}
	files, err := randmesh.WriteFiles(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	r.socket = serveSecrets(t, files.Secrets)
	names := meshtest.NewNames()
	names.Set(slowName, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	r.dns = int(names.Listen(t).Port())
	r.owner = r.plane.Signed(t)
	credentials := filepath.Join(t.TempDir(), "credentials")
	meshtest.WriteFile(t, credentials, fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n",
		r.plane.Creds.AccessKeyID, r.plane.Creds.SecretAccessKey))
	r.session, err = cli.Connect(t.Context(), cli.Options{Endpoint: r.plane.URL(), Region: meshtest.Region, CredentialsFile: credentials})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// serveSecrets runs a source of the secrets that random meshes name, and returns its
// socket.
func serveSecrets(t *testing.T, all map[string]randmesh.Secret) string {
	t.Helper()
	source, socket := startSecrets(t)
	for name, s := range all {
		if s.Key == nil {
			source.put(trustSecret(name, s.Certificate))
		} else {
			source.put(certificateSecret(name, s.Certificate, s.Key))
		}
	}
	return socket
}

// mesh returns the random mesh of a seed.
func (r *random) mesh(seed uint64) *randmesh.Mesh {
	r.t.Helper()
	m, err := randmesh.New(randmesh.Config{
		Seed: seed, Mesh: "test", Dir: r.dir, LeastPort: 1024,
		Hosts: []string{"127.0.0.1", "::1", slowName, "none.name.test"},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// apply makes the mesh a random one, in place.
func (r *random) apply(m *randmesh.Mesh) {
	r.t.Helper()
	var errs strings.Builder
	term := cli.Terminal{In: strings.NewReader(m.Documents()), Out: io.Discard, Err: &errs}
	if err := cli.Apply(r.t.Context(), r.session, term, cli.FilesConfig{Paths: []string{"-"}, Prune: true, Replace: true}); err != nil {
		r.t.Fatalf("%v\n%s\n%s", err, errs.String(), m.Documents())
	}
}

// taker is an Envoy that must take what it is sent.
type taker struct {
	*meshtest.Proxy
	key     mesh.Key
	profile envoy.Profile
	read    int // of its log
}

// taker starts an Envoy that asks the test's name server and has the test's source of
// secrets.
func (r *random) taker(key mesh.Key) *taker {
	r.t.Helper()
	c := meshtest.ProxyConfig{ARN: mesh.ID{Mesh: meshID, Key: key}.ARN(meshtest.Account), Bind: meshtest.Address(r.t), App: meshtest.Address(r.t)}
	b := r.plane.Bootstrap(r.t, c)
	b["typed_dns_resolver_config"] = map[string]any{
		"name": "envoy.network.dns_resolver.cares",
		"typed_config": map[string]any{
			"@type":     "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
			"resolvers": []any{map[string]any{"socket_address": map[string]any{"protocol": "UDP", "address": "127.0.0.1", "port_value": r.dns}}},
		},
	}
	withSecrets(r.socket)(b)
	text, err := json.Marshal(b)
	if err != nil {
		r.t.Fatal(err)
	}
	file := filepath.Join(r.t.TempDir(), "bootstrap.json")
	meshtest.WriteFile(r.t, file, text)
	c.Env = []string{"ENVOY_CONFIG_FILE=" + file}
	return &taker{Proxy: r.plane.Proxy(r.t, c).Ready(r.t), key: key, profile: profileOf(r.t, b["node"])}
}

var meshID = mesh.MeshID{Account: meshtest.Account, Region: meshtest.Region, Name: "test"}

// profileOf returns the profile that a bootstrap's node has.
func profileOf(t *testing.T, node any) envoy.Profile {
	t.Helper()
	raw, err := json.Marshal(node)
	if err != nil {
		t.Fatal(err)
	}
	var n corev3.Node
	if err := protojson.Unmarshal(raw, &n); err != nil {
		t.Fatal(err)
	}
	p, err := envoy.ParseProfile(&n)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// settled waits until an Envoy has all of a mesh, and fails the test if it refused any of
// it.
func (r *random) settled(seed uint64, m *randmesh.Mesh, x *taker) {
	r.t.Helper()
	resources, _ := envoy.Translate(mesh.BuildView(mesh.NewReader(m.Snapshot(meshID)), x.key), x.profile)
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := errors.Join(r.inSync(), x.serves(resources))
		if refused := x.refused(); refused != nil {
			err, deadline = refused, time.Time{}
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("mesh %d (-first %d -meshes 2 is this step alone), %s at %s: %v\n%s", seed, max(1, seed)-1, x.key, x.Bind, err, m.Documents())
		}
		<-tick.C
	}
}

// inSync checks that both proxies have acknowledged all that there is for them.
func (r *random) inSync() error {
	var have struct {
		Proxies []struct {
			InSync   bool
			Rejected string
		}
	}
	r.owner.Want(r.t, http.MethodGet, "/v1/meshes/test/proxies", "", &have)
	if len(have.Proxies) != 2 {
		return fmt.Errorf("%d proxies are connected", len(have.Proxies))
	}
	for _, p := range have.Proxies {
		if !p.InSync || p.Rejected != "" {
			return fmt.Errorf("a proxy is in sync: %v, rejected: %q", p.InSync, p.Rejected)
		}
	}
	return nil
}

// refused returns what an Envoy has refused, nil for nothing.
func (x *taker) refused() error {
	log := x.Log.String()
	for line := range strings.Lines(log[x.read:]) {
		if strings.Contains(line, "rejected") {
			return errors.New(line)
		}
	}
	x.read = max(0, strings.LastIndexByte(log, '\n'))
	stats, err := x.Admin("/stats?usedonly&filter=update_rejected|listener_create_failure|key_rotation_failed|unknown_fields")
	if err != nil {
		return nil // serves has seen it
	}
	for line := range strings.Lines(stats) {
		if !strings.HasSuffix(strings.TrimSpace(line), ": 0") {
			return errors.New(line)
		}
	}
	return nil
}

// serves checks that an Envoy's listeners and clusters are those of its mesh, that nothing
// warms, and that nothing is kept back because of an error.
func (x *taker) serves(resources []envoy.Resource) error {
	dump, err := x.Admin("/config_dump?include_eds")
	if err != nil {
		return err
	}
	for _, state := range []string{`"warming_state"`, `"dynamic_warming_clusters"`, `"dynamic_warming_secrets"`, `"error_state"`} {
		if at := strings.Index(dump, state); at >= 0 {
			return fmt.Errorf("Envoy has %s", dump[at:min(at+2000, len(dump))])
		}
	}
	var have struct {
		Configs []struct {
			DynamicListeners []struct {
				Name        string
				ActiveState *struct{} `json:"active_state"`
			} `json:"dynamic_listeners"`
			DynamicActiveClusters []struct{ Cluster struct{ Name string } } `json:"dynamic_active_clusters"`
		}
	}
	if err := json.Unmarshal([]byte(dump), &have); err != nil {
		return err
	}
	got, want := map[string]bool{}, map[string]bool{}
	for _, c := range have.Configs {
		for _, l := range c.DynamicListeners {
			if l.ActiveState != nil { // else it drains
				got["listener "+l.Name] = true
			}
		}
		for _, c := range c.DynamicActiveClusters {
			got["cluster "+c.Cluster.Name] = true
		}
	}
	for _, one := range resources {
		switch one.Type {
		case envoy.TypeListener:
			want["listener "+one.Name] = true
		case envoy.TypeCluster:
			want["cluster "+one.Name] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("what Envoy has is not what the mesh makes (-want +got):\n%s", diff)
	}
	return nil
}
