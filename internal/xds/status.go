package xds

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// ProxyStatus is what is known of one proxy that is connected to this server.
type ProxyStatus struct {
	ARN         string // of its virtual node or gateway
	Connection  string // the id of its stream, as the audit has it
	Peer        string // the address it connects from, with its port; "" if not known
	Version     string // Envoy's, "" if it did not say
	Protocol    string // "delta" or "sotw", for state-of-the-world
	ConnectedAt time.Time
	// InSync says that it has acknowledged all that there is for it.
	InSync bool
	// Rejected is what it said of what it rejected last, "" once nothing that it
	// rejected stands any more.
	Rejected string
	Caller   string // the ARN of who signed the stream
}

// Problem is something in a mesh that is not served as it is written.
type Problem struct {
	ARN     string // of the virtual node or gateway whose proxies it concerns
	Object  string // what causes it, for example "virtualRouter/cart/route/all"
	Field   string // in the object's spec, "" if there is no single one
	Message string
}

// Proxies returns the proxies in a mesh that are connected to this server, by ARN and
// time. account is the mesh's owner; proxies of others are among them.
func (s *Server) Proxies(account, region, name string) []ProxyStatus {
	var out []ProxyStatus
	for _, one := range s.sessions(mesh.MeshID{Account: account, Region: region, Name: name}) {
		p := ProxyStatus{
			ARN: one.key.arn(), Connection: one.id, Version: one.version, Protocol: one.protocol(),
			ConnectedAt: one.opened, Caller: one.caller.ARN,
		}
		if one.peer.IsValid() {
			p.Peer = one.peer.String()
		}
		var served bool
		if served, p.InSync, p.Rejected = one.stream.status(); served {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b ProxyStatus) int {
		return cmp.Or(cmp.Compare(a.ARN, b.ARN), a.ConnectedAt.Compare(b.ConnectedAt), cmp.Compare(a.Connection, b.Connection))
	})
	return out
}

// sessions returns the streams of a mesh.
func (s *Server) sessions(id mesh.MeshID) []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.meshes[id]
	if m == nil {
		return nil
	}
	out := make([]*session, 0, len(m.sessions))
	for one := range m.sessions {
		out = append(out, one)
	}
	return out
}

// Problems returns what is not served as written in a mesh, what proxies refuse, and which
// do not read, as far as those that are connected to this server are concerned, by ARN. account is the mesh's
// owner.
func (s *Server) Problems(account, region, name string) []Problem {
	id := mesh.MeshID{Account: account, Region: region, Name: name}
	var out []Problem
	for _, f := range s.feedsOf(id) {
		m := f.made.Load()
		if m == nil {
			continue
		}
		for _, p := range m.problems {
			out = append(out, Problem{ARN: f.key.arn(), Object: p.Object.String(), Field: p.Field, Message: p.Message})
		}
	}
	for _, one := range s.sessions(id) {
		out = append(append(out, s.rejections(one)...), s.silence(one, time.Now())...)
	}
	slices.SortFunc(out, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.ARN, b.ARN), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(out) // proxies of one ARN have the same problems
}

// feedsOf returns the feeds of a mesh that proxies are connected to.
func (s *Server) feedsOf(id mesh.MeshID) []*feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.meshes[id]
	if m == nil {
		return nil
	}
	out := make([]*feed, 0, len(m.feeds))
	for f := range m.feeds {
		if f.refs > 0 {
			out = append(out, f)
		}
	}
	return out
}

// status returns whether the stream is being served, whether the proxy has acknowledged
// all that there is, and what it rejected.
func (s *stream) status() (served, inSync bool, rejected string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	for t := range s.types {
		if len(s.types[t].rejected) > 0 {
			return s.served, false, s.rejection
		}
	}
	return s.served, s.synced() && !s.feed.missing, ""
}

// synced reports whether the proxy has all that it asks for, and has said so. Both
// locks are held.
func (s *stream) synced() bool {
	asked := false
	for t := range s.types {
		ts := &s.types[t]
		if !ts.subscribed {
			continue
		}
		asked = true
		if len(ts.inflight)+len(ts.again)+len(ts.singles)+len(ts.rejected) > 0 || ts.owe ||
			ts.sent < s.feed.generation || ts.removed < s.feed.generation {
			return false
		}
	}
	return asked && s.feed.generation > 0
}

// envoyVersion returns the version that an Envoy says it has, "" if it says none.
func envoyVersion(node *corev3.Node) string {
	if v := node.GetUserAgentBuildVersion().GetVersion(); v != nil {
		return fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	}
	const most = 64
	v := node.GetUserAgentVersion()
	return strings.ToValidUTF8(v[:min(len(v), most)], "")
}
