package access

import (
	"context"
	"encoding/json"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Bounds of what a role's MaxSession may be, and what it is if nothing is said.
const (
	MinSession         = 15 * time.Minute
	MaxRoleSession     = 12 * time.Hour
	DefaultRoleSession = time.Hour
)

// Role is a role of an account: permissions that users, and other roles, can take
// on for a while.
type Role struct {
	Account string // twelve digits
	Name    string // 1 to 64 letters, digits and _+=,.@-
	// UID tells the role from others of the same name, before and after. It is given
	// by CreateRole.
	UID string
	// TrustPolicy says who may assume the role: an IAM policy document with
	// Principal in place of Resource.
	TrustPolicy json.RawMessage
	// Policies holds IAM policy documents by name; see ParsePolicy.
	Policies map[string]json.RawMessage
	// MaxSession is how long a session may last: whole seconds, MinSession to
	// MaxRoleSession.
	MaxSession           time.Duration
	CreatedAt, UpdatedAt time.Time
	// RevokedBefore is when the sessions of the role were last revoked; zero for never.
	RevokedBefore time.Time
}

// ARN returns the Amazon Resource Name of the role, in the partition of a region.
func (r Role) ARN(region string) string { return roleARN(r.Account, r.Name, region) }

// roleARN returns the Amazon Resource Name of a role, or the beginning of those of
// all roles of an account.
func roleARN(account, name, region string) string {
	return "arn:" + mesh.Partition(region) + ":iam::" + account + ":role/" + name
}

func (v *roleValue) role(account, name string) Role {
	return Role{
		Account: account, Name: name, UID: v.UID, TrustPolicy: v.Trust, Policies: v.Policies,
		MaxSession: time.Duration(v.MaxSession) * time.Second,
		CreatedAt:  v.Created, UpdatedAt: later(v.Created, v.Updated), RevokedBefore: v.Revoked,
	}
}

// mayRole checks a role's name and whether the caller may do an action to it.
func (a *Service) mayRole(c store.Caller, action, account, name string) error {
	if err := checkName("role", account, name); err != nil {
		return err
	}
	return permit(c, action, account, roleARN(account, name, c.Region))
}

// checkTrust refuses a trust policy that a role of an account cannot have.
func checkTrust(document json.RawMessage, account string) error {
	p, err := parsePolicy(document, trustPolicy)
	if err != nil {
		return mesh.Errorf(mesh.ErrBadRequest, "trust policy: %v", err)
	}
	for _, s := range p.statements {
		for _, who := range s.principals {
			if who.federated != noFederation && who.account != account {
				return mesh.Errorf(mesh.ErrBadRequest, "trust policy: identity provider %s is one of account %s, allowed are those of the role's own account, %s", who.name, who.account, account)
			}
		}
	}
	return nil
}

func checkMaxSession(d time.Duration) error {
	if d < MinSession || d > MaxRoleSession || d%time.Second != 0 {
		return mesh.Errorf(mesh.ErrBadRequest, "the longest session of a role cannot be %s: allowed are whole seconds, %d to %d",
			d, int(MinSession.Seconds()), int(MaxRoleSession.Seconds()))
	}
	return nil
}

// CreateRole makes a role. MaxSession 0 stands for DefaultRoleSession. It needs
// iam:CreateRole on the role, and iam:PutRolePolicy too if there are policies. The
// account must be there (ErrNotFound), the role not (ErrConflict), and the policies
// readable (ErrBadRequest).
func (a *Service) CreateRole(ctx context.Context, c store.Caller, r Role) (Role, error) {
	if err := a.mayRole(c, "iam:CreateRole", r.Account, r.Name); err != nil {
		return Role{}, err
	}
	if len(r.Policies) > 0 {
		if err := a.mayRole(c, "iam:PutRolePolicy", r.Account, r.Name); err != nil {
			return Role{}, err
		}
	}
	if r.MaxSession == 0 {
		r.MaxSession = DefaultRoleSession
	}
	if err := checkRole(r); err != nil {
		return Role{}, err
	}
	if err := a.accountPresent(ctx, r.Account); err != nil {
		return Role{}, err
	}
	now := a.timestamp()
	v := roleValue{
		Format: recordFormat, Created: now, Updated: now, UID: randomID(), Trust: r.TrustPolicy, Policies: r.Policies,
		MaxSession: int64(r.MaxSession / time.Second),
	}
	return v.role(r.Account, r.Name), a.create(ctx, recordKey(r.Account, roleRecord, r.Name), "role "+r.Name, v)
}

func checkRole(r Role) error {
	if err := checkTrust(r.TrustPolicy, r.Account); err != nil {
		return err
	}
	if err := checkPolicies(r.Policies); err != nil {
		return err
	}
	return checkMaxSession(r.MaxSession)
}

// Role returns a role. It needs iam:GetRole. The error is ErrNotFound if there is
// none.
func (a *Service) Role(ctx context.Context, c store.Caller, account, name string) (Role, error) {
	if err := a.mayRole(c, "iam:GetRole", account, name); err != nil {
		return Role{}, err
	}
	var v roleValue
	_, err := a.read(ctx, recordKey(account, roleRecord, name), "role "+name, false, &v)
	return v.role(account, name), err
}

// Roles returns the roles of an account by name, as this replica knows them. It
// needs iam:ListRoles on arn:aws:iam::ACCOUNT:role/.
func (a *Service) Roles(ctx context.Context, c store.Caller, account string) ([]Role, error) {
	if err := checkAccount(account); err != nil {
		return nil, err
	}
	if err := permit(c, "iam:ListRoles", account, roleARN(account, "", c.Region)); err != nil {
		return nil, err
	}
	if err := a.accountPresent(ctx, account); err != nil {
		return nil, err
	}
	known := below(a.table.Load().roles, treeKey(account, ""))
	roles := make([]Role, len(known))
	for i, r := range known {
		roles[i] = r.role(account, r.name)
	}
	return roles, nil
}

// UpdateRole changes what is given of a role: TrustPolicy (it needs
// iam:UpdateAssumeRolePolicy), Policies (iam:PutRolePolicy; all of them are
// replaced) and MaxSession (iam:UpdateRole). What is nil or 0 stays. Sessions that
// are there get the new policies at once, and keep their time.
func (a *Service) UpdateRole(ctx context.Context, c store.Caller, r Role) (Role, error) {
	if err := a.mayUpdateRole(c, r); err != nil {
		return Role{}, err
	}
	if r.TrustPolicy != nil {
		if err := checkTrust(r.TrustPolicy, r.Account); err != nil {
			return Role{}, err
		}
	}
	if r.MaxSession != 0 {
		if err := checkMaxSession(r.MaxSession); err != nil {
			return Role{}, err
		}
	}
	if err := checkPolicies(r.Policies); err != nil {
		return Role{}, err
	}
	v, err := alter(ctx, a, recordKey(r.Account, roleRecord, r.Name), "role "+r.Name, func(v *roleValue) error {
		if r.TrustPolicy != nil {
			v.Trust = r.TrustPolicy
		}
		if r.Policies != nil {
			v.Policies = r.Policies
		}
		if r.MaxSession != 0 {
			v.MaxSession = int64(r.MaxSession / time.Second)
		}
		v.Updated = a.timestamp()
		return nil
	})
	return v.role(r.Account, r.Name), err
}

// mayUpdateRole asks for all that an UpdateRole wants to do.
func (a *Service) mayUpdateRole(c store.Caller, r Role) error {
	var actions []string
	if r.TrustPolicy != nil {
		actions = append(actions, "iam:UpdateAssumeRolePolicy")
	}
	if r.Policies != nil {
		actions = append(actions, "iam:PutRolePolicy")
	}
	if r.MaxSession != 0 || len(actions) == 0 {
		actions = append(actions, "iam:UpdateRole")
	}
	for _, action := range actions {
		if err := a.mayRole(c, action, r.Account, r.Name); err != nil {
			return err
		}
	}
	return nil
}

// DeleteRole removes a role, and returns it as it was. Its sessions are void at once,
// also if another of the same name is made. It needs iam:DeleteRole. The error is
// ErrNotFound if there is none.
func (a *Service) DeleteRole(ctx context.Context, c store.Caller, account, name string) (Role, error) {
	if err := a.mayRole(c, "iam:DeleteRole", account, name); err != nil {
		return Role{}, err
	}
	var v roleValue
	err := retry("role "+name, func(fresh bool) error {
		v = roleValue{}
		rec, err := a.read(ctx, recordKey(account, roleRecord, name), "role "+name, fresh, &v)
		if err != nil {
			return err
		}
		return a.commit(ctx, change{deletes: []store.Record{rec}})
	})
	return v.role(account, name), err
}

// RevokeSessions makes every session of a role void that has been issued so far. It
// needs iam:PutRolePolicy. New ones can be had at once by whom the role trusts. The
// error is ErrNotFound if there is no such role.
func (a *Service) RevokeSessions(ctx context.Context, c store.Caller, account, name string) (Role, error) {
	if err := a.mayRole(c, "iam:PutRolePolicy", account, name); err != nil {
		return Role{}, err
	}
	v, err := alter(ctx, a, recordKey(account, roleRecord, name), "role "+name, func(v *roleValue) error {
		v.Era++
		v.Revoked = a.timestamp()
		return nil
	})
	return v.role(account, name), err
}
