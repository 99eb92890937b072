package demo

import (
	"context"
	"fmt"
	"reflect"
	"time"
)

// facts are what the story has shown.
type facts struct {
	steps     int     // edits that were measured
	worst     float64 // points off, of all rows
	slowFirst time.Duration
	slowLast  time.Duration

	downFor, reconnected time.Duration // the control plane's absence, and then the Envoys'
	downRow              row
	intact               bool // nothing stored was lost
	refused, unchanged   bool // bad edits were, and left no trace
	obeyedAgain          bool
	shown                shown
}

// canary moves traffic from blue to green step by step, and back at once.
func (d *demo) canary(ctx context.Context) error {
	d.screen.title(fmt.Sprintf("Shifting traffic by UpdateRoute, under %d requests a second", rate))
	d.load = d.stack.startLoad(rate)
	d.screen.header()
	if _, err := d.measure(ctx, "start", time.Now(), d.weights); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		to   weights
	}{
		{"canary", weights{90, 10}},
		{"half", weights{50, 50}},
		{"all", weights{0, 100}},
		{"back at once", weights{100, 0}},
	} {
		if _, err := d.shift(ctx, step.name, step.to); err != nil {
			return err
		}
	}
	d.screen.legend()
	return nil
}

// shift gives the route new weights and measures what comes of it.
func (d *demo) shift(ctx context.Context, name string, to weights) (row, error) {
	edit := time.Now()
	if err := d.mesh.shift(ctx, to); err != nil {
		return row{}, blame(d.stack.server, fmt.Errorf("updating the route: %w", err))
	}
	d.facts.steps++
	return d.measure(ctx, name, edit, to)
}

// measure waits until enough requests have been answered since an edit that put weights
// in force, and writes the row about them.
func (d *demo) measure(ctx context.Context, name string, edit time.Time, to weights) (row, error) {
	before := d.weights
	d.weights = to
	counted := func() []sample { return sentFrom(d.load.since(d.told), edit.Add(settleTime)) }

	t := d.screen.begin(name)
	defer t.drop()
	t.waitsBy(func() string {
		return fmt.Sprintf("%s of %s requests", thousands(min(len(counted()), d.Share)), thousands(d.Share))
	})
	err := await(ctx, fmt.Sprintf("%s answers", thousands(d.Share)), stepLimit, func(context.Context) error {
		if n := len(counted()); n < d.Share {
			return fmt.Errorf("%s came", thousands(n))
		}
		return nil
	})
	t.drop()
	if err != nil {
		return row{}, err
	}
	samples := d.load.since(d.told)
	d.told += len(samples)
	r := judge(name, samples, edit, before, to, tolerance(d.Share))
	d.screen.row(r)
	d.note(r, count(samples).reason)
	return r, nil
}

// judge makes the row about an edit from all requests since the row before. A share may be
// some points off.
func judge(name string, samples []sample, edit time.Time, before, to weights, points float64) row {
	r := row{
		step: name, asked: to,
		seen:   count(sentFrom(samples, edit.Add(settleTime))),
		failed: count(samples).failed,
		first:  firstObeying(samples, edit, before, to),
		last:   lastDisobeying(samples, edit, before, to),
	}
	r.ok = r.failed == 0 && r.seen.off(to) <= points
	return r
}

// note keeps what a row shows.
func (d *demo) note(r row, reason error) {
	f := &d.facts
	f.worst = max(f.worst, r.seen.off(r.asked))
	f.slowFirst, f.slowLast = max(f.slowFirst, r.first), max(f.slowLast, r.last)
	if r.failed > 0 {
		d.screen.detail(red, fmt.Sprintf("one that failed: %v", reason))
	}
}

// loseControlPlane kills the control plane under traffic, and starts it again.
func (d *demo) loseControlPlane(ctx context.Context) error {
	d.screen.title("Killing the control plane (SIGKILL) under traffic")
	before, err := d.mesh.inventory(ctx)
	if err != nil {
		return blame(d.stack.server, err)
	}
	d.screen.header()
	killed := time.Now()
	d.stack.server.kill()
	if d.facts.downRow, err = d.measure(ctx, "without it", time.Now(), d.weights); err != nil {
		return err
	}
	d.screen.line("")
	if err := d.restart(ctx, killed); err != nil {
		return err
	}
	after, err := d.mesh.inventory(ctx)
	if err != nil {
		return blame(d.stack.server, err)
	}
	d.facts.intact = reflect.DeepEqual(before, after)
	if !d.facts.intact {
		d.screen.line("  %s what is stored differs from what was stored before", d.screen.bad())
	}
	return nil
}

