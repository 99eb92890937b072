package server

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/replica"
	"github.com/fairlead-mesh/fairlead/internal/restapi"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

// The questions that replicas ask each other. What goes with one, and what is answered, is
// the JSON of types below, of restapi's or audit's: replicas of different versions ask each
// other during an upgrade, so members may be added, and none be given another meaning.
const (
	askProxies       = "proxies"
	askProblems      = "problems"
	askConfiguration = "configuration"
	askBundles       = "bundles"
	askEvents        = "events"
	askQuota         = "quota"
)

// handlers are the answers to the other replicas' questions: what this one knows by itself.
func (s *Server) handlers() map[string]replica.Handler {
	return map[string]replica.Handler{
		askWanted:   handler(s.wanted.tell),
		askProxies:  handler(func(_ context.Context, l restapi.Look) ([]restapi.ProxyStatus, error) { return s.ownProxies(l), nil }),
		askProblems: handler(func(_ context.Context, l restapi.Look) ([]restapi.Problem, error) { return s.ownProblems(l), nil }),
		askBundles:  handler(func(_ context.Context, m mesh.MeshID) (restapi.BundleStreams, error) { return s.ownBundles(m), nil }),
		askEvents:   handler(func(ctx context.Context, q audit.Query) (audit.Found, error) { return s.audit.Find(ctx, q) }),
		askConfiguration: handler(func(_ context.Context, q configurationQuestion) (configurationAnswer, error) {
			id, _, err := mesh.ParseARN(q.ARN, "", "")
			if err != nil {
				return configurationAnswer{}, err
			}
			c, found, err := s.ownConfiguration(id, q.Connection)
			return configurationAnswer{c, found}, err
		}),
		askQuota:   handler(s.quota.Answer),
		askCrowded: crowdedHere(s.xds), askStreams: streamsHere(s.xds),
		xds.PropagationQuestion: s.xds.AnswerPropagation,
	}
}

// handler returns a function as the answer to a question whose input it takes.
func handler[In, Out any](f func(context.Context, In) (Out, error)) replica.Handler {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var in In
		if err := json.Unmarshal(raw, &in); err != nil {
			return nil, fmt.Errorf("reading the question: %w", err)
		}
		return f(ctx, in)
	}
}

// read returns what the others answered, and who of them did not.
func read[T any](answers []replica.Answer) (all []T, missing []string) {
	for _, a := range answers {
		var one T
		if a.Err != nil || json.Unmarshal(a.Body, &one) != nil {
			missing = append(missing, a.Replica)
			continue
		}
		all = append(all, one)
	}
	return all, missing
}

// known returns a page of what this replica and all others know.
func known[T interface{ Key() string }](ctx context.Context, s *Server, question string, own func(restapi.Look) []T, l restapi.Look) restapi.Known[T] {
	lists, missing := read[[]T](s.replica.Ask(ctx, question, l))
	items, more := replica.Merge(append(lists, own(l)), T.Key, l.Limit)
	return restapi.Known[T]{Items: items, More: more, Missing: missing}
}

func (s *Server) ownProxies(l restapi.Look) []restapi.ProxyStatus {
	var out []restapi.ProxyStatus
	for _, p := range s.xds.Proxies(l.Account, l.Region, l.Mesh) {
		if l.Shows(p.ARN) {
			out = append(out, restapi.ProxyStatus(p))
		}
	}
	return replica.Cut(out, restapi.ProxyStatus.Key, l.After, l.Limit)
}

func (s *Server) ownProblems(l restapi.Look) []restapi.Problem {
	var out []restapi.Problem
	for _, p := range s.xds.Problems(l.Account, l.Region, l.Mesh) {
		if l.Shows(p.ARN) {
			out = append(out, restapi.Problem(p))
		}
	}
	for _, p := range s.live.AimlessPolicies(mesh.MeshID{Account: l.Account, Region: l.Region, Name: l.Mesh}) {
		if l.Shows(p.ARN) {
			out = append(out, restapi.Problem{ARN: p.ARN, Object: p.Key.String(), Field: "target", Message: p.Target.String() + " does not exist: the policy does nothing"})
		}
	}
	out = append(out, s.accessProblems(l)...)
	return replica.Cut(out, restapi.Problem.Key, l.After, l.Limit)
}

