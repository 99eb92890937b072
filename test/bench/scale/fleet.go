package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
	"github.com/fairlead-mesh/fairlead/test/process"
)

// otherAccount is another tenant of the server.
const otherAccount = "000000000002"

// fleetWorld measures a mesh that is larger, first with as many proxies as the smaller
// one has, then with one for each of its nodes.
func (b *bench) fleetWorld(ctx context.Context) error {
	n := b.narrow * b.factor
	small, err := b.smallCost(ctx)
	if err != nil {
		return err
	}
	s, w, err := b.narrowMesh(ctx, "fleet", n)
	if err != nil {
		return err
	}
	if b.wants("narrow/larger") {
		err = b.withClients(ctx, func(c *load.Process) error { return b.larger(ctx, c, s, w, small) })
		if err == nil {
			s, err = b.restart(ctx, s, w)
		}
	}
	if err == nil && b.wants("fleet/idle", "fleet/edits", "fleet/reconnect", "fleet/churn") {
		err = b.withClients(ctx, func(c *load.Process) error { return b.fleet(ctx, c, s, w) })
	}
	return errors.Join(err, b.discard(s))
}

// smallCost is what a change takes in the small mesh, for comparison.
func (b *bench) smallCost(ctx context.Context) (out cost, err error) {
	if !b.wants("narrow/larger") {
		return out, nil
	}
	s, w, err := b.narrowMesh(ctx, "small", b.narrow)
	if err != nil {
		return out, err
	}
	err = b.withClients(ctx, func(c *load.Process) error {
		if err := b.connect(ctx, c, s, w, b.narrow); err != nil {
			return err
		}
		out, err = b.narrowChanges(ctx, c, s, w, "narrow, right before the larger mesh: route change", "small-route", 0, 0)
		return err
	})
	return out, errors.Join(err, b.discard(s))
}

func (b *bench) larger(ctx context.Context, c *load.Process, s *process.Server, w *world, small cost) error {
	if err := b.connect(ctx, c, s, w, b.narrow); err != nil {
		return err
	}
	large, err := b.narrowChanges(ctx, c, s, w, fmt.Sprintf("narrow, in a mesh %d times as large: route change", b.factor), "larger-route", 0, 0)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("narrow, a mesh %d times as large: ", b.factor)
	b.table.add(what+"time", ratio, 1.2, ours, large.took/small.took)
	b.table.add(what+"bytes allocated", ratio, 1.2, ours, large.bytes/small.bytes)
	b.table.add(what+"objects allocated", ratio, 1.2, ours, large.objects/small.objects)
	return nil
}

// fleet measures many proxies at once.
func (b *bench) fleet(ctx context.Context, c *load.Process, s *process.Server, w *world) error {
	n := w.services
	began, err := c.Open(group, narrowProxies(s, w, n))
	if err != nil {
		return err
	}
	st, err := c.Synced(group, b.patience)
	if err != nil {
		return err
	}
	b.table.add(fmt.Sprintf("%d proxies: first synchronisation of all at once", n), seconds, 0, ours, ms(st.Last-began)/1000)
	if b.wants("fleet/idle") {
		if err := b.idle(ctx, s, n, 0); err != nil {
			return err
		}
	}
	if b.wants("fleet/edits") {
		if err := b.fleetEdits(ctx, c, s, w); err != nil {
			return err
		}
	}
	if b.wants("fleet/churn") {
		if err := b.churning(ctx, c, s, w); err != nil {
			return err
		}
	}
	if b.wants("fleet/reconnect") {
		return b.reconnects(ctx, c, s)
	}
	return nil
}

// fleetEdits measures edits at a rate.
func (b *bench) fleetEdits(ctx context.Context, c *load.Process, s *process.Server, w *world) error {
	what := fmt.Sprintf("%d proxies, %d edits a second: ", w.services, b.rate)
	for range b.rounds {
		ran, err := process.CPU(s.Pid())
		if err != nil {
			return err
		}
		began := time.Now()
		r, err := b.atRate(ctx, c, w, b.rate, b.seconds, w.services)
		if err != nil {
			return err
		}
		took, err := process.CPU(s.Pid())
		if err != nil {
			return err
		}
		mem, err := process.Resident(s.Pid())
		if err != nil {
			return err
		}
		b.table.add(what+"last of those who depend on the route, p50", milliseconds, 0, ours, percentile(r.late, 50))
		b.table.add(what+"last of those who depend on the route, p99", milliseconds, 200, ours, percentile(r.late, 99))
		b.table.add(what+"resident memory", megabytes, 1500, ours, mem/1e6)
		b.table.add(what+"of a core", percent, 0, ours, 100*(took-ran).Seconds()/time.Since(began).Seconds())
		b.table.add(what+"describe, p99", milliseconds, 20, ours, percentile(r.describes, 99))
	}
	if err := noneDropped(c, group); err != nil {
		return err
	}
	heap, err := s.Collected(ctx)
	if err != nil {
		return err
	}
	b.table.add(what+"heap", megabytes, 0, ours, heap/1e6)
	b.table.add(what+"proxies dropped", pieces, 0, ours, 0)
	return b.profiling(ctx, s, "fleet-edits", func() error { _, err := b.atRate(ctx, c, w, b.rate, 5, w.services); return err })
}

