package cli

import (
	"context"
	"fmt"
)

// Removal says what Delete deletes: objects by name, or those that documents define.
type Removal struct {
	FilesConfig
	Refs []Ref
}

// Delete deletes objects, what is used after what uses it. An object of a document that is
// not there is passed over, one that was named is an error.
func Delete(ctx context.Context, s *Session, term Terminal, cfg Removal) error {
	inv := newInventory(s, cfg.Parallel)
	refs := cfg.Refs
	if len(cfg.Paths) > 0 {
		docs, bad, err := readDocuments(term.In, cfg.Paths)
		if err != nil {
			return err
		}
		if err := report(term, bad, len(docs)); err != nil {
			return err
		}
		if err := inv.ownRefs(ctx, docs); err != nil {
			return err
		}
		for _, d := range docs {
			refs = append(refs, d.Ref)
		}
	}
	if err := inv.describeAll(ctx, refs); err != nil {
		return err
	}
	var changes []*change
	seen := map[Ref]bool{}
	for _, r := range refs {
		have := inv.found[r]
		switch {
		case seen[r]:
		case have != nil:
			changes = append(changes, &change{Ref: r, verb: deleted, have: have})
		case len(cfg.Paths) == 0:
			return fmt.Errorf("%s is not there", r)
		default:
			term.printf("%s is not there\n", printable(r.String()))
		}
		seen[r] = true
	}
	return execute(ctx, inv, term, changes, &executor{dryRun: cfg.DryRun, wait: cfg.Wait})
}
