package xds

import (
	"context"
	"sync"
	"time"
)

// queueState is where a feed stands in the queue.
type queueState uint8

const (
	idle queueState = iota
	waiting
	running
	runningAgain // running, and changed since
	resting      // changed, and not to be translated before feed.rested
)

// A feed that was sent to many is not translated again before it can have been sent to all:
// changes back to back would cost each of its proxies a message more than they need, and
// those who make them wait behind these. A change that comes alone waits for nothing.
const (
	restPerStream = 60 * time.Microsecond // what a core takes to send a change and take in its answer
	mostRest      = 60 * time.Millisecond
)

// queue hands out the feeds whose views have changed. Accounts take turns, so that
// one with many changes does not hold the others up. A feed that changes while it is
// being translated is translated once more, whatever the number of changes.
type queue struct {
	mu       sync.Mutex
	ready    sync.Cond
	closed   bool
	accounts []string           // those with waiting feeds, whose turn is next first
	feeds    map[string][]*feed // waiting feeds by account
}

func newQueue() *queue {
	q := &queue{feeds: map[string][]*feed{}}
	q.ready.L = &q.mu
	return q
}

// add puts a feed in the queue, if it is not there already.
func (q *queue) add(f *feed) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch f.state {
	case idle:
		q.schedule(f)
	case running:
		f.state = runningAgain
	case waiting, runningAgain, resting:
	}
}

// schedule has a feed wait for its turn, once it has rested. The lock is held.
func (q *queue) schedule(f *feed) {
	if rest := time.Until(f.rested); rest > 0 {
		f.state = resting
		time.AfterFunc(rest, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			f.state = waiting
			q.push(f)
		})
		return
	}
	f.state = waiting
	q.push(f)
}

func (q *queue) push(f *feed) {
	account := f.key.id.Mesh.Account
	if len(q.feeds[account]) == 0 {
		q.accounts = append(q.accounts, account)
	}
	q.feeds[account] = append(q.feeds[account], f)
	q.ready.Signal()
}

// next waits for a feed; it returns nil once the queue is closed.
func (q *queue) next() *feed {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.accounts) == 0 {
		if q.closed {
			return nil
		}
		q.ready.Wait()
	}
	account := q.accounts[0]
	q.accounts = q.accounts[1:]
	f := q.feeds[account][0]
	if rest := q.feeds[account][1:]; len(rest) > 0 {
		q.feeds[account] = rest
		q.accounts = append(q.accounts, account)
	} else {
		delete(q.feeds, account)
	}
	f.state = running
	return f
}

// done ends the work on a feed that next returned.
func (q *queue) done(f *feed) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f.rested = time.Now().Add(min(time.Duration(f.sentTo)*restPerStream, mostRest))
	f.sentTo = 0
	if f.state == runningAgain {
		q.schedule(f)
		return
	}
	f.state = idle
}

// run works the queue with a number of workers until ctx ends.
func (q *queue) run(ctx context.Context, workers int, work func(*feed)) {
	stop := context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.closed = true
		q.ready.Broadcast()
	})
	defer stop()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for f := q.next(); f != nil; f = q.next() {
				work(f)
				q.done(f)
			}
		})
	}
	wg.Wait()
}
