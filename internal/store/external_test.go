package store

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"
)

// external is an etcd that listens, as an external one does.
type external struct {
	endpoint string // host:port
	etcd     *embed.Etcd
}

// serveEtcd starts an etcd with a client port on the loopback.
func serveEtcd(t testing.TB) external {
	t.Helper()
	return serveEtcdWith(t, Config{DataDir: t.TempDir(), Unsafe: true})
}

func serveEtcdWith(t testing.TB, c Config) external {
	t.Helper()
	s := &Store{log: discard}
	cfg := s.etcdConfig(c)
	// The port is chosen by the kernel: etcd tells it through the listener.
	cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2379"}}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	return external{endpoint: e.Clients[0].Addr().String(), etcd: e}
}

// keyFile writes a seal key of which all bytes are b.
func keyFile(t testing.TB, b byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(hex.EncodeToString(slices.Repeat([]byte{b}, sealKeySize))), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openExternal(t testing.TB, endpoint, key string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Endpoints: []string{endpoint}, SealKeyFile: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	return s
}

func TestExternal(t *testing.T) {
	t.Parallel()
	e := serveEtcd(t)
	w := world{t: t, s: openExternal(t, e.endpoint, keyFile(t, 1)), c: caller("000000000001")}
	made := w.makeAll("m")
	replica := world{t: t, s: openExternal(t, e.endpoint, keyFile(t, 1)), c: w.c}
	for _, o := range made {
		diff(t, o, replica.get(o.ID))
	}
	sealed, err := w.s.Seal([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := replica.s.Unseal(sealed); err != nil || string(got) != "secret" {
		t.Errorf("unsealing on a replica: %q, %v", got, err)
	}
	for _, p := range slices.Backward(w.all("m")) {
		replica.delete(p.id)
	}
	w.wantNoKeys()
	if err := w.s.Healthy(t.Context()); err != nil {
		t.Error(err)
	}

	_, err = Open(t.Context(), Config{Endpoints: []string{e.endpoint}, SealKeyFile: keyFile(t, 2)})
	wantError(t, err, "put back the right one")
}

func TestExternalIsNotThere(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, Config{Endpoints: []string{"127.0.0.1:1"}, SealKeyFile: keyFile(t, 1)})
	wantError(t, err, "reaching etcd at 127.0.0.1:1 (--etcd-endpoints)")
}

// TestLostEtcd checks that a store whose etcd goes away refuses, and does not hang.
func TestLostEtcd(t *testing.T) {
	t.Parallel()
	l := newLink(t, serveEtcd(t).endpoint)
	w := world{t: t, s: openExternal(t, l.addr, keyFile(t, 1)), c: caller("000000000001")}
	w.s.timeout.Store(int64(callTimeout / 50))
	m := w.makeNodes("m", 0)
	l.cut()
	_, err := w.s.Get(t.Context(), w.c, m.MeshObject())
	wantCode(t, err, "ServiceUnavailableException")
	wantCode(t, w.s.Healthy(t.Context()), "ServiceUnavailableException")
	l.mend()
	w.s.timeout.Store(int64(callTimeout))
	eventually(t, "the store's recovery", func() bool { return w.s.Healthy(t.Context()) == nil })
	w.get(m.MeshObject())
}

// link is a TCP relay that can be cut.
type link struct {
	addr, to string
	mu       sync.Mutex
	broken   bool
	held     chan struct{} // nothing passes until it is closed; nil: all does
	conns    []net.Conn
}

func newLink(t testing.TB, to string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{addr: listener.Addr().String(), to: to}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			l.relay(c)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		l.cut()
		l.mend()
	})
	return l
}

func (l *link) relay(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		_ = c.Close()
		return
	}
	up, err := net.Dial("tcp", l.to)
	if err != nil {
		_ = c.Close()
		return
	}
	l.conns = append(l.conns, c, up)
	for _, pair := range [][2]net.Conn{{c, up}, {up, c}} {
		go func() {
			_, _ = io.Copy(heldWriter{l, pair[0]}, pair[1])
			_ = c.Close()
			_ = up.Close()
		}()
	}
}

// cut ends all connections and refuses new ones.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

// mend lets connections, and what they were to carry, through again.
func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = false
	if l.held != nil {
		close(l.held)
		l.held = nil
	}
}

// hang keeps what is sent from now on, as a network does that has broken off: nobody is
// told.
func (l *link) hang() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = make(chan struct{})
}

// heldWriter writes through a link.
type heldWriter struct {
	l  *link
	to io.Writer
}

func (w heldWriter) Write(b []byte) (int, error) {
	w.l.mu.Lock()
	held := w.l.held
	w.l.mu.Unlock()
	if held != nil {
		<-held
	}
	return w.to.Write(b)
}
