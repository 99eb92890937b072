package xds

import (
	"fmt"
	"runtime/debug"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// made is what a feed's resources were made of. It is never changed.
type made struct {
	assignments []*envoy.Assignment
	problems    []envoy.Problem
}

// localCluster are the endpoints of the cluster that App Mesh's own agent gives each
// Envoy for itself, and asks for before anything else. There are none in it: Envoy would
// use them only to prefer endpoints in its own zone, and App Mesh spread requests evenly.
var localCluster = envoy.Resource{
	Type: envoy.TypeEndpoint, Name: "local_cluster",
	Message: &endpointv3.ClusterLoadAssignment{ClusterName: "local_cluster"},
}

// rebuild brings a feed up to date. A view that breaks the translator costs its own
// update, not the server.
func (s *Server) rebuild(f *feed) {
	f.begin(s.cfg.Live.Revision())
	defer func() {
		p := recover()
		if since := f.built(p == nil); !since.IsZero() {
			s.met.published.Observe(time.Since(since).Seconds())
		}
		if p != nil {
			s.cfg.Log.Error("translating a view panicked; its proxies keep what they have",
				"arn", f.key.arn(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	start, current := time.Now(), f.current
	f.current = false // until it is known to be so again
	if !s.shared(f.key.id.Mesh, f.key.owner) {
		f.withdraw(start)
		return
	}
	if !current || !s.refresh(f) {
		if !s.translate(f) {
			return
		}
	}
	f.current = true
	s.met.rebuilds.Observe(time.Since(start).Seconds())
}

// translate makes all resources of a feed anew. It reports false if there is nothing to
// make them of.
func (s *Server) translate(f *feed) bool {
	view, revision := f.watch.Build()
	// An object of another account is none: who asks for it learns no more.
	if view == nil || view.Owner != f.key.owner {
		f.vanish()
		return false
	}
	resources, problems, kept := s.memo.Translate(view, f.key.profile)
	m := &made{problems: problems}
	for i := range resources {
		if a := resources[i].Assignment; a != nil {
			m.assignments = append(m.assignments, a)
		}
	}
	encoded := s.encode(f, append(resources, localCluster))
	changed := f.publish(encoded)
	f.kept = kept
	s.report(f, m)
	s.checkTags(f)
	s.cfg.Log.Debug("rebuilt", "arn", view.ARN(), "revision", revision, "resources", len(encoded), "changed", changed)
	return true
}

// refresh makes the endpoints of a feed anew whose instances have changed. It reports
// false if more than instances has changed.
func (s *Server) refresh(f *feed) bool {
	instances, ok := f.watch.Refresh()
	if !ok || len(instances) == 0 {
		return ok
	}
	m := *f.made.Load()
	var resources []envoy.Resource
	resources, m.problems = envoy.Refresh(s.cfg.Live.Instances, m.assignments, m.problems, instances)
	changed := f.update(s.encode(f, resources))
	s.report(f, &m)
	s.cfg.Log.Debug("refreshed", "arn", f.key.arn(), "services", len(instances), "endpoints", len(resources), "changed", changed)
	return true
}

// encode encodes resources for a feed, clusters before their endpoints.
func (s *Server) encode(f *feed, resources []envoy.Resource) []*resource {
	out := make([]*resource, 0, len(resources))
	clusters := map[string]*resource{}
	for i := range resources {
		r := &resources[i]
		var of *resource
		if r.Type == envoy.TypeEndpoint {
			if of = clusters[r.Name]; of == nil {
				of = f.types[envoy.TypeCluster].get(r.Name)
			}
		}
		e, err := s.encodeOnce(f, r, of)
		if err != nil {
			s.cfg.Log.Error("leaving out a resource that cannot be encoded", "arn", f.key.arn(), "error", err)
			continue
		}
		if c, ok := r.Message.(*clusterv3.Cluster); ok && c.GetEdsClusterConfig() != nil {
			clusters[r.Name] = e
		}
		out = append(out, e)
	}
	return out
}

// encoded is what a message was encoded as, and the cluster of endpoints that it was encoded
// with.
type encoded struct{ as, of *resource }

// encodeOnce encodes a resource, unless its message has been encoded before, for whichever
// feed.
func (s *Server) encodeOnce(f *feed, r *envoy.Resource, of *resource) (*resource, error) {
	if r.Slot == nil {
		return s.pool.encode(*r, of, f.types[r.Type].get(r.Name))
	}
	if e, ok := r.Slot.Load().(encoded); ok && e.of == of {
		return e.as, nil
	}
	as, err := s.pool.encode(*r, of, f.types[r.Type].get(r.Name))
	if err == nil {
		r.Slot.Store(encoded{as, of})
	}
	return as, err
}

// report keeps what a feed was made of, and logs the problems that are new.
func (s *Server) report(f *feed, m *made) {
	known := map[envoy.Problem]struct{}{}
	if before := f.made.Swap(m); before != nil {
		for _, p := range before.problems {
			known[p] = struct{}{}
		}
	}
	for _, p := range m.problems {
		if _, old := known[p]; !old {
			s.cfg.Log.Warn("part of the mesh is not served as written",
				"arn", f.key.arn(), "object", p.Object.String(), "field", p.Field, "problem", p.Message)
		}
	}
}
