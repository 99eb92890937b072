//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// writers is how many write at once, and kept how many objects each has that it goes on
// writing.
const writers, kept = 3, 8

// absent is the value of an object that is not there.
const absent = ""

// object is one that a single writer writes, one write after another.
type object struct {
	name string
	// may are the values that it can have: one, or after a write that was not answered two.
	// Nobody writes it any more then, as that write may still be done.
	may []string
}

// ledger is what the writers know.
type ledger struct {
	w  *world
	mu sync.Mutex
	// objects are all that were ever written, by their names.
	objects                    map[string]*object
	answered, unknown, refused int
	wrong                      []string
}

func newLedger(w *world) *ledger { return &ledger{w: w, objects: map[string]*object{}} }

// outcome is what came of a write.
type outcome int

const (
	done    outcome = iota // it was answered: it must be there
	unknown                // it was not: it may be there
	refused                // it cannot have been done
)

// write makes a write through one server after another, beginning with any. It tries again
// only what cannot have been done.
func (l *ledger) write(method, path, body string) (outcome, meshtest.Answer, error) {
	at := rand.N(len(l.w.all))
	for try := range 2 * len(l.w.all) {
		a, err := l.w.all[(at+try)%len(l.w.all)].api.Do(context.Background(), method, path, body)
		switch {
		case err != nil && unsent(err):
		case err != nil:
			return unknown, a, err
		case a.Status == http.StatusOK:
			return done, a, nil
		case a.Status == http.StatusTooManyRequests || a.Status == http.StatusForbidden, a.Status == http.StatusServiceUnavailable && strings.Contains(a.Body, "disk"):
		case a.Status >= http.StatusInternalServerError:
			return unknown, a, nil
		default:
			return refused, a, nil
		}
	}
	return refused, meshtest.Answer{}, nil
}

// unsent reports whether a call failed before anything of it was sent.
func unsent(err error) bool {
	var u *url.Error
	var op *net.OpError
	return errors.As(err, &u) && errors.As(u.Err, &op) && op.Op == "dial"
}

// run has all writers write until stop.
func (l *ledger) run() (stop func()) {
	over := make(chan struct{})
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			tick := time.NewTicker(30 * time.Millisecond)
			defer tick.Stop()
			own := make([]*object, kept)
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				case <-tick.C:
				}
				at := n % kept
				if own[at] == nil || len(own[at].may) > 1 {
					own[at] = l.begin(fmt.Sprintf("w%d-%d", i, rand.Uint64()))
				}
				l.step(own[at])
			}
		})
	}
	end := sync.OnceFunc(func() { close(over); wg.Wait() })
	l.w.t.Cleanup(end)
	return end
}

// begin notes an object that is not there yet.
func (l *ledger) begin(name string) *object {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &object{name: name, may: []string{absent}}
	l.objects[name] = o
	return o
}

// step makes one write of an object of which it is known what it is.
func (l *ledger) step(o *object) {
	const nodes = meshes + "/shop/virtualNodes"
	value, was := fmt.Sprintf("h%d.test", rand.Uint64()), o.may[0]
	method, path, body := http.MethodPut, nodes+"/"+o.name, fmt.Sprintf(`{"spec":%s}`, meshtest.NodeSpec(value, 8080))
	switch {
	case was == absent:
		path, body = nodes, fmt.Sprintf(`{"virtualNodeName":%q,"spec":%s}`, o.name, meshtest.NodeSpec(value, 8080))
	case rand.N(3) == 0:
		method, body, value = http.MethodDelete, "", absent
	}
	came, a, err := l.write(method, path, body)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case came == done:
		o.may = []string{value}
		l.answered++
	case came == unknown:
		o.may = []string{was, value}
		l.unknown++
	case a.Status != 0:
		// It was done or not by what the writer knows; the server says something else.
		l.wrong = append(l.wrong, fmt.Sprintf("%s %s, which was %q: %s, %v", method, path, was, a, err))
		o.may = []string{was, value}
	default:
		l.refused++
	}
}

// counts returns how many writes came out in which way so far.
func (l *ledger) counts() (answered, unknown, refused int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answered, l.unknown, l.refused
}

// check holds every server to what the writers know. No writer writes meanwhile.
func (l *ledger) check() {
	l.w.t.Helper()
	for _, wrong := range l.wrong {
		l.w.t.Errorf("a write was answered with what cannot be: %s", wrong)
	}
	l.wrong = nil
	var first map[string]string
	for _, r := range l.w.all {
		have := l.read(r)
		for _, wrong := range append(l.unexplained(have), l.different(first, have)...) {
			l.w.t.Errorf("%s: %s", r.name, wrong)
		}
		if first == nil {
			first = have
		}
	}
}

