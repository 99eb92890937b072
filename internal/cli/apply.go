package cli

import (
	"context"
	"slices"
	"time"
)

// FilesConfig says which documents a command works on.
type FilesConfig struct {
	// Paths are files, folders, and "-" for the terminal's input.
	Paths []string
	// Prune deletes what is in the documents' meshes and in no document.
	Prune bool
	// Replace allows that routes are deleted and made anew where nothing else leads to what
	// the documents say.
	Replace bool
	// DryRun tells what would be done, and does nothing.
	DryRun bool
	// Complete says that the documents are all there is: Validate then refuses references
	// to anything else.
	Complete bool
	// Wait is how long to wait for the connected proxies of the meshes to have all of it; 0
	// does not wait.
	Wait time.Duration
	// Parallel is how many calls are made at the same time; 0 is DefaultParallel.
	Parallel int
}

// Apply makes a server's objects what documents say. All documents are checked first, and
// nothing is sent if one is wrong. It returns *InvalidError then, *ReplaceError if a route
// would have to be deleted and made anew and that is not allowed, *StuckError if not even
// that would help, and *FailedError if the server refused something; the lines of the first
// and the last are on the terminal's error output.
func Apply(ctx context.Context, s *Session, term Terminal, cfg FilesConfig) error {
	docs, bad, err := readDocuments(term.In, cfg.Paths)
	if err != nil {
		return err
	}
	if err := report(term, bad, len(docs)); err != nil {
		return err
	}
	inv := newInventory(s, cfg.Parallel)
	changes, bad, err := inv.changes(ctx, docs, cfg.Prune)
	if err != nil {
		return err
	}
	if err := report(term, bad, len(docs)); err != nil {
		return err
	}
	return execute(ctx, inv, term, changes, &executor{dryRun: cfg.DryRun, replace: cfg.Replace, wait: cfg.Wait})
}

// execute plans changes, does them and waits for the proxies.
func execute(ctx context.Context, inv *inventory, term Terminal, changes []*change, x *executor) error {
	x.inventory, x.term = inv, term
	p, err := plan(inv.world, changes)
	if err != nil {
		return err
	}
	if len(p.replaced) > 0 && !x.replace {
		slices.SortFunc(p.replaced, compareRefs)
		return &ReplaceError{p.replaced}
	}
	same := 0
	for _, c := range changes {
		if p.known[c.Ref].verb == unchanged {
			same++
			x.tell(c.Ref, unchanged)
		}
	}
	if err := x.run(ctx, p.waves); err != nil {
		return err
	}
	x.counts[unchanged] = same
	if err := x.summary(); err != nil || x.dryRun {
		return err
	}
	return inv.await(ctx, term, changedMeshes(changes), x.wait)
}

// Validate checks documents without a server: their form, the bounds and rules of their
// specs, and the rules between those that are given.
func Validate(term Terminal, cfg FilesConfig) error {
	docs, bad, err := readDocuments(term.In, cfg.Paths)
	if err != nil {
		return err
	}
	var changes []*change
	for _, d := range docs {
		if d.spec != nil {
			changes = append(changes, &change{Ref: d.Ref, verb: created, doc: d, spec: d.spec})
		}
	}
	bad = append(bad, checkTogether(newWorld(), changes, cfg.Complete)...)
	if len(bad) > 0 {
		e := &InvalidError{problems: bad, documents: len(docs), offline: true}
		e.print(term.Err)
		return e
	}
	term.printf("%s valid\n", plural(len(docs), "document is", "documents are"))
	return nil
}
