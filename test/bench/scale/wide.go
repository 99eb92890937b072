package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
	"github.com/fairlead-mesh/fairlead/test/process"
)

// wideWorld measures proxies that see every service: of one virtual node, or spread over
// many, each with all services as backends. The peers serve the same resources; they know
// no difference between the two.
func (b *bench) wideWorld(ctx context.Context, name string, nodes int) error {
	resources := filepath.Join(b.dir, name+".resources")
	err := b.listening(name, func() error { return b.wideMesh(ctx, name, nodes, resources) })
	if err != nil || name != "wide" {
		return err
	}
	for _, kind := range []string{snapshot, linear} {
		if err := b.listening(name+" of "+kind, func() error { return b.widePeer(ctx, kind, resources) }); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	return nil
}

// wideMesh measures Fairlead, and keeps what a proxy is given in a file.
func (b *bench) wideMesh(ctx context.Context, name string, nodes int, resources string) error {
	w := &world{mesh: name, services: b.wide, instances: b.instances, backends: none, prefix: "/"}
	for i := range nodes {
		w.extra = append(w.extra, fmt.Sprintf("front-%d", i))
	}
	s, err := b.mesh(ctx, w)
	if err != nil {
		return err
	}
	sys := &meshSystem{s, w}
	err = b.withClients(ctx, func(c *load.Process) error { return b.dump(sys, c, resources) })
	if err == nil { // without what the dump has left
		s, err = b.restart(ctx, s, w)
		sys.Server = s
	}
	if err == nil {
		err = b.withClients(ctx, func(c *load.Process) error {
			m := &wideRun{bench: b, name: name, system: ours, sys: sys, clients: c, rounds: b.rounds, changes: b.changes}
			if name != "wide" { // each takes what hundreds take otherwise
				m.rounds, m.changes = b.peerRounds, b.peerChanges
			}
			return m.all(ctx)
		})
	}
	return errors.Join(err, b.discard(s))
}

func (b *bench) widePeer(ctx context.Context, kind, resources string) error {
	p, err := startPeer(b.peers, map[string]string{snapshot: "snapshot", linear: "linear"}[kind], resources, b.proxies)
	if err != nil {
		return err
	}
	err = b.withClients(ctx, func(c *load.Process) error {
		m := &wideRun{bench: b, name: "wide", system: kind, sys: p, clients: c, rounds: b.peerRounds, changes: b.peerChanges}
		return m.all(ctx)
	})
	return errors.Join(err, p.stop())
}

// dump writes what a proxy that sees everything is given to a file.
func (b *bench) dump(sys system, c *load.Process, file string) error {
	cfg := sys.proxies(1)
	cfg.Keep = true
	if _, err := c.Open("dump", cfg); err != nil {
		return err
	}
	if _, err := c.Synced("dump", b.patience); err != nil {
		return err
	}
	return c.Dump("dump", file)
}

// wideRun measures one system with proxies that see everything.
type wideRun struct {
	*bench
	name, system    string
	sys             system
	clients         *load.Process
	rounds, changes int
}

// group is the name of the streams.
const group = "proxies"

func (m *wideRun) add(what string, u unit, asked float64, value float64) {
	if m.name != "wide" {
		what, asked = what+"; a virtual node for each proxy", 0
	}
	m.table.add("wide: "+what, u, asked, m.system, value)
}

// streams says how a number of proxies reach the system.
func (m *wideRun) streams(n int) load.Config {
	cfg := m.sys.proxies(n)
	cfg.Full = m.sotw
	return cfg
}

func (m *wideRun) all(ctx context.Context) error {
	if err := m.sync(ctx); err != nil {
		return err
	}
	for _, k := range []struct {
		kind                 changeKind
		p50, p99, cpu, bytes float64
	}{{endpointChange, 20, 50, 0.05, 0}, {routeChange, 30, 80, 0, 2}} {
		if !m.wants(m.name + "/" + string(k.kind)) {
			continue
		}
		for range m.rounds {
			if err := m.change(ctx, k.kind, k.p50, k.p99, k.cpu, k.bytes); err != nil {
				return err
			}
		}
		if err := m.profileChanges(ctx, k.kind); err != nil {
			return err
		}
	}
	if m.wants(m.name + "/burst") {
		for i := range m.rounds {
			if m.system != ours && i > 0 {
				break // minutes each
			}
			if err := m.back2back(ctx); err != nil {
				return err
			}
		}
	}
	if err := m.verify(m.clients, group, m.streams(m.proxies)); err != nil {
		return err
	}
	if m.system == ours && m.name == "wide" && m.wants("wide/stalled") {
		return m.stalled(ctx)
	}
	return nil
}

// sync measures the first synchronisation of all at once, some times, and the memory
// that the first of these takes. The streams of the last stay open.
func (m *wideRun) sync(ctx context.Context) error {
	rounds := 1
	if m.wants(m.name + "/sync") {
		rounds = m.rounds
	}
	for i := range rounds {
		before, err := m.memory(ctx)
		if err != nil {
			return err
		}
		ran, err := process.Settled(ctx, m.sys.Pid())
		if err != nil {
			return err
		}
		began, err := m.clients.Open(group, m.streams(m.proxies))
		if err != nil {
			return err
		}
		st, err := m.clients.Synced(group, m.patience)
		if err != nil {
			return err
		}
		took, err := process.Settled(ctx, m.sys.Pid())
		if err != nil {
			return err
		}
		m.add(fmt.Sprintf("first synchronisation of all %d at once", m.proxies), seconds, 3, ms(st.Last-began)/1000)
		m.add("first synchronisation", cpuSeconds, 4, (took - ran).Seconds())
		m.add("first synchronisation, what a proxy is sent", kilobytes, 0, float64(st.Bytes)/float64(st.Streams)/1000)
		if err := noneDropped(m.clients, group); err != nil {
			return err
		}
		if i == 0 && m.wants(m.name+"/memory") {
			after, err := m.memory(ctx)
			if err != nil {
				return err
			}
			n := float64(m.proxies)
			m.add("heap for each proxy", kilobytes, 60, (after.heap-before.heap)/n/1000)
			m.add("resident memory for each proxy", kilobytes, 150, (after.resident-before.resident)/n/1000)
			if s, ok := m.sys.(*meshSystem); ok {
				if err := m.profiling(ctx, s.Server, m.name+"-memory", func() error { _, err := process.Settled(ctx, s.Pid()); return err }); err != nil {
					return err
				}
			}
		}
		if i+1 < rounds {
			if err := m.clients.CloseGroup(group); err != nil {
				return err
			}
		}
	}
	return m.profileSync(ctx)
}

// memory is what a process has.
type memory struct{ heap, resident float64 }

func (m *wideRun) memory(ctx context.Context) (memory, error) {
	select {
	case <-ctx.Done():
		return memory{}, ctx.Err()
	case <-time.After(m.calm):
	}
	if _, err := process.Settled(ctx, m.sys.Pid()); err != nil {
		return memory{}, err
	}
	r, err := process.Resident(m.sys.Pid()) // first: a collection needs memory too
	if err != nil {
		return memory{}, err
	}
	h, err := m.sys.heap(ctx)
	return memory{h, r}, err
}

// change measures changes, one after the other, each when the server has nothing to do.
func (m *wideRun) change(ctx context.Context, kind changeKind, p50, p99, cpuAsked, bytesAsked float64) error {
	var first, last, calls, used, sent []float64
	for i := range m.changes {
		ran, err := process.Settled(ctx, m.sys.Pid())
		if err != nil {
			return err
		}
		before, err := m.clients.State(group)
		if err != nil {
			return err
		}
		mark := m.marks(1)
		began, ended, err := m.sys.change(ctx, kind, i, 1, mark)
		if err != nil {
			return err
		}
		times, err := m.clients.Times(m.proxies, m.patience, mark)
		if err != nil {
			return err
		}
		took, err := process.Settled(ctx, m.sys.Pid())
		if err != nil {
			return err
		}
		after, err := m.clients.State(group)
		if err != nil {
			return err
		}
		at := times[0]
		first, last, calls = append(first, ms(at[0]-began)), append(last, ms(at[len(at)-1]-began)), append(calls, ms(ended-began))
		used = append(used, (took - ran).Seconds())
		sent = append(sent, float64(after.Bytes-before.Bytes)/float64(m.proxies)/1000)
	}
	what := string(kind) + " change"
	m.add(what+", last proxy, p50", milliseconds, p50, median(last))
	m.add(what+", last proxy, p99", milliseconds, p99, percentile(last, 99))
	m.add(what+", first proxy, p50", milliseconds, 0, median(first))
	if m.system == ours {
		m.add(what+", of which the write until it is answered, p50", milliseconds, 0, median(calls))
	}
	m.add(what, cpuSeconds, cpuAsked, median(used))
	m.add(what+", what a proxy is sent", kilobytes, bytesAsked, median(sent))
	return nil
}

// back2back measures writes one after the other, without a pause.
func (m *wideRun) back2back(ctx context.Context) error {
	ran, err := process.Settled(ctx, m.sys.Pid())
	if err != nil {
		return err
	}
	first := m.marks(m.burst)
	began, ended, err := m.sys.change(ctx, endpointChange, 0, m.burst, first)
	if err != nil {
		return err
	}
	var marks []uint32
	for i := range m.burst {
		marks = append(marks, first+uint32(i)) //nolint:gosec // small
	}
	times, err := m.clients.Times(m.proxies, m.patience, marks...)
	if err != nil {
		return err
	}
	took, err := process.Settled(ctx, m.sys.Pid())
	if err != nil {
		return err
	}
	var last int64
	for _, at := range times {
		last = max(last, at[len(at)-1])
	}
	what := fmt.Sprintf("%d endpoint writes back to back", m.burst)
	m.add(what+", last proxy has the last", seconds, 0.3, ms(last-began)/1000)
	if m.system == ours {
		m.add(what+", of which the writes", seconds, 0, ms(ended-began)/1000)
	}
	m.add(what, cpuSeconds, 0, (took - ran).Seconds())
	return nil
}

// stalled measures changes while some other proxies read nothing.
func (m *wideRun) stalled(ctx context.Context) error {
	const others = "stalled"
	cfg := m.streams(max(1, m.proxies/100))
	cfg.Receive = 4 << 10
	if _, err := m.clients.Open(others, cfg); err != nil {
		return err
	}
	if _, err := m.clients.Synced(others, m.patience); err != nil {
		return err
	}
	if err := m.clients.Pause(others, cfg.Streams); err != nil {
		return err
	}
	var last []float64
	for i := range m.changes {
		mark := m.marks(1)
		began, _, err := m.sys.change(ctx, routeChange, i, 1, mark)
		if err != nil {
			return err
		}
		times, err := m.clients.Times(m.proxies, m.patience, mark)
		if err != nil {
			return err
		}
		last = append(last, ms(times[0][m.proxies-1]-began))
		if _, err := process.Settled(ctx, m.sys.Pid()); err != nil {
			return err
		}
	}
	m.add(fmt.Sprintf("route change while %d more proxies do not read, last of the others, p50", cfg.Streams), milliseconds, 0, median(last))
	if err := noneDropped(m.clients, group); err != nil {
		return err
	}
	return errors.Join(m.clients.Resume(others), m.clients.CloseGroup(others))
}

// profileChanges keeps profiles of changes of a kind.
func (m *wideRun) profileChanges(ctx context.Context, kind changeKind) error {
	s, ok := m.sys.(*meshSystem)
	if !ok {
		return nil
	}
	return m.profiling(ctx, s.Server, m.name+"-"+string(kind), func() error {
		mark := m.marks(1)
		if _, _, err := s.change(ctx, kind, int(mark), 1, mark); err != nil {
			return err
		}
		_, err := m.clients.Times(m.proxies, m.patience, mark)
		return err
	})
}

// profileSync keeps profiles of first synchronisations.
func (m *wideRun) profileSync(ctx context.Context) error {
	s, ok := m.sys.(*meshSystem)
	if !ok || !m.wants(m.name+"/sync") {
		return nil
	}
	return m.profiling(ctx, s.Server, m.name+"-sync", func() error {
		if err := m.clients.CloseGroup(group); err != nil {
			return err
		}
		if _, err := m.clients.Open(group, m.streams(m.proxies)); err != nil {
			return err
		}
		_, err := m.clients.Synced(group, m.patience)
		return err
	})
}
