package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// QuotaUsage is what was used of a quota.
type QuotaUsage struct {
	// Requests is what each key may have in a window; the present one is from Begins to Ends.
	Requests     int64
	Begins, Ends time.Time
	// Keys has what was used, by what requests have in common.
	Keys map[string]int64
}

func (c ownCall) describeQuotaUsage(ctx context.Context, in *v1.DescribeQuotaUsageInput) (any, error) {
	id := mesh.ID{Mesh: c.aimMesh(in.MeshName, in.MeshOwner), Key: mesh.Key{Kind: mesh.KindPolicy, Name: in.PolicyName}}
	spec, err := c.lookAtPolicy(ctx, "DescribeQuotaUsage", id)
	if err != nil {
		return nil, err
	}
	if spec.Action.Quota == nil {
		return nil, mesh.Errorf(mesh.ErrBadRequest, "policyName must be that of a quota, policy %q is of kind %s", in.PolicyName, spec.Action.Kind())
	}
	usage := QuotaUsage{}
	if c.quotaUsage != nil {
		if usage, err = c.quotaUsage(ctx, id); err != nil {
			return nil, err
		}
	}
	keys := slices.Sorted(maps.Keys(usage.Keys))
	if in.Key != "" {
		keys = []string{in.Key}
	}
	list, next, err := page(c, keys, func(k string) string { return k }, in.Limit, in.NextToken, in.MeshName, in.PolicyName)
	if err != nil {
		return nil, err
	}
	return v1.DescribeQuotaUsageOutput{
		Requests: int(usage.Requests), BeginsAt: v1.Time(usage.Begins), EndsAt: v1.Time(usage.Ends), NextToken: next,
		Keys: each(list, func(k string) v1.QuotaKeyUsage {
			used := usage.Keys[k]
			return v1.QuotaKeyUsage{Key: k, Used: int(used), Left: int(max(usage.Requests-used, 0))}
		}),
	}, nil
}

// lookAtPolicy asks whether the caller may do an action that shows what happens by a policy, and
// returns the policy's spec.
func (c ownCall) lookAtPolicy(ctx context.Context, action string, id mesh.ID) (*mesh.PolicySpec, error) {
	if !c.store.Shared(id.Mesh, c.caller.Account) {
		return nil, mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to use mesh %s of account %s: only meshes that their owner shares with account %s can be used",
			c.caller.ARN, id.Mesh.Name, id.Mesh.Account, c.caller.Account)
	}
	q := store.Question{Action: action, Resource: id.ARN(id.Mesh.Account)}
	o, err := c.store.Get(ctx, self, id)
	var refusal *mesh.Error
	switch {
	case err == nil:
		q.Resource, q.ResourceTags = id.ARN(o.ResourceOwner), o.Tags
	case !errors.As(err, &refusal) || refusal.Code != mesh.ErrNotFound:
		return nil, err
	}
	c.x.resource = q.Resource
	if err := c.may(q); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	spec := new(mesh.PolicySpec)
	if err := json.Unmarshal(o.Spec, spec); err != nil {
		return nil, fmt.Errorf("reading the spec of %s: %w", q.Resource, err)
	}
	return spec, nil
}
