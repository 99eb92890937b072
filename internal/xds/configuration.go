package xds

import (
	"cmp"
	"slices"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Configuration is what the proxies of a virtual node or gateway that are placed alike
// are sent.
type Configuration struct {
	ARN     string
	Profile envoy.Profile
	// Connection is the proxy whose profile it is, "" if none is connected.
	Connection  string
	Resources   []envoy.Resource
	Explanation []envoy.Explanation
	Problems    []Problem
}

// Configuration returns what proxies of a virtual node or gateway are sent: those that
// are placed as the proxy of a connection is, or, where that is "", as the first that is
// connected to this server, or else by redirection. found is false if there is no such
// object, or no such proxy.
func (s *Server) Configuration(id mesh.ID, connection string) (c Configuration, found bool) {
	c.Connection, c.Profile.TrustDomain = connection, s.cfg.TrustDomain
	sessions := slices.DeleteFunc(s.sessions(id.Mesh), func(one *session) bool {
		return one.key.id != id || connection != "" && one.id != connection
	})
	if len(sessions) == 0 && connection != "" {
		return c, false
	}
	if len(sessions) > 0 {
		slices.SortFunc(sessions, func(a, b *session) int { return cmp.Or(a.opened.Compare(b.opened), cmp.Compare(a.id, b.id)) })
		c.Profile, c.Connection = sessions[0].key.profile, sessions[0].id
	}
	w := s.cfg.Live.Watch(id, func() {})
	defer w.Close()
	view, _ := w.Build()
	if view == nil {
		return c, false
	}
	resources, problems := envoy.Translate(view, c.Profile)
	c.ARN, c.Resources, c.Explanation = view.ARN(), resources, envoy.Explain(view, resources)
	for _, p := range problems {
		c.Problems = append(c.Problems, Problem{ARN: c.ARN, Object: p.Object.String(), Field: p.Field, Message: p.Message})
	}
	return c, true
}
