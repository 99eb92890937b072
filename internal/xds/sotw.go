package xds

import (
	"maps"
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
	ts := &s.types[t]
	if req.GetResponseNonce() != "" {
		s.answer(t, req.GetResponseNonce(), nackDetail(req.GetErrorDetail()))
	}
	first := !ts.subscribed
	if first {
		ts.subscribed, ts.owe = true, true
		ts.version = req.GetVersionInfo()
	}
	ts.setNames(t, req.GetResourceNames(), first)
	return nil
}

// setNames replaces the names that a proxy asks for. None at all, from the first
// request on, means everything for clusters and listeners.
func (t *typeState) setNames(typ envoy.Type, names []string, first bool) {
	t.wildcard = slices.Contains(names, wildcardName) ||
		len(names) == 0 && subscribesToAll(typ) && (first || t.wildcard)
	next := make(map[string]struct{}, len(names))
	for _, name := range names {
		if _, have := t.names[name]; !have && !first {
			t.sendAgain(name)
		}
		if _, changed := t.sentBefore[name]; changed {
			delete(t.sentBefore, name)
			t.version = "" // it may have them, and waits for them all the same
		}
		next[name] = struct{}{}
	}
	t.names = next
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
	list := ts.all(tf, keep)
	for i, r := range list {
		list[i] = s.forTheStream(r)
	}
	version := fullVersion(list)
	if version == ts.version && len(ts.again) == 0 && (!ts.owe || len(list) > 0) {
		ts.owe, ts.last = false, list
		return nil, nil
	}
	ts.again, ts.owe, ts.last, ts.version = nil, false, list, version
	return fullResponse(t, version, nonce, list), list
}

// all returns the resources that the proxy asks for, in name order.
func (t *typeState) all(tf *typeFeed, keep bool) []*resource {
	names := t.names
	if t.wildcard {
		names = make(map[string]struct{}, len(tf.current))
		for name := range tf.current {
			names[name] = struct{}{}
		}
	}
	list := make([]*resource, 0, len(names))
	for name := range maps.Keys(names) {
		if r := tf.get(name); r != nil {
			list = append(list, r)
		}
	}
	if keep {
		for _, r := range t.last {
			if tf.get(r.key.name) == nil && t.wants(r.key.name) {
				list = append(list, r)
			}
		}
	}
	slices.SortFunc(list, byName)
	return list
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
