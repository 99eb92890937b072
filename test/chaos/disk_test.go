//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

// TestTheDiskOfAServerIsFull has one server with an embedded store, whose disk something
// else fills to the last byte: writes are refused in clear words, proxies are served, new
// ones too, and with room on the disk writes go on by themselves. What was answered is there
// after the server was killed, too.
func TestTheDiskOfAServerIsFull(t *testing.T) {
	t.Parallel()
	w := newAlone(t)
	p, l := w.shop(), newLedger(w)
	load, r := w.traffic(), w.all[0]
	stopWrites, stopEdits := l.run(), p.run()
	meshtest.Eventually(t, "some writes are answered", func() error {
		if n, _, _ := l.counts(); n < 20 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	r.fill()
	refusal := meshes + "/shop/virtualRouter/colour/routes/all"
	meshtest.Eventually(t, "a write is refused, and why", func() error {
		a, err := r.api.Do(t.Context(), http.MethodPut, refusal, fmt.Sprintf(`{"spec":%s}`, p.spec(0)))
		if err != nil || a.Status != http.StatusServiceUnavailable || a.Code != "ServiceUnavailableException" || !strings.Contains(a.Body, "disk") {
			return fmt.Errorf("%v, %w", a, err)
		}
		return nil
	})
	before, _, _ := l.counts()
	w.wantServedThere()
	r.kill()
	r.fill() // what it leaves
	w.start(r)
	full := time.Now()
	meshtest.Eventually(t, "the disk has been full for a while", func() error {
		if r.ended() {
			t.Fatal("the server has ended")
		}
		if left := min(lasts(), 20*time.Second) - time.Since(full); left > 0 {
			return fmt.Errorf("%s are left", left)
		}
		return nil
	})
	if after, _, _ := l.counts(); after != before {
		t.Errorf("%d writes were answered though there was no room", after-before)
	}
	if err := r.ops.Ready(); err != nil {
		t.Errorf("a server that serves all but writes: %v", err)
	}
	r.room()
	ended := time.Now()
	meshtest.Eventually(t, "writes go on by themselves", func() error {
		if n, _, _ := l.counts(); n == before {
			return errors.New("not yet")
		}
		return nil
	})
	edits := stopEdits()
	obeyed, told := p.wantObeyed(ended)
	stopWrites()
	l.check()
	r.kill()
	w.start(r)
	l.check()
	all, unknown, refused := l.counts()
	t.Logf("every proxy obeyed the newest of %d edits %s after there was room, and the server said so after %s; %d writes answered, %d not, %d refused; %d requests",
		edits, obeyed.Round(time.Millisecond), told.Round(time.Millisecond), all, unknown, refused, load.Calls())
	wantSoon(t, obeyed, told)
	if f := load.Stop(); len(f) > 0 {
		t.Errorf("%d of %d requests failed, the first: %s", len(f), load.Calls(), f[0])
	}
}

// wantServedThere starts one more Envoy and waits until it has its configuration.
func (w *world) wantServedThere() {
	w.t.Helper()
	h := w.hosts.Add("late")
	x := h.ProxyBound(meshtest.Remote(server.Addrs{}, w.creds), meshtest.ARN("shop", "front"), "FAIRLEAD_XDS_ENDPOINT="+discovery+":9081").Ready(w.t)
	client := x.Outbound()
	defer client.CloseIdleConnections()
	if status, body, err := meshtest.Get(client, "http://"+colours); err != nil || status != http.StatusOK {
		w.t.Errorf("through a proxy that is new: %d %q %v", status, body, err)
	}
	x.Kill()
}
