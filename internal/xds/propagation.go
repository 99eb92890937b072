package xds

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// MaxPropagationWait bounds how long Propagation waits.
const MaxPropagationWait = time.Minute

// PropagationQuestion is the name under which replicas ask each other about propagation.
const PropagationQuestion = "propagation"

// askTime is how long another replica may take for its answer, beside what it is to wait.
const askTime = 5 * time.Second

// PropagationQuery says what is to be known of how far a change of a mesh has come.
type PropagationQuery struct {
	Mesh mesh.MeshID
	// Revision is the store's revision that a write was made at; 0 stands for the newest of
	// the mesh.
	Revision int64
	// Wait is how long to wait at most until nothing is pending, up to MaxPropagationWait.
	Wait time.Duration
	// Resource is the virtual node or gateway whose proxies alone count; zero for all.
	Resource mesh.Key
	// Object is what proxies must depend on to count: an object that their configuration is
	// made of; zero for all.
	Object mesh.Key
	// Account is whose proxies alone count; "" for all.
	Account string
	// Most is how many proxies, and how many virtual nodes and gateways, are listed at most.
	Most int
}

// PropagationCounts are how many proxies are connected, and in which state they are.
type PropagationCounts struct {
	Proxies, Current, Pending, Rejected int
}

// Propagation is how far a revision has come.
type Propagation struct {
	Revision int64
	PropagationCounts
	// Unconnected is how many virtual nodes and gateways of the mesh have no proxy connected.
	// It is -1 where that is not known: in answers between replicas, and where an Object or an
	// Account is asked for.
	Unconnected int
	// Resources are the virtual nodes and gateways that have a proxy that is not current, by
	// ARN; in answers between replicas all that have a proxy, in no order, and some twice.
	Resources []ResourcePropagation
	// Behind are the proxies that are not current: those that refuse something first, then
	// by ARN and connection.
	Behind []ProxyPropagation
	// Incomplete are the replicas that did not answer: their proxies are not counted.
	Incomplete []ReplicaFailure
	// Newest is the newest revision of the mesh that the answering replica knows of.
	Newest int64
}

// ResourcePropagation is how far a revision has come among the proxies of one virtual node
// or gateway.
type ResourcePropagation struct {
	ARN string
	PropagationCounts
}

// ProxyPropagation is a proxy that does not have a revision.
type ProxyPropagation struct {
	ARN        string // of its virtual node or gateway
	Connection string // the id of its stream
	Peer       string // the address it connects from, with its port; "" if not known
	State      ProxyState
	Reason     string    // what it refuses and why, or what is still under way
	Since      time.Time // of its state; zero if not known
}

// ReplicaFailure says why a replica is missing from an answer.
type ReplicaFailure struct {
	Replica, Reason string
}

// Answer is what another replica answered: a body, or why there is none.
type Answer struct {
	Replica string
	Body    json.RawMessage
	Err     error
}

// Propagation says how far a revision has come among the proxies of a mesh that are
// connected to this server and to the other replicas. It returns when nothing is pending,
// or when q.Wait is over, or with a *mesh.Error when the server ends.
func (s *Server) Propagation(ctx context.Context, q PropagationQuery) (Propagation, error) {
	q.Wait = max(0, min(q.Wait, MaxPropagationWait))
	if q.Revision == 0 {
		now := q
		now.Wait = 0
		first, differ, err := s.gather(ctx, now)
		if err != nil || q.Wait == 0 && !differ {
			return s.finish(q, first), err
		}
		q.Revision = first.Newest
	}
	out, _, err := s.gather(ctx, q)
	return s.finish(q, out), err
}

