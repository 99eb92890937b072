package xds

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// warmWait bounds how long routes wait for clusters that are new to a proxy. Envoy
// holds back its acknowledgement of clusters while one of them is still warming, for
// example while a name is being resolved.
const warmWait = 5 * time.Second

// missingWait is how long a new stream waits for its virtual node or gateway to appear:
// the write that made it may still be on its way to this replica.
const missingWait = time.Second

// Types by their place in a change: what is referred to goes out first, what refers
// to it next, and what nothing refers to any more is taken away last.
var (
	referred  = []envoy.Type{envoy.TypeCluster, envoy.TypeEndpoint, envoy.TypeSecret}
	referring = []envoy.Type{envoy.TypeListener, envoy.TypeRoute, envoy.TypeVirtualHost}
)

// stream is one proxy's stream. Two goroutines work on it: one takes requests
// (handle), the other sends (run); mu is between them. A lock on the feed is taken
// inside mu, never around it.
type stream struct {
	feed *feed
	log  *slog.Logger
	met  *metrics
	// full is set for state-of-the-world: responses list everything.
	full bool
	wake chan struct{}
	// opened is when the stream was opened.
	opened time.Time
	// heard is when the proxy last said something, in nanoseconds since 1970.
	heard atomic.Int64
	// patience is how long the proxy may say nothing; 0 is for ever.
	patience time.Duration
	// known is the generation that all removals were sent of.
	known atomic.Uint64
	// onServed is called once there is something to serve.
	onServed func()
	// onSync is called once, when the proxy has all that it asks for at first.
	onSync func()

	mu     sync.Mutex
	closed bool // it has left its feed
	served bool // only the sender sets it
	types  [envoy.NumTypes]typeState
	nonces uint64
	// waived is the newest cluster generation that routes no longer wait for.
	waived uint64
	// waitUntil is when routes stop waiting; zero while they do not wait.
	waitUntil time.Time
	// rejection says what was refused last.
	rejection string
	// observed is the generation whose acknowledgement was measured last.
	observed uint64
	// settled is closed when the sender next has nothing to send; nil while nobody waits.
	settled chan struct{}
	// had is the newest generation that the proxy was found to have.
	had  uint64
	left bool // the stream has ended
}

// typeState is what a stream knows of one type.
type typeState struct {
	subscribed bool
	wildcard   bool
	names      *nameSet // asked for by name
	// again holds names to send whether or not they changed: newly asked for.
	again map[string]struct{}
	// sentBefore holds clusters that were sent before their endpoints were asked for; only
	// endpoints have it.
	sentBefore map[string]struct{}
	// routes are the route configurations whose virtual hosts are to be sent again; only
	// virtual hosts have it.
	routes map[string]struct{}
	// owe is set while the proxy waits for an answer, even an empty one.
	owe bool
	// sent, removed: the generations whose additions and removals were sent.
	sent, removed uint64
	// acked is the generation that the proxy has acknowledged.
	acked    uint64
	inflight []flight
	// singles are names to send one by one, to find the one that was refused.
	singles []string
	// rejected holds what the proxy refused of a name.
	rejected map[string]rejection

	// Of delta streams: have holds what the proxy says it has, until it is compared;
	// orphans are names that it has and the feed does not.
	have    map[string]string
	orphans map[string]struct{}

	// Of state-of-the-world streams: the resources and version sent last.
	last    []*resource
	version string
}

// flight is a response that is not answered yet.
type flight struct {
	nonce     string
	gen       uint64
	from      uint64 // it brings nothing of generations up to this one
	resources []*resource
	at        time.Time
}

func (t *typeState) wants(name string) bool {
	if t.wildcard {
		return true
	}
	return t.names.has(name)
}

// close has the stream take no more requests, and gives back what it shares.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for t := range s.types {
		s.feed.names.release(s.types[t].names)
		s.types[t].names = nil
	}
}

// signal wakes the sender.
func (s *stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run sends until the stream ends. failed carries the end of the receiving side.
func (s *stream) run(ctx context.Context, failed <-chan error, send func(*response) error) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		before := s.served
		resp, wait, err := s.next(time.Now())
		if s.served && !before && s.onServed != nil {
			s.onServed()
		}
		if err != nil {
			return err
		}
		if resp != nil {
			if err := deliver(ctx, failed, s.mayBeSilent(time.Now()), func() error { return send(resp) }); err != nil {
				return err
			}
			continue
		}
		if s.onSync != nil && s.answered() {
			s.onSync()
			s.onSync = nil
		}
		left := s.mayBeSilent(time.Now())
		if left <= 0 {
			return errSlow
		}
		timer.Reset(min(wait, left))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-failed:
			return err
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// answered reports whether the proxy has answered all that it asked for. Envoy asks for
// listeners when it has clusters; before that there is more to come.
func (s *stream) answered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	return s.types[envoy.TypeListener].subscribed && s.synced()
}

