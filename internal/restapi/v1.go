package restapi

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// documentPath is where the OpenAPI document of /v1 is, for everybody.
const documentPath = "/v1/openapi.json"

// ownPath reports whether a path belongs to Fairlead's own API.
func ownPath(path string) bool { return path == "/v1" || strings.HasPrefix(path, "/v1/") }

// self is the caller for what is looked up on nobody's behalf.
var self = store.System("restapi")

// serveOwn does what a request of /v1 asks for.
func (h *handler) serveOwn(ctx context.Context, x *exchange, labels *params, body []byte) (any, error) {
	label := func(name string) string { return x.route.value(labels, name) }
	in, parameters, bad := x.route.own.Decode(label, x.r.URL.RawQuery, body)
	x.parameters = parameters
	if x.route.unsigned() {
		x.parameters = withoutProof(parameters)
	}
	if x.sts {
		bad = x.route.sts.named(bad)
	}
	if len(bad) > 0 {
		return nil, mesh.Errorf(mesh.ErrBadRequest, "%s", bad.Error())
	}
	if h.access == nil {
		return nil, mesh.Errorf(mesh.ErrUnknownOperation, "%s is not served here", x.route.name())
	}
	c := ownCall{handler: h, x: x, caller: x.caller}
	return c.do(ctx, in)
}

// ownCall is one call of an operation of /v1. Its methods do one operation each; what
// they answer is the output of the operation, and what they refuse a *mesh.Error.
type ownCall struct {
	*handler
	x      *exchange
	caller access.Caller
}

// do calls the method of an input.
func (c ownCall) do(ctx context.Context, in any) (any, error) {
	switch in := in.(type) {
	case *v1.GetCallerIdentityInput:
		return c.getCallerIdentity()
	case *v1.CreateAccountInput:
		return c.createAccount(ctx, in)
	case *v1.ListAccountsInput:
		return c.listAccounts(ctx, in)
	case *v1.DescribeAccountInput:
		return c.describeAccount(ctx, in)
	case *v1.UpdateAccountInput:
		return c.updateAccount(ctx, in)
	case *v1.DeleteAccountInput:
		return c.deleteAccount(ctx, in)
	case *v1.CreateUserInput:
		return c.createUser(ctx, in)
	case *v1.ListUsersInput:
		return c.listUsers(ctx, in)
	case *v1.DescribeUserInput:
		return c.describeUser(ctx, in)
	case *v1.UpdateUserInput:
		return c.updateUser(ctx, in)
	case *v1.DeleteUserInput:
		return c.deleteUser(ctx, in)
	case *v1.CreateAccessKeyInput:
		return c.createAccessKey(ctx, in)
	case *v1.ListAccessKeysInput:
		return c.listAccessKeys(ctx, in)
	case *v1.UpdateAccessKeyInput:
		return c.updateAccessKey(ctx, in)
	case *v1.DeleteAccessKeyInput:
		return c.deleteAccessKey(ctx, in)
	default:
		return c.doMore(ctx, in)
	}
}

// doMore is the rest of do.
func (c ownCall) doMore(ctx context.Context, in any) (any, error) {
	switch in := in.(type) {
	case *v1.CreateRoleInput:
		return c.createRole(ctx, in)
	case *v1.ListRolesInput:
		return c.listRoles(ctx, in)
	case *v1.DescribeRoleInput:
		return c.describeRole(ctx, in)
	case *v1.UpdateRoleInput:
		return c.updateRole(ctx, in)
	case *v1.DeleteRoleInput:
		return c.deleteRole(ctx, in)
	case *v1.RevokeRoleSessionsInput:
		return c.revokeRoleSessions(ctx, in)
	case *v1.AssumeRoleInput:
		return c.assumeRole(ctx, in)
	case *v1.CreateSessionInput:
		return c.createSession(ctx, in)
	case *v1.ListQuotasInput:
		return c.listQuotas(ctx, in)
	case *v1.UpdateQuotaInput:
		return c.updateQuota(ctx, in)
	case *v1.ResetQuotaInput:
		return c.resetQuota(ctx, in)
	case *v1.ApplyQuotaSetInput:
		return c.applyQuotaSet(ctx, in)
	case *v1.CreateShareInput:
		return c.createShare(ctx, in)
	case *v1.ListSharesInput:
		return c.listShares(ctx, in)
	case *v1.DeleteShareInput:
		return c.deleteShare(ctx, in)
	case *v1.ListEventsInput:
		return c.listEvents(ctx, in)
	case *v1.ReadBackupInput:
		return c.readBackup(ctx, in)
	case *v1.ListProxiesInput:
		return c.listProxies(ctx, in)
	case *v1.ListProblemsInput:
		return c.listProblems(ctx, in)
	case *v1.DescribeConfigurationInput:
		return c.describeConfiguration(ctx, in)
	case *v1.DescribeQuotaUsageInput:
		return c.describeQuotaUsage(ctx, in)
	case *v1.DescribePropagationInput:
		return c.describePropagation(ctx, in)
	default:
		return c.doIdentity(ctx, in)
	}
}

