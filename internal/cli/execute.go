package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// executor does what was planned, and tells of it.
type executor struct {
	*inventory
	term   Terminal
	dryRun bool

	mu     sync.Mutex
	broken map[Ref]bool // what failed or was left out
	counts map[verb]int
	failed []Ref
	left   int // how many were left out
}

// FailedError says that some objects were not done; each has had its line on standard error.
type FailedError struct {
	what string
}

// Error returns one line that names what failed.
func (e *FailedError) Error() string { return e.what }

// run does all waves. What does not depend on a failure is still done.
func (x *executor) run(ctx context.Context, waves [][]step) error {
	x.broken, x.counts = map[Ref]bool{}, map[verb]int{}
	for _, wave := range waves {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: what has had its line is done, all else is as it was", errInterrupted)
		}
		x.wave(ctx, wave)
	}
	return nil
}

// wave does the steps of a wave at the same time; their lines are printed in order.
func (x *executor) wave(ctx context.Context, wave []step) {
	var mu sync.Mutex
	lines := make([]func(), len(wave))
	printed := 0
	indexes := make([]int, len(wave))
	for i := range wave {
		indexes[i] = i
	}
	_ = each(ctx, x.parallel, indexes, func(_ context.Context, i int) error {
		line := x.step(ctx, &wave[i])
		mu.Lock()
		defer mu.Unlock()
		lines[i] = line
		for printed < len(wave) && lines[printed] != nil {
			lines[printed]()
			printed++
		}
		return nil // what failed has its line, and others go on
	})
}

// step does one step and returns what prints its line.
func (x *executor) step(ctx context.Context, s *step) func() {
	if because, ok := x.blocked(s); ok {
		return x.skip(s, because)
	}
	if x.dryRun {
		return x.done(s)
	}
	err := x.do(ctx, s)
	if err == nil {
		return x.done(s)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.broken[s.Ref] {
		x.failed = append(x.failed, s.Ref)
	}
	x.broken[s.Ref] = true
	note := ""
	if s.change.verb == replaced && s.verb == created {
		note = " (it was deleted to be made anew: apply again)"
	}
	return func() {
		fmt.Fprintf(x.term.Err, "%s failed: %s%s\n", printable(s.String()), printable(err.Error()), note)
	}
}

// do makes the calls of a step.
func (x *executor) do(ctx context.Context, s *step) error {
	switch {
	case s.verb == deleted:
		if s.between && s.doc.tags == nil {
			tags, err := x.tagsOf(ctx, s.have.ARN)
			if err != nil {
				return err
			}
			s.have.Tags = tags
		}
		if err := x.remove(ctx, s.Ref); !isNotFound(err) {
			return err
		}
		return nil // somebody else was quicker
	case s.verb == created:
		tags := map[string]string(nil)
		if s.doc != nil {
			tags = s.doc.tags
		}
		if tags == nil && s.have != nil {
			tags = s.have.Tags // made anew: it keeps them
		}
		_, err := x.create(ctx, s.Ref, s.raw, tags)
		return err
	case s.raw != nil:
		if _, err := x.update(ctx, s.Ref, s.raw); err != nil {
			return err
		}
	}
	if s.retag && !s.between {
		return x.setTags(ctx, s.have.ARN, s.have.Tags, s.doc.tags)
	}
	return nil
}

// blocked returns the object whose failure makes a step pointless.
func (x *executor) blocked(s *step) (Ref, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range s.after {
		if x.broken[r] {
			return r, true
		}
	}
	return Ref{}, false
}

func (x *executor) skip(s *step, because Ref) func() {
	x.mu.Lock()
	defer x.mu.Unlock()
	known := x.broken[s.Ref]
	x.broken[s.Ref] = true
	if known {
		return func() {} // it has its line
	}
	x.left++
	return func() {
		fmt.Fprintf(x.term.Err, "%s not tried: it needs %s\n", printable(s.String()), printable(because.String()))
	}
}

// done counts a step and returns what prints its line; steps in between have none.
func (x *executor) done(s *step) func() {
	if s.between {
		return func() {}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.counts[s.change.verb]++
	return func() { x.tell(s.Ref, s.change.verb) }
}

var verbColours = map[verb]int{created: green, updated: yellow, replaced: yellow, deleted: red, unchanged: dim}

// tell prints an object's line.
func (x *executor) tell(r Ref, v verb) {
	note := ""
	if x.dryRun && v != unchanged {
		note = " (dry run)"
	}
	x.term.printf("%s %s%s\n", printable(r.String()), x.term.paint(verbColours[v], string(v)), note)
}

// summary prints how many objects had what done to them, and returns an error that names
// what failed.
func (x *executor) summary() error {
	var parts []string
	for _, v := range []verb{created, updated, replaced, deleted, unchanged} {
		if n := x.counts[v]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, v))
		}
	}
	if len(parts) > 0 {
		note := ""
		if x.dryRun {
			note = "; dry run: nothing was changed"
		}
		x.term.printf("%s%s\n", strings.Join(parts, ", "), note)
	}
	if len(x.failed) == 0 {
		return nil
	}
	slices.SortFunc(x.failed, compareRefs)
	const most = 5
	var names []string
	for _, r := range x.failed[:min(most, len(x.failed))] {
		names = append(names, printable(r.String()))
	}
	text := strings.Join(names, ", ")
	if n := len(x.failed) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	text += " failed"
	if x.left > 0 {
		text += fmt.Sprintf("; %s not tried, needing what failed", plural(x.left, "more object was", "more objects were"))
	}
	return &FailedError{text}
}

// report prints problems, one a line, and returns the error for them; nil for none.
func report(term Terminal, bad []problem, documents int) error {
	if len(bad) == 0 {
		return nil
	}
	e := &InvalidError{problems: bad, documents: documents}
	e.print(term.Err)
	return e
}