// next returns the next response to send, or how long to wait for one at most.
func (s *stream) next(now time.Time) (resp *response, wait time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if early := s.opened.Add(missingWait).Sub(now); f.missing && early > 0 {
		return nil, early, nil
	}
	if f.missing {
		return nil, 0, refuse(codes.InvalidArgument, mesh.ErrNotFound, "%s is not present in mesh %s of account %s",
			f.key.id.Key, f.key.id.Mesh.Name, f.key.id.Mesh.Account)
	}
	if f.generation == 0 {
		return nil, time.Hour, nil
	}
	s.served = true
	resp, wait = s.pick(now)
	if resp == nil {
		s.pause(now)
	}
	if resp != nil || f.withdrawn.IsZero() {
		return resp, wait, nil
	}
	// A proxy asks for its types one after the other; what it has not asked for yet
	// cannot be taken from it.
	early, left := s.opened.Add(missingWait).Sub(now), f.withdrawn.Add(withdrawWait).Sub(now)
	if left <= 0 || early <= 0 && s.synced() {
		return nil, 0, notShared(f.key)
	}
	if early > 0 {
		left = min(left, early)
	}
	return nil, min(wait, left), nil
}

// pick returns the next response in the order of a change, or how long to wait for one
// at most. Both locks are held.
func (s *stream) pick(now time.Time) (resp *response, wait time.Duration) {
	for _, t := range referred {
		if resp := s.compose(t, now, true); resp != nil {
			return resp, 0
		}
	}
	if wait := s.waitForClusters(now); wait > 0 {
		return nil, wait
	}
	for _, t := range referring {
		if resp := s.compose(t, now, false); resp != nil {
			return resp, 0
		}
	}
	for _, t := range referred {
		if s.mayRemove(t) {
			if resp := s.compose(t, now, false); resp != nil {
				return resp, 0
			}
		}
	}
	s.known.Store(s.lowest())
	return nil, s.idleWait()
}

// idleWait returns when to look again although nobody calls: late answers are not
// waited for for ever.
func (s *stream) idleWait() time.Duration {
	for t := range s.types {
		if len(s.types[t].inflight) > 0 {
			return warmWait
		}
	}
	return time.Hour
}

// compose returns the next response of a type, or nil. With keep, what went away is
// not taken from the proxy yet.
func (s *stream) compose(t envoy.Type, now time.Time, keep bool) *response {
	ts := &s.types[t]
	if !ts.subscribed || !ts.free(now) || t == envoy.TypeVirtualHost && !s.types[envoy.TypeRoute].free(now) {
		return nil // virtual hosts come to nothing before their route configuration is there
	}
	nonce, last, from := strconv.FormatUint(s.nonces+1, 10), ts.last, ts.complete()
	var resp *response
	var sent []*resource
	if s.full {
		resp, sent = s.composeFull(t, nonce, keep)
	} else {
		resp, sent = s.composeDelta(t, nonce, keep)
	}
	if resp == nil {
		if len(ts.inflight) == 0 {
			ts.acked = ts.sent
		}
		return nil
	}
	if t == envoy.TypeCluster {
		s.sendEndpointsOf(sent, last)
	}
	s.nonces++
	ts.inflight = append(ts.inflight, flight{nonce: nonce, gen: ts.sent, from: from, resources: sent, at: now})
	s.met.responses.WithLabelValues(t.String()).Inc()
	return resp
}

// sendEndpointsOf has the endpoints of clusters that are being sent follow them, whether
// or not they changed: a proxy that replaces a cluster waits for its endpoints, and asks
// again only for those that it did not have. last are the clusters that a
// state-of-the-world proxy has.
func (s *stream) sendEndpointsOf(clusters, last []*resource) {
	endpoints := &s.types[envoy.TypeEndpoint]
	for _, c := range clusters {
		name := c.key.name
		if i, had := slices.BinarySearchFunc(last, c, byName); had && last[i] == c || s.feed.types[envoy.TypeEndpoint].get(name) == nil {
			continue
		}
		if endpoints.names.has(name) {
			endpoints.sendAgain(name)
			continue
		}
		if endpoints.sentBefore == nil {
			endpoints.sentBefore = map[string]struct{}{}
		}
		endpoints.sentBefore[name] = struct{}{}
	}
}

