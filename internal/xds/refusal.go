package xds

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// rejection is what a proxy refused of a name. A proxy refuses a whole response; blame
// says whether this resource is known to be the reason, or one that may be.
type rejection struct {
	version string
	detail  string
	blame   blame
	gen     uint64    // of the feed, since which the proxy has refused what it was sent
	since   time.Time // since then
}

type blame uint8

const (
	// innocent is a resource that is sent again by itself, or that the proxy's words leave
	// out where they name others.
	innocent blame = iota
	// suspect is one of several where the proxy's words name none.
	suspect
	// guilty is a resource that was refused alone, or that the proxy's words name.
	guilty
)

// blamed tells which of the resources of a refused response are the reason, going by the
// proxy's words where they were not sent alone.
func (s *stream) blamed(resources []*resource, words string) func(*resource) blame {
	switch {
	case len(resources) == 1:
		return func(*resource) blame { return guilty }
	case !s.full:
		return func(*resource) blame { return innocent }
	case !slices.ContainsFunc(resources, func(r *resource) bool { return envoy.Mentions(words, r.key.name) }):
		return func(*resource) blame { return suspect }
	}
	return func(r *resource) blame {
		if envoy.Mentions(words, r.key.name) {
			return guilty
		}
		return innocent
	}
}

// standing is what a proxy refuses of what stands now: one resource, or several of which
// one is meant.
type standing struct {
	typ       envoy.Type
	resources []*resource
	rejection
}

// rejections returns what a proxy refuses as problems of the objects that cause it. What
// it accepts, and what has changed since, is not among them.
func (s *Server) rejections(one *session) []Problem {
	proxy := one.called()
	var out []Problem
	for _, r := range one.stream.rejections() {
		names := make([]string, len(r.resources))
		for i := range names {
			names[i] = r.resources[i].key.name
		}
		out = append(out, Problem{
			ARN: one.key.arn(), Object: s.cause(one.feed, r).String(),
			Message: fmt.Sprintf("%s refuses %s %s and keeps what it accepted last: %s", proxy, r.typ, someNames(names), r.detail),
		})
	}
	return out
}

// called returns what a proxy is called in problems.
func (one *session) called() string {
	if one.version == "" {
		return "a proxy"
	}
	return "a proxy (Envoy " + one.version + ")"
}

// cause returns the object that a refusal is about: the feed's own where that cannot be
// told.
func (s *Server) cause(f *feed, r standing) mesh.Key {
	if r.blame != guilty {
		return f.key.id.Key
	}
	object := r.resources[0].object
	if object == (mesh.Key{}) {
		object = f.key.id.Key
	}
	if r.typ != envoy.TypeRoute && r.typ != envoy.TypeVirtualHost {
		return object
	}
	view := s.cfg.Live.View(f.key.id)
	if view == nil {
		return object
	}
	return envoy.Cause(view, object, r.resources[0].message(), r.detail)
}

// rejections returns what is refused as it stands, for each type those that may be meant
// together.
func (s *stream) rejections() (all []standing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	return s.standing()
}

// standing is rejections with both locks held.
func (s *stream) standing() (all []standing) {
	for t := range envoy.NumTypes {
		suspects := standing{typ: t}
		for name, why := range s.types[t].rejected {
			r := s.feed.types[t].get(name)
			switch {
			case r == nil || r.version != why.version:
			case why.blame == guilty:
				all = append(all, standing{t, []*resource{r}, why})
			case why.blame == suspect:
				suspects.resources, suspects.rejection = append(suspects.resources, r), why
			}
		}
		if len(suspects.resources) > 0 {
			slices.SortFunc(suspects.resources, byName)
			all = append(all, suspects)
		}
	}
	return all
}

// message decodes the resource; nil if that cannot be.
func (r *resource) message() proto.Message {
	a := r.any()
	if a == nil {
		return nil
	}
	out, err := a.UnmarshalNew()
	if err != nil {
		return nil
	}
	return out
}

// rejectionText says what a proxy rejected, at a bounded length.
func rejectionText(t envoy.Type, resources []*resource, detail string) string {
	names := make([]string, len(resources))
	for i, r := range resources {
		names[i] = r.key.name
	}
	return strings.TrimSpace(t.String()+" "+someNames(names)) + ": " + clip(detail)
}

// someNames lists names, at a bounded length.
func someNames(names []string) string {
	const most = 5
	if n := len(names) - most; n > 0 {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(", %d more", n)
	}
	return strings.Join(names, ", ")
}

// clip bounds the length of a proxy's words.
func clip(detail string) string {
	const most = 1024
	if len(detail) > most {
		return strings.ToValidUTF8(detail[:most], "") + "…"
	}
	return detail
}
