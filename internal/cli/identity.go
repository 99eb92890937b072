package cli

import (
	"context"
	"iter"

	"github.com/fairlead-mesh/fairlead/api/client"
)

// account returns the caller's account. It is asked for once.
func (s *Session) account(ctx context.Context) (string, error) {
	s.self.Lock()
	defer s.self.Unlock()
	if s.self.account != "" {
		return s.self.account, nil
	}
	out, err := ask(ctx, s, s.own.GetCallerIdentity, &client.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	s.self.account = out.Account
	return out.Account, nil
}

// ask makes one call of /v1. Its error is one line for a person.
func ask[In, Out any](ctx context.Context, s *Session, call func(context.Context, *In) (*Out, error), in *In) (*Out, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	out, err := call(ctx, in)
	if err != nil {
		return nil, s.explain(err)
	}
	return out, nil
}

// all returns what is on all pages of a list of /v1.
func all[In, One any](ctx context.Context, s *Session, list func(context.Context, *In) iter.Seq2[One, error], in *In) ([]One, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var out []One
	for one, err := range list(ctx, in) {
		if err != nil {
			return nil, s.explain(err)
		}
		out = append(out, one)
	}
	return out, nil
}
