package xds

import (
	"slices"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// handleFull takes one request of a state-of-the-world stream.
func (s *stream) handleFull(req *discoveryv3.DiscoveryRequest) error {
	t, ok := envoy.ParseType(req.GetTypeUrl())
	if !ok {
		return status.Errorf(codes.InvalidArgument, "type_url %q is not served", req.GetTypeUrl())
	}
	if len(req.GetResourceNames()) > maxNames {
		return status.Errorf(codes.ResourceExhausted, "more than %d names of %s are subscribed to", maxNames, t)
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
	first := !ts.subscribed
	if first {
		ts.subscribed, ts.owe = true, true
		ts.version = req.GetVersionInfo()
	}
	ts.setNames(&s.feed.names, t, req.GetResourceNames(), first)
	return nil
}

// setNames replaces the names that a proxy asks for. None at all, from the first
// request on, means everything for clusters and listeners.
func (t *typeState) setNames(sets *nameSets, typ envoy.Type, names []string, first bool) {
	t.wildcard = slices.Contains(names, wildcardName) ||
		len(names) == 0 && subscribesToAll(typ) && (first || t.wildcard)
	for _, name := range names {
		if !first && !t.names.has(name) {
			t.sendAgain(name)
		}
		if t.asksAfter(name) {
			t.version = "" // it may have them, and waits for them all the same
		}
	}
	t.names = sets.replace(t.names, names)
}

// composeFull returns the next response of a type and the resources in it: all that
// the proxy asks for. With keep, resources that went away are listed once more.
func (s *stream) composeFull(t envoy.Type, nonce string, keep bool) (*response, []*resource) {
	ts, tf := &s.types[t], &s.feed.types[t]
	changed := ts.owe || len(ts.again) > 0 || ts.sent == 0
	tf.since(min(ts.sent, ts.removed), func(name string) { changed = changed || ts.wants(name) })
	ts.sent = s.feed.generation
	if !keep {
		ts.removed = s.feed.generation
	}
	if !changed {
		return nil, nil
	}
	list, version := tf.list(ts.names, ts.wildcard)
	if keep {
		list, version = ts.withGone(tf, list, version)
	}
	if mine := s.allForTheStream(t, list); mine != nil {
		list, version = mine, fullVersion(mine)
	}
	if version == ts.version && len(ts.again) == 0 && (!ts.owe || len(list) > 0) {
		ts.owe, ts.last = false, list
		return nil, nil
	}
	ts.again, ts.owe, ts.last, ts.version = nil, false, list, version
	return fullResponse(t, version, nonce, list), list
}

// listing is the resources of a type that those who ask for the same names are sent, in
// name order, and their version. It is never changed.
type listing struct {
	changed   uint64 // the generation that the type had last changed in
	names     setKey
	wildcard  bool
	resources []*resource
	version   string
}

// list returns the resources that are asked for. Streams that ask for the same ones share
// the list: it is made once for each change. Who changes it must copy it.
func (t *typeFeed) list(names *nameSet, wildcard bool) ([]*resource, string) {
	key := names.identity()
	if l := t.listed; l != nil && l.changed == t.changed && l.wildcard == wildcard && (wildcard || l.names == key) {
		return l.resources, l.version
	}
	l := &listing{changed: t.changed, names: key, wildcard: wildcard}
	if wildcard {
		l.resources = make([]*resource, 0, len(t.current))
		for _, e := range t.current {
			l.resources = append(l.resources, e.res)
		}
	} else if names != nil {
		l.resources = make([]*resource, 0, min(len(names.names), len(t.current)))
		for name := range names.names {
			if r := t.get(name); r != nil {
				l.resources = append(l.resources, r)
			}
		}
	}
	slices.SortFunc(l.resources, byName)
	l.version = fullVersion(l.resources)
	t.listed = l
	return l.resources, l.version
}

// withGone returns a list with those resources in it that were sent last, are still asked
// for and have gone.
func (t *typeState) withGone(tf *typeFeed, list []*resource, version string) ([]*resource, string) {
	var gone []*resource
	for _, r := range t.last {
		if tf.get(r.key.name) == nil && t.wants(r.key.name) {
			gone = append(gone, r)
		}
	}
	if gone == nil {
		return list, version
	}
	list = append(gone, list...)
	slices.SortFunc(list, byName)
	return list, fullVersion(list)
}

// allForTheStream returns a list as its resources are sent now, or nil if that is as they
// are.
func (s *stream) allForTheStream(t envoy.Type, list []*resource) (mine []*resource) {
	if !s.clustersFollow(t) {
		return nil
	}
	for i, r := range list {
		if now := s.forTheStream(r); now != r {
			if mine == nil {
				mine = slices.Clone(list)
			}
			mine[i] = now
		}
	}
	return mine
}

func byName(a, b *resource) int { return strings.Compare(a.key.name, b.key.name) }

// nackDetail returns the reason of a NACK, or "" for an ACK.
func nackDetail(s *statuspb.Status) string {
	if s == nil {
		return ""
	}
	if s.GetMessage() == "" {
		return "no reason given"
	}
	return s.GetMessage()
}