// accessProblems returns what the access policies of a mesh do that may not be meant.
func (s *Server) accessProblems(l restapi.Look) (out []restapi.Problem) {
	id := mesh.MeshID{Account: l.Account, Region: l.Region, Name: l.Mesh}
	for _, w := range s.live.AccessWarnings(id, nil) {
		policy := mesh.ID{Mesh: id, Key: w.Policy}
		owner, _ := s.live.Object(policy)
		if arn := policy.ARN(owner); l.Shows(arn) {
			out = append(out, restapi.Problem{ARN: arn, Object: w.Policy.String(), Field: w.Field, Message: w.Message})
		}
	}
	return out
}

// warnings returns what a policy that was written does that may not be meant.
func (s *Server) warnings(o *mesh.Object) (out []string) {
	for _, w := range s.live.AccessWarnings(o.ID.Mesh, o) {
		if w.Policy == o.ID.Key {
			out = append(out, "spec."+w.Field+" "+w.Message)
		}
	}
	return out
}

func (s *Server) ownBundles(m mesh.MeshID) (b restapi.BundleStreams) {
	b.Connected, b.Current = s.xds.BundleStreams(m)
	return b
}

// bundles counts the agents of a mesh over all replicas.
func (s *Server) bundles(ctx context.Context, m mesh.MeshID) restapi.BundleStreams {
	others, missing := read[restapi.BundleStreams](s.replica.Ask(ctx, askBundles, m))
	all := s.ownBundles(m)
	for _, b := range others {
		all.Connected, all.Current = all.Connected+b.Connected, all.Current+b.Current
	}
	all.Missing = missing
	return all
}

// configurationQuestion asks what a proxy is sent that is connected to another replica.
type configurationQuestion struct {
	ARN string
	// Connection is the proxy's, "" for any that is connected.
	Connection string
}

type configurationAnswer struct {
	Configuration restapi.Configuration
	Found         bool
}

// configuration returns what the proxies of a virtual node or gateway are sent. Which they
// are this replica knows of its own; if it is about another's, that one says.
func (s *Server) configuration(ctx context.Context, id mesh.ID, connection string) (restapi.Configuration, bool, error) {
	own, found, err := s.ownConfiguration(id, connection)
	if err != nil || found && own.Connection != "" || !found && connection == "" {
		return own, found, err
	}
	others, _ := read[configurationAnswer](s.replica.Ask(ctx, askConfiguration, configurationQuestion{id.ARN(id.Mesh.Account), connection}))
	for _, o := range others {
		if o.Found && o.Configuration.Connection != "" {
			return o.Configuration, true, nil
		}
	}
	return own, found, nil
}

// events asks the audit trails of all replicas. Each is named by where the replica is
// asked, which stays the same when it is started again.
func (s *Server) events(ctx context.Context, q audit.Query, from map[string]string) (parts []audit.Part, missing []string, err error) {
	self := s.replica.Self().Address
	if token, ok := from[self]; ok || from == nil {
		q.Next = token
		found, err := s.audit.Find(ctx, q)
		if err != nil {
			return nil, nil, err
		}
		parts = append(parts, audit.Part{Trail: self, From: token, Found: found})
	}
	there := map[string]bool{self: true}
	for _, m := range s.replica.Others() {
		there[m.Name()] = true
	}
	for _, trail := range slices.Sorted(maps.Keys(from)) {
		if !there[trail] {
			missing = append(missing, trail)
		}
	}
	answers := s.replica.AskEach(ctx, askEvents, func(m replica.Member) (any, bool) {
		token, ok := from[m.Name()]
		if q.Next = token; ok || from == nil {
			return q, true
		}
		return nil, false
	})
	for _, a := range answers {
		found, away := read[audit.Found]([]replica.Answer{a})
		if missing = append(missing, away...); len(found) > 0 {
			parts = append(parts, audit.Part{Trail: a.Replica, From: from[a.Replica], Found: found[0]})
		}
	}
	return parts, missing, nil
}
