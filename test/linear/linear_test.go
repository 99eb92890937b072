package linear

import (
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// writers is how many clients work on the mesh at once.
const writers = 16

// TestWriters lets 16 writers work on one mesh and checks every answer.
func TestWriters(t *testing.T) {
	t.Parallel()
	run(t, 0)
}

// TestKilledServer is TestWriters with the server killed and started again five times.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	run(t, 5)
}

func run(t *testing.T, kills int) {
	t.Helper()
	dir := t.TempDir()
	p := startProcess(t, dir)
	first := meshtest.NewSigned("http://"+p.addrs.API, p.creds)
	a, err := first.Do(t.Context(), http.MethodPut, "/v20190125/meshes", fmt.Sprintf(`{"meshName":%q}`, meshName))
	if err != nil || a.Status != http.StatusOK {
		t.Fatal(a, err)
	}
	f := &fleet{t: t, creds: first, began: time.Now()}
	for k := range kills + 1 {
		stretch := *howLong / time.Duration(kills+1)
		f.work("http://"+p.addrs.API, stretch, func() {
			if k < kills {
				p.end(syscall.SIGKILL)
			}
		})
		if k < kills {
			p.start()
		}
	}
	p.end(syscall.SIGTERM)
	h := readHistory(t, dir)
	check(t, f.ops, h)
	linearizable(t, f.ops)
	f.report(h)
}

// fleet is the writers and what they were told.
type fleet struct {
	t     *testing.T
	creds *meshtest.Signed
	began time.Time
	mu    sync.Mutex
	ops   []*op
}

// work lets the writers write for a while, and calls atEnd while they are still at it;
// if the server is gone by then, each ends with a call whose answer does not come.
func (f *fleet) work(endpoint string, d time.Duration, atEnd func()) {
	stop := make(chan struct{})
	time.AfterFunc(d, func() {
		atEnd()
		close(stop)
	})
	var wg sync.WaitGroup
	for id := range writers {
		wg.Go(func() {
			client := meshtest.NewSigned(endpoint, f.creds.Creds)
			defer client.Close()
			var mine []*op
			for alive := true; alive; {
				select {
				case <-stop:
					alive = false
				default:
					o := f.call(client, id)
					alive = o.end != never
					mine = append(mine, o)
				}
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.ops = append(f.ops, mine...)
		})
	}
	wg.Wait()
	<-stop // the next server starts when this one has ended
}

// never is when a call ended that was not answered.
const never = time.Duration(1<<63 - 1)

func (f *fleet) call(client *meshtest.Signed, id int) *op {
	o := randomOp()
	o.id = id
	method, path, body := o.request()
	o.start = time.Since(f.began)
	a, err := client.Do(f.t.Context(), method, path, body)
	if err != nil {
		o.unknown, o.end = true, never
		return o
	}
	o.end = time.Since(f.began)
	if err := o.take(a); err != nil {
		f.t.Errorf("%s: cannot read %s: %v", o, a, err)
	}
	return o
}

// report says what was checked.
func (f *fleet) report(h *history) {
	f.t.Helper()
	did, refused, unknown := 0, map[string]int{}, 0
	for _, o := range f.ops {
		switch {
		case o.unknown:
			unknown++
		case o.done():
			did++
		default:
			refused[o.code]++
		}
	}
	f.t.Logf("%d calls: %d done, refused %v, %d without an answer; %d changes in the store", len(f.ops), did, refused, unknown, len(h.events))
	for _, code := range []mesh.Code{mesh.ErrConflict, mesh.ErrNotFound, mesh.ErrResourceInUse} {
		if refused[string(code)] == 0 {
			f.t.Errorf("no call was answered with %s: the test does not try what it should", code)
		}
	}
}

// state is one object as porcupine's model has it.
type state struct {
	exists  bool
	uid     string
	version int64
}

// model is one object by itself: what other objects forbid changes nothing here.
var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(before, input, _ any) (bool, any) {
		s, o := before.(state), input.(*op)
		switch {
		case o.done() && o.verb == create:
			return !s.exists, state{true, o.uid, 1}
		case o.done() && o.verb == update:
			return s.exists && s.uid == o.uid && s.version+1 == o.version, state{true, o.uid, o.version}
		case o.done() && o.verb == remove:
			return s.exists && s.uid == o.uid && s.version+1 == o.version, state{}
		case o.done(): // a describe
			return s.exists && s.uid == o.uid && s.version == o.version, s
		case o.code == string(mesh.ErrConflict), o.code == string(mesh.ErrResourceInUse):
			return s.exists, s
		case o.code == string(mesh.ErrNotFound) && (o.verb == describe || o.verb == remove):
			return !s.exists, s
		}
		return true, s // a target or parent is missing
	},
	DescribeOperation: func(input, _ any) string { return input.(*op).String() },
}

// linearizable holds that each object's history is.
func linearizable(t *testing.T, ops []*op) {
	t.Helper()
	byKey := map[mesh.Key][]porcupine.Operation{}
	for _, o := range ops {
		if o.verb == list {
			continue
		}
		if o.unknown {
			if o.event == nil {
				continue // it had no effect
			}
			o = o.settled()
		}
		byKey[o.key] = append(byKey[o.key], porcupine.Operation{ClientId: o.id, Input: o, Call: int64(o.start), Return: int64(o.end)})
	}
	for k, history := range byKey {
		if r, _ := porcupine.CheckOperationsVerbose(model, history, time.Minute); r != porcupine.Ok {
			t.Errorf("%s: its history of %d calls is not linearizable: %s", k, len(history), r)
		}
	}
}

// settled returns a write without an answer as the one that it turned out to be.
func (o *op) settled() *op {
	s := *o
	s.unknown, s.status = false, http.StatusOK
	if e := o.event; e.now != nil {
		s.uid, s.version = e.now.UID, e.now.Version
	} else {
		s.uid, s.version = e.was.UID, e.was.Version+1
	}
	return &s
}