// churning measures many routes that change at a higher rate.
func (b *bench) churning(ctx context.Context, c *load.Process, s *process.Server, w *world) error {
	what := fmt.Sprintf("%d routes that change at %d a second, %d proxies: ", b.churned, b.churn, w.services)
	for range b.rounds {
		r, err := b.atRate(ctx, c, w, b.churn, b.seconds, b.churned)
		if err != nil {
			return err
		}
		b.table.add(what+"how far the worst proxy is behind", milliseconds, 250, ours, percentile(r.late, 100))
		b.table.add(what+"last of those who depend on the route, p50", milliseconds, 0, ours, percentile(r.late, 50))
		b.table.add(what+"describe, p99", milliseconds, 20, ours, percentile(r.describes, 99))
	}
	if err := b.verify(c, group, narrowProxies(s, w, w.services)); err != nil {
		return err
	}
	return b.profiling(ctx, s, "fleet-churn", func() error { _, err := b.atRate(ctx, c, w, b.churn, 5, b.churned); return err })
}

// rateRun is what edits at a rate gave, in milliseconds.
type rateRun struct {
	late      []float64 // until the last of an edit's dependents had it
	describes []float64 // calls that read
}

// atRate edits routes at a rate for some seconds, each in turn of a number of services, and
// reads objects meanwhile. No call waits for the one before it.
func (b *bench) atRate(ctx context.Context, c *load.Process, w *world, rate, length, services int) (*rateRun, error) {
	n := rate * length
	first := b.marks(n)
	began := make([]int64, n)
	out := &rateRun{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return paced(ctx, rate, n, func(i int) error {
			mark := first + uint32(i) //nolint:gosec // small
			began[i] = load.Now()
			return w.changeRoute(ctx, int(mark)%services, mark)
		})
	})
	g.Go(func() error {
		return paced(ctx, b.describes, b.describes*length, func(i int) error {
			from := load.Now()
			err := w.describe(ctx, i)
			mu.Lock()
			defer mu.Unlock()
			out.describes = append(out.describes, ms(load.Now()-from))
			return err
		})
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	marks := make([]uint32, n)
	for i := range marks {
		marks[i] = first + uint32(i) //nolint:gosec // small
	}
	times, err := c.Times(dependents, b.patience, marks...)
	if err != nil {
		return nil, err
	}
	for i, at := range times {
		out.late = append(out.late, ms(at[len(at)-1]-began[i]))
	}
	return out, nil
}

// paced calls f for 0 to n-1 at a rate a second, whether or not earlier calls have ended,
// and waits for all.
func paced(ctx context.Context, rate, n int, f func(i int) error) error {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	g, ctx := errgroup.WithContext(ctx)
	for i := range n {
		select {
		case <-ctx.Done():
			return g.Wait()
		case <-tick.C:
		}
		g.Go(func() error { return f(i) })
	}
	return g.Wait()
}

// other makes a small mesh of another account with proxies of its own.
func (b *bench) other(ctx context.Context, c *load.Process, s *process.Server) (*world, error) {
	client, err := s.NewAccount(ctx, otherAccount)
	if err != nil {
		return nil, err
	}
	const nodes = 20
	w := &world{api: client, account: otherAccount, mesh: "other", services: nodes, instances: 1, backends: narrow(nodes), prefix: "/"}
	if err := w.fill(ctx); err != nil {
		return nil, err
	}
	if _, err := c.Open("other", narrowProxies(s, w, nodes)); err != nil {
		return nil, err
	}
	_, err = c.Synced("other", b.patience)
	return w, err
}

// reconnects measures how long it takes until all proxies are back after all have lost
// their connections at once, and how late another account's edits are meanwhile. Its proxies
// are in a load client of their own: what the other one is busy with is not the server's
// doing.
func (b *bench) reconnects(ctx context.Context, c *load.Process, s *process.Server) error {
	return b.withClients(ctx, func(apart *load.Process) error { return b.reconnectBeside(ctx, c, apart, s) })
}

func (b *bench) reconnectBeside(ctx context.Context, c, apart *load.Process, s *process.Server) error {
	w, err := b.other(ctx, apart, s)
	if err != nil {
		return err
	}
	st, err := c.State(group)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("all %d reconnect at once: ", st.Streams)
	reconnect := func(tell bool) error {
		// It is never quite idle with so many: they ping it.
		ran, err := process.CPU(s.Pid())
		if err != nil {
			return err
		}
		dropped, err := listenDrops()
		if err != nil {
			return err
		}
		began, err := c.Reconnect(group)
		if err != nil {
			return err
		}
		editing, stop := context.WithCancel(ctx)
		defer stop()
		late := make(chan lateness, 1)
		edits := errgroup.Group{}
		edits.Go(func() error { l, err := b.editUntil(editing, apart, w); late <- l; return err })
		st, err := c.Synced(group, b.patience)
		stop()
		err = errors.Join(err, edits.Wait())
		worst := <-late
		if err != nil || !tell {
			return err
		}
		took, err := process.CPU(s.Pid())
		if err != nil {
			return err
		}
		b.table.add(what+"until the last has all", seconds, 15, ours, ms(st.Last-began)/1000)
		b.table.add(what+"server", cpuSeconds, 0, ours, (took - ran).Seconds())
		b.table.add(what+"another account's edits, p50", milliseconds, 0, ours, percentile(worst.all, 50))
		b.table.add(what+"another account's edits, p90", milliseconds, 0, ours, percentile(worst.all, 90))
		b.table.add(what+"another account's edits, worst", milliseconds, 100, ours, percentile(worst.all, 100))
		b.table.add(what+"another account's edits, of which the write until it is answered, worst", milliseconds, 0, ours, percentile(worst.writes, 100))
		tries := 0
		for _, n := range st.Refused {
			tries += n
		}
		if more, err := listenDrops(); err == nil {
			b.table.add(what+"attempts that found the listener's queue full", pieces, 0, ours, more-dropped)
		}
		b.table.add(what+"connections refused, or lost before anything came", pieces, 0, ours, float64(tries))
		return nil
	}
	for range b.rounds {
		if err := reconnect(true); err != nil {
			return err
		}
	}
	if err := b.verify(apart, "other", narrowProxies(s, w, w.services)); err != nil {
		return err
	}
	return b.profiling(ctx, s, "fleet-reconnect", func() error { return reconnect(false) })
}

// lateness is how long edits took, and their writes alone, in milliseconds.
type lateness struct{ all, writes []float64 }

// editUntil edits routes of a mesh with proxies of its own, some a second, until ctx ends,
// and returns how long each took to reach the last of those who depend on it.
func (b *bench) editUntil(ctx context.Context, c *load.Process, w *world) (lateness, error) {
	var late lateness
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		// An edit that has begun is waited for, whatever happens meanwhile.
		began, ended, last, err := b.oneNarrowChange(context.WithoutCancel(ctx), c, w, i)
		if err != nil {
			return late, err
		}
		late.all, late.writes = append(late.all, ms(last-began)), append(late.writes, ms(ended-began))
		select {
		case <-ctx.Done():
			return late, nil
		case <-tick.C:
		}
	}
}