// clustersFollow reports whether resources of a type are sent while clusters that they
// belong to are still to be sent.
func (s *stream) clustersFollow(t envoy.Type) bool {
	clusters := &s.types[envoy.TypeCluster]
	return t == envoy.TypeEndpoint && clusters.subscribed && clusters.sent < s.feed.types[envoy.TypeCluster].changed
}

// forTheStream returns endpoints as they are sent now. While their cluster's change is
// still to be sent, they have another version: they will follow it, and a proxy that
// loses the stream before that must not be taken to have what follows.
func (s *stream) forTheStream(r *resource) *resource {
	of, known := s.feed.types[envoy.TypeCluster].current[r.key.name]
	if known && s.clustersFollow(r.key.typ) && s.types[envoy.TypeCluster].sent < of.gen {
		return r.early()
	}
	return r
}

// free reports whether a response may be sent: none is unanswered, or the answer is
// late, as it is while a cluster warms slowly.
func (t *typeState) free(now time.Time) bool {
	const mostLate = 8
	n := len(t.inflight)
	return n == 0 || n < mostLate && now.Sub(t.inflight[n-1].at) >= warmWait
}

// mayRemove reports whether removed resources of a type may be taken from the proxy:
// it holds nothing any more that refers to them.
func (s *stream) mayRemove(t envoy.Type) bool {
	for _, r := range referring {
		rs := &s.types[r]
		if rs.subscribed && (rs.acked < s.feed.generation || len(rs.rejected) > 0) {
			return false
		}
	}
	clusters := &s.types[envoy.TypeCluster]
	return t == envoy.TypeCluster || !clusters.subscribed || clusters.removed == s.feed.generation
}

// waitForClusters returns how long listeners and routes must still wait for clusters
// that are new to the proxy.
func (s *stream) waitForClusters(now time.Time) time.Duration {
	clusters := &s.types[envoy.TypeCluster]
	newest := s.feed.types[envoy.TypeCluster].newest
	if !clusters.subscribed || newest <= max(clusters.acked, s.waived) {
		s.waitUntil = time.Time{}
		return 0
	}
	if s.waitUntil.IsZero() {
		s.waitUntil = now.Add(warmWait)
	}
	if wait := s.waitUntil.Sub(now); wait > 0 {
		return wait
	}
	s.waived, s.waitUntil = newest, time.Time{}
	return 0
}

// lowest returns the generation up to which the stream needs no more news of removals.
func (s *stream) lowest() uint64 {
	low := s.feed.generation
	for t := range s.types {
		if s.types[t].subscribed {
			low = min(low, s.types[t].removed, s.types[t].sent)
		}
	}
	return low
}

// answer takes the proxy's answer to a response: an ACK, or a NACK if detail is not
// empty. An answer to no response that is under way is passed over.
func (s *stream) answer(t envoy.Type, nonce, detail string) {
	ts := &s.types[t]
	for i, f := range ts.inflight {
		if f.nonce != nonce {
			continue
		}
		if ts.inflight = slices.Delete(ts.inflight, i, i+1); len(ts.inflight) == 0 {
			ts.inflight = nil // an idle stream holds nothing that it need not
		}
		if detail != "" {
			s.refused(t, f, detail)
			return
		}
		s.met.acks.WithLabelValues(t.String()).Inc()
		ts.acked = max(ts.acked, f.gen)
		if s.full { // what is accepted is all that the proxy has
			clear(ts.rejected)
		}
		for _, r := range f.resources {
			delete(ts.rejected, r.key.name)
		}
		return
	}
}

// refused notes a NACK. Envoy refuses whole responses; the resources of one that held
// several are sent again one by one, so that one bad resource costs only itself.
func (s *stream) refused(t envoy.Type, f flight, detail string) {
	ts := &s.types[t]
	s.met.nacks.WithLabelValues(t.String()).Inc()
	s.rejection = rejectionText(t, f.resources, detail)
	ts.acked = max(ts.acked, f.gen)
	if ts.rejected == nil {
		ts.rejected = map[string]rejection{}
	}
	blame, now := s.blamed(f.resources, detail), time.Now()
	for _, r := range f.resources {
		ts.rejected[r.key.name] = ts.rejected[r.key.name].next(rejection{
			version: r.version, detail: clip(detail), blame: blame(r), gen: s.generationOf(r, f), since: now,
		})
		if len(f.resources) > 1 && !s.full {
			ts.singles = append(ts.singles, r.key.name)
		}
	}
	name := ""
	if len(f.resources) == 1 {
		name = f.resources[0].key.name
	}
	s.log.Warn("proxy refused a response", "type", t.String(), "resource", name,
		"resources", len(f.resources), "detail", detail)
}
