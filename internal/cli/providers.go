package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/fairlead-mesh/fairlead/api/client"
)

// ProviderSettings are what an identity provider is made with or changed to. Which kind
// it is follows from what is given.
type ProviderSettings struct {
	// Issuer, Audiences and the files CA and KeySet are those of an issuer of OpenID
	// Connect tokens.
	Issuer     string
	Audiences  []string
	CA, KeySet string
	// Anchors and Lists are the files of an authority of certificates.
	Anchors, Lists string
	// Accounts, Regions and Endpoints are those of AWS.
	Accounts, Regions, Endpoints []string
}

// kinds returns which kinds of provider the settings are about.
func (p ProviderSettings) kinds() []string {
	var kinds []string
	for _, k := range []struct {
		flags string
		given bool
	}{
		{"--issuer, --audience, --ca-cert and --key-set", p.Issuer != "" || len(p.Audiences) > 0 || p.CA != "" || p.KeySet != ""},
		{"--trust-anchors and --revocation-lists", p.Anchors != "" || p.Lists != ""},
		{"--aws-account, --aws-region and --sts-endpoint", len(p.Accounts) > 0 || len(p.Regions) > 0 || len(p.Endpoints) > 0},
	} {
		if k.given {
			kinds = append(kinds, k.flags)
		}
	}
	return kinds
}

// providerParts are the three kinds of settings; one is set.
type providerParts struct {
	oidc        *client.OidcProvider
	certificate *client.CertificateProvider
	aws         *client.AwsProvider
}

// lay lays the settings over what a provider has, and reads the files that they name.
func (p ProviderSettings) lay(in io.Reader, have providerParts) (providerParts, error) {
	kinds := p.kinds()
	if len(kinds) > 1 {
		return have, usagef("%s exclude %s: a provider is of one kind", kinds[0], kinds[1])
	}
	if len(kinds) == 0 {
		return have, usagef("the provider's settings are missing: --issuer and --audience, or --trust-anchors, or --aws-account")
	}
	var err error
	read := func(path string, to *string) {
		if path == "" || err != nil {
			return
		}
		var raw []byte
		if raw, err = readInput(in, path); err == nil {
			*to = strings.TrimSpace(string(raw)) + "\n"
		}
	}
	switch {
	case p.Anchors != "" || p.Lists != "":
		have.certificate = orNew(have.certificate)
		read(p.Anchors, &have.certificate.TrustAnchors)
		read(p.Lists, &have.certificate.RevocationLists)
	case len(p.Accounts) > 0 || len(p.Regions) > 0 || len(p.Endpoints) > 0:
		have.aws = orNew(have.aws)
		replace(&have.aws.AccountIds, p.Accounts)
		replace(&have.aws.Regions, p.Regions)
		replace(&have.aws.Endpoints, p.Endpoints)
	default:
		have.oidc = orNew(have.oidc)
		if p.Issuer != "" {
			have.oidc.Issuer = p.Issuer
		}
		replace(&have.oidc.Audiences, p.Audiences)
		read(p.CA, &have.oidc.CaCertificate)
		var keys string
		if read(p.KeySet, &keys); keys != "" && err == nil {
			if !json.Valid([]byte(keys)) {
				return have, fmt.Errorf("%s holds no JSON Web Key Set, which is a JSON object", p.KeySet)
			}
			have.oidc.KeySet = json.RawMessage(keys)
		}
	}
	return have, err
}

func orNew[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}

func replace(to *[]string, by []string) {
	if len(by) > 0 {
		*to = by
	}
}

// readInput reads a file, or the input for "-".
func readInput(in io.Reader, path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(in)
	}
	return os.ReadFile(path)
}

func printProviders(term Terminal, form string, list []client.IdentityProvider, one bool) error {
	if form == FormJSON && one {
		return printJSON(term, list[0])
	}
	if form == FormJSON {
		return printJSON(term, append([]client.IdentityProvider{}, list...))
	}
	t := &table{head: []string{"PROVIDER", "TYPE", "OF", "CREATED", "ARN"}}
	for _, p := range list {
		of := ""
		switch {
		case p.Oidc != nil:
			of = joined(p.Oidc.Audiences)
		case p.Aws != nil:
			of = joined(p.Aws.AccountIds)
		}
		t.add(p.ProviderName, p.Type, of, day(p.CreatedAt), p.ARN)
	}
	return t.printOr(term, "there is no identity provider")
}

// CreateIdentityProvider makes an identity provider.
func CreateIdentityProvider(ctx context.Context, s *Session, term Terminal, name string, set ProviderSettings) error {
	p, err := set.lay(term.In, providerParts{})
	if err != nil {
		return err
	}
	out, err := ask(ctx, s, s.own.CreateIdentityProvider, &client.CreateIdentityProviderInput{ProviderName: name, Oidc: p.oidc, Certificate: p.certificate, Aws: p.aws})
	if err != nil {
		return err
	}
	return printProviders(term, FormTable, []client.IdentityProvider{out.IdentityProvider}, true)
}

// UpdateIdentityProvider changes what is given of an identity provider.
func UpdateIdentityProvider(ctx context.Context, s *Session, term Terminal, name string, set ProviderSettings) error {
	if kinds := set.kinds(); len(kinds) != 1 {
		_, err := set.lay(term.In, providerParts{})
		return err
	}
	now, err := ask(ctx, s, s.own.DescribeIdentityProvider, &client.DescribeIdentityProviderInput{ProviderName: name})
	if err != nil {
		return err
	}
	have := now.IdentityProvider
	p, err := set.lay(term.In, providerParts{have.Oidc, have.Certificate, have.Aws})
	if err != nil {
		return err
	}
	out, err := ask(ctx, s, s.own.UpdateIdentityProvider, &client.UpdateIdentityProviderInput{ProviderName: name, Oidc: p.oidc, Certificate: p.certificate, Aws: p.aws})
	if err != nil {
		return err
	}
	return printProviders(term, FormTable, []client.IdentityProvider{out.IdentityProvider}, true)
}

// ListIdentityProviders prints the identity providers of the caller's account.
func ListIdentityProviders(ctx context.Context, s *Session, term Terminal, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	list, err := all(ctx, s, s.own.AllIdentityProviders, &client.ListIdentityProvidersInput{})
	if err != nil {
		return err
	}
	return printProviders(term, form, list, false)
}

// GetIdentityProvider prints one identity provider; as JSON with its settings.
func GetIdentityProvider(ctx context.Context, s *Session, term Terminal, name, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	out, err := ask(ctx, s, s.own.DescribeIdentityProvider, &client.DescribeIdentityProviderInput{ProviderName: name})
	if err != nil {
		return err
	}
	return printProviders(term, form, []client.IdentityProvider{out.IdentityProvider}, true)
}

// DeleteIdentityProvider deletes an identity provider.
func DeleteIdentityProvider(ctx context.Context, s *Session, term Terminal, name string) error {
	if _, err := ask(ctx, s, s.own.DeleteIdentityProvider, &client.DeleteIdentityProviderInput{ProviderName: name}); err != nil {
		return err
	}
	term.printf("identity provider %s deleted\n", printable(name))
	return nil
}
