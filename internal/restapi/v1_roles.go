package restapi

import (
	"context"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
)

// aimRole says for the audit log which role is meant.
func (c ownCall) aimRole(name string) {
	c.x.resource = access.Role{Account: c.caller.Account, Name: name}.ARN(c.caller.Region)
}

func (c ownCall) createRole(ctx context.Context, in *v1.CreateRoleInput) (any, error) {
	c.aimRole(in.RoleName)
	r, err := c.access.CreateRole(ctx, c.caller.Caller, access.Role{
		Account: c.caller.Account, Name: in.RoleName, TrustPolicy: in.TrustPolicy, Policies: in.Policies, MaxSession: seconds(in.MaxSessionSeconds),
	})
	if err != nil {
		return nil, err
	}
	return v1.CreateRoleOutput{Role: c.newRole(r)}, nil
}

func (c ownCall) listRoles(ctx context.Context, in *v1.ListRolesInput) (any, error) {
	all, err := c.access.Roles(ctx, c.caller.Caller, c.caller.Account)
	if err != nil {
		return nil, err
	}
	list, next, err := page(c, all, func(r access.Role) string { return r.Name }, in.Limit, in.NextToken)
	if err != nil {
		return nil, err
	}
	return v1.ListRolesOutput{Roles: each(list, c.newRole), NextToken: next}, nil
}

func (c ownCall) describeRole(ctx context.Context, in *v1.DescribeRoleInput) (any, error) {
	c.aimRole(in.RoleName)
	r, err := c.access.Role(ctx, c.caller.Caller, c.caller.Account, in.RoleName)
	if err != nil {
		return nil, err
	}
	return v1.DescribeRoleOutput{Role: c.newRole(r)}, nil
}

func (c ownCall) updateRole(ctx context.Context, in *v1.UpdateRoleInput) (any, error) {
	c.aimRole(in.RoleName)
	r, err := c.access.UpdateRole(ctx, c.caller.Caller, access.Role{
		Account: c.caller.Account, Name: in.RoleName, TrustPolicy: in.TrustPolicy, Policies: in.Policies, MaxSession: seconds(in.MaxSessionSeconds),
	})
	if err != nil {
		return nil, err
	}
	return v1.UpdateRoleOutput{Role: c.newRole(r)}, nil
}

func (c ownCall) deleteRole(ctx context.Context, in *v1.DeleteRoleInput) (any, error) {
	c.aimRole(in.RoleName)
	r, err := c.access.DeleteRole(ctx, c.caller.Caller, c.caller.Account, in.RoleName)
	if err != nil {
		return nil, err
	}
	return v1.DeleteRoleOutput{Role: c.newRole(r)}, nil
}

func (c ownCall) revokeRoleSessions(ctx context.Context, in *v1.RevokeRoleSessionsInput) (any, error) {
	c.aimRole(in.RoleName)
	r, err := c.access.RevokeSessions(ctx, c.caller.Caller, c.caller.Account, in.RoleName)
	if err != nil {
		return nil, err
	}
	return v1.RevokeRoleSessionsOutput{Role: c.newRole(r)}, nil
}

func (c ownCall) newRole(r access.Role) v1.Role {
	return v1.Role{
		RoleName: r.Name, RoleID: r.UID, ARN: r.ARN(c.caller.Region), TrustPolicy: r.TrustPolicy, Policies: policies(r.Policies),
		MaxSessionSeconds: int(r.MaxSession / time.Second), CreatedAt: v1.Time(r.CreatedAt), LastUpdatedAt: v1.Time(r.UpdatedAt),
		SessionsRevokedAt: v1.Time(r.RevokedBefore),
	}
}

func (c ownCall) assumeRole(ctx context.Context, in *v1.AssumeRoleInput) (any, error) {
	c.x.resource = in.RoleARN
	creds, who, err := c.access.AssumeRole(ctx, c.caller, access.AssumeRole{
		RoleARN: in.RoleARN, Session: in.SessionName, Duration: seconds(in.DurationSeconds), Policy: in.Policy,
	})
	if err != nil {
		return nil, err
	}
	c.x.assumed = who
	return v1.AssumeRoleOutput{Credentials: newCredentials(creds), AssumedRoleARN: who.ARN}, nil
}

func (c ownCall) createSession(ctx context.Context, in *v1.CreateSessionInput) (any, error) {
	creds, err := c.access.SessionToken(ctx, c.caller, seconds(in.DurationSeconds))
	if err != nil {
		return nil, err
	}
	return v1.CreateSessionOutput{Credentials: newCredentials(creds)}, nil
}

// seconds returns a duration; 0 is the default of whoever takes it.
func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
