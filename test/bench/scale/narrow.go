package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
	"github.com/fairlead-mesh/fairlead/test/process"
)

// dependents is how many nodes of a narrow mesh depend on a route.
const dependents = 10

// narrowProxies are one proxy for each of the first nodes of a narrow mesh.
func narrowProxies(s *process.Server, w *world, n int) load.Config {
	c := load.Config{Address: s.XDS, Streams: n, Ping: pingInterval, KeyID: w.api.Creds.AccessKeyID, Secret: w.api.Creds.SecretAccessKey, Region: process.Region}
	for i := range n {
		c.Nodes = append(c.Nodes, w.arn(fmt.Sprintf("n-%d", i)))
	}
	return c
}

// narrowMesh starts a server with a narrow mesh.
func (b *bench) narrowMesh(ctx context.Context, name string, nodes int) (*process.Server, *world, error) {
	w := &world{mesh: name, services: nodes, instances: 1, backends: narrow(nodes), prefix: "/"}
	s, err := b.mesh(ctx, w)
	return s, w, err
}

// narrowWorld measures a mesh whose nodes see ten services each.
func (b *bench) narrowWorld(ctx context.Context) error {
	s, w, err := b.narrowMesh(ctx, "narrow", b.narrow)
	if err != nil {
		return err
	}
	err = b.withClients(ctx, func(c *load.Process) error {
		if err := b.connect(ctx, c, s, w, b.narrow); err != nil {
			return err
		}
		if b.wants("narrow/idle") {
			if err := b.idle(ctx, s, b.narrow, 1); err != nil {
				return err
			}
		}
		if !b.wants("narrow/route") {
			return nil
		}
		_, err := b.narrowChanges(ctx, c, s, w, fmt.Sprintf("narrow: route change, last of the %d", dependents), "narrow-route", 6, 20)
		return err
	})
	return errors.Join(err, b.discard(s))
}

// connect opens one stream for each of the first nodes and waits until all have all.
func (b *bench) connect(ctx context.Context, c *load.Process, s *process.Server, w *world, n int) error {
	if _, err := c.Open(group, narrowProxies(s, w, n)); err != nil {
		return err
	}
	if _, err := c.Synced(group, b.patience); err != nil {
		return err
	}
	if _, err := process.Settled(ctx, s.Pid()); err != nil {
		return err
	}
	return noneDropped(c, group)
}

// idle measures what a server takes that has a number of proxies and nothing to do.
func (b *bench) idle(ctx context.Context, s *process.Server, proxies int, asked float64) error {
	for range b.rounds {
		before, err := process.CPU(s.Pid())
		if err != nil {
			return err
		}
		began := time.Now()
		length := time.NewTimer(time.Duration(b.seconds) * time.Second)
		select {
		case <-length.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		after, err := process.CPU(s.Pid())
		if err != nil {
			return err
		}
		b.table.add(fmt.Sprintf("idle with %d proxies, of a core", proxies), percent, asked, ours, 100*(after-before).Seconds()/time.Since(began).Seconds())
	}
	return nil
}

// cost is what a change takes, at the median of all rounds.
type cost struct{ took, bytes, objects float64 }

// narrowChanges measures route changes, each of which concerns ten proxies.
func (b *bench) narrowChanges(ctx context.Context, c *load.Process, s *process.Server, w *world, what, profile string, p50, p99 float64) (cost, error) {
	var all struct{ took, bytes, objects []float64 }
	for range b.rounds {
		before, err := s.Metrics(ctx)
		if err != nil {
			return cost{}, err
		}
		var last, calls, used []float64
		n := 5 * b.changes
		for i := range n {
			ran, err := process.Settled(ctx, s.Pid())
			if err != nil {
				return cost{}, err
			}
			// The dependents of a route are the ten nodes before its own.
			began, ended, at, err := b.oneNarrowChange(ctx, c, w, dependents+i%(b.narrow-dependents))
			if err != nil {
				return cost{}, err
			}
			took, err := process.Settled(ctx, s.Pid())
			if err != nil {
				return cost{}, err
			}
			last, calls, used = append(last, ms(at-began)), append(calls, ms(ended-began)), append(used, (took-ran).Seconds())
		}
		after, err := s.Metrics(ctx)
		if err != nil {
			return cost{}, err
		}
		b.table.add(what+", p50", milliseconds, p50, ours, median(last))
		b.table.add(what+", p99", milliseconds, p99, ours, percentile(last, 99))
		b.table.add(what+", of which the write until it is answered, p50", milliseconds, 0, ours, median(calls))
		b.table.add(what, cpuSeconds, 0, ours, median(used))
		all.took = append(all.took, median(last))
		all.bytes = append(all.bytes, (after["go_memstats_alloc_bytes_total"]-before["go_memstats_alloc_bytes_total"])/float64(n))
		all.objects = append(all.objects, (after["go_memstats_mallocs_total"]-before["go_memstats_mallocs_total"])/float64(n))
	}
	if err := b.verify(c, group, narrowProxies(s, w, b.narrow)); err != nil {
		return cost{}, err
	}
	out := cost{median(all.took), median(all.bytes), median(all.objects)}
	b.table.add(what+", allocated", kilobytes, 0, ours, out.bytes/1000)
	return out, b.profiling(ctx, s, profile, func() error {
		_, _, _, err := b.oneNarrowChange(ctx, c, w, dependents+int(b.mark)%(b.narrow-dependents))
		return err
	})
}

// oneNarrowChange changes a route, and returns when that began, when it was answered, and
// when the last of those who depend on it had it.
func (b *bench) oneNarrowChange(ctx context.Context, c *load.Process, w *world, service int) (began, ended, last int64, err error) {
	mark := b.marks(1)
	began = load.Now()
	if err := w.changeRoute(ctx, service, mark); err != nil {
		return 0, 0, 0, err
	}
	ended = load.Now()
	times, err := c.Times(dependents, b.patience, mark)
	if err != nil {
		return 0, 0, 0, err
	}
	return began, ended, times[0][dependents-1], nil
}
