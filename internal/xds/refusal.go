package xds

import (
	"fmt"
	"slices"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// rejection is what a proxy refused of a name. A proxy refuses a whole response; blame
// says whether this resource is known to be the reason, or one that may be.
type rejection struct {
	version string
	detail  string
	blame   blame
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

// refusals returns what a proxy refuses of what stands now, on the objects that cause it.
// What it accepts, and what has changed since, is not among them.
func (one *session) refusals() []Problem {
	m := one.feed.made.Load()
	if m == nil {
		return nil
	}
	var out []Problem
	proxy := "a proxy"
	if one.version != "" {
		proxy = "a proxy (Envoy " + one.version + ")"
	}
	one.stream.eachRefusal(func(t envoy.Type, refused []*resource, why rejection) {
		object, names := m.view.Key, make([]string, len(refused))
		for i, r := range refused {
			names[i] = r.key.name
		}
		if why.blame == guilty {
			object = envoy.Cause(m.view, m.object(t, names[0]), refused[0].message(), why.detail)
		}
		out = append(out, Problem{
			ARN: one.key.arn(), Object: object.String(),
			Message: fmt.Sprintf("%s refuses %s %s and keeps what it accepted last: %s", proxy, t, someNames(names), why.detail),
		})
	})
	return out
}

// eachRefusal calls f with each resource that is refused as it stands, and once a type
// with those of which one is.
func (s *stream) eachRefusal(f func(t envoy.Type, refused []*resource, why rejection)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	for t := range s.types {
		var suspects []*resource
		var words rejection
		for name, why := range s.types[t].rejected {
			r := s.feed.types[t].get(name)
			switch {
			case r == nil || r.version != why.version:
			case why.blame == guilty:
				f(envoy.Type(t), []*resource{r}, why)
			case why.blame == suspect:
				suspects, words = append(suspects, r), why
			}
		}
		if len(suspects) > 0 {
			slices.SortFunc(suspects, byName)
			f(envoy.Type(t), suspects, words)
		}
	}
}

// message decodes the resource; nil if that cannot be.
func (r *resource) message() proto.Message {
	// A DiscoveryResponse of nothing but this resource has the same bytes.
	m := new(discoveryv3.DiscoveryResponse)
	if err := proto.Unmarshal(r.full, m); err != nil || len(m.GetResources()) != 1 {
		return nil
	}
	out, err := m.GetResources()[0].UnmarshalNew()
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
