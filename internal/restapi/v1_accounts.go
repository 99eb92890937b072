package restapi

import (
	"context"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
)

// aimAccount says for the audit log which account is meant. Accounts belong to the
// management account, which is the caller's unless the call is refused or the caller
// looks at its own.
func (c ownCall) aimAccount(id string) {
	if id != "" {
		c.x.resource = c.arn("fairlead", c.caller.Account, "account/"+id)
	}
}

func (c ownCall) createAccount(ctx context.Context, in *v1.CreateAccountInput) (any, error) {
	c.aimAccount(in.AccountID)
	a, creds, err := c.access.CreateAccount(ctx, c.caller.Caller, in.AccountID, in.AccountName)
	if err != nil {
		return nil, err
	}
	c.aimAccount(a.ID)
	return v1.CreateAccountOutput{Account: newAccount(a), Credentials: newCredentials(creds)}, nil
}

func (c ownCall) listAccounts(ctx context.Context, in *v1.ListAccountsInput) (any, error) {
	all, err := c.access.Accounts(ctx, c.caller.Caller)
	if err != nil {
		return nil, err
	}
	list, next, err := page(c, all, func(a access.Account) string { return a.ID }, in.Limit, in.NextToken)
	if err != nil {
		return nil, err
	}
	return v1.ListAccountsOutput{Accounts: each(list, newAccount), NextToken: next}, nil
}

func (c ownCall) describeAccount(ctx context.Context, in *v1.DescribeAccountInput) (any, error) {
	c.aimAccount(in.AccountID)
	a, err := c.access.Account(ctx, c.caller.Caller, in.AccountID)
	if err != nil {
		return nil, err
	}
	return v1.DescribeAccountOutput{Account: newAccount(a)}, nil
}

func (c ownCall) updateAccount(ctx context.Context, in *v1.UpdateAccountInput) (any, error) {
	c.aimAccount(in.AccountID)
	var ch access.AccountChange
	if in.AccountName != "" {
		ch.Name = &in.AccountName
	}
	if in.Status != "" {
		suspended := in.Status == v1.AccountStatusSuspended
		ch.Suspended = &suspended
	}
	a, err := c.access.UpdateAccount(ctx, c.caller.Caller, in.AccountID, ch)
	if err != nil {
		return nil, err
	}
	return v1.UpdateAccountOutput{Account: newAccount(a)}, nil
}

func (c ownCall) deleteAccount(ctx context.Context, in *v1.DeleteAccountInput) (any, error) {
	c.aimAccount(in.AccountID)
	a, err := c.access.DeleteAccount(ctx, c.caller.Caller, in.AccountID)
	if err != nil {
		return nil, err
	}
	return v1.DeleteAccountOutput{Account: newAccount(a)}, nil
}

func newAccount(a access.Account) v1.Account {
	status := v1.AccountStatusActive
	if a.Suspended {
		status = v1.AccountStatusSuspended
	}
	return v1.Account{
		AccountID: a.ID, AccountName: a.Name, Status: status, Management: a.Management,
		CreatedAt: v1.Time(a.CreatedAt), LastUpdatedAt: v1.Time(a.UpdatedAt),
	}
}

func newCredentials(c access.Credentials) v1.Credentials {
	return v1.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken, Expiration: v1.Time(c.Expires)}
}
