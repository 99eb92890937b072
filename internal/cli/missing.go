package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/fairlead-mesh/fairlead/api/client"
)

// unheard are the servers that could not be asked by the one that is called, for answers
// that are put together of what all servers know.
type unheard struct {
	mu  sync.Mutex
	all []string
}

func (m *unheard) note(replicas []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range replicas {
		if !slices.Contains(m.all, r) {
			m.all = append(m.all, r)
		}
	}
}

// warnOfMissing says which servers' part is not in what was printed.
func (s *Session) warnOfMissing(term Terminal) {
	s.unheard.mu.Lock()
	defer s.unheard.mu.Unlock()
	if len(s.unheard.all) > 0 {
		fmt.Fprintf(term.Err, "not all is known: no answer from %s\n", printable(strings.Join(s.unheard.all, ", ")))
	}
}

// pages goes through the pages of a list of what all servers know, and notes who did not
// answer. call makes one call, with the token of its page.
func pages[One any](s *Session, call func(token string) (list []One, next string, missing []string, err error)) iter.Seq2[One, error] {
	return func(yield func(One, error) bool) {
		for token, first := "", true; first || token != ""; first = false {
			list, next, missing, err := call(token)
			if err != nil {
				var none One
				yield(none, err)
				return
			}
			s.unheard.note(missing)
			for _, one := range list {
				if !yield(one, nil) {
					return
				}
			}
			token = next
		}
	}
}

// allProxies, allProblems and allEvents are the client's lists, with a note of who did not
// answer.
func (s *Session) allProxies(ctx context.Context, in *client.ListProxiesInput) iter.Seq2[client.Proxy, error] {
	return pages(s, func(token string) ([]client.Proxy, string, []string, error) {
		page := *in
		page.NextToken = token
		out, err := s.own.ListProxies(ctx, &page)
		if err != nil {
			return nil, "", nil, err
		}
		return out.Proxies, out.NextToken, out.MissingReplicas, nil
	})
}

func (s *Session) allProblems(ctx context.Context, in *client.ListProblemsInput) iter.Seq2[client.Problem, error] {
	return pages(s, func(token string) ([]client.Problem, string, []string, error) {
		page := *in
		page.NextToken = token
		out, err := s.own.ListProblems(ctx, &page)
		if err != nil {
			return nil, "", nil, err
		}
		return out.Problems, out.NextToken, out.MissingReplicas, nil
	})
}

func (s *Session) allEvents(ctx context.Context, in *client.ListEventsInput) iter.Seq2[json.RawMessage, error] {
	return pages(s, func(token string) ([]json.RawMessage, string, []string, error) {
		page := *in
		page.NextToken = token
		out, err := s.own.ListEvents(ctx, &page)
		if err != nil {
			return nil, "", nil, err
		}
		return out.Events, out.NextToken, out.MissingReplicas, nil
	})
}
