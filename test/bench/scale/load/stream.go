package load

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// Field numbers of DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest and
// DiscoveryResponse.
const (
	deltaRequestNode        = 1
	deltaRequestType        = 2
	deltaRequestSubscribe   = 3
	deltaRequestUnsubscribe = 4
	deltaRequestHave        = 5
	deltaRequestNonce       = 6

	fullRequestVersion = 1
	fullRequestNode    = 2
	fullRequestNames   = 3
	fullRequestType    = 4
	fullRequestNonce   = 5

	responseVersion  = 1 // of the whole response
	responseResource = 2
	responseType     = 4
	responseNonce    = 5
	responseRemoved  = 6 // delta only
)

// stream is one proxy's side of discovery: what it asked for and what it has. It lives
// longer than its connection, as a proxy does.
type stream struct {
	group *group
	index int32
	node  []byte // encoded core.Node

	mu     sync.Mutex
	conn   *conn
	types  [envoy.NumTypes]subscription
	synced int64 // when it had all, on this connection; 0 before
	bytes  int64 // received on connections before this one
}

// subscription is what a stream knows of one type.
type subscription struct {
	asked bool
	// answered is set once there was a response on this connection.
	answered bool
	held     map[string]*fact
	// names are those asked for; false until they were answered on this connection.
	names  map[string]bool
	open   int    // names that are false
	nonce  string // of state-of-the-world: of the last response
	newest string // version of that
}

// probe is a route configuration that does not exist. A proxy that comes back with all it
// needs is not answered, unless it asks for one more thing.
const probe = "scale-probe"

// begin sends the first requests of a connection. A proxy that comes back asks for all
// types at once and says what it has, as Envoy does; with state-of-the-world, where it could
// not tell that it has everything, it begins as a new one.
func (s *stream) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	back := s.synced != 0 && !s.group.cfg.Full
	s.synced = 0
	for t := range s.types {
		sub := &s.types[t]
		sub.asked, sub.answered, sub.open = false, back && sub.answered, 0
		sub.nonce, sub.newest = "", ""
		for name := range sub.names {
			sub.names[name] = back && sub.has(envoy.Type(t), name)
			if !sub.names[name] {
				sub.open++
			}
		}
	}
	if !back {
		return s.subscribe(envoy.TypeCluster, nil)
	}
	for _, t := range []envoy.Type{envoy.TypeCluster, envoy.TypeEndpoint, envoy.TypeListener, envoy.TypeVirtualHost} {
		if len(s.types[t].names) == 0 && len(s.types[t].held) == 0 {
			continue
		}
		if err := s.subscribe(t, nil); err != nil {
			return err
		}
	}
	return s.subscribe(envoy.TypeRoute, []string{probe})
}

// subscribe asks for a type, or for more of it. names are those that are new; without
// any, a first request asks for all. The first request of a type on a connection says
// what the proxy has.
func (s *stream) subscribe(t envoy.Type, names []string) error {
	sub := &s.types[t]
	if sub.names == nil && len(names) > 0 {
		sub.names = map[string]bool{}
	}
	for _, name := range names {
		if answered, known := sub.names[name]; !known || answered {
			sub.open++
		}
		sub.names[name] = false
	}
	first := !sub.asked
	sub.asked = true
	if s.group.cfg.Full {
		return s.requestFull(t, first)
	}
	var m []byte
	if first {
		m = s.identify(m, t, deltaRequestNode)
		names = slices.Sorted(maps.Keys(sub.names))
	}
	if t == envoy.TypeVirtualHost { // Envoy asks for all, once
		if !first {
			return nil
		}
		names = nil
	}
	m = text(m, deltaRequestType, t.URL())
	for _, name := range names {
		m = text(m, deltaRequestSubscribe, name)
	}
	if first {
		for name, f := range sub.held {
			m = text(m, deltaRequestHave, string(text(text(nil, 1, name), 2, f.version)))
		}
	}
	return s.conn.send(m)
}

