//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// fault is something that breaks.
type fault struct {
	name string
	// short says that the short form has it: no other room does.
	short bool
	// begin breaks something, and end mends it and waits until what was broken works.
	begin, end func(*world)
	// moves says that no proxy needs what is broken: edits reach all while it is.
	moves bool
	// silent says that no write can be answered.
	silent bool
	// least is how long it lasts at least.
	least time.Duration
}

// faults are all that happen to the world of three servers.
func faults() []fault {
	return []fault{
		{name: "a server is killed", begin: killServer, end: startServer, moves: true},
		{name: "a member of etcd is killed", begin: killMember, end: startMember, moves: true},
		{name: "etcd's leader is cut off", short: true, begin: cutLeader, end: mendWires, moves: true},
		{name: "etcd's leader loses the other members", begin: splitLeader, end: mendWires, moves: true},
		{name: "the disk of a member of etcd is full", short: true, begin: fillMember, end: emptyMember, moves: true},
		{name: "a server's clock is an hour ahead", short: true, begin: clock(time.Hour), end: rightClock, moves: true},
		{name: "a server's clock is an hour behind", begin: clock(-time.Hour), end: rightClock, moves: true},
		{name: "the network is slow and loses packets", short: true, begin: slow, end: mendWires, moves: true},
		{name: "a server's connections to proxies are half open", begin: halfOpen, end: mendWires, moves: true},
		{name: "connections are half open for a while", begin: halfOpen, end: mendWires, least: 13 * time.Second},
		{name: "all servers are killed at once", short: true, begin: killAll, end: startAll, silent: true},
	}
}

// pick chooses the server that the current fault is about: the one with the most streams.
func (w *world) pick() *replica {
	most := -1
	for _, r := range w.all {
		if n, err := strconv.Atoi(r.ops.Metric("fairlead_xds_streams")); err == nil && n > most {
			most, w.broken = n, r
		}
	}
	if most < 1 {
		w.t.Error("no server has a stream: the proxies are connected nowhere")
	}
	return w.broken
}

func killServer(w *world)  { w.pick().kill() }
func startServer(w *world) { w.start(w.broken) }

func killAll(w *world) {
	for _, r := range w.all {
		r.kill()
	}
}

func startAll(w *world) {
	for _, r := range w.all {
		r.extra = nil
		r.host.start()
	}
	for _, r := range w.all {
		w.wantReady(r)
	}
}

func killMember(w *world) { w.members[2].kill() }

func startMember(w *world) {
	w.members[2].start()
	meshtest.Eventually(w.t, "the member is well", w.members[2].well)
}

// cutLeader loses all that etcd's leader sends and would receive, and waits until another
// leads.
func cutLeader(w *world) { w.cutLeader(meshtest.Cut()) }

// splitLeader cuts etcd's leader off from the other members only: servers still reach it.
func splitLeader(w *world) {
	var others []netip.Addr
	of := leader(w.t, w.members)
	for _, m := range w.members {
		if m != of {
			others = append(others, m.V4)
		}
	}
	w.cutLeader(meshtest.Cut(others...))
}

func (w *world) cutLeader(trouble meshtest.Trouble) {
	cut := leader(w.t, w.members)
	cut.wire.Set(trouble, trouble)
	meshtest.Eventually(w.t, "another member leads", func() error {
		for _, m := range w.members {
			if m != cut && m.leads() {
				return nil
			}
		}
		return errors.New("none does")
	})
}

func mendWires(w *world) {
	for _, r := range w.all {
		r.wire.Set(meshtest.Trouble{}, meshtest.Trouble{})
	}
	for _, m := range w.members {
		m.wire.Set(meshtest.Trouble{}, meshtest.Trouble{})
	}
}

// fillMember fills the disk of a member of etcd. It ends by itself as soon as it has to
// write what has no room, as etcd does.
func fillMember(w *world) {
	m := w.members[1]
	m.fill()
	meshtest.Eventually(w.t, "the member ends", func() error {
		if !m.ended() {
			return errors.New("it runs")
		}
		return nil
	})
}

func emptyMember(w *world) {
	m := w.members[1]
	m.room()
	m.start()
	meshtest.Eventually(w.t, "the member is well", m.well)
}

