package xds

import (
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// ProxyState says whether a connected proxy has a revision of its mesh.
type ProxyState string

// The states of a proxy.
const (
	// ProxyCurrent: everything that the proxy is sent was published of this revision or a
	// later one, and the proxy has acknowledged all that was published up to then. A change
	// that a proxy's configuration does not depend on is had by it as soon as it is known.
	ProxyCurrent ProxyState = "current"
	// ProxyPending: something is still under way, on our side or the proxy's.
	ProxyPending ProxyState = "pending"
	// ProxyRejected: nothing is under way, and the proxy refuses part of what it was sent of
	// this revision or an earlier one, and keeps what it accepted before.
	ProxyRejected ProxyState = "rejected"
)

// verdict is what is known of one proxy and a revision.
type verdict struct {
	state  ProxyState
	reason string
	since  time.Time // of a proxy that is pending or refuses; zero if it is not known
	// wait is closed when the verdict may be another; nil unless it is pending and was asked
	// for.
	wait <-chan struct{}
	gone bool // the stream has ended
}

func pending(since time.Time, format string, args ...any) verdict {
	return verdict{state: ProxyPending, reason: fmt.Sprintf(format, args...), since: since}
}

// judge says whether a proxy has a revision. With wait the verdict of a proxy that is
// pending says when to look again.
func (s *Server) judge(one *session, revision int64, wait bool) verdict {
	// What has been reached is read first: whatever it has changed is known to the feeds.
	if next := s.cfg.Live.Await(revision); next != nil {
		v := pending(time.Time{}, "the revision has not arrived at the server that the proxy is connected to")
		if wait {
			v.wait = next
		}
		return v
	}
	st, f := one.stream, one.feed
	st.mu.Lock()
	defer st.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := &f.progress; p.stale > 0 && p.stale <= revision && !st.left {
		v := pending(p.staleAt, "its configuration is being made")
		if p.failed {
			v.reason = "its configuration could not be made, which is a mistake of Fairlead's: the server's log says more"
		}
		if wait {
			v.wait = f.awaitBuild()
		}
		return v
	}
	v := st.judge(f.generationOf(revision))
	if wait && v.state == ProxyPending && !v.gone {
		if st.settled == nil {
			st.settled = make(chan struct{})
		}
		v.wait = st.settled
	}
	return v
}

// judge says whether the proxy has a generation of its feed. Both locks are held.
func (s *stream) judge(gen uint64) verdict {
	if s.left || s.feed.missing && !s.served {
		return verdict{state: ProxyPending, gone: true}
	}
	if s.feed.missing {
		return pending(time.Time{}, "%s is not there any more, and the stream is about to end", s.feed.key.id.Key)
	}
	// What had a generation and has something newer under way is not behind with it: what a
	// proxy asks for anew does not tell which change it is for.
	hadIt := gen <= s.had && gen < s.feed.generation
	if l := s.lacks(gen); l.why != "" && !hadIt {
		return pending(l.since, l.why, l.typ)
	}
	var first *standing
	all := s.standing()
	for i := range all {
		if r := &all[i]; r.gen <= gen && (first == nil || r.since.Before(first.since)) {
			first = r
		}
	}
	if first != nil {
		return verdict{state: ProxyRejected, reason: rejectionText(first.typ, first.resources, first.detail), since: first.since}
	}
	s.had = max(s.had, gen)
	return verdict{state: ProxyCurrent}
}

// lack is why a proxy does not have a generation: a format for the type, "" if it has it.
type lack struct {
	why   string
	typ   envoy.Type
	since time.Time
}

// lacks says what the proxy has not answered yet of what was published up to a generation.
// What it refuses it has answered. Both locks are held.
func (s *stream) lacks(gen uint64) lack {
	if s.feed.generation == 0 {
		return lack{why: "nothing has been published for it yet%.0s", since: s.opened}
	}
	refuses := false
	for t := range envoy.NumTypes { // what it has not answered holds up the rest
		for _, f := range s.types[t].inflight {
			if f.from < gen {
				return lack{"it has not answered what it was sent of type %s", t, f.at}
			}
		}
		refuses = refuses || slices.Contains(referring, t) && len(s.types[t].rejected) > 0
	}
	for t := range envoy.NumTypes {
		ts := &s.types[t]
		switch {
		case !ts.subscribed:
			if (t == envoy.TypeCluster || t == envoy.TypeListener) && len(s.feed.types[t].current) > 0 {
				return lack{"it has not asked for a %s yet", t, s.opened}
			}
		// What something that is refused may still use is not taken away: nothing is under way.
		case ts.outstanding(), ts.sent < gen, ts.removed < gen && !refuses:
			return lack{"it has not been sent everything of type %s yet", t, s.feed.cameAt(min(ts.sent, ts.removed))}
		}
	}
	return lack{}
}

// outstanding reports whether something is to be sent whatever has changed.
func (t *typeState) outstanding() bool { return len(t.again)+len(t.singles) > 0 || t.owe }

// complete returns the generation up to which everything was sent, 0 while it is not known.
func (t *typeState) complete() uint64 {
	if t.outstanding() {
		return 0
	}
	return min(t.sent, t.removed)
}

// pause is called when there is nothing to send: it tells whoever waits for the stream, and
// measures how long the proxy took. Both locks are held.
func (s *stream) pause(now time.Time) {
	s.wakeWaiters()
	if s.observed == s.feed.generation {
		return
	}
	if s.lacks(s.feed.generation).why != "" {
		return
	}
	came := s.feed.cameAt(s.observed)
	if s.observed > 0 && !came.IsZero() && len(s.standing()) == 0 {
		s.met.acked.Observe(now.Sub(came).Seconds())
	}
	s.observed = s.feed.generation
}

func (s *stream) wakeWaiters() {
	if s.settled != nil {
		close(s.settled)
		s.settled = nil
	}
}

// leave notes that the stream has ended.
func (s *stream) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = true
	s.wakeWaiters()
}

// generationOf returns the generation that brought what was refused: the earliest that it
// can be where it has changed again. Only the stream's lock is held.
func (s *stream) generationOf(r *resource, f flight) uint64 {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	if e := s.feed.types[r.key.typ].current[r.key.name]; e.res == r {
		return e.gen
	}
	return f.from + 1
}

// next returns a refusal that follows another of the same name: the proxy has gone without
// what it should have since the first.
func (r rejection) next(n rejection) rejection {
	if r.version != "" {
		n.gen, n.since = r.gen, r.since
	}
	return n
}

// proxyStates counts the proxies of all meshes by their state, when it is asked.
type proxyStates struct{ server *Server }

var proxyStatesDesc = prometheus.NewDesc("fairlead_xds_proxies", "Connected proxies by whether they have all changes.", []string{"state"}, nil)

// Describe implements prometheus.Collector.
func (proxyStates) Describe(out chan<- *prometheus.Desc) { out <- proxyStatesDesc }

// Collect implements prometheus.Collector.
func (p proxyStates) Collect(out chan<- prometheus.Metric) {
	counts := map[ProxyState]int{ProxyCurrent: 0, ProxyPending: 0, ProxyRejected: 0}
	revision := p.server.cfg.Live.Revision()
	for _, one := range p.server.allSessions() {
		if v := p.server.judge(one, revision, false); !v.gone && one.shared {
			counts[v.state]++
		}
	}
	for state, n := range counts {
		out <- prometheus.MustNewConstMetric(proxyStatesDesc, prometheus.GaugeValue, float64(n), string(state))
	}
}
