package quota

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

const (
	// askEvery is how often a desk asks whether its proxies are to go by something else.
	askEvery = time.Second
	// askWait is how long the owner has to answer before another replica takes its place.
	askWait = 1500 * time.Millisecond
	// tries bounds how often the owner is looked for before the next turn.
	tries = 4
	// settle is how long a replica has to begin, or to end, what the store says of it.
	settle = 50 * time.Millisecond
	// mostUses bounds what is asked at once, and what waits for an answer.
	mostUses    = 5000
	mostWaiting = 100_000
)

// desk takes what this replica's proxies report of a policy to its owner.
type desk struct {
	service *Service
	policy  Policy
	wake    chan struct{}

	mu      sync.Mutex
	clients map[string]*Client // by their proxies
	waiting []Use

	owner string // the other replica that was the owner last; the desk's own
}

// desk returns the desk of a policy; nil when the service ends.
func (s *Service) desk(p Policy) *desk {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.desks[p]
	if d == nil && !s.ended {
		d = &desk{service: s, policy: p, wake: make(chan struct{}, 1), clients: map[string]*Client{}}
		s.desks[p] = d
		s.begin(d.run)
	}
	return d
}

// take takes what a client reports.
func (d *desk) take(c *Client, uses []Use) {
	d.mu.Lock()
	d.clients[c.proxy] = c
	if len(d.waiting)+len(uses) <= mostWaiting {
		d.waiting = append(d.waiting, uses...)
	}
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// leave forgets a client.
func (d *desk) leave(c *Client) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.clients[c.proxy] == c {
		delete(d.clients, c.proxy)
	}
}

// run asks the owner until no client is left or ctx ends.
func (d *desk) run(ctx context.Context) {
	ticker := time.NewTicker(askEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if d.done() {
				return
			}
		case <-d.wake:
		}
		d.turn(ctx)
	}
}

// done reports whether nobody needs the desk any more, and takes it away then.
func (d *desk) done() bool {
	d.service.mu.Lock()
	defer d.service.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.clients) > 0 || len(d.waiting) > 0 {
		return false
	}
	delete(d.service.desks, d.policy)
	return true
}

// turn takes what waits to the owner, and tells the clients what it says.
func (d *desk) turn(ctx context.Context) {
	for {
		d.mu.Lock()
		n := min(len(d.waiting), mostUses)
		uses := slices.Clone(d.waiting[:n])
		d.mu.Unlock()
		a, err := d.ask(ctx, Question{Policy: d.policy, Replica: d.service.cfg.Self(), Uses: uses})
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, errNoPolicy) {
				d.service.cfg.Log.WarnContext(ctx, "nobody counts a quota just now, it is tried again", "policy", d.policy.Name, "mesh", d.policy.Mesh.Name, "error", err)
			}
			if errors.Is(err, errNoPolicy) {
				d.mu.Lock()
				d.waiting = nil
				d.mu.Unlock()
			}
			return
		}
		d.tell(a.Told)
		d.mu.Lock()
		d.waiting = d.waiting[n:]
		more := len(d.waiting) > 0
		d.mu.Unlock()
		if !more {
			return
		}
	}
}

// tell tells each client what it is to go by.
func (d *desk) tell(all []Told) {
	by := map[*Client][]Told{}
	d.mu.Lock()
	for _, one := range all {
		if c := d.clients[one.Proxy]; c != nil {
			by[c] = append(by[c], one)
		}
	}
	d.mu.Unlock()
	for c, some := range by {
		c.tell(d.policy, some)
	}
}

// ask asks the owner, whoever that is. One that does not answer, or is not there, has this
// replica take its place.
func (d *desk) ask(ctx context.Context, q Question) (Answer, error) {
	s := d.service
	var last error
	for try := range tries {
		if a, _ := s.Answer(ctx, q); a.Owns {
			d.owner = ""
			return a, nil
		}
		settling := false
		if d.owner != "" {
			a, err := d.askOther(ctx, q)
			switch {
			case err == nil && a.Owns:
				return a, nil
			case err == nil && try < tries-1: // it has just begun, or ended
				settling = true
				select {
				case <-ctx.Done():
				case <-time.After(settle):
				}
			}
		}
		r, err := s.read(ctx, d.policy)
		if err != nil {
			return Answer{}, err
		}
		if r.Owner != "" && (r.Owner != d.owner || settling) && slices.Contains(s.cfg.Others(), r.Owner) {
			d.owner = r.Owner
			continue
		}
		d.owner = ""
		if _, err := s.own(ctx, d.policy, r); err != nil && !errors.Is(err, store.ErrRevision) {
			return Answer{}, err
		} else if err != nil {
			last = err
		}
	}
	return Answer{}, last
}

func (d *desk) askOther(ctx context.Context, q Question) (Answer, error) {
	within, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	return d.service.cfg.Ask(within, d.owner, q)
}
