package replica_test

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/replica"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// lease is short enough to wait for its end, and long enough that a busy machine does not
// miss its renewals.
const lease = 5 * time.Second

// site is several replicas over one etcd.
type site struct {
	t    *testing.T
	etcd string
	key  string // file
	// busy is how many do the leader's work at this moment, most the most there ever were.
	busy, most atomic.Int32
}

func newSite(t *testing.T) *site {
	t.Helper()
	return &site{t: t, etcd: meshtest.StartEtcd(t, 1).Endpoints[0], key: keyFile(t, 1)}
}

// client reads and writes in etcd what the store does not offer.
func (s *site) client() *clientv3.Client {
	s.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.etcd}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

func keyFile(t *testing.T, b byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "seal.key")
	meshtest.WriteFile(t, path, []byte(hex.EncodeToString(slices.Repeat([]byte{b}, 32))))
	return path
}

// one is a replica of a site.
type one struct {
	*replica.Service
	stop context.CancelFunc
	done chan struct{}
	log  *meshtest.Log
	addr string
}

// start runs a replica that reaches etcd at an address. Stop ends it as a server's end does.
func (s *site) start(etcd string, handlers map[string]replica.Handler) *one {
	s.t.Helper()
	st, err := store.Open(s.t.Context(), store.Config{Endpoints: []string{etcd}, SealKeyFile: s.key, MemberLease: lease})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.startOn(st, s.listen(), handlers)
}

