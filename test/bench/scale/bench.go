package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
	"github.com/fairlead-mesh/fairlead/test/process"
)

// sizes say how large everything is.
type sizes struct {
	wide, proxies, instances int // services, proxies that see all, instances a service
	narrow, factor           int // nodes of the narrow mesh, and how much larger the other is
	rounds, changes          int // rounds of each measurement, changes in a round
	burst                    int // writes back to back
	peerChanges, peerRounds  int // of the peers, which take longer
	seconds                  int // of edits at a rate, and of being idle
	rate, churn, describes   int // edits and reads a second
	churned                  int // routes that change
	stored                   int // objects at a start
	routes, edits            int // of the real Envoy
	// calm is how long memory is let settle.
	calm time.Duration
	// patience is how long a change, or a first synchronisation, may take to reach all.
	patience time.Duration
}

var (
	fullSizes = sizes{
		wide: 1000, proxies: 500, instances: 5, narrow: 1000, factor: 10, rounds: 3, changes: 20, burst: 100, peerChanges: 5, peerRounds: 2,
		seconds: 20, rate: 10, churn: 100, describes: 100, churned: 5000, stored: 100_000, routes: 3000, edits: 50, calm: 5 * time.Second, patience: 5 * time.Minute,
	}
	quickSizes = sizes{
		wide: 20, proxies: 20, instances: 5, narrow: 20, factor: 2, rounds: 2, changes: 3, burst: 10, peerChanges: 3, peerRounds: 2,
		seconds: 1, rate: 10, churn: 20, describes: 20, churned: 20, stored: 400, routes: 20, edits: 3, calm: time.Millisecond, patience: time.Minute,
	}
)

// bench is a run.
type bench struct {
	sizes
	// scenarios picks what is measured.
	scenarios *regexp.Regexp
	// sotw lets proxies that see all use state-of-the-world, not delta.
	sotw bool
	// fairlead, agent and peers are the programs.
	fairlead, agent, peers string
	// dir holds what is needed during the run only, profiles what is kept; "" for nothing.
	// root is the checkout.
	dir, profiles, root string
	table               table
	say                 func(format string, args ...any)

	// heard is how many cores others took during each part.
	heard []string

	mark  uint32
	count int
}

// wants reports whether one of some scenarios was picked.
func (b *bench) wants(names ...string) bool {
	for _, name := range names {
		if b.scenarios.MatchString(name) {
			return true
		}
	}
	return false
}

// marks returns the first of n new marks.
func (b *bench) marks(n int) uint32 {
	first := b.mark + 1
	b.mark += uint32(n) //nolint:gosec // small
	return first
}

// build builds the programs that were not given.
func (b *bench) build() error {
	programs := map[string]*string{"cmd/fairlead": &b.fairlead, "test/bench/scale/peers": &b.peers}
	if b.wants("envoy") {
		programs["cmd/fairlead-agent"] = &b.agent
	}
	return meshtest.Programs(programs)
}

// scenarios are all that there are, in the order in which they run.
var scenarios = []struct {
	names []string
	run   func(*bench, context.Context) error
}{
	{[]string{"wide/sync", "wide/memory", "wide/endpoint", "wide/route", "wide/burst", "wide/stalled"}, func(b *bench, ctx context.Context) error { return b.wideWorld(ctx, "wide", 1) }},
	{[]string{"spread/sync", "spread/memory", "spread/endpoint", "spread/route", "spread/burst"}, func(b *bench, ctx context.Context) error { return b.wideWorld(ctx, "spread", b.proxies) }},
	{[]string{"narrow/idle", "narrow/route"}, alone("narrow", (*bench).narrowWorld)},
	{[]string{"narrow/larger", "fleet/idle", "fleet/edits", "fleet/reconnect", "fleet/churn"}, alone("fleet", (*bench).fleetWorld)},
	{[]string{"start"}, alone("start", (*bench).starts)},
	{[]string{"envoy"}, alone("envoy", (*bench).realEnvoy)},
}

// alone is a scenario in which only Fairlead is measured.
func alone(name string, run func(*bench, context.Context) error) func(*bench, context.Context) error {
	return func(b *bench, ctx context.Context) error {
		return b.listening(name, func() error { return run(b, ctx) })
	}
}

