package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"syscall"
	"time"
)

// Config says how to show the demo.
type Config struct {
	// Out is where the story is told; on a terminal, with colour.
	Out io.Writer
	// Stay keeps everything up after the story, until the context ends.
	Stay bool
	// Keep keeps the files, logs among them, where nothing failed too.
	Keep bool
	// Network says where the instances of the application run.
	Network Network
	// Share is how many requests make a share, at least leastShare; 0 for 3,000. With fewer the story
	// is shorter, and what chance alone does to a share larger: more points are allowed.
	Share int
}

// leastShare is the least that Config.Share may be.
const leastShare = 300

// Check returns an error that says which flag is not as it must be.
func (c Config) Check() error {
	if err := c.Network.Check(); err != nil {
		return err
	}
	if c.Share != 0 && c.Share < leastShare {
		return fmt.Errorf("--share is %d, allowed are %d requests and more", c.Share, leastShare)
	}
	return nil
}

// What is measured and what is allowed.
const (
	rate       = 750                    // requests a second
	sampleSize = 3000                   // requests that make a share, unless Config says otherwise
	settleTime = 500 * time.Millisecond // from an edit to the first request that counts for a share
	stepLimit  = 60 * time.Second       // for one step, where a few seconds are usual
)

// tolerance is how many points may lie between the weight asked and the share seen of n requests:
// between four and five standard deviations of the share that varies most, one half.
func tolerance(n int) float64 { return 4 * math.Sqrt(sampleSize/float64(n)) }

// errInterrupted is the end of a demo that was told to end before the story's.
var errInterrupted = errors.New("interrupted")

// demo is one telling of the story.
type demo struct {
	Config
	asked  func() bool // whether the demo was told to end
	screen *screen
	stack  *stack
	mesh   *definer
	load   *load

	arns    map[string]string // of the virtual nodes, by name
	weights weights           // in force
	told    int               // requests that rows have been written about
	facts   facts
}

// Run tells the story: it starts everything, shifts traffic, kills the control plane,
// and ends everything that it started, whatever happens. The error is one line; it is
// not nil when something did not work or was not as it must be.
func Run(outer context.Context, cfg Config) (err error) {
	ctx, cancel := context.WithCancelCause(outer)
	defer cancel(nil)
	cfg.Share = cmp.Or(cfg.Share, sampleSize)
	d := &demo{Config: cfg, asked: func() bool { return outer.Err() != nil }, screen: newScreen(cfg.Out, lookOf(cfg.Out, os.Getenv)), weights: weights{100, 0}}
	d.screen.broken = func(err error) { cancel(fmt.Errorf("writing the output: %w", err)) }

	if err := d.open(ctx, func(c *child) { cancel(blame(c, c.ended())) }); err != nil {
		if d.asked() {
			return errInterrupted
		}
		return err
	}
	defer func() { err = d.close(err, d.asked() || errors.Is(err, syscall.EPIPE)) }()
	for _, scene := range []func(context.Context) error{
		d.layGround,
		d.startControlPlane,
		d.defineMesh,
		d.startApplication,
		d.joinMesh,
		d.canary,
		d.policies,
		d.loseControlPlane,
		d.refuseBadEdits,
		d.editAgain,
		d.conclude,
		d.stay,
	} {
		if err := scene(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx) // a process that ended is why, not what it brought about
			}
			return err
		}
	}
	return nil
}

// open finds what is needed and says what is missing.
func (d *demo) open(ctx context.Context, died func(*child)) error {
	d.screen.title("Fairlead: a canary on real Envoys, all on this machine")
	t := d.screen.begin("programs")
	defer t.drop()
	t.waits("running Envoy once")
	p, err := findPrograms(ctx)
	if err != nil {
		return err
	}
	if d.stack, err = openStack(p, died); err != nil {
		return err
	}
	t.done("Envoy %s, files in %s", p.envoyVersion, d.stack.dir)
	return nil
}

