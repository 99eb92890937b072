package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/fairlead-mesh/fairlead/api/client"
)

func digits(n int) string { return strconv.Itoa(n) }

func printUsers(term Terminal, form string, list []client.User, one bool) error {
	if form == FormJSON && one {
		return printJSON(term, list[0])
	}
	if form == FormJSON {
		return printJSON(term, append([]client.User{}, list...))
	}
	t := &table{head: []string{"USER", "POLICIES", "CREATED", "ARN"}}
	for _, u := range list {
		t.add(u.UserName, joined(slices.Sorted(maps.Keys(u.Policies))), day(u.CreatedAt), u.ARN)
	}
	return t.printOr(term, "there is no user")
}

// CreateUser makes a user, without an access key.
func CreateUser(ctx context.Context, s *Session, term Terminal, name string, p Policies) error {
	policies, err := p.read(term.In)
	if err != nil {
		return err
	}
	out, err := ask(ctx, s, s.own.CreateUser, &client.CreateUserInput{UserName: name, Policies: policies})
	if err != nil {
		return err
	}
	return printUsers(term, FormTable, []client.User{out.User}, true)
}

// ListUsers prints the users of the caller's account.
func ListUsers(ctx context.Context, s *Session, term Terminal, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	list, err := all(ctx, s, s.own.AllUsers, &client.ListUsersInput{})
	if err != nil {
		return err
	}
	return printUsers(term, form, list, false)
}

// GetUser prints one user; as JSON with its policies.
func GetUser(ctx context.Context, s *Session, term Terminal, name, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	out, err := ask(ctx, s, s.own.DescribeUser, &client.DescribeUserInput{UserName: name})
	if err != nil {
		return err
	}
	return printUsers(term, form, []client.User{out.User}, true)
}

// SetPolicies gives a user other policies in place of those that it has.
func SetPolicies(ctx context.Context, s *Session, term Terminal, name string, p Policies) error {
	policies, err := p.read(term.In)
	if err != nil {
		return err
	}
	if policies == nil {
		return usagef("--policy NAME=FILE is required, or --administrator, or --no-policies to take all away")
	}
	out, err := ask(ctx, s, s.own.UpdateUser, &client.UpdateUserInput{UserName: name, Policies: policies})
	if err != nil {
		return err
	}
	return printUsers(term, FormTable, []client.User{out.User}, true)
}

// DeleteUser deletes a user with its access keys.
func DeleteUser(ctx context.Context, s *Session, term Terminal, name string) error {
	if _, err := ask(ctx, s, s.own.DeleteUser, &client.DeleteUserInput{UserName: name}); err != nil {
		return err
	}
	term.printf("user %s deleted, with its access keys\n", printable(name))
	return nil
}

// Access keys.

func printKeys(term Terminal, form string, list []client.AccessKey) error {
	if form == FormJSON {
		return printJSON(term, append([]client.AccessKey{}, list...))
	}
	t := &table{head: []string{"ACCESS KEY", "USER", "STATUS", "CREATED", "LAST USED"}}
	for _, k := range list {
		used := "never"
		if !k.LastUsedAt.IsZero() {
			used = day(k.LastUsedAt)
		}
		t.add(k.AccessKeyID, k.UserName, k.Status, day(k.CreatedAt), used)
	}
	return t.printOr(term, "the user has no access key")
}

func (s *Session) keys(ctx context.Context, user string) ([]client.AccessKey, error) {
	list, err := all(ctx, s, s.own.AllAccessKeys, &client.ListAccessKeysInput{UserName: user})
	slices.SortStableFunc(list, func(a, b client.AccessKey) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return list, err
}

// CreateKey makes an access key, and prints or writes it.
func CreateKey(ctx context.Context, s *Session, term Terminal, user string, keep Keeping) error {
	k, err := keep.prepare()
	if err != nil {
		return err
	}
	defer k.drop()
	out, err := ask(ctx, s, s.own.CreateAccessKey, &client.CreateAccessKeyInput{UserName: user})
	if err != nil {
		return err
	}
	if keep.JSON {
		return printJSON(term, out)
	}
	return k.keep(term, client.Credentials{AccessKeyID: out.AccessKey.AccessKeyID, SecretAccessKey: out.SecretAccessKey})
}

// ListKeys prints a user's access keys, without their secrets.
func ListKeys(ctx context.Context, s *Session, term Terminal, user, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	list, err := s.keys(ctx, user)
	if err != nil {
		return err
	}
	return printKeys(term, form, list)
}

// SetKey activates or deactivates an access key.
func SetKey(ctx context.Context, s *Session, term Terminal, user, id string, active bool) error {
	status := client.AccessKeyStatusInactive
	if active {
		status = client.AccessKeyStatusActive
	}
	out, err := ask(ctx, s, s.own.UpdateAccessKey, &client.UpdateAccessKeyInput{UserName: user, AccessKeyID: id, Status: status})
	if err != nil {
		return err
	}
	return printKeys(term, FormTable, []client.AccessKey{out.AccessKey})
}

// DeleteKey deletes an access key.
func DeleteKey(ctx context.Context, s *Session, term Terminal, user, id string) error {
	if _, err := ask(ctx, s, s.own.DeleteAccessKey, &client.DeleteAccessKeyInput{UserName: user, AccessKeyID: id}); err != nil {
		return err
	}
	term.printf("access key %s deleted\n", printable(id))
	return nil
}

// RotateKey makes a second access key beside a user's only one, and tells how to go on.
func RotateKey(ctx context.Context, s *Session, term Terminal, user string, keep Keeping) error {
	list, err := s.keys(ctx, user)
	switch {
	case err != nil:
		return err
	case len(list) == 0:
		return fmt.Errorf("user %s has no access key yet: 'fairlead key create %s' makes one", user, user)
	case len(list) > 1:
		return fmt.Errorf("user %s has two access keys, %s (%s) and %s (%s): finish with 'fairlead key rotate %s --retire-old', or delete one by 'fairlead key delete'",
			user, list[0].AccessKeyID, list[0].Status, list[1].AccessKeyID, list[1].Status, user)
	}
	if err := CreateKey(ctx, s, term, user, keep); err != nil {
		return err
	}
	fmt.Fprintf(term.Err, "next: put the new key to use; then 'fairlead key rotate %s --retire-old' deactivates %s\n", user, list[0].AccessKeyID)
	return nil
}

// RetireKey deactivates the older of a user's two active access keys.
func RetireKey(ctx context.Context, s *Session, term Terminal, user string) error {
	list, err := s.keys(ctx, user)
	if err != nil {
		return err
	}
	var active []client.AccessKey
	for _, k := range list {
		if k.Status == client.AccessKeyStatusActive {
			active = append(active, k)
		}
	}
	if len(active) != 2 {
		return fmt.Errorf("user %s has %s, and two are needed to retire the older one: see 'fairlead key list %s'", user, plural(len(active), "active access key", "active access keys"), user)
	}
	old := active[0]
	creds, err := s.aws.Credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("getting credentials: %w", err)
	}
	if creds.AccessKeyID == old.AccessKeyID {
		return fmt.Errorf("%s is the key that this command signs with: put the new key to use first", old.AccessKeyID)
	}
	if err := SetKey(ctx, s, term, user, old.AccessKeyID, false); err != nil {
		return err
	}
	fmt.Fprintf(term.Err, "next: if nothing misses it, 'fairlead key delete %s %s'; if something does, 'fairlead key activate %s %s'\n", user, old.AccessKeyID, user, old.AccessKeyID)
	return nil
}