// doIdentity is the rest of doMore: what is about those whom others vouch for.
func (c ownCall) doIdentity(ctx context.Context, in any) (any, error) {
	switch in := in.(type) {
	case *v1.CreateIdentityProviderInput:
		return c.createIdentityProvider(ctx, in)
	case *v1.ListIdentityProvidersInput:
		return c.listIdentityProviders(ctx, in)
	case *v1.DescribeIdentityProviderInput:
		return c.describeIdentityProvider(ctx, in)
	case *v1.UpdateIdentityProviderInput:
		return c.updateIdentityProvider(ctx, in)
	case *v1.DeleteIdentityProviderInput:
		return c.deleteIdentityProvider(ctx, in)
	case *v1.AssumeRoleWithWebIdentityInput:
		return c.assumeRoleWithWebIdentity(ctx, in)
	case *v1.AssumeRoleWithCertificateInput:
		return c.assumeRoleWithCertificate(ctx, in)
	case *v1.AssumeRoleWithAWSIdentityInput:
		return c.assumeRoleWithAWSIdentity(ctx, in)
	}
	if c.ca != nil {
		if out, known, err := c.doCertificates(ctx, in); known {
			return out, err
		}
	}
	return nil, fmt.Errorf("calling %s: there is no method for it", c.x.route.name())
}

// getCallerIdentity says who calls. It needs no permission: the caller knows it.
func (c ownCall) getCallerIdentity() (any, error) {
	p := c.caller.Principal
	return v1.GetCallerIdentityOutput{Account: c.caller.Account, ARN: c.caller.ARN, PrincipalID: p.ID, Type: p.Type, Region: c.caller.Region}, nil
}

// may asks whether the caller may do an action of Fairlead's own, for example
// "ListQuotas", to a resource.
func (c ownCall) may(q store.Question) error {
	q.Action = "fairlead:" + q.Action
	if c.caller.Allow == nil {
		return mesh.Errorf(mesh.ErrForbidden, "User: %s is not authorized to perform: %s on resource: %s", c.caller.ARN, q.Action, q.Resource)
	}
	return c.caller.Allow(q)
}

// arn returns the ARN of something of an account that is of no region, for example
// "arn:aws:fairlead::000000000001:account/000000000002".
func (c ownCall) arn(service, account, what string) string {
	return "arn:" + mesh.Partition(c.caller.Region) + ":" + service + "::" + account + ":" + what
}

// manages refuses callers of other accounts than the management account.
func (c ownCall) manages(ctx context.Context, action string) error {
	a, err := c.access.Account(ctx, self, c.caller.Account)
	if err != nil {
		return err
	}
	if !a.Management {
		return mesh.Errorf(mesh.ErrForbidden, "User: %s is not authorized to perform: fairlead:%s because only callers of the management account may", c.caller.ARN, action)
	}
	return nil
}

// page returns a page of a list whose items are sorted by their keys, which differ, and
// the token of the next one. It begins behind the key that the page before ended with,
// so that items may come and go between pages.
func page[T any](c ownCall, items []T, key func(T) string, limit int, token string, scope ...string) (of []T, next string, err error) {
	s := c.listScope(scope...)
	after, err := openToken(s, token)
	if err != nil {
		return nil, "", err
	}
	if limit == 0 {
		limit = defaultLimit
	}
	first := 0
	if token != "" {
		i, found := slices.BinarySearchFunc(items, after, func(item T, after string) int { return cmp.Compare(key(item), after) })
		if first = i; found {
			first++
		}
	}
	last := min(first+limit, len(items))
	if last < len(items) {
		next = sealToken(s, key(items[last-1]))
	}
	return items[first:last], next, nil
}

// listScope names the list that a page token belongs to.
func (c ownCall) listScope(scope ...string) string {
	return strings.Join(append([]string{c.x.route.name(), c.caller.Account, c.caller.Region}, scope...), "\x00")
}

// each turns the items of a page into what is answered; never into nil, which JSON would
// write as null.
func each[T, U any](items []T, turn func(T) U) []U {
	out := make([]U, len(items))
	for i, item := range items {
		out[i] = turn(item)
	}
	return out
}
