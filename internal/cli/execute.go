package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// executor does what was planned, and tells of it.
type executor struct {
	*inventory
	term   Terminal
	dryRun bool
	// replace allows that what stays is deleted and made anew.
	replace bool
	// wait is how long to wait for proxies afterwards; 0 for not at all.
	wait time.Duration

	mu     sync.Mutex
	broken map[Ref]bool  // what failed or was left out
	noRoom map[Ref]bool  // what failed because a quota is used up: deletions help it
	gone   map[Ref]*step // what was deleted to be made anew, and is not there yet
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
	x.broken, x.noRoom, x.gone, x.counts = map[Ref]bool{}, map[Ref]bool{}, map[Ref]*step{}, map[verb]int{}
	for _, wave := range waves {
		if ctx.Err() != nil {
			return x.interrupted(context.WithoutCancel(ctx))
		}
		x.wave(ctx, wave)
	}
	return nil
}

// interrupted puts back what was deleted to be made anew, and returns the error that says how
// far it went.
func (x *executor) interrupted(ctx context.Context) error {
	var lost []Ref
	for _, s := range x.gone {
		if _, err := x.create(ctx, s.Ref, s.have.Spec, s.have.Tags); err != nil {
			lost = append(lost, s.Ref)
		}
	}
	if len(lost) == 0 {
		return fmt.Errorf("%w: what has had its line is done; apply again for the rest", errInterrupted)
	}
	slices.SortFunc(lost, compareRefs)
	return fmt.Errorf("%w: %s deleted to be made anew, and not put back; apply again", errInterrupted, listed(lost))
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
		return x.skip(s, because, x.putBack(ctx, s))
	}
	if x.dryRun {
		return x.done(s)
	}
	err := x.do(ctx, s)
	if err == nil {
		return x.done(s)
	}
	note := x.putBack(ctx, s)
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.broken[s.Ref] {
		x.failed = append(x.failed, s.Ref)
	}
	x.broken[s.Ref], x.noRoom[s.Ref] = true, code(err) == codeLimit
	return func() {
		fmt.Fprintf(x.term.Err, "%s failed: %s%s\n", printable(s.String()), printable(err.Error()), note)
	}
}

// do makes the calls of a step.
func (x *executor) do(ctx context.Context, s *step) error {
	switch {
	case s.verb == deleted:
		return x.delete(ctx, s)
	case s.verb == created:
		return x.make(ctx, s)
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

// make creates an object. What is made anew keeps its tags.
func (x *executor) make(ctx context.Context, s *step) error {
	tags := map[string]string(nil)
	if s.doc != nil {
		tags = s.doc.tags
	}
	if tags == nil && s.have != nil {
		tags = s.have.Tags // made anew: it keeps them
	}
	if _, err := x.create(ctx, s.Ref, s.raw, tags); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.gone, s.Ref)
	return nil
}

// delete deletes an object. Of one that is to be made anew, the tags are noted.
func (x *executor) delete(ctx context.Context, s *step) error {
	if s.between && s.have != nil && s.have.Tags == nil {
		tags, err := x.tagsOf(ctx, s.have.ARN)
		if err != nil {
			return err
		}
		s.have.Tags = tags
	}
	if err := x.remove(ctx, s.Ref); err != nil && !isNotFound(err) {
		return err // if it is not there, somebody else was quicker
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if s.between && s.have != nil {
		x.gone[s.Ref] = s
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
	for _, r := range s.beside {
		if x.broken[r] && !x.noRoom[r] {
			return r, true
		}
	}
	return Ref{}, false
}

// putBack makes what was deleted to be made anew what it was, if it could not be made anew.
// It returns what is to be said of it.
func (x *executor) putBack(ctx context.Context, s *step) string {
	if s.verb != created {
		return ""
	}
	x.mu.Lock()
	_, gone := x.gone[s.Ref]
	delete(x.gone, s.Ref)
	x.mu.Unlock()
	if !gone {
		return ""
	}
	if _, err := x.create(ctx, s.Ref, s.have.Spec, s.have.Tags); err != nil {
		return " (it was deleted to be made anew, and cannot be put back: apply again)"
	}
	return " (it was deleted to be made anew, and is put back as it was)"
}

func (x *executor) skip(s *step, because Ref, note string) func() {
	x.mu.Lock()
	defer x.mu.Unlock()
	known := x.broken[s.Ref]
	x.broken[s.Ref] = true
	if known && note == "" {
		return func() {} // it has its line
	}
	x.left++
	return func() {
		fmt.Fprintf(x.term.Err, "%s not tried: it needs %s%s\n", printable(s.String()), printable(because.String()), note)
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
	if v == replaced {
		note = ": deleted and made anew" + note
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
	text := listed(x.failed)
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