// close ends everything. After a failure it shows what may explain it and keeps the
// files; where there was none but somebody's wish to end, nothing is left.
func (d *demo) close(err error, interrupted bool) error {
	if d.asked() && err != nil {
		err = errInterrupted
	}
	keep := d.Keep || err != nil && !interrupted && d.stack.ground != nil // else nothing has run
	t := d.screen.begin("clean-up")
	defer t.drop()
	t.waits("ending all processes")
	if d.load != nil {
		d.load.stop()
	}
	err = errors.Join(err, d.stack.close(keep))
	t.drop()
	if fault := new(childError); errors.As(err, &fault) {
		d.screen.line("\n  the end of %s:", fault.child.log)
		for _, line := range fault.child.logTail(12) {
			d.screen.line("    %s", d.screen.paint(dim, line))
		}
	}
	if keep {
		d.screen.line("\n  logs are kept in %s", d.stack.logs())
	}
	return err
}

// layGround makes the network that the application is on, and says which it is.
func (d *demo) layGround(ctx context.Context) error {
	t := d.screen.begin("network")
	defer t.drop()
	t.waits("making namespaces, with interception")
	if err := d.stack.lay(ctx, d.Network); err != nil {
		return err
	}
	line, why := d.stack.ground.about()
	t.done("%s", line)
	if why != "" {
		d.screen.detail(dim, why)
	}
	return nil
}

// startControlPlane starts "fairlead server" on its embedded store.
func (d *demo) startControlPlane(ctx context.Context) error {
	t := d.screen.begin("control plane")
	defer t.drop()
	t.waits("waiting for http://%s/readyz", d.stack.plan.ops())
	if err := d.stack.startServer(); err != nil {
		return err
	}
	if err := await(ctx, "the control plane", startLimit, d.stack.serverReady); err != nil {
		return blame(d.stack.server, err)
	}
	t.done("http://%s", d.stack.plan.api())
	return nil
}

// defineMesh makes the mesh's objects.
func (d *demo) defineMesh(ctx context.Context) (err error) {
	t := d.screen.begin("mesh")
	defer t.drop()
	t.waits("creating objects with the AWS SDK for Go")
	d.mesh, err = newDefiner(ctx, "http://"+d.stack.plan.api(), d.stack.credentials(), d.stack.plan.port())
	if err != nil {
		return err
	}
	if d.arns, err = d.mesh.define(ctx, d.stack.plan, d.weights); err != nil {
		return blame(d.stack.server, err)
	}
	t.done("%d objects, created with the AWS SDK for Go", objects)
	return nil
}

// startApplication starts the application, with an Envoy beside each of its processes.
func (d *demo) startApplication(ctx context.Context) error {
	t := d.screen.begin("application")
	defer t.drop()
	t.waits("starting front, colour blue and colour green")
	if err := d.stack.startApps(); err != nil {
		return err
	}
	if err := d.stack.startAgents(d.arns); err != nil {
		return err
	}
	for i, e := range d.stack.instances() {
		t.waits("waiting for %s at %s", e.node, d.stack.plan.app(e.at))
		err := await(ctx, e.node, startLimit, func(ctx context.Context) error { return d.stack.appReady(ctx, e.at) })
		if err != nil {
			return blame(d.stack.apps[i], err)
		}
	}
	t.done("front, colour blue and colour green, an address each")
	return nil
}

// joinMesh waits until each Envoy is configured and requests get through.
func (d *demo) joinMesh(ctx context.Context) error {
	t := d.screen.begin("Envoys")
	defer t.drop()
	for i, e := range d.stack.instances() {
		t.waits("waiting for http://%s/ready (%s)", d.stack.plan.admin(e.at), e.node)
		err := await(ctx, "the Envoy of "+e.node, startLimit, func(ctx context.Context) error { return d.stack.envoyReady(ctx, e.at) })
		if err != nil {
			return blame(d.stack.agents[i], err)
		}
		// Each colour is asked by itself too: the route gives one of them nothing yet.
		what := "an answer from " + e.node + " through its Envoy"
		t.waits("waiting for %s", what)
		err = await(ctx, what, startLimit, func(ctx context.Context) error { return d.stack.answers(ctx, e.at) })
		if err != nil {
			return blame(d.stack.agents[i], err)
		}
	}
	t.done("3, configured; the first request came through")
	d.screen.line("")
	d.screen.detail(plain, "load -> [Envoy] front -> [Envoy] -+-> [Envoy] colour blue")
	d.screen.detail(plain, "                                  +-> [Envoy] colour green")
	return nil
}
