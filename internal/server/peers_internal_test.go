package server

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/replica"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

func TestAdvertised(t *testing.T) {
	t.Parallel()
	routes := map[string]string{"etcd-0:2379": "127.0.0.1", "etcd-1:2379": "10.0.0.7", "[fd00::1]:2379": "fd00::7", "10.1.1.1:99": "10.0.0.8"}
	from := func(to string) string { return routes[to] }
	for _, c := range []struct {
		set, listens string
		endpoints    []string
		want         string
	}{
		{"", "10.0.0.1:9083", nil, "10.0.0.1:9083"},
		{"", "host:9083", nil, "host:9083"},
		{"one.example.com", "[::]:9083", nil, "one.example.com:9083"},
		{"one.example.com:444", "[::]:9083", nil, "one.example.com:444"},
		{"fd00::5", "[::]:9083", nil, "[fd00::5]:9083"},
		{"[fd00::5]", "[::]:9083", nil, "[fd00::5]:9083"},
		{"", "[::]:9083", []string{"etcd-0:2379", "https://etcd-1:2379"}, "10.0.0.7:9083"},
		{"", "0.0.0.0:9083", []string{"https://etcd-1"}, "10.0.0.7:9083"},
		{"", "0.0.0.0:9083", []string{"http://[fd00::1]:2379"}, "[fd00::7]:9083"},
		{"", "0.0.0.0:9083", []string{"10.1.1.1:99"}, "10.0.0.8:9083"},
	} {
		if got := advertised(c.set, c.listens, c.endpoints, from); got != c.want {
			t.Errorf("advertised(%q, %q, %q) is %q, want %q", c.set, c.listens, c.endpoints, got, c.want)
		}
	}
	// Where nothing else is known there is always an address with the port.
	for _, endpoints := range [][]string{nil, {"etcd-0:2379"}, {"nowhere:1"}} {
		host, port, err := net.SplitHostPort(advertised("", "[::]:9083", endpoints, from))
		if err != nil || port != "9083" || net.ParseIP(host) == nil || net.ParseIP(host).IsUnspecified() {
			t.Errorf("with etcd at %q: %q, %q, %v", endpoints, host, port, err)
		}
	}
}

// TestWantedOfOthers holds who asks AWS Cloud Map for what: nobody twice, and nobody's not
// at all.
func TestWantedOfOthers(t *testing.T) {
	t.Parallel()
	key := func(account, service string) mesh.InstancesKey {
		return mesh.InstancesKey{Account: account, Region: "r", Namespace: "n", Service: service}
	}
	st, err := store.Open(t.Context(), store.Config{DataDir: t.TempDir(), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	alone, err := replica.New(replica.Config{Store: st, Alone: true})
	if err != nil {
		t.Fatal(err)
	}
	own := []mesh.InstancesKey{key("1", "a"), key("2", "b")}
	w := &wanted{
		own: func() []mesh.InstancesKey { return own }, replica: func() *replica.Service { return alone },
		asked: map[string]time.Time{}, others: map[string]answered{},
	}
	if got := w.services(); !slices.Equal(got, own) {
		t.Errorf("a replica that nobody asks asks for %v, want its own", got)
	}
	told, err := w.tell(t.Context(), wantedQuestion{Accounts: []string{"1", "3"}})
	if err != nil || !slices.Equal(told, own[:1]) {
		t.Errorf("the leader is told %v, %v; want what is of its accounts", told, err)
	}
	if got := w.services(); !slices.Equal(got, own[1:]) {
		t.Errorf("a replica that was asked asks for %v, want what the leader does not", got)
	}
	w.asked["1"] = time.Now().Add(-2 * wantedFor)
	if got := w.services(); !slices.Equal(got, own) {
		t.Errorf("a replica that is asked no more asks for %v, want its own", got)
	}
	w.take([]replica.Answer{
		{Replica: "x", Body: []byte(`[{"Account":"1","Region":"r","Namespace":"n","Service":"c"}]`)},
		{Replica: "y", Err: errors.New("away")},
	}, false)
	if len(w.others) != 1 || len(w.others["x"].services) != 1 {
		t.Errorf("the others are taken to want %v", w.others)
	}
	w.take([]replica.Answer{{Replica: "x", Err: errors.New("away")}}, false)
	if len(w.others) != 1 {
		t.Error("an answer is forgotten at once when the next does not come")
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- alone.Run(ctx) }()
	for !alone.Leading() {
		changed := alone.Changed()
		if !alone.Leading() {
			<-changed
		}
	}
	if got := w.services(); len(got) != 3 || !slices.Contains(got, key("1", "c")) {
		t.Errorf("the leader asks for %v, want its own and the others'", got)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if w.take(nil, true); len(w.others) != 0 {
		t.Error("a replica that does not lead any more remembers what others wanted")
	}
}