// identify adds the node to the first request of a connection.
func (s *stream) identify(m []byte, t envoy.Type, field protowire.Number) []byte {
	if t != envoy.TypeCluster {
		return m
	}
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), s.node)
}

// requestFull sends a request of a state-of-the-world stream, which acknowledges what was
// sent last and lists all names.
func (s *stream) requestFull(t envoy.Type, first bool) error {
	sub := &s.types[t]
	var m []byte
	if sub.newest != "" {
		m = text(m, fullRequestVersion, sub.newest)
	}
	if first {
		m = s.identify(m, t, fullRequestNode)
	}
	for _, name := range slices.Sorted(maps.Keys(sub.names)) {
		m = text(m, fullRequestNames, name)
	}
	m = text(m, fullRequestType, t.URL())
	if sub.nonce != "" {
		m = text(m, fullRequestNonce, sub.nonce)
	}
	return s.conn.send(m)
}

func text(b []byte, n protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

// take takes a response that came at a time: it notes what changed, acknowledges, and asks
// for what the response refers to.
func (s *stream) take(message []byte, at int64) error {
	var url, nonce, version string
	var removed []string
	count := 0
	err := fields(message, func(n protowire.Number, b []byte) {
		switch {
		case n == responseType:
			url = string(b)
		case n == responseNonce:
			nonce = string(b)
		case n == responseResource:
			count++
		case s.group.cfg.Full && n == responseVersion:
			version = string(b)
		case !s.group.cfg.Full && n == responseRemoved:
			removed = append(removed, string(b))
		}
	})
	if err != nil {
		return err
	}
	t, ok := envoy.ParseType(url)
	if !ok || !s.types[t].asked {
		return fmt.Errorf("%w: %q", errNotDiscovery, url)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	got, err := s.read(t, message, count)
	if err != nil {
		return err
	}
	s.keep(t, got, removed, at)
	if err := s.acknowledge(t, nonce, version); err != nil {
		return err
	}
	if err := s.follow(t); err != nil {
		return err
	}
	return s.progress(at)
}

// read returns the facts of a response's resources.
func (s *stream) read(t envoy.Type, message []byte, count int) ([]*fact, error) {
	got := make([]*fact, 0, count)
	var bad error
	err := fields(message, func(n protowire.Number, b []byte) {
		if n != responseResource || bad != nil {
			return
		}
		var f *fact
		if f, bad = s.group.facts.get(t, b, !s.group.cfg.Full, s.group.cfg.Keep); bad == nil {
			got = append(got, f)
		}
	})
	if err == nil {
		err = bad
	}
	return got, err
}

// keep takes resources into what the stream holds.
func (s *stream) keep(t envoy.Type, got []*fact, removed []string, at int64) {
	sub := &s.types[t]
	if sub.held == nil {
		sub.held = make(map[string]*fact, len(got))
	}
	sub.answered = true
	for _, f := range got {
		if before := sub.held[f.name]; before != nil && before != f {
			for _, mark := range f.since(before) {
				s.group.changes.note(mark, s.index, at)
			}
		}
		sub.held[f.name] = f
		s.settle(sub, asked(t, f.name))
	}
	for _, name := range removed {
		delete(sub.held, name)
		s.settle(sub, asked(t, name))
	}
	if t == envoy.TypeVirtualHost && len(got)+len(removed) == 0 { // there are none
		for name := range sub.names {
			s.settle(sub, name)
		}
	}
	// What is not in a state-of-the-world response of clusters or listeners is gone.
	if s.group.cfg.Full && (t == envoy.TypeCluster || t == envoy.TypeListener) && len(sub.held) > len(got) {
		stay := make(map[string]*fact, len(got))
		for _, f := range got {
			stay[f.name] = f
		}
		sub.held = stay
	}
}

// asked returns the name by which a resource is asked for: its own, or of a virtual host
// named ROUTECONFIGURATION/SERVICE that of the route configuration.
func asked(t envoy.Type, name string) string {
	if t == envoy.TypeVirtualHost {
		name, _, _ = strings.Cut(name, "/")
	}
	return name
}

// has reports whether anything is held that is asked for by a name.
func (t *subscription) has(of envoy.Type, name string) bool {
	if _, ok := t.held[name]; ok || of != envoy.TypeVirtualHost {
		return ok
	}
	for held := range t.held {
		if asked(of, held) == name {
			return true
		}
	}
	return false
}

func (s *stream) settle(sub *subscription, name string) {
	if answered, asked := sub.names[name]; asked && !answered {
		sub.names[name] = true
		sub.open--
	}
}

func (s *stream) acknowledge(t envoy.Type, nonce, version string) error {
	sub := &s.types[t]
	sub.nonce, sub.newest = nonce, version
	if s.group.cfg.Full {
		return s.requestFull(t, false)
	}
	return s.conn.send(text(text(nil, deltaRequestType, t.URL()), deltaRequestNonce, nonce))
}

// referrers maps a type to the type whose names it leads to.
var referrers = map[envoy.Type]envoy.Type{
	envoy.TypeCluster:  envoy.TypeEndpoint,
	envoy.TypeListener: envoy.TypeRoute,
	envoy.TypeRoute:    envoy.TypeVirtualHost,
}

// follow asks for what a type's resources refer to, and lets go of what none does.
func (s *stream) follow(t envoy.Type) error {
	to, ok := referrers[t]
	if !ok {
		return nil
	}
	wanted := map[string]bool{}
	for _, f := range s.types[t].held {
		for _, name := range f.refs {
			wanted[name] = true
		}
	}
	sub := &s.types[to]
	var more, less []string
	for name := range wanted {
		if _, known := sub.names[name]; !known {
			more = append(more, name)
		}
	}
	for name, answered := range sub.names {
		if !wanted[name] {
			less = append(less, name)
			if !answered {
				sub.open--
			}
		}
	}
	slices.Sort(more)
	slices.Sort(less)
	for _, name := range less {
		delete(sub.names, name)
		maps.DeleteFunc(sub.held, func(held string, _ *fact) bool { return asked(to, held) == name })
	}
	if len(less) > 0 && sub.asked && !s.group.cfg.Full && to != envoy.TypeVirtualHost {
		m := text(nil, deltaRequestType, to.URL())
		for _, name := range less {
			m = text(m, deltaRequestUnsubscribe, name)
		}
		if err := s.conn.send(m); err != nil {
			return err
		}
	}
	// What was asked for on an earlier connection is asked for again.
	if len(more) > 0 || len(wanted) > 0 && !sub.asked {
		return s.subscribe(to, more)
	}
	return nil
}

// progress asks for listeners once clusters and endpoints are there, as Envoy does, and
// notes when all is.
func (s *stream) progress(at int64) error {
	if s.synced != 0 || !s.complete(envoy.TypeCluster) || !s.complete(envoy.TypeEndpoint) {
		return nil
	}
	if !s.types[envoy.TypeListener].asked {
		return s.subscribe(envoy.TypeListener, nil)
	}
	for _, t := range []envoy.Type{envoy.TypeListener, envoy.TypeRoute, envoy.TypeVirtualHost} {
		if !s.complete(t) {
			return nil
		}
	}
	s.synced = at
	s.group.sync(at)
	return nil
}

// complete reports whether everything of a type that was asked for was answered.
func (s *stream) complete(t envoy.Type) bool {
	sub := &s.types[t]
	if len(sub.names) > 0 {
		return sub.asked && sub.open == 0
	}
	return !sub.asked || sub.answered
}

// digest is a number over all that the stream holds, whatever the order it came in.
func (s *stream) digest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sum uint64
	for t := range s.types {
		for name, f := range s.types[t].held {
			h := fnv.New64a()
			fmt.Fprintf(h, "%d/%s/%x", t, name, f.hash)
			sum += h.Sum64()
		}
	}
	return sum
}

// received returns how many bytes have come for the stream, frames' headers included.
func (s *stream) received() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}