func (s *site) listen() net.Listener {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// startOn is start with a store and a listener that are there.
func (s *site) startOn(st *store.Store, l net.Listener, handlers map[string]replica.Handler) *one {
	s.t.Helper()
	x := &one{done: make(chan struct{}), log: &meshtest.Log{}, addr: l.Addr().String()}
	var err error
	x.Service, err = replica.New(replica.Config{
		Store: st, Listener: l, Address: x.addr, Version: "test", Handlers: handlers,
		Work:   map[string]replica.Work{"count": s.work},
		Logger: slog.New(slog.NewTextHandler(x.log, nil)),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	x.stop = stop
	go func() {
		defer close(x.done)
		if err := x.Run(ctx); !errors.Is(err, context.Canceled) {
			s.t.Errorf("the replica ended with %v", err)
		}
		_ = st.Close()
	}()
	s.t.Cleanup(x.end)
	return x
}

func (x *one) end() { x.stop(); <-x.done }

// work counts who does it at once.
func (s *site) work(ctx context.Context) error {
	if n := s.busy.Add(1); n > s.most.Load() {
		s.most.Store(n)
	}
	<-ctx.Done()
	s.busy.Add(-1)
	return ctx.Err()
}

// wantLeader waits until one of the replicas leads, and the others know, and returns it.
func wantLeader(t *testing.T, among ...*one) *one {
	t.Helper()
	var leader *one
	meshtest.Eventually(t, "one replica leads and the others know it", func() error {
		leader = nil
		for _, x := range among {
			if x.Leading() {
				if leader != nil {
					return errors.New("two lead")
				}
				leader = x
			}
		}
		if leader == nil {
			return errors.New("none leads")
		}
		for _, x := range among {
			if m, ok := x.Leader(); !ok || m.ID != leader.Self().ID {
				return fmt.Errorf("%s takes %q for the leader", x.addr, m.Name())
			}
		}
		return nil
	})
	return leader
}

func wantOthers(t *testing.T, x *one, others ...*one) {
	t.Helper()
	want := []string{}
	for _, o := range others {
		want = append(want, o.addr)
	}
	slices.Sort(want)
	meshtest.Eventually(t, "a replica knows the others", func() error {
		got := []string{}
		for _, m := range x.Others() {
			got = append(got, m.Address)
		}
		if d := cmp.Diff(want, got); d != "" {
			return errors.New(d)
		}
		return nil
	})
}

func without(all []*one, x *one) []*one {
	return slices.DeleteFunc(slices.Clone(all), func(o *one) bool { return o == x })
}

// TestKilledAndStartedAnew has a record that a killed server left at the address of one that
// runs: nobody takes it for another, though by its clock it is the younger.
func TestKilledAndStartedAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.start(s.etcd, nil)
	st, err := store.Open(t.Context(), store.Config{Endpoints: []string{s.etcd}, SealKeyFile: s.key})
	if err != nil {
		t.Fatal(err)
	}
	l := s.listen()
	left, err := store.Open(t.Context(), store.Config{
		Endpoints: []string{s.etcd}, SealKeyFile: s.key,
		Now: func() time.Time { return time.Now().Add(time.Hour) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := left.Close(); err != nil {
			t.Error(err)
		}
	})
	left.Announce(true, l.Addr().String(), "test")
	meshtest.Eventually(t, "the record is seen", func() error {
		if len(a.Others()) == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	b := s.startOn(st, l, nil)
	wantOthers(t, b, a)
	meshtest.Eventually(t, "the one that runs stands", func() error {
		if all := a.Others(); len(all) != 1 || all[0].ID != b.Self().ID {
			return fmt.Errorf("it knows %v", all)
		}
		return nil
	})
	wantOthers(t, b, a)
}

// TestHandOver ends one leader after another: the next goes on at once, and never are
// there two.
func TestHandOver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	all := []*one{s.start(s.etcd, nil), s.start(s.etcd, nil), s.start(s.etcd, nil)}
	for len(all) > 0 {
		for _, x := range all {
			wantOthers(t, x, without(all, x)...)
		}
		leader := wantLeader(t, all...)
		leader.end()
		all = without(all, leader)
		if log := leader.log.String(); strings.Contains(log, "level=WARN") {
			t.Errorf("a leader that ended in peace complains:\n%s", log)
		}
		// What it left behind is gone before its lease is over: nobody waited for that.
		for _, x := range all {
			meshtest.Eventually(t, "the others know that the leader is gone", func() error {
				if m, ok := x.Leader(); ok && m.ID == leader.Self().ID {
					return errors.New("it is still named")
				}
				return nil
			})
		}
	}
	if s.most.Load() != 1 || s.busy.Load() != 0 {
		t.Errorf("%d did the work at once and %d still do, want 1 and 0", s.most.Load(), s.busy.Load())
	}
}

// TestLeaderIsCutOff takes the store away from the leader: it stops before another goes
// on, and is one of many when it is back.
func TestLeaderIsCutOff(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	link := meshtest.NewLink(t, s.etcd)
	cut := s.start(link.Addr, nil)
	wantLeader(t, cut)
	other := s.start(s.etcd, nil)
	wantLeader(t, cut, other)
	link.Cut()
	meshtest.Eventually(t, "the other leads", func() error {
		if !other.Leading() {
			return errors.New("it does not")
		}
		return nil
	})
	if cut.Leading() {
		t.Error("the leader that was cut off leads on while another does")
	}
	link.Mend()
	if wantLeader(t, cut, other) != other {
		t.Error("the old leader leads again, though the new one is well")
	}
	wantOthers(t, other, cut)
	if s.most.Load() != 1 {
		t.Errorf("%d did the work at once, want 1", s.most.Load())
	}
}

// TestLeaderRecordIsTakenAway holds that who loses the lead in the store stops.
func TestLeaderRecordIsTakenAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	x := s.start(s.etcd, nil)
	wantLeader(t, x)
	c := s.client()
	if _, err := c.Put(t.Context(), "fairlead/process/leader", `{"format":1,"id":"other"}`); err != nil {
		t.Fatal(err)
	}
	meshtest.Eventually(t, "it stops", func() error {
		if x.Leading() || s.busy.Load() != 0 {
			return errors.New("it leads")
		}
		return nil
	})
	if _, err := c.Delete(t.Context(), "fairlead/process/leader"); err != nil {
		t.Fatal(err)
	}
	wantLeader(t, x)
}

func TestAsk(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	handlers := func(me string) map[string]replica.Handler {
		return map[string]replica.Handler{
			"echo": func(_ context.Context, in json.RawMessage) (any, error) {
				return map[string]any{"me": me, "in": in}, nil
			},
			"refuse": func(context.Context, json.RawMessage) (any, error) { return nil, errors.New("not now") },
			"panic":  func(context.Context, json.RawMessage) (any, error) { panic("a fault") },
			"hang": func(ctx context.Context, _ json.RawMessage) (any, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
		}
	}
	a, b, c := s.start(s.etcd, handlers("a")), s.start(s.etcd, handlers("b")), s.start(s.etcd, nil)
	wantOthers(t, a, b, c)
	for question, want := range map[string]map[*one]string{
		"echo":   {b: `{"in":[1],"me":"b"}`, c: "does not know the question"},
		"refuse": {b: "not now", c: "does not know the question"},
		"panic":  {b: "answering failed", c: "does not know the question"},
		"hang":   {b: "asking replica " + b.addr, c: "does not know the question"},
	} {
		for _, answer := range a.Ask(t.Context(), question, []int{1}) {
			of := b
			if answer.Replica == c.addr {
				of = c
			}
			got := string(answer.Body)
			if answer.Err != nil {
				got = answer.Err.Error()
			}
			if !strings.Contains(got, want[of]) {
				t.Errorf("%s: %s answers %q, want %q", question, answer.Replica, got, want[of])
			}
			delete(want, of)
		}
		if len(want) > 0 {
			t.Errorf("%s: %d others said nothing", question, len(want))
		}
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got := a.Ask(t.Context(), "echo", nil); len(got) != 2 {
				t.Errorf("%d answers, want 2", len(got))
			}
		})
	}
	wg.Wait()
	for _, answer := range a.Ask(t.Context(), "echo", strings.Repeat("x", 1<<20)) {
		if answer.Err == nil || !strings.Contains(answer.Err.Error(), "at most 1048576 are allowed") {
			t.Errorf("a question of any length is sent: %v", answer.Err)
		}
	}
	b.end()
	wantOthers(t, a, c)
}

// TestStrangers ask with another key, or with none.
// A question may be given more time than others, on both sides.
func TestAskPatiently(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	left := func(ctx context.Context, _ json.RawMessage) (any, error) {
		end, _ := ctx.Deadline()
		return time.Until(end), nil
	}
	a := s.start(s.etcd, nil)
	b := s.start(s.etcd, map[string]replica.Handler{"left": left})
	wantOthers(t, a, b)
	for _, c := range []struct{ asked, least, most time.Duration }{
		{0, 0, 15 * time.Second}, {40 * time.Second, 25 * time.Second, 50 * time.Second}, {time.Hour, 45 * time.Second, 70 * time.Second},
	} {
		for _, answer := range a.AskPatiently(t.Context(), "left", nil, c.asked) {
			var got time.Duration
			if err := errors.Join(answer.Err, json.Unmarshal(answer.Body, &got)); err != nil || got < c.least || got > c.most {
				t.Errorf("asked for %v more, the handler has %v (%v), want %v to %v", c.asked, got, err, c.least, c.most)
			}
		}
	}
}

func TestStrangers(t *testing.T) {
	t.Parallel()
	s, other := newSite(t), newSite(t)
	other.key = keyFile(t, 2)
	asked := atomic.Bool{}
	x := s.start(s.etcd, map[string]replica.Handler{"secret": func(context.Context, json.RawMessage) (any, error) {
		asked.Store(true)
		return "secret", nil
	}})
	stranger := other.start(other.etcd, nil)
	wantLeader(t, stranger)
	// The stranger is told of x as of one of its own.
	record := fmt.Sprintf(`{"format":1,"reads":1,"serves":true,"address":%q}`, x.addr)
	if _, err := other.client().Put(t.Context(), "fairlead/process/member/"+x.Self().ID, record); err != nil {
		t.Fatal(err)
	}
	wantOthers(t, stranger, x)
	got := stranger.Ask(t.Context(), "secret", nil)
	if len(got) != 1 || got[0].Err == nil || !strings.Contains(got[0].Err.Error(), "--seal-key") {
		t.Errorf("a stranger hears %+v", got)
	}
	x.wantRefused(t)
	if asked.Load() {
		t.Error("a stranger was answered")
	}
}

// TestAlone holds that a server with a store of its own does the work.
func TestAlone(t *testing.T) {
	t.Parallel()
	st, err := store.Open(t.Context(), store.Config{DataDir: t.TempDir(), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	done := make(chan struct{})
	x, err := replica.New(replica.Config{
		Store: st, Alone: true, Logger: slog.New(slog.DiscardHandler),
		Work: map[string]replica.Work{"end": func(ctx context.Context) error {
			close(done)
			<-ctx.Done()
			return nil
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- x.Run(ctx) }()
	<-done
	if !x.Leading() {
		t.Error("it does not lead")
	}
	if got := x.Ask(ctx, "anything", nil); len(got) > 0 {
		t.Errorf("others answer: %v", got)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	key := func(s string) string { return s }
	lists := func(after string, limit int) [][]string {
		return [][]string{
			replica.Cut([]string{"d", "a", "a", "g"}, key, after, limit),
			replica.Cut([]string{"b", "a", "f", "h", "c"}, key, after, limit),
			replica.Cut(nil, key, after, limit),
		}
	}
	for limit := 1; limit < 9; limit++ {
		var all []string
		after, more := "", true
		for more {
			var page []string
			if page, more = replica.Merge(lists(after, limit), key, limit); len(page) == 0 {
				t.Fatalf("limit %d: an empty page behind %q", limit, after)
			}
			all, after = append(all, page...), page[len(page)-1]
		}
		if d := cmp.Diff([]string{"a", "b", "c", "d", "f", "g", "h"}, all); d != "" {
			t.Errorf("limit %d: %s", limit, d)
		}
	}
}

// wantRefused asks without the key of the replicas: without a certificate, and with one of
// a key of its own.
func (x *one) wantRefused(t *testing.T) {
	t.Helper()
	authority := meshtest.NewAuthority(t)
	cert, key := authority.Issue(t, "replica", time.Hour)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, certs := range map[string][]tls.Certificate{"no certificate": nil, "another's": {pair}} {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certs}}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+x.addr+"/ask/secret", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Fairlead-Replica", x.Self().ID)
		if resp, err := c.Do(req); err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s: the answer is %s", name, resp.Status)
		}
		c.CloseIdleConnections()
	}
}
