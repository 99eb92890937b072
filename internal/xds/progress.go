package xds

import (
	"slices"
	"time"
)

// mostMarks bounds how many publications of a feed are remembered. Of an older revision it
// is asked that a proxy has the oldest of them, which is more than was asked for.
const mostMarks = 32

// progress says of which of the store's revisions a feed's resources are. The feed's lock
// guards it.
type progress struct {
	// stale is the first revision that the resources may not be of yet; 0 while they are of
	// all that this server has seen.
	stale   int64
	staleAt time.Time // since when
	// building is set while a rebuild is under way, and again once something that is read
	// has changed since it began.
	building, again bool
	againAt         time.Time
	// base is what the rebuild reads: the revision that had been reached before it began.
	base int64
	// failed is set while the last rebuild came to nothing.
	failed bool
	marks  []mark
	// moved is closed with the next rebuild; nil while nobody waits for it.
	moved chan struct{}
}

// mark says that the resources of a generation are those of the revisions up to one, from
// where the mark before ends.
type mark struct {
	upTo int64
	gen  uint64
	at   time.Time // when the change came that was published; zero where it was none of the mesh
}

// noticed notes that something that the feed reads has changed after a revision.
func (f *feed) noticed(after int64, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &f.progress
	switch {
	case p.building && p.again:
	case p.building:
		p.again, p.againAt = true, now
	case p.stale == 0:
		p.stale, p.staleAt = after+1, now
	}
}

// begin notes that a rebuild begins, before it reads anything. base is the revision that has
// been reached: what is published is of it at least.
func (f *feed) begin(base int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &f.progress
	p.building, p.again, p.failed, p.base = true, false, false, base
}

// advance makes what has been put into the feed its present generation. The lock is held:
// a proxy that acknowledges it before the rebuild has ended finds out what it waited for.
func (f *feed) advance(gen uint64) {
	f.generation = gen
	f.remark()
	f.wake()
}

// built notes that a rebuild has ended, and whether it came to something. It returns when
// the change came that was waited for, zero if there was none.
func (f *feed) built(ok bool) (since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &f.progress
	p.building = false
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
	if !ok {
		p.failed = true
		return time.Time{}
	}
	f.remark()
	since = p.waited()
	p.stale = 0
	if p.again { // whether it was read in time is not known
		p.stale, p.staleAt = p.base+1, p.againAt
	}
	return since
}

// waited returns when the change came that is waited for, zero if there is none.
func (p *progress) waited() time.Time {
	if p.stale == 0 {
		return time.Time{}
	}
	return p.staleAt
}

// remark notes of which revisions the present generation is.
func (f *feed) remark() {
	p := &f.progress
	last := len(p.marks) - 1
	if last >= 0 && p.stale > 0 { // so far nothing that is read had changed
		p.marks[last].upTo = max(p.marks[last].upTo, p.stale-1)
	}
	if last >= 0 && p.marks[last].gen == f.generation {
		p.marks[last].upTo = max(p.marks[last].upTo, p.base)
		return
	}
	if len(p.marks) == mostMarks {
		p.marks = slices.Delete(p.marks, 0, 1)
	}
	p.marks = append(p.marks, mark{p.base, f.generation, p.waited()})
}

// generationOf returns the generation that a proxy must have acknowledged to have a
// revision, which is published. The lock is held.
func (f *feed) generationOf(revision int64) uint64 {
	for _, m := range f.progress.marks {
		if m.upTo >= revision {
			return m.gen
		}
	}
	return f.generation // nothing that is read has changed since
}

// cameAt returns when the change came that was published first after a generation, zero if
// that is not known. The lock is held.
func (f *feed) cameAt(after uint64) time.Time {
	for _, m := range f.progress.marks {
		if m.gen > after {
			return m.at
		}
	}
	return time.Time{}
}

// awaitBuild returns a channel that is closed when the next rebuild has ended. The lock is
// held.
func (f *feed) awaitBuild() <-chan struct{} {
	if f.progress.moved == nil {
		f.progress.moved = make(chan struct{})
	}
	return f.progress.moved
}
