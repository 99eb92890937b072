package xds

import (
	"context"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// firstsPerCore is how many streams for each core may be on their first synchronisation
	// at once. What one holds until then is large: of a proxy that comes back with 1,000
	// services, half a megabyte of names and versions. While the processors are short it is
	// fewFirsts.
	firstsPerCore, fewFirsts = 32, 4
	// firstPatience is for how long a stream may keep others from theirs: a proxy that is
	// slow, or far away, goes on without.
	firstPatience = time.Second
)

// admission bounds how many streams are on their first synchronisation at once. The others
// wait, however many there are, and none is refused. Accounts take turns, and within one
// it is first come, first served.
type admission struct {
	mu       sync.Mutex
	room     room
	accounts []string // those with streams that wait, whose turn is next first
	waiting  map[string][]*turn
	// storm counts the streams since it was calm, and lull is over when it is calm again.
	storm int
	lull  *time.Timer
}

const (
	// stormy is how many first synchronisations leave memory behind that is worth giving
	// back to the system, which the garbage collector takes minutes for.
	stormy = 100
	// calm is how long there is none before that is done.
	calm = time.Second
)

// turn is a stream that waits.
type turn struct {
	granted chan struct{}
	// gone is set when the stream ended before its turn; guarded by admission.mu.
	gone bool
}

func newAdmission() *admission {
	a := &admission{room: roomFor(fewFirsts, firstsPerCore), waiting: map[string][]*turn{}}
	a.lull = time.AfterFunc(calm, a.relax)
	a.lull.Stop()
	return a
}

// begin has the start of the server count as a storm: it has read the whole store.
func (a *admission) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.storm = stormy
	a.lull.Reset(calm)
}

// stir has what happens count as part of the storm, if there is one.
func (a *admission) stir() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.storm > 0 {
		a.lull.Reset(calm)
	}
}

// relax gives memory back once a storm is over.
func (a *admission) relax() {
	a.mu.Lock()
	over := a.storm >= stormy && len(a.accounts) == 0
	a.storm = 0
	a.mu.Unlock()
	if over {
		debug.FreeOSMemory()
	}
}

// enter waits for the turn of a stream of an account, or for ctx to end. leave, which may be
// called twice, lets the next one in.
func (a *admission) enter(ctx context.Context, account string) (leave func(), err error) {
	t := a.ask(account, settle())
	select {
	case <-t.granted:
		return a.leaver(), nil
	case <-ctx.Done():
		a.abandon(t)
		return nil, context.Cause(ctx)
	}
}

// ask has a stream of an account wait for its turn, which may be now.
func (a *admission) ask(account string, quiet bool) *turn {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := &turn{granted: make(chan struct{})}
	a.storm++
	if len(a.accounts) == 0 && a.room.take(quiet) {
		close(t.granted)
		return t
	}
	if len(a.waiting[account]) == 0 {
		a.accounts = append(a.accounts, account)
	}
	a.waiting[account] = append(a.waiting[account], t)
	return t
}

// abandon gives up a turn, which may just have come.
func (a *admission) abandon(t *turn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-t.granted:
		a.next(false)
	default:
		t.gone = true
	}
}

// leaver returns what ends a turn, once. It ends by itself after firstPatience.
func (a *admission) leaver() func() {
	leave := sync.OnceFunc(func() {
		quiet := settle()
		a.mu.Lock()
		defer a.mu.Unlock()
		a.next(quiet)
	})
	timer := time.AfterFunc(firstPatience, leave)
	return func() {
		timer.Stop()
		leave()
	}
}

// next gives the place of a stream to the next one that waits, and a second one its own
// while the processors are enough. The lock is held.
func (a *admission) next(quiet bool) {
	a.lull.Reset(calm)
	a.room.inside--
	for n := 0; len(a.accounts) > 0 && n < 2 && a.room.take(quiet); n++ {
		a.grant()
	}
}

// grant gives a place that has been taken to the stream whose turn it is, or back.
func (a *admission) grant() {
	for len(a.accounts) > 0 {
		account := a.accounts[0]
		a.accounts = a.accounts[1:]
		t := a.waiting[account][0]
		if rest := a.waiting[account][1:]; len(rest) > 0 {
			a.waiting[account] = rest
			if t.gone { // its account keeps its turn
				a.accounts = append([]string{account}, a.accounts...)
			} else {
				a.accounts = append(a.accounts, account)
			}
		} else {
			delete(a.waiting, account)
		}
		if !t.gone {
			close(t.granted)
			return
		}
	}
	a.room.inside--
}
