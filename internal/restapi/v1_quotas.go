package restapi

import (
	"context"
	"fmt"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// aimQuota returns the ARN of an account's quota, or of all with "*", and says it for
// the audit log.
func (c ownCall) aimQuota(account, name string) string {
	c.x.resource = c.arn("fairlead", account, "quota/"+name)
	return c.x.resource
}

// quotaAccount returns the account whose quotas are meant: the caller's own if the
// request names none.
func (c ownCall) quotaAccount(id string) string {
	if id == "" {
		return c.caller.Account
	}
	return id
}

func (c ownCall) listQuotas(ctx context.Context, in *v1.ListQuotasInput) (any, error) {
	account := c.quotaAccount(in.AccountID)
	if account != c.caller.Account {
		if err := c.manages(ctx, "ListQuotas of other accounts"); err != nil {
			return nil, err
		}
	}
	if err := c.may(store.Question{Action: "ListQuotas", Resource: c.aimQuota(account, "*")}); err != nil {
		return nil, err
	}
	if _, err := c.access.Account(ctx, self, account); err != nil {
		return nil, err
	}
	// In the order in which they are known, which is that of their numbers.
	key := func(q mesh.Quota) string { return fmt.Sprintf("%03d", q) }
	list, next, err := page(c, mesh.AllQuotas(), key, in.Limit, in.NextToken, account)
	if err != nil {
		return nil, err
	}
	return v1.ListQuotasOutput{Quotas: each(list, c.newQuota(account)), NextToken: next}, nil
}

func (c ownCall) updateQuota(ctx context.Context, in *v1.UpdateQuotaInput) (any, error) {
	return c.changeQuota(ctx, in.AccountID, in.QuotaName, func(q mesh.Quota) (int, error) {
		least := 0
		if q == mesh.QuotaReadRate || q == mesh.QuotaWriteRate {
			least = 1 // nobody locks an account out by its rates: it can be suspended
		}
		if in.Value < least || in.Value > q.Most() {
			return 0, mesh.Errorf(mesh.ErrBadRequest, "value must be a whole number from %d to %d for quota %s, the number %d was given", least, q.Most(), q, in.Value)
		}
		return in.Value, nil
	}, func(q v1.Quota) any { return v1.UpdateQuotaOutput{Quota: q} })
}

func (c ownCall) resetQuota(ctx context.Context, in *v1.ResetQuotaInput) (any, error) {
	return c.changeQuota(ctx, in.AccountID, in.QuotaName, func(mesh.Quota) (int, error) { return -1, nil },
		func(q v1.Quota) any { return v1.ResetQuotaOutput{Quota: q} })
}

// changeQuota gives one quota a new value, -1 for the default.
func (c ownCall) changeQuota(ctx context.Context, id, name string, value func(mesh.Quota) (int, error), answer func(v1.Quota) any) (any, error) {
	q, ok := mesh.ParseQuota(name)
	if !ok {
		return nil, mesh.Errorf(mesh.ErrNotFound, "quota %s is not present, there are %s", name, quotaNames())
	}
	n, err := value(q)
	if err != nil {
		return nil, err
	}
	account, err := c.setQuotas(ctx, id, map[mesh.Quota]int{q: n})
	if err != nil {
		return nil, err
	}
	return answer(c.newQuota(account)(q)), nil
}

func (c ownCall) applyQuotaSet(ctx context.Context, in *v1.ApplyQuotaSetInput) (any, error) {
	set := mesh.DefaultQuotas()
	if in.Set == v1.QuotaSetNameAppMesh {
		set = mesh.AppMeshQuotas()
	}
	change := map[mesh.Quota]int{}
	for _, q := range mesh.AllQuotas() {
		change[q] = set[q]
	}
	account, err := c.setQuotas(ctx, in.AccountID, change)
	if err != nil {
		return nil, err
	}
	c.aimQuota(account, "*")
	return v1.ApplyQuotaSetOutput{Quotas: each(mesh.AllQuotas(), c.newQuota(account))}, nil
}

// setQuotas changes quotas of an account, the caller's own if id is empty.
func (c ownCall) setQuotas(ctx context.Context, id string, change map[mesh.Quota]int) (account string, err error) {
	account = c.quotaAccount(id)
	c.aimQuota(account, "*")
	if err := c.manages(ctx, "UpdateQuota"); err != nil {
		return "", err
	}
	for _, q := range mesh.AllQuotas() {
		if _, changed := change[q]; !changed {
			continue
		}
		if err := c.may(store.Question{Action: "UpdateQuota", Resource: c.aimQuota(account, q.String())}); err != nil {
			return "", err
		}
	}
	if _, err := c.access.Account(ctx, self, account); err != nil {
		return "", err
	}
	return account, c.store.SetQuotas(ctx, self, account, change)
}

// newQuota returns a function that describes the quotas of an account.
func (c ownCall) newQuota(account string) func(mesh.Quota) v1.Quota {
	values, ours, appMesh := c.store.Quotas(account), mesh.DefaultQuotas(), mesh.AppMeshQuotas()
	return func(q mesh.Quota) v1.Quota {
		return v1.Quota{
			Name: q.String(), Title: q.Title(), Code: q.Code(), Value: values[q],
			Default: ours[q], AppMeshDefault: appMesh[q], Maximum: q.Most(),
		}
	}
}

func quotaNames() string {
	names := each(mesh.AllQuotas(), mesh.Quota.String)
	return strings.Join(names, ", ")
}
