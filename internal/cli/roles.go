package cli

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/fairlead-mesh/fairlead/api/client"
)

// RoleSettings are what a role is made with or changed to; what is empty stays, or is the
// server's default.
type RoleSettings struct {
	// Trust is the file of the trust policy: who may assume the role.
	Trust string
	Policies
	// MaxSession is how long a session may last.
	MaxSession time.Duration
}

func wholeSeconds(flag string, d time.Duration) (int, error) {
	if d < 0 || d%time.Second != 0 {
		return 0, usagef("--%s %s is not allowed: whole seconds, for example 1h or 900s", flag, d)
	}
	return int(d / time.Second), nil
}

func printRoles(term Terminal, form string, list []client.Role, one bool) error {
	if form == FormJSON && one {
		return printJSON(term, list[0])
	}
	if form == FormJSON {
		return printJSON(term, append([]client.Role{}, list...))
	}
	t := &table{head: []string{"ROLE", "POLICIES", "MAX SESSION", "CREATED", "REVOKED", "ARN"}}
	for _, r := range list {
		revoked := ""
		if !r.SessionsRevokedAt.IsZero() {
			revoked = day(r.SessionsRevokedAt)
		}
		t.add(r.RoleName, joined(slices.Sorted(maps.Keys(r.Policies))), span(r.MaxSessionSeconds), day(r.CreatedAt), revoked, r.ARN)
	}
	return t.printOr(term, "there is no role")
}

// CreateRole makes a role.
func CreateRole(ctx context.Context, s *Session, term Terminal, name string, set RoleSettings) error {
	if set.Trust == "" {
		return usagef("--trust is required: a file with the policy document that says who may assume the role")
	}
	in := &client.CreateRoleInput{RoleName: name}
	var err error
	if in.TrustPolicy, err = readPolicy(term.In, set.Trust); err != nil {
		return err
	}
	if in.Policies, err = set.Policies.read(term.In); err != nil {
		return err
	}
	if in.MaxSessionSeconds, err = wholeSeconds("max-session", set.MaxSession); err != nil {
		return err
	}
	out, err := ask(ctx, s, s.own.CreateRole, in)
	if err != nil {
		return err
	}
	return printRoles(term, FormTable, []client.Role{out.Role}, true)
}

// UpdateRole changes a role.
func UpdateRole(ctx context.Context, s *Session, term Terminal, name string, set RoleSettings) error {
	in := &client.UpdateRoleInput{RoleName: name}
	var err error
	if set.Trust != "" {
		if in.TrustPolicy, err = readPolicy(term.In, set.Trust); err != nil {
			return err
		}
	}
	if in.Policies, err = set.Policies.read(term.In); err != nil {
		return err
	}
	if in.MaxSessionSeconds, err = wholeSeconds("max-session", set.MaxSession); err != nil {
		return err
	}
	if in.TrustPolicy == nil && in.Policies == nil && in.MaxSessionSeconds == 0 {
		return usagef("nothing to change is given: --trust, --policy, --administrator, --no-policies or --max-session")
	}
	out, err := ask(ctx, s, s.own.UpdateRole, in)
	if err != nil {
		return err
	}
	return printRoles(term, FormTable, []client.Role{out.Role}, true)
}

// ListRoles prints the roles of the caller's account.
func ListRoles(ctx context.Context, s *Session, term Terminal, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	list, err := all(ctx, s, s.own.AllRoles, &client.ListRolesInput{})
	if err != nil {
		return err
	}
	return printRoles(term, form, list, false)
}

// GetRole prints one role; as JSON with its policies.
func GetRole(ctx context.Context, s *Session, term Terminal, name, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	out, err := ask(ctx, s, s.own.DescribeRole, &client.DescribeRoleInput{RoleName: name})
	if err != nil {
		return err
	}
	return printRoles(term, form, []client.Role{out.Role}, true)
}

// DeleteRole deletes a role; its sessions end.
func DeleteRole(ctx context.Context, s *Session, term Terminal, name string) error {
	if _, err := ask(ctx, s, s.own.DeleteRole, &client.DeleteRoleInput{RoleName: name}); err != nil {
		return err
	}
	term.printf("role %s deleted\n", printable(name))
	return nil
}

// RevokeSessions makes all sessions of a role void that began before now.
func RevokeSessions(ctx context.Context, s *Session, term Terminal, name string) error {
	if _, err := ask(ctx, s, s.own.RevokeRoleSessions, &client.RevokeRoleSessionsInput{RoleName: name}); err != nil {
		return err
	}
	term.printf("all sessions of role %s are void\n", printable(name))
	return nil
}

// span words a number of seconds: 1h, 90m, 45s.
func span(n int) string {
	switch {
	case n%3600 == 0:
		return digits(n/3600) + "h"
	case n%60 == 0:
		return digits(n/60) + "m"
	}
	return digits(n) + "s"
}
