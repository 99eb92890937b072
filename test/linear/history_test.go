package linear

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// event is one change of one object in the store.
type event struct {
	revision int64
	key      mesh.Key
	// now is nil if the object was deleted.
	now *object
	// was is nil if there was none.
	was  *object
	op   *op // that asked for it
	verb verb
}

// object is an object as it is stored.
type object struct {
	UID        string          `json:"uid"`
	Version    int64           `json:"version"`
	Spec       json.RawMessage `json:"spec"`
	References []string        `json:"references"`
}

// history is all that the store did.
type history struct {
	first, last int64 // revisions
	events      []*event
	byKey       map[mesh.Key][]*event // in order of revision
}

// readHistory opens the data of a server that has ended and reads every change.
func readHistory(t *testing.T, dir string) *history {
	t.Helper()
	client := openEtcd(t, dir)
	prefix := fmt.Sprintf("fairlead/object/%s/%s/in/%s/", meshtest.Account, meshtest.Region, meshName)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	end, err := client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	h := &history{first: 1, last: end.Header.Revision, byKey: map[mesh.Key][]*event{}}
	// A key of our own ends the watch: what is before it is all there is.
	if _, err := client.Put(ctx, prefix+"end", ""); err != nil {
		t.Fatal(err)
	}
	for resp := range client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if resp.Err() != nil {
			t.Fatal(resp.Err())
		}
		for _, e := range resp.Events {
			tail := strings.TrimPrefix(string(e.Kv.Key), prefix)
			if tail == "end" {
				return h
			}
			h.add(t, tail, e)
		}
	}
	t.Fatalf("the store's history ends early: %v", ctx.Err())
	return nil
}

func (h *history) add(t *testing.T, tail string, e *clientv3.Event) {
	t.Helper()
	out := &event{revision: e.Kv.ModRevision, key: parseTail(t, tail)}
	if before := h.byKey[out.key]; len(before) > 0 {
		out.was = before[len(before)-1].now
	}
	if e.Type == clientv3.EventTypePut {
		out.now = &object{}
		if err := json.Unmarshal(e.Kv.Value, out.now); err != nil {
			t.Fatal(err)
		}
	}
	switch {
	case out.now == nil:
		out.verb = remove
	case out.was == nil:
		out.verb = create
	default:
		out.verb = update
	}
	h.events = append(h.events, out)
	h.byKey[out.key] = append(h.byKey[out.key], out)
}

func parseTail(t *testing.T, tail string) mesh.Key {
	t.Helper()
	segment, name, _ := strings.Cut(tail, "/")
	kind, ok := mesh.ParseKind(segment)
	if !ok {
		t.Fatalf("the store has a key that ends in %q", tail)
	}
	k := mesh.Key{Kind: kind, Name: name}
	if kind.Parent() != 0 {
		k.Parent, k.Name, _ = strings.Cut(name, "/")
	}
	return k
}

// openEtcd starts an etcd on the data of a server that has ended.
func openEtcd(t *testing.T, dir string) *clientv3.Client {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = "fairlead", filepath.Join(dir, "etcd")
	self := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	cfg.AdvertisePeerUrls, cfg.InitialCluster = []url.URL{self}, "fairlead="+self.String()
	cfg.ListenPeerUrls, cfg.ListenClientUrls, cfg.AdvertiseClientUrls = nil, nil, nil
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	return v3client.New(e.Server)
}

// at returns an object as it was at a revision, nil if there was none.
func (h *history) at(k mesh.Key, revision int64) *object {
	events := h.byKey[k]
	i, found := slices.BinarySearchFunc(events, revision, func(e *event, r int64) int { return int(e.revision - r) })
	if !found {
		i--
	}
	if i < 0 {
		return nil
	}
	return events[i].now
}

// names returns the names and versions of the objects of a range at a revision, in the
// order of a list.
func (h *history) names(kind mesh.Kind, parent string, revision int64) []string {
	var out []string
	for k := range h.byKey {
		if k.Kind != kind || k.Parent != parent {
			continue
		}
		if o := h.at(k, revision); o != nil {
			out = append(out, fmt.Sprintf("%s %d", k.Name, o.Version))
		}
	}
	slices.Sort(out)
	return out
}

// used reports whether at a revision something lives in an object or refers to it.
func (h *history) used(k mesh.Key, revision int64) bool {
	for other := range h.byKey {
		o := h.at(other, revision)
		if o == nil {
			continue
		}
		if p, ok := other.ParentKey(); ok && p == k || slices.Contains(o.References, k.Kind.String()+"/"+k.Name) {
			return true
		}
	}
	return false
}