// starts measures how long a server needs until it is ready on a store with many objects.
func (b *bench) starts(ctx context.Context) error {
	n := b.stored / 4 // nodes, routers, routes and services
	w := &world{mesh: "stored", services: n, backends: narrow(n), prefix: "/", host: "stored.internal"}
	s, err := b.mesh(ctx, w)
	if err != nil {
		return err
	}
	for range b.rounds {
		if err := s.Stop(); err != nil {
			return err
		}
		began := load.Now()
		if s, err = process.Start(b.fairlead, s.Data); err != nil {
			return err
		}
		if err := s.AwaitReady(ctx); err != nil {
			return errors.Join(err, s.Stop())
		}
		b.table.add(fmt.Sprintf("start on a store of %d objects, until ready", b.stored), seconds, 3, ours, ms(load.Now()-began)/1000)
		mem, err := process.Resident(s.Pid())
		if err != nil {
			return err
		}
		b.table.add(fmt.Sprintf("start on a store of %d objects, resident memory", b.stored), megabytes, 0, ours, mem/1e6)
		w.api = s.API
		if err := w.api.Call(ctx, http.MethodGet, w.path("/virtualNodes/n-0"), "", nil); err != nil {
			return errors.Join(err, s.Stop())
		}
	}
	return b.discard(s)
}
