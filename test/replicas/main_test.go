// Package replicas runs three servers, each in a process of its own, over an etcd of three
// members, with real Envoys spread over them, and takes them away in turn.
package replicas

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// serverVariable tells a process of this test's program that it is a server, and where its
// settings are.
const serverVariable = "FAIRLEAD_REPLICAS_SERVER"

func TestMain(m *testing.M) {
	meshtest.Main(m, map[string]func(string) error{serverVariable: serve})
}

// lease is how long a replica that fell silent is waited for.
const lease = 6 * time.Second

// history is how much history etcd keeps: hardly any, so that nothing depends on it.
const history = 2 * time.Second

// settings are those of one server.
type settings struct {
	Dir, Etcd, SealKey string
	Addrs              server.Addrs // what it listens on; port 0 at the first start
}

// serve runs a server as users run it, and writes where it listens to DIR/addrs.
func serve(file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var c settings
	if err := json.Unmarshal(raw, &c); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	cfg := server.Config{
		Store: store.Config{
			Endpoints: []string{c.Etcd}, SealKeyFile: c.SealKey, Logger: log, Quotas: meshtest.MostQuotas(),
			MemberLease: lease, History: history, OwnEtcdOnly: true,
		},
		CredentialsFile: filepath.Join(c.Dir, "credentials"),
		AccountID:       meshtest.Account, Regions: []string{meshtest.Region}, Log: log, Version: "test",
		APIListen: c.Addrs.API, XDSListen: c.Addrs.XDS, OpsListen: c.Addrs.Ops, PeerListen: c.Addrs.Peer,
	}
	cfg.Audit.Path = filepath.Join(c.Dir, "audit.log")
	s, err := server.Open(ctx, cfg)
	if err != nil {
		return err
	}
	if raw, err = json.Marshal(s.Addrs()); err != nil {
		return err
	}
	next := filepath.Join(c.Dir, "addrs.next")
	if err := os.WriteFile(next, raw, 0o600); err != nil {
		return err
	}
	if err := os.Rename(next, filepath.Join(c.Dir, "addrs")); err != nil {
		return err
	}
	return s.Run(ctx)
}

// one is a server of the site.
type one struct {
	settings
	// etcd carries what it says to etcd, and can be cut.
	etcd *meshtest.Link
	// api calls it.
	api *meshtest.Signed
	cmd *exec.Cmd
	log *meshtest.Log
}

// site is three servers, and what is in front of them.
type site struct {
	t   *testing.T
	all []*one
	// front balances proxies over all servers.
	front *meshtest.Plane
}

func newSite(t *testing.T) *site {
	t.Helper()
	etcd, dir := meshtest.StartEtcd(t, 3), t.TempDir()
	key := filepath.Join(dir, "seal.key")
	meshtest.WriteFile(t, key, []byte(hex.EncodeToString(slices.Repeat([]byte{7}, 32))))
	s := &site{t: t}
	var xds []string
	for i := range 3 {
		x := &one{etcd: meshtest.NewLink(t, etcd.Endpoints...), log: &meshtest.Log{}}
		x.settings = settings{Dir: filepath.Join(dir, fmt.Sprint(i)), Etcd: x.etcd.Addr, SealKey: key}
		x.Addrs = server.Addrs{API: "127.0.0.1:0", XDS: "127.0.0.1:0", Ops: "127.0.0.1:0", Peer: "127.0.0.1:0"}
		if err := os.Mkdir(x.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s.all = append(s.all, x)
		s.start(x)
		t.Cleanup(func() {
			x.end(syscall.SIGKILL)
			if t.Failed() {
				t.Logf("server %d:\n%s", i, x.log.String())
			}
		})
		xds = append(xds, x.Addrs.XDS)
	}
	creds := meshtest.ReadCredentials(t, filepath.Join(s.all[0].Dir, "credentials"))
	for _, x := range s.all {
		x.api = meshtest.NewSigned("http://"+x.Addrs.API, creds)
		t.Cleanup(x.api.Close)
	}
	s.front = meshtest.Remote(server.Addrs{XDS: meshtest.NewLink(t, xds...).Addr}, creds)
	s.wantTogether()
	return s
}

// start starts a server, at its old addresses if it had some, and waits until it is ready.
func (s *site) start(x *one) {
	s.t.Helper()
	path, file := filepath.Join(x.Dir, "addrs"), filepath.Join(x.Dir, "settings")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	raw, err := json.Marshal(x.settings)
	if err != nil {
		s.t.Fatal(err)
	}
	meshtest.WriteFile(s.t, file, raw)
	x.cmd = exec.Command(os.Args[0])
	x.cmd.Env = append(os.Environ(), serverVariable+"="+file)
	x.cmd.Stderr = x.log
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := x.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	meshtest.Eventually(s.t, "the server listens", func() error {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &x.Addrs)
	})
	meshtest.Eventually(s.t, "the server is ready", x.ready)
}

func (x *one) ops() meshtest.Ops {
	return meshtest.Ops{
		Addr:   x.Addrs.Ops,
		Client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
	}
}

func (x *one) ready() error { return x.ops().Ready() }

// end sends a server a signal and waits until it has ended.
func (x *one) end(sig syscall.Signal) {
	if x.cmd == nil {
		return
	}
	_ = x.cmd.Process.Signal(sig) // it may have ended
	_ = x.cmd.Wait()              // how it ended does not matter
	x.cmd = nil
}

// metric returns a figure of a server's.
func (x *one) metric(name string) string { return x.ops().Metric(name) }

// running are the servers that run.
func (s *site) running() []*one {
	return slices.DeleteFunc(slices.Clone(s.all), func(x *one) bool { return x.cmd == nil })
}

// wantTogether waits until all servers that run know each other.
func (s *site) wantTogether() {
	s.t.Helper()
	meshtest.Eventually(s.t, "the servers know each other", func() error {
		for _, x := range s.running() {
			if n := x.metric("fairlead_replicas"); n != fmt.Sprint(len(s.running())) {
				return fmt.Errorf("%s knows of %s", x.Addrs.Peer, n)
			}
		}
		return nil
	})
}

// leader waits until exactly one of the servers that run leads, and returns it.
func (s *site) leader() *one {
	s.t.Helper()
	var leader *one
	meshtest.Eventually(s.t, "one server leads", func() error {
		leader = nil
		for _, x := range s.running() {
			if x.metric("fairlead_replica_leading") != "1" {
				continue
			}
			if leader != nil {
				return errors.New("two lead")
			}
			leader = x
		}
		if leader == nil {
			return errors.New("none leads")
		}
		return nil
	})
	return leader
}

// write makes a call through any server, beginning with one, as a client behind a load
// balancer does, until it is answered; and fails the test if it is refused.
func (s *site) write(at int, method, path, body string) error {
	deadline := time.Now().Add(20 * time.Second)
	for again := false; ; again, at = true, at+1 {
		a, err := s.all[at%len(s.all)].api.Do(context.Background(), method, path, body)
		switch {
		case err == nil && a.Status == http.StatusOK:
			return nil
		case err == nil && again && a.Status == http.StatusConflict:
			return nil // the try before came through, without an answer
		case err == nil && a.Status != http.StatusServiceUnavailable:
			return fmt.Errorf("%s %s: %s", method, path, a)
		case time.Now().After(deadline):
			return fmt.Errorf("%s %s: %s, %w", method, path, a, err)
		}
	}
}
