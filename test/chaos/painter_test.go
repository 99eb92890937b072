//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// put makes a PUT call through one server after another, beginning with one, until it is
// answered with 200; a write that says the same twice is meant.
func (w *world) put(at int, path, body string) (meshtest.Answer, error) {
	deadline := time.Now().Add(time.Minute)
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	for again := false; ; again, at = true, at+1 {
		a, err := w.all[at%len(w.all)].api.Do(context.Background(), http.MethodPut, path, body)
		switch {
		case err == nil && (a.Status == http.StatusOK || again && a.Status == http.StatusConflict):
			return a, nil
		case err == nil && a.Status < http.StatusInternalServerError:
			return a, fmt.Errorf("PUT %s: %s", path, a)
		case time.Now().After(deadline):
			return a, fmt.Errorf("PUT %s: %s, %w", path, a, err)
		}
		<-pause.C
	}
}

// painter edits the service's route: each edit leads to the other colour, and has a time
// limit that no other edit has, so that it is seen in an Envoy's configuration which edit
// it has.
type painter struct {
	w *world
	// at is the last edit that was answered, and revision the store's of it.
	at       int
	revision string
}

func colour(edit int) string { return []string{"blue", "green"}[edit%2] }

// limit is the time limit of an edit: no request reaches it.
func limit(edit int) time.Duration { return 20*time.Second + time.Duration(edit)*time.Millisecond }

func (p *painter) spec(edit int) string {
	return fmt.Sprintf(`{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":%q,"weight":1}]},`+
		`"timeout":{"perRequest":{"unit":"ms","value":%d}},`+
		`"retryPolicy":{"maxRetries":0,"perRetryTimeout":{"unit":"s","value":20},"httpRetryEvents":["server-error"]}}}`,
		colour(edit), limit(edit).Milliseconds())
}

// paint makes the next edit, through the next server that answers.
func (p *painter) paint() error {
	next := p.at + 1
	a, err := p.w.put(next, meshes+"/shop/virtualRouter/colour/routes/all", fmt.Sprintf(`{"spec":%s}`, p.spec(next)))
	if err == nil {
		p.at, p.revision = next, a.Header.Get("x-fairlead-revision")
	}
	return err
}

// run paints steadily until stop, which returns how many edits were answered.
func (p *painter) run() (stop func() int) {
	done, first := make(chan struct{}), p.at
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if err := p.paint(); err != nil {
				select {
				case <-done: // it was the last
				default:
					p.w.t.Error(err)
				}
				return
			}
		}
	})
	end := sync.OnceFunc(func() { close(done); wg.Wait() })
	p.w.t.Cleanup(end)
	return func() int { end(); return p.at - first }
}

// obeyed returns nil if every caller's Envoy has the last edit and acts by it.
func (p *painter) obeyed() error {
	seconds := fmt.Sprintf(`"timeout": "%ss"`, strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.3f", limit(p.at).Seconds()), "0"), "."))
	if ms := limit(p.at).Milliseconds() % 1000; ms != 0 {
		seconds = fmt.Sprintf(`"timeout": "%.3fs"`, limit(p.at).Seconds()) // as Envoy writes it: three digits, or none
	}
	for i, x := range p.w.fronts {
		dump, err := x.Admin("/config_dump?resource=dynamic_route_configs")
		if err != nil {
			return err
		}
		if !strings.Contains(dump, seconds) {
			return fmt.Errorf("the Envoy of caller %d does not have edit %d, %s", i, p.at, seconds)
		}
		client := x.Outbound()
		status, body, err := meshtest.Get(client, "http://"+colours)
		client.CloseIdleConnections()
		if err != nil || status != http.StatusOK || body != colour(p.at) {
			return fmt.Errorf("caller %d gets %d %q %w, want %s", i, status, body, err, colour(p.at))
		}
	}
	return nil
}

// propagated returns nil if all servers say of every proxy that it has acknowledged the
// last edit.
func (p *painter) propagated() error {
	for _, r := range p.w.all {
		a, err := r.api.Do(context.Background(), http.MethodGet, "/v1/meshes/shop/propagation?revision="+p.revision, "")
		if err != nil {
			return err
		}
		var got struct {
			Propagation struct {
				Proxies, Current, Pending, Rejected int
				Incomplete                          []string
				Behind                              json.RawMessage
			}
		}
		if err := json.Unmarshal([]byte(a.Body), &got); err != nil || a.Status != http.StatusOK {
			return fmt.Errorf("%s answers %s, %w", r.name, a, err)
		}
		if g := got.Propagation; g.Current != proxies || g.Proxies != proxies || len(g.Incomplete) > 0 {
			return fmt.Errorf("%s says that %d of %d proxies have it, want %d; %s; it misses %v", r.name, g.Current, g.Proxies, proxies, g.Behind, g.Incomplete)
		}
	}
	return nil
}

// wantObeyed waits until the last edit is obeyed, and until all servers say so, and returns
// when that was, since a moment.
func (p *painter) wantObeyed(since time.Time) (obeyed, told time.Duration) {
	p.w.t.Helper()
	var lack error
	meshtest.Eventually(p.w.t, "the last edit is obeyed by all proxies", func() error {
		err := p.obeyed()
		if err != nil {
			lack = err
		}
		return err
	})
	obeyed = time.Since(since)
	meshtest.Eventually(p.w.t, "all servers say that all proxies have the last edit", func() error {
		err := p.propagated()
		if err != nil {
			lack = err
		}
		return err
	})
	if told = time.Since(since); told > time.Second {
		p.w.t.Logf("what was waited for last: %v", lack)
	}
	return obeyed, told
}

// elsewhere waits until the newest edit has reached every Envoy, whatever the servers that
// are away say, and returns how long that took. It makes an edit of its own first: one that
// the fault has not seen.
func (p *painter) elsewhere() (took time.Duration) {
	p.w.t.Helper()
	began := time.Now()
	if err := p.paint(); err != nil {
		p.w.t.Fatal(err)
	}
	meshtest.Eventually(p.w.t, "every proxy has an edit that was made during the fault", func() error {
		for _, x := range p.w.fronts {
			client := x.Outbound()
			_, body, err := meshtest.Get(client, "http://"+colours)
			client.CloseIdleConnections()
			if err != nil {
				return err
			}
			if body != colour(p.at) {
				return errors.New("it leads to " + body)
			}
		}
		return nil
	})
	return time.Since(began)
}