// gather asks all replicas, this one included. differ says that they did not speak of the
// same revision.
func (s *Server) gather(ctx context.Context, q PropagationQuery) (all Propagation, differ bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, q.Wait+askTime)
	defer cancel()
	others := make(chan []Answer, 1)
	go func() { // ends with ctx at the latest
		if s.cfg.Ask == nil {
			others <- nil
			return
		}
		others <- s.cfg.Ask(ctx, PropagationQuestion, q)
	}()
	own, err := s.propagation(ctx, q)
	if err != nil {
		return own, false, err
	}
	answers := []Propagation{own}
	var failed []ReplicaFailure
	for _, a := range <-others {
		var p Propagation
		if a.Err == nil {
			a.Err = json.Unmarshal(a.Body, &p)
		}
		if a.Err != nil {
			failed = append(failed, ReplicaFailure{a.Replica, clip(a.Err.Error())})
			continue
		}
		differ = differ || p.Revision != own.Revision
		answers = append(answers, p)
	}
	all = mergePropagation(answers, q.Most)
	all.Incomplete = failed
	slices.SortFunc(all.Incomplete, func(a, b ReplicaFailure) int { return cmp.Compare(a.Replica, b.Replica) })
	return all, differ, nil
}

// AnswerPropagation answers another replica's question, a PropagationQuery, with what is
// known of the proxies of this server.
func (s *Server) AnswerPropagation(ctx context.Context, in json.RawMessage) (any, error) {
	var q PropagationQuery
	if err := json.Unmarshal(in, &q); err != nil {
		return nil, fmt.Errorf("reading a question about propagation: %w", err)
	}
	q.Wait = max(0, min(q.Wait, MaxPropagationWait))
	return s.propagation(ctx, q)
}

// mergePropagation adds the answers of replicas up. Each proxy is connected to one of them.
func mergePropagation(answers []Propagation, most int) Propagation {
	out := Propagation{Unconnected: -1}
	byARN := map[string]*ResourcePropagation{}
	for _, a := range answers {
		out.Revision, out.Newest = max(out.Revision, a.Revision), max(out.Newest, a.Newest)
		out.add(a.PropagationCounts)
		for _, r := range a.Resources {
			if byARN[r.ARN] == nil {
				byARN[r.ARN] = &ResourcePropagation{ARN: r.ARN}
			}
			byARN[r.ARN].add(r.PropagationCounts)
		}
		out.Behind = append(out.Behind, a.Behind...)
	}
	for _, arn := range slices.Sorted(maps.Keys(byARN)) {
		out.Resources = append(out.Resources, *byARN[arn])
	}
	out.Behind = firstBehind(out.Behind, most)
	return out
}

func (c *PropagationCounts) add(o PropagationCounts) {
	c.Proxies += o.Proxies
	c.Current += o.Current
	c.Pending += o.Pending
	c.Rejected += o.Rejected
}

func (c *PropagationCounts) count(state ProxyState) {
	c.Proxies++
	switch state {
	case ProxyCurrent:
		c.Current++
	case ProxyPending:
		c.Pending++
	case ProxyRejected:
		c.Rejected++
	}
}

func firstBehind(all []ProxyPropagation, most int) []ProxyPropagation {
	slices.SortFunc(all, func(a, b ProxyPropagation) int {
		// "rejected" sorts behind "pending".
		return cmp.Or(-cmp.Compare(a.State, b.State), cmp.Compare(a.ARN, b.ARN), cmp.Compare(a.Connection, b.Connection))
	})
	return slices.Clip(all[:min(len(all), max(most, 0))])
}

// finish makes of what replicas answered what is told: who has no proxy, and of the virtual
// nodes and gateways those that matter.
func (s *Server) finish(q PropagationQuery, all Propagation) Propagation {
	if q.Object == (mesh.Key{}) && q.Account == "" && len(all.Incomplete) == 0 {
		all.Unconnected = s.unconnected(q, all.Resources)
	}
	all.Resources = slices.DeleteFunc(all.Resources, func(r ResourcePropagation) bool { return r.Current == r.Proxies })
	all.Resources = slices.Clip(all.Resources[:min(len(all.Resources), max(q.Most, 0))])
	return all
}