// unexplained returns what of the objects that a server has does not follow from what was
// answered.
func (l *ledger) unexplained(have map[string]string) (wrong []string) {
	for name, o := range l.objects {
		if !slices.Contains(o.may, have[name]) {
			wrong = append(wrong, fmt.Sprintf("%s is %q; by what was answered it is one of %q", name, have[name], o.may))
		}
	}
	for name := range have {
		if l.objects[name] == nil && strings.HasPrefix(name, "w") {
			wrong = append(wrong, name+" is there, and nobody wrote it")
		}
	}
	return wrong
}

// different returns what is another with the first server; nil is none.
func (l *ledger) different(first, have map[string]string) (wrong []string) {
	for name := range l.objects {
		if first != nil && first[name] != have[name] {
			wrong = append(wrong, fmt.Sprintf("%s is %q, with the first server %q", name, have[name], first[name]))
		}
	}
	return wrong
}

// TestTheLedgerSeesWhatIsWrong has each thing found that a server could do wrong.
func TestTheLedgerSeesWhatIsWrong(t *testing.T) {
	t.Parallel()
	l := newLedger(nil)
	for name, may := range map[string][]string{"w-there": {"1"}, "w-gone": {absent}, "w-either": {"1", "2"}, "w-deleted": {"1", absent}} {
		l.begin(name).may = may
	}
	right := map[string]string{"w-there": "1", "w-either": "2", "front": "3"}
	for what, change := range map[string]func(map[string]string){
		"an answered write is lost":      func(m map[string]string) { delete(m, "w-there") },
		"an older value is back":         func(m map[string]string) { m["w-there"] = "0" },
		"a deleted object is back":       func(m map[string]string) { m["w-gone"] = "1" },
		"neither of two":                 func(m map[string]string) { m["w-either"] = "3" },
		"both of two are gone":           func(m map[string]string) { delete(m, "w-either") },
		"an object comes out of nowhere": func(m map[string]string) { m["w-new"] = "1" },
	} {
		if wrong := l.unexplained(right); len(wrong) > 0 {
			t.Fatalf("what is right: %q", wrong)
		}
		have := maps.Clone(right)
		change(have)
		if len(l.unexplained(have)) != 1 {
			t.Errorf("%s, and it finds %q", what, l.unexplained(have))
		}
	}
	other := maps.Clone(right)
	other["w-either"] = "1"
	if len(l.unexplained(other)) > 0 || len(l.different(right, other)) != 1 {
		t.Errorf("two servers differ, and it finds %q", l.different(right, other))
	}
}

// read returns the values of all virtual nodes as a server has them. An answer of 503 says
// to try again, as etcd's members may have a leader to find yet: so it does, as every client
// of the API does.
func (l *ledger) read(r *replica) map[string]string {
	l.w.t.Helper()
	have, next := map[string]string{}, ""
	for first := true; first || next != ""; first = false {
		path := meshes + "/shop/virtualNodes?limit=100"
		if next != "" {
			path += "&nextToken=" + url.QueryEscape(next)
		}
		var page struct {
			VirtualNodes []struct{ VirtualNodeName string }
			NextToken    string
		}
		l.get(r, path, &page)
		for _, n := range page.VirtualNodes {
			var node struct {
				Spec struct {
					ServiceDiscovery struct{ DNS struct{ Hostname string } }
				}
			}
			l.get(r, meshes+"/shop/virtualNodes/"+n.VirtualNodeName, &node)
			have[n.VirtualNodeName] = node.Spec.ServiceDiscovery.DNS.Hostname
		}
		next = page.NextToken
	}
	return have
}

func (l *ledger) get(r *replica, path string, out any) {
	l.w.t.Helper()
	var a meshtest.Answer
	meshtest.Eventually(l.w.t, r.name+" answers", func() (err error) {
		if a, err = r.api.Do(l.w.t.Context(), http.MethodGet, path, ""); err == nil && a.Status == http.StatusServiceUnavailable {
			err = errors.New(a.String())
		}
		return err
	})
	if a.Status != http.StatusOK {
		l.w.t.Fatalf("GET %s of %s: %s", path, r.name, a)
	}
	if err := json.Unmarshal([]byte(a.Body), out); err != nil {
		l.w.t.Fatalf("GET %s of %s: %v", path, r.name, err)
	}
}
