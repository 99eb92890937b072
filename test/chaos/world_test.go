//go:build linux

package chaos

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

const (
	meshes  = "/v20190125/meshes"
	colours = "colour.shop.test:8080"
	// discovery is the name by which proxies find the servers.
	discovery = "fairlead.test"
	// callers are the Envoys whose clients call the service, and proxies all of them.
	callers, proxies = 3, callers + 2
)

// replica is one of the servers.
type replica struct {
	*host
	args  []string
	extra []string // arguments of the next start
	ops   meshtest.Ops
	api   *meshtest.Signed
}

// world is the servers, what they stand on and what stands on them.
type world struct {
	t       *testing.T
	hosts   *meshtest.Hosts
	members []*member // none with an embedded store
	all     []*replica
	creds   aws.Credentials
	client  *meshtest.Host // where the API is called from
	fronts  []*meshtest.Proxy
	// proxied are the hosts of the proxies.
	proxied []netip.Addr
	// broken is the server that the current fault is about.
	broken *replica
}

// newWorld starts three servers over an etcd of three members.
func newWorld(t *testing.T) *world {
	t.Helper()
	meshtest.EnvoyPath(t) // skips before anything is started
	w := &world{t: t, hosts: meshtest.NewHosts(t)}
	w.client = w.hosts.Add("client")
	w.members = newMembers(t, w.hosts)
	dir := t.TempDir()
	key := filepath.Join(dir, "seal.key")
	meshtest.WriteFile(t, key, []byte(hex.EncodeToString(slices.Repeat([]byte{7}, 32))))
	var etcd []string
	for _, m := range w.members {
		etcd = append(etcd, m.url())
	}
	for i := range 3 {
		own := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(own, 0o700); err != nil {
			t.Fatal(err)
		}
		r := w.add(fmt.Sprintf("server-%d", i))
		r.args = append(r.args, "--etcd-endpoints", strings.Join(etcd, ","), "--seal-key", key,
			"--audit-file", filepath.Join(own, "audit.log"), "--credentials-file", filepath.Join(own, "credentials"))
		w.start(r)
	}
	w.found(meshtest.ReadCredentials(t, filepath.Join(dir, "0", "credentials")))
	w.wantTogether()
	return w
}

// newAlone starts one server with an embedded store, on a disk of its own.
func newAlone(t *testing.T) *world {
	t.Helper()
	meshtest.EnvoyPath(t)
	w := &world{t: t, hosts: meshtest.NewHosts(t)}
	w.client = w.hosts.Add("client")
	r := w.add("server")
	r.args = append(r.args, "--data-dir", r.disk(384<<20)) // etcd puts its log on the disk ahead, in pieces of 64 MB
	w.start(r)
	raw, err := r.read("credentials")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "credentials")
	meshtest.WriteFile(t, file, raw)
	w.found(meshtest.ReadCredentials(t, file))
	return w
}