// clock starts a server anew with a clock that is off.
func clock(off time.Duration) func(*world) {
	return func(w *world) {
		w.pick().kill()
		w.start(w.broken, "--clock-offset", off.String())
	}
}

func rightClock(w *world) {
	if off := w.broken.api.Ahead(); off.Abs() < 50*time.Minute {
		w.t.Errorf("the server's clock was found to be %s ahead only: nobody called it", off)
	}
	w.broken.kill()
	w.start(w.broken)
}

// slow has all that servers and members of etcd send arrive 100 ms late, and one of 100
// packets in either direction not at all: an answer between two of them takes 200 ms.
func slow(w *world) {
	late, lossy := meshtest.Trouble{Delay: 100 * time.Millisecond, Loss: 0.01}, meshtest.Trouble{Loss: 0.01}
	for _, r := range w.all {
		r.wire.Set(late, lossy)
	}
	for _, m := range w.members {
		m.wire.Set(late, lossy)
	}
}

// halfOpen loses all between a server and the proxies, without a word to either.
func halfOpen(w *world) {
	cut := meshtest.Cut(w.proxied...)
	w.pick().wire.Set(cut, cut)
}

// TestFaults has one world, in which one thing after another breaks under steady writes,
// edits and traffic.
func TestFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, l := w.shop(), newLedger(w)
	load := w.traffic()
	for _, f := range faults() {
		if !long() && !f.short {
			continue
		}
		if !t.Run(f.name, func(t *testing.T) { f.run(t, w, p, l, load) }) {
			return // the next begins with a world that is well
		}
	}
}

// wantSoon holds the times at which all proxies obeyed and all servers said so to the bound.
// What servers say may be later by as much again: it goes by the proxies' answers, and how
// soon those are sent again is up to the kernels of the proxies' hosts, and to the ping that
// Envoy waits for 10 s.
func wantSoon(t *testing.T, obeyed, told time.Duration) {
	t.Helper()
	if obeyed > bound() {
		t.Errorf("proxies were behind for %s after the fault's end, allowed are %s", obeyed, bound())
	}
	if told > 2*bound() {
		t.Errorf("servers did not know for %s after the fault's end what proxies have, allowed are %s", told, 2*bound())
	}
}

// run breaks something for a while, and holds the world to what must hold.
func (f fault) run(t *testing.T, w *world, p *painter, l *ledger, load *meshtest.Load) {
	before := w.t
	w.t = t
	defer func() { w.t = before }()
	calls := load.Calls()
	stopWrites, stopEdits := l.run(), p.run()
	was, _, _ := l.counts()
	f.begin(w)
	began, answered := time.Now(), 0
	if f.moves {
		stopEdits()
		moved := p.elsewhere()
		t.Logf("an edit during the fault reached every proxy after %s", moved.Round(time.Millisecond))
		stopEdits = p.run()
	}
	during, _, _ := l.counts()
	meshtest.Eventually(t, "the fault has lasted", func() error {
		answered, _, _ = l.counts()
		if left := max(lasts(), f.least) - time.Since(began); left > 0 || !f.silent && answered < during+10 {
			return fmt.Errorf("%s are left, %d writes were answered meanwhile", left, answered-during)
		}
		return nil
	})
	f.end(w)
	ended := time.Now()
	edits := stopEdits()
	obeyed, told := p.wantObeyed(ended)
	stopWrites()
	w.wantTogether()
	l.check()
	all, unknown, refused := l.counts()
	t.Logf("every proxy obeyed the newest of %d edits %s after the fault's end, and every server said so after %s; %d writes answered (%d during it), in all %d not, %d refused; %d requests",
		edits, obeyed.Round(time.Millisecond), told.Round(time.Millisecond), all-was, answered-during, unknown, refused, load.Calls()-calls)
	wantSoon(t, obeyed, told)
	if f := load.Failures(); len(f) > 0 {
		t.Errorf("%d of %d requests failed, the first: %s", len(f), load.Calls(), f[0])
	}
	if load.Calls() == calls {
		t.Error("no request was made")
	}
}
