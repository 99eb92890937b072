package server

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/quota"
	"github.com/fairlead-mesh/fairlead/internal/replica"
	"github.com/fairlead-mesh/fairlead/internal/restapi"
)

// quotaConfig is what counts quotas over all replicas.
func (s *Server) quotaConfig() quota.Config {
	return quota.Config{
		Store: s.store, Limit: s.quotaLimit, Now: s.cfg.Now, Log: s.cfg.Log, Metrics: s.metrics,
		Self: func() string { return s.replica.Self().ID },
		Others: func() (ids []string) {
			for _, m := range s.replica.Others() {
				if m.Address != "" {
					ids = append(ids, m.ID)
				}
			}
			return ids
		},
		Ask: s.askQuota,
	}
}

// quotaLimit returns what a policy allows, if it is a quota.
func (s *Server) quotaLimit(p quota.Policy) (quota.Limit, bool) {
	c := s.live.Snapshot(p.Mesh).Get(mesh.Key{Kind: mesh.KindPolicy, Name: p.Name}).Content()
	if c == nil {
		return quota.Limit{}, false
	}
	spec, ok := c.Spec.(*mesh.PolicySpec)
	if !ok || spec.Action.Quota == nil {
		return quota.Limit{}, false
	}
	per := mesh.Pers[spec.Action.Quota.Per] // 0: of a newer server
	return quota.Limit{Requests: spec.Action.Quota.Requests, Per: per, Version: c.Version}, per > 0
}

// askQuota asks another replica, which may own the quota that is asked about.
func (s *Server) askQuota(ctx context.Context, id string, q quota.Question) (quota.Answer, error) {
	all := s.replica.AskEach(ctx, askQuota, func(m replica.Member) (any, bool) { return q, m.ID == id })
	var answer quota.Answer
	switch {
	case len(all) == 0:
		return answer, fmt.Errorf("replica %s is gone", id)
	case all[0].Err != nil:
		return answer, all[0].Err
	}
	if err := json.Unmarshal(all[0].Body, &answer); err != nil {
		return answer, fmt.Errorf("reading what replica %s answers: %w", all[0].Replica, err)
	}
	return answer, nil
}

// quotaUsage returns what was used of a quota.
func (s *Server) quotaUsage(ctx context.Context, policy mesh.ID) (restapi.QuotaUsage, error) {
	p := quota.Policy{Mesh: policy.Mesh, Name: policy.Name}
	limit, ok := s.quotaLimit(p)
	if !ok {
		return restapi.QuotaUsage{}, mesh.Errorf(mesh.ErrServiceUnavailable, "the policy is not known here yet, try again")
	}
	spent, err := s.quota.Spent(ctx, p)
	if err != nil {
		return restapi.QuotaUsage{}, err
	}
	out := restapi.QuotaUsage{Requests: limit.Requests, Begins: spent.Window, Ends: spent.Window.Add(limit.Per), Keys: map[string]int64{}}
	for key, used := range spent.Keys {
		out.Keys[envoy.QuotaKeyText(key)] += used
	}
	return out, nil
}

// tidyQuotas has the counts removed of quotas that are gone, once it is known which are there.
func (s *Server) tidyQuotas(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.live.Ready():
		return s.quota.Tidy(ctx)
	}
}
