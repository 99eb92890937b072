package demo

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

// load sends requests at a steady rate and keeps what became of each.
type load struct {
	url    string
	client *http.Client

	endPacing context.CancelFunc
	giveUp    context.CancelFunc
	over      chan struct{} // closed when the last request is answered

	mu      sync.Mutex
	samples []sample // in the order of their ends
}

// sample is one request: when it was sent, when its end came, and its answer. Any end
// but an answer 200 to the only try is an err.
type sample struct {
	sent, end time.Time
	version   string
	err       error
}

// senders is how many requests may be under way at a time. When all are, the rate falls.
const senders = 64

// lastAnswers is how long requests under way may take once the load is stopped.
const lastAnswers = 3 * time.Second

// startLoad sends rate requests a second to a URL until stop is called. It connects by
// dial where that is not nil.
func startLoad(url string, dial dialer, rate int) *load {
	pacing, endPacing := context.WithCancel(context.Background())
	sending, giveUp := context.WithCancel(context.Background())
	l := &load{url: url, client: newClient(nil, dial), endPacing: endPacing, giveUp: giveUp, over: make(chan struct{})}
	turns := make(chan struct{})
	go func() {
		defer close(turns)
		pace(pacing, time.Second/time.Duration(rate), turns)
	}()
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			for range turns {
				l.send(sending)
			}
		})
	}
	go func() {
		all.Wait()
		close(l.over)
	}()
	return l
}

// pace gives one turn in each interval. Turns that nobody could take in time are not
// made up for, save a few.
func pace(ctx context.Context, interval time.Duration, turns chan<- struct{}) {
	const late = 50 * time.Millisecond
	timer := time.NewTimer(0)
	defer timer.Stop()
	for next := time.Now(); ; next = next.Add(interval) {
		if now := time.Now(); now.Sub(next) > late {
			next = now
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return
		case turns <- struct{}{}:
		}
	}
}

func (l *load) send(ctx context.Context) {
	s := sample{sent: time.Now()}
	s.version, s.err = ask(ctx, l.client, l.url)
	s.end = time.Now()
	if s.err != nil && ctx.Err() != nil {
		return // given up by us
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples = append(l.samples, s)
}

// stop sends no more and returns when the requests under way are answered. It may be
// called again.
func (l *load) stop() {
	l.endPacing()
	limit := time.AfterFunc(lastAnswers, l.giveUp)
	defer limit.Stop()
	<-l.over
	l.giveUp()
	l.client.CloseIdleConnections()
}

// since returns what ended after the first n.
func (l *load) since(n int) []sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.samples[min(n, len(l.samples)):])
}

// take returns what has ended since it was called last, and forgets it.
func (l *load) take() []sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.samples
	l.samples = nil
	return out
}