// restart starts the control plane again and waits until all Envoys have found it.
func (d *demo) restart(ctx context.Context, killed time.Time) error {
	if err := d.startControlPlane(ctx); err != nil {
		return err
	}
	d.facts.downFor = time.Since(killed)
	t := d.screen.begin("Envoys")
	defer t.drop()
	for i, e := range d.stack.instances() {
		t.waits("waiting for the Envoy of %s to connect again", e.node)
		err := await(ctx, "the Envoy of "+e.node+" to connect again", startLimit, func(ctx context.Context) error {
			return d.stack.envoyConnected(ctx, e.at)
		})
		if err != nil {
			return blame(d.stack.agents[i], err)
		}
	}
	d.facts.reconnected = time.Since(killed) - d.facts.downFor
	t.done("3, connected again by themselves")
	return nil
}

// refuseBadEdits sends edits that the API must refuse, and looks that they left no trace.
func (d *demo) refuseBadEdits(ctx context.Context) error {
	d.screen.title("Two edits that must be refused")
	before, err := d.mesh.inventory(ctx)
	if err != nil {
		return blame(d.stack.server, err)
	}
	tooMuch := d.mesh.update(ctx, target(blueNode, 101), target(greenNode, 0))
	noSuch := d.mesh.update(ctx, target(blueNode, 50), target("colour-red", 50))
	heavy := d.showRefusal("with weight 101 for "+blueNode, tooMuch)
	unknown := d.showRefusal("with target colour-red, not there", noSuch)
	d.facts.refused = heavy == 400 && unknown >= 400 && unknown < 500

	after, err := d.mesh.inventory(ctx)
	if err != nil {
		return blame(d.stack.server, err)
	}
	d.facts.unchanged = reflect.DeepEqual(before, after)
	return nil
}

// showRefusal writes the answer to an edit and returns its status; 0 where the edit was
// not refused.
func (d *demo) showRefusal(what string, err error) (status int) {
	mark, answer := d.screen.good(), refusal{message: "accepted"}
	if got, ok := readRefusal(err); ok {
		answer = got
	} else {
		mark = d.screen.bad()
		if err != nil {
			answer.message = err.Error()
		}
	}
	d.screen.line("  %s UpdateRoute %s/%s/%s %s:", mark, meshName, routerName, routeName, what)
	if answer.status > 0 {
		d.screen.detail(plain, fmt.Sprintf("%d %s", answer.status, answer.code))
	}
	d.screen.detail(bold, answer.message)
	return answer.status
}

// editAgain shows that the restarted control plane is obeyed.
func (d *demo) editAgain(ctx context.Context) error {
	d.screen.title("And one that must be obeyed")
	d.screen.header()
	r, err := d.shift(ctx, "all", weights{0, 100})
	d.facts.obeyedAgain = r.ok && r.first != never
	return err
}

// conclude says what was shown. It returns an error if that is not all that must be.
func (d *demo) conclude(context.Context) error {
	d.load.stop()
	all := count(d.load.since(0))
	f, points := d.facts, tolerance(d.Share)
	d.screen.title("Shown")
	failed := 0
	for _, c := range []struct {
		holds bool
		text  string
	}{
		{f.worst <= points, fmt.Sprintf("traffic follows the weights: %d edits, %.1f points off at most (%.0f are allowed)", f.steps, f.worst, points)},
		{f.slowFirst != never && f.slowLast != never, fmt.Sprintf("edits are obeyed at once: new weights after %s, old ones never after %s", span(f.slowFirst), span(f.slowLast))},
		{all.failed == 0, fmt.Sprintf("no request fails: %s of %s, each through three Envoys, tried again only behind the faults", thousands(all.failed), thousands(all.total))},
		{f.shown.mirrored.ok && f.shown.copies >= d.Share, fmt.Sprintf("a mirror costs nobody anything: %s copies, %s of %s requests failed", thousands(f.shown.copies), thousands(f.shown.mirrored.failed), thousands(f.shown.mirrored.seen.total))},
		{f.shown.retried.ok && f.shown.faults > 0, fmt.Sprintf("retries hide faults: %s were made on purpose, %s of %s requests failed", thousands(f.shown.faults), thousands(f.shown.retried.failed), thousands(f.shown.retried.seen.total))},
		{f.shown.refused && f.shown.limited() && f.shown.metered() && f.shown.gone, fmt.Sprintf("a caller is refused, another limited (%d of %d calls), a third has had its quota (%d of %d), and nothing of the policies is left", f.shown.passed, greedyCalls, f.shown.spent, quotaOf)},
		{f.downRow.ok, fmt.Sprintf("traffic needs no control plane: %s of %s failed in the %s without", thousands(f.downRow.failed), thousands(f.downRow.seen.total), span(f.downFor))},
		{f.intact, fmt.Sprintf("nothing is lost: all %d objects as before, the Envoys back after %s", objects, span(f.reconnected))},
		{f.refused && f.unchanged, "bad edits are refused, with field and what is allowed, and change nothing"},
		{f.obeyedAgain, "the next edit is obeyed"},
	} {
		mark := d.screen.good()
		if !c.holds {
			mark = d.screen.bad()
			failed++
		}
		d.screen.line("  %s %s", mark, c.text)
	}
	if failed > 0 {
		return fmt.Errorf("%d of the above is not as it must be", failed)
	}
	return nil
}
