package xds

import (
	"fmt"
	"runtime/debug"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// made is what a feed's resources were made of. It is never changed.
type made struct {
	assignments []*envoy.Assignment
	problems    []envoy.Problem
	// objects are those of resources that are not the feed's own.
	objects map[named]mesh.Key
}

// named is a resource by its name.
type named struct {
	typ  envoy.Type
	name string
}

// object returns what a resource of the feed was made for.
func (f *feed) object(typ envoy.Type, name string) mesh.Key {
	if m := f.made.Load(); m != nil {
		if k, ok := m.objects[named{typ, name}]; ok {
			return k
		}
	}
	return f.key.id.Key
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
	base := s.cfg.Live.Revision()
	f.begin()
	defer func() {
		p := recover()
		if since := f.built(base, p == nil); !since.IsZero() {
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
	mem := f.memory.Load()
	if mem == nil {
		mem = &memory{messages: map[named]proto.Message{}}
	}
	remembers := len(view.Services) > wide
	translate := envoy.Translate
	if remembers {
		translate = mem.memo.Translate
	}
	resources, problems := translate(view, f.key.profile)
	m := &made{problems: problems, objects: map[named]mesh.Key{}}
	for _, r := range resources {
		if r.Object != view.Key {
			m.objects[named{r.Type, r.Name}] = r.Object
		}
		if r.Assignment != nil {
			m.assignments = append(m.assignments, r.Assignment)
		}
	}
	encoded := s.encode(f, append(resources, localCluster), mem.messages)
	changed := f.publish(encoded)
	if remembers {
		mem.learn(resources)
		s.memories.keep(f, mem, len(view.Services))
	}
	if !remembers || s.unused(f) {
		s.memories.forget(f)
	}
	s.report(f, m)
	s.checkTags(f)
	s.cfg.Log.Debug("rebuilt", "arn", view.ARN(), "revision", revision, "resources", len(encoded), "changed", changed)
	return true
}

// refresh makes the endpoints of a feed anew whose instances have changed. It reports
// false if more than instances has changed.
func (s *Server) refresh(f *feed) bool {
	view, instances, ok := f.watch.Refresh()
	if !ok || len(instances) == 0 {
		return ok
	}
	m := *f.made.Load()
	var resources []envoy.Resource
	resources, m.problems = envoy.Refresh(view, m.assignments, m.problems, instances)
	changed := f.update(s.encode(f, resources, nil))
	if mem := f.memory.Load(); mem != nil {
		mem.unlearn(resources)
	}
	s.report(f, &m)
	s.cfg.Log.Debug("refreshed", "arn", view.ARN(), "services", len(instances), "endpoints", len(resources), "changed", changed)
	return true
}

// encode encodes resources for a feed, clusters before their endpoints. known are the
// messages that the feed's resources were encoded of, as far as that is remembered: a
// message that is the very same needs no encoding.
func (s *Server) encode(f *feed, resources []envoy.Resource, known map[named]proto.Message) []*resource {
	encoded := make([]*resource, 0, len(resources))
	clusters := map[string]*resource{}
	for _, r := range resources {
		have := f.types[r.Type].get(r.Name)
		var of *resource
		same := have != nil && known[named{r.Type, r.Name}] == r.Message
		if r.Type == envoy.TypeEndpoint {
			before := f.types[envoy.TypeCluster].get(r.Name)
			if of = clusters[r.Name]; of == nil {
				of = before
			}
			same = same && of == before
		}
		if same {
			encoded = append(encoded, have)
			continue
		}
		e, err := s.pool.encode(r, of, have)
		if err != nil {
			s.cfg.Log.Error("leaving out a resource that cannot be encoded", "arn", f.key.arn(), "error", err)
			continue
		}
		if c, ok := r.Message.(*clusterv3.Cluster); ok && c.GetEdsClusterConfig() != nil {
			clusters[r.Name] = e
		}
		encoded = append(encoded, e)
	}
	return encoded
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
