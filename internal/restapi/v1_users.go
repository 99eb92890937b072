package restapi

import (
	"context"
	"encoding/json"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
)

// aimUser says for the audit log which user is meant.
func (c ownCall) aimUser(name string) {
	c.x.resource = access.User{Account: c.caller.Account, Name: name}.ARN(c.caller.Region)
}

func (c ownCall) createUser(ctx context.Context, in *v1.CreateUserInput) (any, error) {
	c.aimUser(in.UserName)
	u, err := c.access.CreateUser(ctx, c.caller.Caller, access.User{Account: c.caller.Account, Name: in.UserName, Policies: in.Policies})
	if err != nil {
		return nil, err
	}
	return v1.CreateUserOutput{User: c.newUser(u)}, nil
}

func (c ownCall) listUsers(ctx context.Context, in *v1.ListUsersInput) (any, error) {
	all, err := c.access.Users(ctx, c.caller.Caller, c.caller.Account)
	if err != nil {
		return nil, err
	}
	list, next, err := page(c, all, func(u access.User) string { return u.Name }, in.Limit, in.NextToken)
	if err != nil {
		return nil, err
	}
	return v1.ListUsersOutput{Users: each(list, c.newUser), NextToken: next}, nil
}

func (c ownCall) describeUser(ctx context.Context, in *v1.DescribeUserInput) (any, error) {
	c.aimUser(in.UserName)
	u, err := c.access.User(ctx, c.caller.Caller, c.caller.Account, in.UserName)
	if err != nil {
		return nil, err
	}
	return v1.DescribeUserOutput{User: c.newUser(u)}, nil
}

func (c ownCall) updateUser(ctx context.Context, in *v1.UpdateUserInput) (any, error) {
	c.aimUser(in.UserName)
	u, err := c.access.UpdateUser(ctx, c.caller.Caller, access.User{Account: c.caller.Account, Name: in.UserName, Policies: in.Policies})
	if err != nil {
		return nil, err
	}
	return v1.UpdateUserOutput{User: c.newUser(u)}, nil
}

func (c ownCall) deleteUser(ctx context.Context, in *v1.DeleteUserInput) (any, error) {
	c.aimUser(in.UserName)
	u, err := c.access.DeleteUser(ctx, c.caller.Caller, c.caller.Account, in.UserName)
	if err != nil {
		return nil, err
	}
	return v1.DeleteUserOutput{User: c.newUser(u)}, nil
}

func (c ownCall) newUser(u access.User) v1.User {
	return v1.User{
		UserName: u.Name, UserID: u.UID, ARN: u.ARN(c.caller.Region), Policies: policies(u.Policies),
		CreatedAt: v1.Time(u.CreatedAt), LastUpdatedAt: v1.Time(u.UpdatedAt),
	}
}

// policies returns policies as an object, which is never null.
func policies(p map[string]json.RawMessage) map[string]json.RawMessage {
	if p == nil {
		return map[string]json.RawMessage{}
	}
	return p
}

func (c ownCall) createAccessKey(ctx context.Context, in *v1.CreateAccessKeyInput) (any, error) {
	c.aimUser(in.UserName)
	k, creds, err := c.access.CreateKey(ctx, c.caller.Caller, c.caller.Account, in.UserName)
	if err != nil {
		return nil, err
	}
	return v1.CreateAccessKeyOutput{AccessKey: newAccessKey(k), SecretAccessKey: creds.SecretAccessKey}, nil
}

func (c ownCall) listAccessKeys(ctx context.Context, in *v1.ListAccessKeysInput) (any, error) {
	c.aimUser(in.UserName)
	all, err := c.access.Keys(ctx, c.caller.Caller, c.caller.Account, in.UserName)
	if err != nil {
		return nil, err
	}
	list, next, err := page(c, all, func(k access.Key) string { return k.ID }, in.Limit, in.NextToken, in.UserName)
	if err != nil {
		return nil, err
	}
	return v1.ListAccessKeysOutput{AccessKeys: each(list, newAccessKey), NextToken: next}, nil
}

func (c ownCall) updateAccessKey(ctx context.Context, in *v1.UpdateAccessKeyInput) (any, error) {
	c.aimUser(in.UserName)
	k, err := c.access.UpdateKey(ctx, c.caller.Caller, c.caller.Account, in.UserName, in.AccessKeyID, in.Status == v1.AccessKeyStatusActive)
	if err != nil {
		return nil, err
	}
	return v1.UpdateAccessKeyOutput{AccessKey: newAccessKey(k)}, nil
}

func (c ownCall) deleteAccessKey(ctx context.Context, in *v1.DeleteAccessKeyInput) (any, error) {
	c.aimUser(in.UserName)
	k, err := c.access.DeleteKey(ctx, c.caller.Caller, c.caller.Account, in.UserName, in.AccessKeyID)
	if err != nil {
		return nil, err
	}
	return v1.DeleteAccessKeyOutput{AccessKey: newAccessKey(k)}, nil
}

func newAccessKey(k access.Key) v1.AccessKey {
	status := v1.AccessKeyStatusInactive
	if k.Active {
		status = v1.AccessKeyStatusActive
	}
	return v1.AccessKey{
		AccessKeyID: k.ID, UserName: k.User, Status: status, CreatedAt: v1.Time(k.CreatedAt),
		LastUsedAt: v1.Time(k.LastUsed), LastUsedRegion: k.LastRegion, LastUsedService: k.LastService,
	}
}