// unconnected counts the virtual nodes and gateways of a mesh that have no proxy.
func (s *Server) unconnected(q PropagationQuery, connected []ResourcePropagation) (n int) {
	have := make(map[string]struct{}, len(connected))
	for _, r := range connected {
		if _, key, ok := strings.Cut(r.ARN, ":mesh/"); ok {
			_, key, _ = strings.Cut(key, "/") // behind the mesh's name
			have[key] = struct{}{}
		}
	}
	snap := s.cfg.Live.Snapshot(q.Mesh)
	for _, kind := range []mesh.Kind{mesh.KindVirtualNode, mesh.KindVirtualGateway} {
		for _, item := range snap.Children(mesh.Range{Kind: kind}) {
			if q.Resource != (mesh.Key{}) && q.Resource != item.Key {
				continue
			}
			if _, ok := have[item.Key.String()]; !ok {
				n++
			}
		}
	}
	return n
}

// propagation is Propagation for the proxies of this server.
func (s *Server) propagation(ctx context.Context, q PropagationQuery) (Propagation, error) {
	if q.Revision == 0 {
		q.Revision = s.cfg.Live.Newest(q.Mesh)
	}
	if q.Wait > 0 {
		waiting, cancel := context.WithTimeout(ctx, q.Wait)
		defer cancel()
		s.awaitSettled(waiting, q)
	}
	out := Propagation{Revision: q.Revision, Newest: s.cfg.Live.Newest(q.Mesh), Unconnected: -1}
	byFeed := map[*feed]*ResourcePropagation{}
	for _, one := range s.asked(q) {
		v := s.judge(one, q.Revision, false)
		if v.gone {
			continue
		}
		of := byFeed[one.feed]
		if of == nil {
			of = &ResourcePropagation{ARN: one.key.arn()}
			byFeed[one.feed] = of
		}
		of.count(v.state)
		out.count(v.state)
		if v.state != ProxyCurrent {
			p := ProxyPropagation{ARN: of.ARN, Connection: one.id, State: v.state, Reason: v.reason, Since: v.since}
			if one.peer.IsValid() {
				p.Peer = one.peer.String()
			}
			out.Behind = append(out.Behind, p)
		}
	}
	for _, of := range byFeed { // merging puts them in order, and those of one ARN together
		out.Resources = append(out.Resources, *of)
	}
	out.Behind = firstBehind(out.Behind, q.Most)
	select {
	case <-s.ended: // its streams are gone: it is not known what they had
		return Propagation{}, mesh.Errorf(mesh.ErrServiceUnavailable, "the control plane is shutting down: ask again")
	default:
		return out, nil
	}
}

// asked returns the streams that a question is about.
func (s *Server) asked(q PropagationQuery) []*session {
	return slices.DeleteFunc(s.sessions(q.Mesh), func(one *session) bool {
		return q.Account != "" && one.key.owner != q.Account ||
			q.Resource != (mesh.Key{}) && one.key.id.Key != q.Resource ||
			q.Object != (mesh.Key{}) && !one.feed.dependsOn(q.Object, q.Revision)
	})
}

// dependsOn reports whether the feed is made of an object, or may come to be.
func (f *feed) dependsOn(object mesh.Key, revision int64) bool {
	f.mu.Lock()
	stale := f.progress.stale > 0 && f.progress.stale <= revision
	f.mu.Unlock()
	return stale || f.watch.Reads(object)
}

// awaitSettled waits until no proxy is pending, ctx ends or the server does. The streams are
// waited for one after the other, each until it is settled, so that the whole costs no more
// than looking at each a few times; what has come meanwhile is looked at in another round.
func (s *Server) awaitSettled(ctx context.Context, q PropagationQuery) {
	for settled := false; !settled; {
		settled = true
		if next := s.cfg.Live.Await(q.Revision); next != nil { // or what reads an object is not known
			if settled = false; !s.awaitAny(ctx, next) {
				return
			}
			continue
		}
		for _, one := range s.asked(q) {
			for v := s.judge(one, q.Revision, true); v.state == ProxyPending && !v.gone; v = s.judge(one, q.Revision, true) {
				settled = false
				if !s.awaitAny(ctx, v.wait) {
					return
				}
			}
		}
	}
}

// awaitAny waits for a channel to be closed. It reports false if ctx or the server ends
// first.
func (s *Server) awaitAny(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-ctx.Done():
		return false
	case <-s.ended:
		return false
	}
}