// run runs what was picked. What fails is told and does not keep the rest from running.
func (b *bench) run(ctx context.Context) error {
	var errs []error
	for _, s := range scenarios {
		if !b.wants(s.names...) || ctx.Err() != nil {
			continue
		}
		if err := s.run(b, ctx); err != nil {
			err = fmt.Errorf("%s: %w", s.names[0], err)
			b.say("FAILED %v", err)
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// listening runs f, at the beginning and end of which no process of the run's is there but
// this one, and notes how many cores others took meanwhile.
func (b *bench) listening(name string, f func() error) error {
	before, err := hear()
	if err != nil {
		return err
	}
	err = f()
	after, bad := hear()
	if bad != nil {
		return errors.Join(err, bad)
	}
	b.heard = append(b.heard, fmt.Sprintf("%s %.2f", name, after.since(before)))
	b.say("%s took %s; other processes took %.2f cores meanwhile", name, after.at.Sub(before.at).Round(time.Second), after.since(before))
	return err
}

// mesh starts a server with a world in it. The server has been started anew since the
// world was made, so that its memory is that of a server that serves.
func (b *bench) mesh(ctx context.Context, w *world) (*process.Server, error) {
	b.count++
	data := filepath.Join(b.dir, fmt.Sprintf("data-%d", b.count))
	s, err := process.Start(b.fairlead, data)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	w.api, w.account = s.API, process.Account
	err = s.RaiseQuotas(ctx, process.Account)
	if err == nil {
		err = w.fill(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	b.say("mesh %s of %d services was made in %s", w.mesh, w.services, time.Since(began).Round(time.Millisecond))
	return b.restart(ctx, s, w)
}

// restart ends a server and starts it on the same data.
func (b *bench) restart(ctx context.Context, s *process.Server, w *world) (*process.Server, error) {
	if err := s.Stop(); err != nil {
		return nil, err
	}
	s, err := process.Start(b.fairlead, s.Data)
	if err != nil {
		return nil, err
	}
	w.api = s.API
	if err := s.AwaitReady(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	_, err = process.Settled(ctx, s.Pid())
	return s, err
}

// discard ends a server and removes its data. A server that could not be started again is
// nil: its data goes with the run's.
func (b *bench) discard(s *process.Server) error {
	if s == nil {
		return nil
	}
	return errors.Join(s.Stop(), os.RemoveAll(s.Data))
}

// withClients runs f with a load client, which ends with it or with ctx.
func (b *bench) withClients(ctx context.Context, f func(*load.Process) error) error {
	c, err := load.Start()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = c.Close() })() // which the calls under way tell
	return errors.Join(f(c), c.Close())
}

// noneDropped returns an error unless all streams of a group are open and none was ever
// ended or refused.
func noneDropped(c *load.Process, group string) error {
	st, err := c.State(group)
	if err != nil {
		return err
	}
	if st.Open != st.Streams || len(st.Ended)+len(st.Refused) > 0 {
		return fmt.Errorf("of %d streams %d are open; ended: %v, refused: %v", st.Streams, st.Open, st.Ended, st.Refused)
	}
	return nil
}

// verified is how many streams are opened once more, at most, to see whether those that
// were sent changes hold the same as those that were not.
const verified = 1000

// verify returns an error unless all streams of a group are open, and each holds to the
// byte what a new one with the same configuration is given.
func (b *bench) verify(c *load.Process, name string, cfg load.Config) error {
	if err := noneDropped(c, name); err != nil || cfg.Streams > verified {
		return err
	}
	fresh := name + "-fresh"
	if _, err := c.Open(fresh, cfg); err != nil {
		return err
	}
	if _, err := c.Synced(fresh, b.patience); err != nil {
		return err
	}
	have, err := c.Digests(name)
	if err != nil {
		return err
	}
	want, err := c.Digests(fresh)
	if err != nil {
		return err
	}
	for i := range want {
		if have[i] != want[i] {
			return fmt.Errorf("stream %d of %d, for %s, does not hold what a new one is given", i, cfg.Streams, cfg.Nodes[i%len(cfg.Nodes)])
		}
	}
	return c.CloseGroup(fresh)
}

// profiling runs f again and again while a profile of the server is taken.
func (b *bench) profiling(ctx context.Context, s *process.Server, name string, f func() error) error {
	if b.profiles == "" {
		return nil
	}
	const length = 10 // seconds
	wait := s.Profile(ctx, b.profiles, name, length)
	began := time.Now()
	for time.Since(began) < length*time.Second {
		if err := f(); err != nil {
			return errors.Join(err, wait())
		}
	}
	return wait()
}

func ms(nanoseconds int64) float64 { return float64(nanoseconds) / 1e6 }