// add makes the host of a server.
func (w *world) add(name string) *replica {
	w.t.Helper()
	r := &replica{host: newHost(w.t, w.hosts, name)}
	at := func(port int) string { return fmt.Sprintf("%s:%d", r.V4, port) }
	r.args = []string{"server", "--api-listen", at(9080), "--xds-listen", at(9081), "--ops-listen", at(9082), "--insecure-plaintext"}
	path := program(w.t)
	r.command = func() *exec.Cmd {
		cmd := r.Command(path, append(slices.Clone(r.args), r.extra...)...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		cmd.Dir = "/"
		return cmd
	}
	// From the host itself: what is wrong with its wire is not in the way.
	client := r.HTTP("tcp")
	client.Transport.(*http.Transport).DisableKeepAlives = true
	r.ops = meshtest.Ops{Addr: at(9082), Client: client}
	w.all = append(w.all, r)
	return r
}

// found has what needs an access key use one.
func (w *world) found(creds aws.Credentials) {
	w.creds = creds
	var at []netip.Addr
	for _, r := range w.all {
		r.api = w.client.Signed(fmt.Sprintf("http://%s:9080", r.V4), creds)
		r.api.FollowClock = true
		at = append(at, r.V4)
	}
	w.hosts.Names.Set(discovery, at...)
}

// start starts a server with more arguments, and waits until it is ready.
func (w *world) start(r *replica, extra ...string) {
	w.t.Helper()
	r.extra = extra
	r.host.start()
	w.wantReady(r)
}

func (w *world) wantReady(r *replica) {
	w.t.Helper()
	meshtest.Eventually(w.t, r.name+" is ready", func() error {
		if r.ended() {
			w.t.Fatalf("%s has ended", r.name)
		}
		return r.ops.Ready()
	})
}

// wantTogether waits until all servers know each other, and all members of etcd are well.
func (w *world) wantTogether() {
	w.t.Helper()
	for _, m := range w.members {
		meshtest.Eventually(w.t, m.name+" is well", m.well)
	}
	meshtest.Eventually(w.t, "the servers know each other", func() error {
		for _, r := range w.all {
			if n := r.ops.Metric("fairlead_replicas"); n != fmt.Sprint(len(w.all)) {
				return fmt.Errorf("%s knows of %q", r.name, n)
			}
		}
		return nil
	})
}

// shop makes a mesh whose one service is blue or green, as its route says, and its Envoys,
// each on a host of its own.
func (w *world) shop() *painter {
	w.t.Helper()
	p := &painter{w: w, at: -1}
	put := func(path, body string) {
		w.t.Helper()
		if _, err := w.put(0, meshes+path, body); err != nil {
			w.t.Fatal(err)
		}
	}
	service, _, _ := strings.Cut(colours, ":")
	hosts := map[string]*meshtest.Host{}
	put("", `{"meshName":"shop"}`)
	for _, colour := range []string{"blue", "green"} {
		h := w.hosts.Add(colour)
		h.ServeOn(h.Listen("127.0.0.1:8080"), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, colour) }))
		hosts[colour] = h
		put("/shop/virtualNodes", fmt.Sprintf(`{"virtualNodeName":%q,"spec":%s}`, colour, meshtest.NodeSpec(h.V4.String(), 8080)))
	}
	put("/shop/virtualRouters", `{"virtualRouterName":"colour","spec":{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}]}}`)
	put("/shop/virtualRouter/colour/routes", fmt.Sprintf(`{"routeName":"all","spec":%s}`, p.spec(0)))
	put("/shop/virtualServices", fmt.Sprintf(`{"virtualServiceName":%q,"spec":{"provider":{"virtualRouter":{"virtualRouterName":"colour"}}}}`, service))
	put("/shop/virtualNodes", fmt.Sprintf(`{"virtualNodeName":"front","spec":%s}`, meshtest.NodeSpec("", 0, service)))
	plane := meshtest.Remote(server.Addrs{}, w.creds)
	at := "FAIRLEAD_XDS_ENDPOINT=" + discovery + ":9081"
	var all []*meshtest.Proxy
	for colour, h := range hosts {
		w.proxied = append(w.proxied, h.V4)
		all = append(all, h.ProxyBound(plane, meshtest.ARN("shop", colour), at))
	}
	for i := range callers {
		h := w.hosts.Add(fmt.Sprintf("caller-%d", i))
		w.proxied = append(w.proxied, h.V4)
		w.fronts = append(w.fronts, h.ProxyBound(plane, meshtest.ARN("shop", "front"), at))
	}
	for _, x := range append(all, w.fronts...) {
		x.Ready(w.t)
	}
	if err := p.paint(); err != nil {
		w.t.Fatal(err)
	}
	p.wantObeyed(time.Now())
	return p
}

// traffic calls the service through every caller.
func (w *world) traffic() *meshtest.Load {
	var calls []func() error
	for i, x := range w.fronts {
		client := x.Outbound()
		w.t.Cleanup(client.CloseIdleConnections)
		calls = append(calls, func() error {
			status, body, err := meshtest.Get(client, "http://"+colours)
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("%d %q", status, body)
			}
			if err != nil {
				return fmt.Errorf("caller %d: %w", i, err)
			}
			return nil
		})
	}
	return meshtest.StartLoad(w.t, 5*time.Millisecond, calls...)
}
