package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
	"github.com/fairlead-mesh/fairlead/test/process"
)

// config says how a run goes.
type config struct {
	time, round time.Duration
	// tenants is how many accounts there are, services how many each one's mesh has,
	// residents how many proxies stay in each, cohort how many come and go together.
	tenants, services, residents, cohort int
	// history is how long the store keeps what was replaced. It is in etcd's memory and file,
	// and as much as the machine happens to do in that time.
	history time.Duration
	// age is when a stream is told to sign anew.
	age time.Duration
	// warmup is how many edits are made first: etcd keeps the last 5,000 to 15,000 of them in
	// memory, and from then on no more.
	warmup int
	// rare is how often a round has what takes long: a proxy that falls silent.
	rare int

	fairlead, agent, envoy string
	// dir holds what is needed during the run only, out what is kept.
	dir, out string
	say      func(format string, args ...any)
}

var (
	full = config{
		time: 30 * time.Minute, round: 5 * time.Second, tenants: 3, services: 20, residents: 20, cohort: 10,
		history: 10 * time.Second, age: 3 * time.Minute, warmup: 16_000, rare: 60,
	}
	quick = config{
		time: 4 * time.Second, round: 300 * time.Millisecond, tenants: 2, services: 5, residents: 4, cohort: 3,
		history: time.Second, age: time.Minute, rare: 1000,
	}
)

// soak is a run.
type soak struct {
	config
	server  *process.Server
	tenants []*tenant
	stay    *load.Process // the proxies that stay
	envoys  []*realProxy
	streams float64 // when only those that stay are there
	began   time.Time
	ids     atomic.Int64 // of everything that is named
	did     tally
	samples []sample
	// keptFirst says that the heap's profile at the end of the warm-up is written.
	keptFirst bool
}

// tally counts what was done.
type tally struct {
	mu sync.Mutex
	n  map[string]int64
}

func (t *tally) add(what string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = map[string]int64{}
	}
	t.n[what] += int64(n)
}

func (t *tally) get(what string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n[what]
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []string
	for _, what := range slices.Sorted(maps.Keys(t.n)) {
		all = append(all, fmt.Sprintf("%s %d", what, t.n[what]))
	}
	return strings.Join(all, ", ")
}

const (
	// leastRounds are enough to judge by, however long they take.
	leastRounds   = 2 * leastSamples
	streamsOpened = "streams opened"
	patience      = time.Minute
)

// run runs it and says how all went. What it finds is told with an error too.
func run(ctx context.Context, cfg config) (found []finding, err error) {
	s := &soak{config: cfg}
	if s.server, err = process.Start(cfg.fairlead, filepath.Join(cfg.dir, "data"),
		"--store-history", cfg.history.String(), "--max-stream-age", cfg.age.String(), "--audit-max-size", "1MB", "--audit-max-files", "3"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\nthe server wrote last:\n%s", err, s.server.Wrote())
		}
		err = errors.Join(err, s.end())
	}()
	if err := s.begin(ctx); err != nil {
		return nil, fmt.Errorf("beginning: %w", err)
	}
	s.began = time.Now()
	for n := 0; time.Since(s.began) < cfg.time || n < leastRounds; n++ {
		if err := s.turn(ctx, n); err != nil {
			return nil, fmt.Errorf("round %d: %w", n, errors.Join(err, s.keep(ctx)))
		}
	}
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	found, err = judge(all, s.samples)
	s.say("%s\n%s", &s.did, table(found))
	return found, errors.Join(err, s.keep(ctx))
}

// begin makes what stays.
func (s *soak) begin(ctx context.Context) (err error) {
	for i := range s.config.tenants {
		t, err := s.newTenant(ctx, i)
		if err != nil {
			return err
		}
		s.tenants = append(s.tenants, t)
	}
	if s.stay, err = load.Start(); err != nil {
		return err
	}
	for _, t := range s.tenants {
		for _, sotw := range []bool{false, true} {
			cfg := t.proxies(s.server.XDS, s.residents/2, sotw)
			cfg.Extensions = 400
			if _, err := s.stay.Open(t.resident(sotw), cfg); err != nil {
				return err
			}
			if _, err := s.stay.Synced(t.resident(sotw), patience); err != nil {
				return err
			}
		}
	}
	if err := s.startEnvoys(ctx); err != nil {
		return err
	}
	// None is old enough yet to be told to sign anew.
	m, err := s.server.Metrics(ctx)
	if err != nil {
		return err
	}
	s.streams = m[streamsMetric]
	s.say("%d streams stay", int(s.streams))
	if err := s.warmUp(ctx); err != nil {
		return err
	}
	s.say("it begins")
	return nil
}

// warmUp makes many edits.
func (s *soak) warmUp(ctx context.Context) error {
	return process.Each(ctx, s.warmup, func(ctx context.Context, i int) error {
		t := s.tenants[i%len(s.tenants)]
		_, err := t.editRoute(ctx, i%t.services, i)
		return err
	})
}

