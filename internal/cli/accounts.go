package cli

import (
	"context"
	"time"

	"github.com/fairlead-mesh/fairlead/api/client"
)

func checkTableOrJSON(form string) error { return checkForm(form, FormTable, FormJSON) }

// day words a time in a table.
func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

func printAccounts(term Terminal, form string, list []client.Account, one bool) error {
	if form == FormJSON && one {
		return printJSON(term, list[0])
	}
	if form == FormJSON {
		return printJSON(term, append([]client.Account{}, list...))
	}
	t := &table{head: []string{"ACCOUNT", "NAME", "STATUS", "CREATED", ""}}
	for _, a := range list {
		note := ""
		if a.Management {
			note = "management"
		}
		t.add(a.AccountID, a.AccountName, a.Status, day(a.CreatedAt), note)
	}
	return t.printOr(term, "there is no account")
}

// CreateAccount makes an account with an administrator, whose access key it prints or writes.
// An empty id lets the server choose one.
func CreateAccount(ctx context.Context, s *Session, term Terminal, id, name string, keep Keeping) error {
	k, err := keep.prepare()
	if err != nil {
		return err
	}
	defer k.drop()
	out, err := ask(ctx, s, s.own.CreateAccount, &client.CreateAccountInput{AccountID: id, AccountName: name})
	if err != nil {
		return err
	}
	if keep.JSON {
		return printJSON(term, out)
	}
	term.printf("# account %s (%s) is made; its user is \"administrator\"\n", out.Account.AccountID, printable(out.Account.AccountName))
	return k.keep(term, out.Credentials)
}

// ListAccounts prints all accounts.
func ListAccounts(ctx context.Context, s *Session, term Terminal, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	list, err := all(ctx, s, s.own.AllAccounts, &client.ListAccountsInput{})
	if err != nil {
		return err
	}
	return printAccounts(term, form, list, false)
}

// GetAccount prints one account.
func GetAccount(ctx context.Context, s *Session, term Terminal, id, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	out, err := ask(ctx, s, s.own.DescribeAccount, &client.DescribeAccountInput{AccountID: id})
	if err != nil {
		return err
	}
	return printAccounts(term, form, []client.Account{out.Account}, true)
}

// UpdateAccount renames an account, suspends it, or lets it go on; what is empty stays.
func UpdateAccount(ctx context.Context, s *Session, term Terminal, id, name, status string) error {
	out, err := ask(ctx, s, s.own.UpdateAccount, &client.UpdateAccountInput{AccountID: id, AccountName: name, Status: status})
	if err != nil {
		return err
	}
	return printAccounts(term, FormTable, []client.Account{out.Account}, true)
}

// DeleteAccount deletes an account that has no mesh any more.
func DeleteAccount(ctx context.Context, s *Session, term Terminal, id string) error {
	if _, err := ask(ctx, s, s.own.DeleteAccount, &client.DeleteAccountInput{AccountID: id}); err != nil {
		return err
	}
	term.printf("account %s deleted\n", printable(id))
	return nil
}

// Quotas.

func printQuotas(term Terminal, form string, list []client.Quota) error {
	if form == FormJSON {
		return printJSON(term, append([]client.Quota{}, list...))
	}
	t := &table{head: []string{"QUOTA", "VALUE", "DEFAULT", "APP MESH", "MEANING"}}
	for _, q := range list {
		t.add(q.Name, digits(q.Value), digits(q.Default), digits(q.AppMeshDefault), q.Title)
	}
	return t.printOr(term, "there are no quotas")
}

// ListQuotas prints the quotas of an account, the caller's if it is empty.
func ListQuotas(ctx context.Context, s *Session, term Terminal, account, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	list, err := all(ctx, s, s.own.AllQuotas, &client.ListQuotasInput{AccountID: account})
	if err != nil {
		return err
	}
	return printQuotas(term, form, list)
}

// SetQuota gives a quota of an account a value.
func SetQuota(ctx context.Context, s *Session, term Terminal, account, name string, value int) error {
	out, err := ask(ctx, s, s.own.UpdateQuota, &client.UpdateQuotaInput{AccountID: account, QuotaName: name, Value: value})
	if err != nil {
		return err
	}
	return printQuotas(term, FormTable, []client.Quota{out.Quota})
}

// ResetQuota gives a quota of an account its default value.
func ResetQuota(ctx context.Context, s *Session, term Terminal, account, name string) error {
	out, err := ask(ctx, s, s.own.ResetQuota, &client.ResetQuotaInput{AccountID: account, QuotaName: name})
	if err != nil {
		return err
	}
	return printQuotas(term, FormTable, []client.Quota{out.Quota})
}

// ApplyQuotaSet gives all quotas of an account the values of a named set.
func ApplyQuotaSet(ctx context.Context, s *Session, term Terminal, account, set string) error {
	out, err := ask(ctx, s, s.own.ApplyQuotaSet, &client.ApplyQuotaSetInput{AccountID: account, Set: set})
	if err != nil {
		return err
	}
	return printQuotas(term, FormTable, out.Quotas)
}

// Shares.

// ShareMesh shares a mesh of the caller's with an account.
func ShareMesh(ctx context.Context, s *Session, term Terminal, meshName, account string) error {
	if _, err := ask(ctx, s, s.own.CreateShare, &client.CreateShareInput{MeshName: meshName, AccountID: account}); err != nil {
		return err
	}
	term.printf("mesh %s is shared with account %s\n", printable(meshName), printable(account))
	return nil
}

// UnshareMesh ends the sharing of a mesh with an account.
func UnshareMesh(ctx context.Context, s *Session, term Terminal, meshName, account string) error {
	if _, err := ask(ctx, s, s.own.DeleteShare, &client.DeleteShareInput{MeshName: meshName, AccountID: account}); err != nil {
		return err
	}
	term.printf("mesh %s is no longer shared with account %s\n", printable(meshName), printable(account))
	return nil
}

// ListShares prints the accounts that a mesh is shared with.
func ListShares(ctx context.Context, s *Session, term Terminal, meshName, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	list, err := all(ctx, s, s.own.AllShares, &client.ListSharesInput{MeshName: meshName})
	if err != nil {
		return err
	}
	if form == FormJSON {
		return printJSON(term, append([]client.Share{}, list...))
	}
	t := &table{head: []string{"ACCOUNT", "MESH", "SINCE"}}
	for _, x := range list {
		t.add(x.AccountID, x.MeshName, day(x.CreatedAt))
	}
	return t.printOr(term, "the mesh is shared with no account")
}
