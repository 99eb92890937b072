package server

import (
	"context"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/restapi"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

// askPropagation asks the other replicas how far a change has come with them, for as long as
// ctx lasts.
func (s *Server) askPropagation(ctx context.Context, question string, in any) []xds.Answer {
	var wait time.Duration
	if end, ok := ctx.Deadline(); ok {
		wait = time.Until(end)
	}
	answers := s.replica.AskPatiently(ctx, question, in, wait)
	out := make([]xds.Answer, len(answers))
	for i, a := range answers {
		out[i] = xds.Answer(a)
	}
	return out
}

// propagation says how far a change has come, in the API's types.
func (s *Server) propagation(ctx context.Context, q restapi.PropagationQuery) (restapi.Propagation, error) {
	known, err := s.xds.Propagation(ctx, xds.PropagationQuery(q))
	if err != nil {
		return restapi.Propagation{}, err
	}
	out := restapi.Propagation{
		Revision: known.Revision, PropagationCounts: restapi.PropagationCounts(known.PropagationCounts), Unconnected: known.Unconnected,
	}
	for _, r := range known.Resources {
		out.Resources = append(out.Resources, restapi.ResourcePropagation{ARN: r.ARN, PropagationCounts: restapi.PropagationCounts(r.PropagationCounts)})
	}
	for _, b := range known.Behind {
		out.Behind = append(out.Behind, restapi.ProxyBehind{
			ARN: b.ARN, Connection: b.Connection, Peer: b.Peer, Rejected: b.State == xds.ProxyRejected, Reason: b.Reason, Since: b.Since,
		})
	}
	for _, f := range known.Incomplete {
		out.Incomplete = append(out.Incomplete, restapi.ReplicaFailure(f))
	}
	return out, nil
}
