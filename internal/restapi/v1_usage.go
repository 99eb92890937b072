package restapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
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
	policy, err := c.lookAt(ctx, "DescribeQuotaUsage", id)
	if err != nil {
		return nil, err
	}
	spec := new(mesh.PolicySpec)
	if err := json.Unmarshal(policy.Spec, spec); err != nil {
		return nil, fmt.Errorf("reading the spec of policy %q: %w", in.PolicyName, err)
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