// turn lets everything come and go for a while, waits until it has gone, and takes a
// sample.
func (s *soak) turn(ctx context.Context, n int) error {
	churn, err := load.Start()
	if err != nil {
		return err
	}
	until := time.Now().Add(s.round)
	g, inner := errgroup.WithContext(ctx)
	for _, t := range s.tenants {
		for name, f := range map[string]func(context.Context, *tenant, *load.Process) error{
			"proxies that come and go": s.comeAndGo, "a node under its proxies": s.nodeGoes, "a key under its proxies": s.keyGoes,
			"objects": s.objects, "edits": s.edits, "identities": s.identities, "certificates": s.certificates,
			"instances": s.instances, "reads": s.reads, "waits": s.waits,
		} {
			g.Go(func() error {
				for first := true; first || time.Now().Before(until); first = false {
					if err := f(inner, t, churn); err != nil {
						return fmt.Errorf("%s of %s: %w", name, t.account, err)
					}
				}
				return nil
			})
		}
	}
	g.Go(func() error { return s.killed(inner) })
	g.Go(func() error { return s.account(inner) })
	if n%s.rare == s.rare/2 {
		g.Go(func() error { return s.silent(inner) })
		g.Go(func() error { return s.replaceEnvoy(inner, n/s.rare) })
	}
	err = g.Wait()
	// What is still open then goes with its process.
	if err := errors.Join(err, churn.Close()); err != nil {
		return err
	}
	if err := s.calm(ctx); err != nil {
		return err
	}
	if err := s.sample(ctx, n); err != nil {
		return err
	}
	if s.keptFirst || time.Since(s.began) < s.time/4 {
		return nil
	}
	s.keptFirst = true
	return s.profile(ctx, "heap-first.pprof", heapProfile)
}

// calm waits until only those proxies are there that stay. That it does not become so is
// no error here: streams are watched too.
func (s *soak) calm(ctx context.Context) error {
	err := process.Poll(ctx, calmTime, 20*time.Millisecond, func() error {
		m, err := s.server.Metrics(ctx)
		if err == nil && m[streamsMetric] != s.streams {
			err = fmt.Errorf("there are %.0f streams, not %.0f", m[streamsMetric], s.streams)
		}
		return err
	})
	if err != nil {
		s.say("not calm: %v", err)
	}
	return ctx.Err()
}

// calmTime is how long streams that end may take to be gone: one that is told to sign anew
// while it is looked at is back within seconds.
const calmTime = 10 * time.Second

// check sees that the proxies that stay hold, to the byte, what new ones are given, and
// that everything was tried.
func (s *soak) check(ctx context.Context) error {
	for _, t := range s.tenants {
		for _, sotw := range []bool{false, true} {
			fresh, name := t.resident(sotw)+"-fresh", t.resident(sotw)
			if _, err := s.stay.Open(fresh, t.proxies(s.server.XDS, s.residents/2, sotw)); err != nil {
				return err
			}
			if _, err := s.stay.Synced(fresh, patience); err != nil {
				return err
			}
			if err := process.Poll(ctx, patience, 50*time.Millisecond, func() error { return s.same(name, fresh) }); err != nil {
				return err
			}
			if err := s.stay.CloseGroup(fresh); err != nil {
				return err
			}
			st, err := s.stay.State(name)
			if err != nil {
				return err
			}
			for why := range st.Ended {
				if !strings.HasPrefix(why, "grpc status 0") { // at its age
					return fmt.Errorf("of the proxies of %s that stay some were ended: %v", t.account, st.Ended)
				}
			}
		}
	}
	for _, what := range []string{
		streamsOpened, "edits", "objects made", "sessions", "roles", "keys revoked", "certificates", "revocations", "instances", "instances that lapse",
		"waits", "waits given up", "reads", "accounts", "clients killed",
	} {
		if s.did.get(what) == 0 {
			return fmt.Errorf("there were no %s: the soak does not do what it should", what)
		}
	}
	return nil
}

func (s *soak) same(a, b string) error {
	have, err := s.stay.Digests(a)
	if err != nil {
		return err
	}
	want, err := s.stay.Digests(b)
	if err == nil && !slices.Equal(have, want) {
		err = fmt.Errorf("the proxies of %s do not hold what new ones are given", a)
	}
	return err
}

// keep writes the samples, the table, and profiles of the server.
func (s *soak) keep(ctx context.Context) error {
	files := map[string][]byte{"samples.csv": []byte(csv(all, s.samples))}
	if found, err := judge(all, s.samples); err == nil {
		files["table.md"] = []byte(table(found) + "\n" + s.did.String() + "\n")
	}
	for name, b := range files {
		if err := s.write(name, b); err != nil {
			return err
		}
	}
	return errors.Join(s.profile(ctx, "heap.pprof", heapProfile), s.profile(ctx, "goroutines.txt", "/debug/pprof/goroutine?debug=1"))
}

const heapProfile = "/debug/pprof/heap?gc=1"

// profile writes one of the server's profiles.
func (s *soak) profile(ctx context.Context, name, page string) error {
	b, err := s.server.Get(ctx, page)
	if err != nil {
		return err
	}
	return s.write(name, b)
}

// write writes a file that is kept, if any is.
func (s *soak) write(name string, b []byte) error {
	if s.out == "" {
		return nil
	}
	if err := os.MkdirAll(s.out, 0o755); err != nil { //nolint:gosec // nothing secret goes there
		return err
	}
	return os.WriteFile(filepath.Join(s.out, name), b, 0o644) //nolint:gosec // nothing secret
}

// end ends all processes.
func (s *soak) end() error {
	for _, p := range s.envoys {
		p.kill()
	}
	var err error
	if s.stay != nil {
		err = s.stay.Close()
	}
	return errors.Join(err, s.server.Stop())
}
