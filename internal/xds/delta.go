package xds

import (
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// maxNames bounds the names that one stream may ask for in one type.
const maxNames = 100_000

// wildcardName subscribes to every resource of a type.
const wildcardName = "*"

// handleDelta takes one request of a delta stream.
func (s *stream) handleDelta(req *discoveryv3.DeltaDiscoveryRequest) error {
	t, ok := envoy.ParseType(req.GetTypeUrl())
	if !ok {
		return status.Errorf(codes.InvalidArgument, "type_url %q is not served", req.GetTypeUrl())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errGone
	}
	ts := &s.types[t]
	if req.GetResponseNonce() != "" {
		s.answer(t, req.GetResponseNonce(), nackDetail(req.GetErrorDetail()))
	}
	if !ts.subscribed {
		ts.subscribed = true
		ts.wildcard = len(req.GetResourceNamesSubscribe()) == 0 && subscribesToAll(t)
		ts.have = req.GetInitialResourceVersions()
		ts.owe = len(ts.have) == 0
	}
	ts.names = s.feed.names.change(ts.names, req.GetResourceNamesSubscribe(), req.GetResourceNamesUnsubscribe())
	for _, name := range req.GetResourceNamesUnsubscribe() {
		ts.unsubscribe(name)
	}
	for _, name := range req.GetResourceNamesSubscribe() {
		ts.subscribe(name)
		if t == envoy.TypeRoute {
			s.sendHostsOf(name)
		}
	}
	if ts.names.identity().n > maxNames {
		return status.Errorf(codes.ResourceExhausted, "more than %d names of %s are subscribed to", maxNames, t)
	}
	return nil
}

// subscribesToAll reports whether a first request without names means everything.
// The protocol says so of clusters and listeners; Envoy asks for virtual hosts in the
// same way.
func subscribesToAll(t envoy.Type) bool {
	return t == envoy.TypeCluster || t == envoy.TypeListener || t == envoy.TypeVirtualHost
}

func (t *typeState) subscribe(name string) {
	if name == wildcardName {
		t.wildcard, t.owe = true, true
		t.sent = 0
		return
	}
	if t.asksAfter(name) {
		delete(t.have, name) // it may have them, and waits for them all the same
	}
	t.sendAgain(name)
}

// asksAfter reports whether endpoints that are asked for now are those of a cluster that
// was sent before.
func (t *typeState) asksAfter(name string) bool {
	if _, sent := t.sentBefore[name]; !sent {
		return false
	}
	if delete(t.sentBefore, name); len(t.sentBefore) == 0 {
		t.sentBefore = nil // an empty map keeps its room
	}
	return true
}

func (t *typeState) sendAgain(name string) {
	if t.again == nil {
		t.again = map[string]struct{}{}
	}
	t.again[name] = struct{}{}
}

func (t *typeState) unsubscribe(name string) {
	if name == wildcardName {
		t.wildcard = false
		return
	}
	delete(t.again, name)
	delete(t.rejected, name) // it no longer stands in the way of removals
}

// composeDelta returns the next response of a type and the resources in it. The
// generations in the type's state move on whether or not there is one.
func (s *stream) composeDelta(t envoy.Type, nonce string, keep bool) (*response, []*resource) {
	ts, tf := &s.types[t], &s.feed.types[t]
	if r := ts.single(tf); r != nil {
		return deltaResponse(t, nonce, []*resource{r}, nil), []*resource{r}
	}
	ts.compare(tf)
	d := delta{ts: ts, tf: tf, wants: ts.wants}
	if t == envoy.TypeVirtualHost {
		d.wants, d.stays = s.wantsHost, s.hostStays
		s.hostsAgain()
	}
	if ts.sent == 0 && ts.wildcard {
		for name := range tf.current {
			d.add(name, false)
		}
	} else {
		tf.since(ts.sent, func(name string) { d.add(name, false) })
	}
	for name := range ts.again {
		d.add(name, true)
	}
	ts.again, ts.have = nil, nil
	ts.sent = s.feed.generation
	if !keep {
		d.takeAway()
		ts.removed = s.feed.generation
	}
	if len(d.resources) == 0 && len(d.removed) == 0 && !ts.owe {
		return nil, nil
	}
	ts.owe = false
	if s.clustersFollow(t) {
		for i, r := range d.resources {
			d.resources[i] = s.forTheStream(r)
		}
	}
	d.sort()
	return deltaResponse(t, nonce, d.resources, d.removed), d.resources
}

// delta collects what a response holds.
type delta struct {
	ts        *typeState
	tf        *typeFeed
	wants     func(name string) bool
	stays     func(name string) bool // what is gone and is not to be taken away; nil for nothing
	resources []*resource
	removed   []string
}

// add adds a name's resource unless the proxy has it. A name that was asked for and
// does not exist is answered as removed.
func (d *delta) add(name string, asked bool) {
	if !asked {
		if _, twice := d.ts.again[name]; twice || !d.wants(name) {
			return
		}
	}
	r := d.tf.get(name)
	switch {
	case r == nil && asked:
		d.removed = append(d.removed, name)
	case r == nil:
	case d.ts.have[name] == r.version, d.ts.rejected[name].version == r.version && !asked:
	default:
		d.resources = append(d.resources, r)
	}
}

// takeAway adds what went away, and what the proxy has from elsewhere.
func (d *delta) takeAway() {
	gone := func(name string) bool {
		return d.tf.get(name) == nil && !slices.Contains(d.removed, name) && (d.stays == nil || !d.stays(name))
	}
	d.tf.since(d.ts.removed, func(name string) {
		if d.wants(name) && gone(name) {
			d.removed = append(d.removed, name)
			delete(d.ts.rejected, name)
		}
	})
	for name := range d.ts.orphans {
		if gone(name) {
			d.removed = append(d.removed, name)
		}
	}
	d.ts.orphans = nil
}

// sort makes the response the same for the same content.
func (d *delta) sort() {
	slices.SortFunc(d.resources, byName)
	slices.Sort(d.removed)
}

// compare finds what the proxy brought along that the feed does not have.
func (t *typeState) compare(tf *typeFeed) {
	for name := range t.have {
		if tf.get(name) == nil {
			if t.orphans == nil {
				t.orphans = map[string]struct{}{}
			}
			t.orphans[name] = struct{}{}
		}
	}
}

// single returns the next resource to send by itself after a refusal.
func (t *typeState) single(tf *typeFeed) *resource {
	for len(t.singles) > 0 {
		name := t.singles[0]
		t.singles = t.singles[1:]
		if r := tf.get(name); r != nil && t.rejected[name].version == r.version {
			delete(t.rejected, name)
			return r
		}
	}
	return nil
}

// Envoy asks for all virtual hosts once, when it has the first route configuration whose
// hosts are resources of their own, and passes over those of route configurations that it
// does not have. It never says that it begins to use another. So the hosts of a route
// configuration are sent when it has that, and again whenever it asks for that anew: its
// listener may have gone and come back, and the hosts gone with it.

// sendHostsOf has the virtual hosts of a route configuration that a proxy asks for follow
// it, if it has asked for virtual hosts already.
func (s *stream) sendHostsOf(routes string) {
	hosts := &s.types[envoy.TypeVirtualHost]
	if !hosts.subscribed {
		return
	}
	if hosts.routes == nil {
		hosts.routes = map[string]struct{}{}
	}
	hosts.routes[routes] = struct{}{}
}

// hostsAgain has the virtual hosts sent whose route configurations were asked for anew.
func (s *stream) hostsAgain() {
	hosts := &s.types[envoy.TypeVirtualHost]
	if len(hosts.routes) == 0 {
		return
	}
	for name := range s.feed.types[envoy.TypeVirtualHost].current {
		if _, asked := hosts.routes[envoy.RoutesOf(name)]; asked {
			hosts.sendAgain(name)
		}
	}
	hosts.routes = nil
}

// wantsHost reports whether a proxy has asked for the route configuration of a virtual host
// and for virtual hosts.
func (s *stream) wantsHost(name string) bool {
	return s.types[envoy.TypeVirtualHost].wants(name) && s.types[envoy.TypeRoute].wants(envoy.RoutesOf(name))
}

// hostStays reports whether a virtual host is left with its route configuration, which is
// gone: a listener that drains still uses both. Envoy forgets them together.
func (s *stream) hostStays(name string) bool {
	return s.feed.types[envoy.TypeRoute].get(envoy.RoutesOf(name)) == nil
}
