package access

import (
	"context"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/access/federation"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// MaxIdentityProviders is how many identity providers an account may have.
const MaxIdentityProviders = 100

// Names of federation's types, for rooms that do not import it.
type (
	// ProviderSettings say whom a provider vouches for.
	ProviderSettings = federation.Settings
	// OIDCSettings are those of an issuer of OpenID Connect tokens.
	OIDCSettings = federation.OIDC
	// CertificateSettings are those of an authority of client certificates.
	CertificateSettings = federation.Certificate
	// AWSSettings are those of AWS.
	AWSSettings = federation.AWS
	// SignedRequest is a request to AWS's STS that was signed and not sent.
	SignedRequest = federation.SignedRequest
)

// IdentityProvider is whom an account lets vouch for workloads: an issuer of OpenID
// Connect tokens, an authority of certificates, or AWS. Roles trust it by its ARN.
type IdentityProvider struct {
	Account              string // twelve digits
	Name                 string // 1 to 64 letters, digits and _+=,.@-
	Settings             ProviderSettings
	CreatedAt, UpdatedAt time.Time

	principal string // what its ARN has behind the account
}

// ARN returns the name of the provider in trust policies, in the partition of a region.
func (p IdentityProvider) ARN(region string) string { return iamARN(p.Account, p.principal, region) }

// iamARN returns the ARN of something that an account has in IAM.
func iamARN(account, what, region string) string {
	return "arn:" + mesh.Partition(region) + ":iam::" + account + ":" + what
}

// ProviderResource returns what permissions to manage a provider are about, or the
// beginning of it for all providers of an account.
func ProviderResource(account, name, region string) string {
	return iamARN(account, "identity-provider/"+name, region)
}

// provider is an identity provider in the table.
type provider struct {
	record        store.Record
	account, name string
	providerValue
	parsed *federation.Provider // nil if it cannot be used
}

// info returns the provider as callers see it.
func (v *providerValue) info(account, name string, parsed *federation.Provider) IdentityProvider {
	p := IdentityProvider{Account: account, Name: name, Settings: v.Settings, CreatedAt: v.Created, UpdatedAt: later(v.Created, v.Updated)}
	if parsed != nil {
		p.principal = parsed.Name()
	}
	return p
}

func (a *Service) mayProvider(c store.Caller, action, account, name string) error {
	if err := checkName("identity provider", account, name); err != nil {
		return err
	}
	return permit(c, action, account, ProviderResource(account, name, c.Region))
}

// parseProvider reads settings. Its error is ErrBadRequest.
func (a *Service) parseProvider(name string, s ProviderSettings) (*federation.Provider, error) {
	p, err := a.verifier.Parse(name, s)
	if err != nil {
		return nil, mesh.Errorf(mesh.ErrBadRequest, "identity provider: %v", err)
	}
	return p, nil
}

// CreateIdentityProvider makes an identity provider. It needs iam:CreateIdentityProvider.
// The account must be there (ErrNotFound), no provider of its name or issuer
// (ErrConflict), fewer than MaxIdentityProviders (ErrLimitExceeded), and the settings
// right (ErrBadRequest).
func (a *Service) CreateIdentityProvider(ctx context.Context, c store.Caller, p IdentityProvider) (IdentityProvider, error) {
	if err := a.mayProvider(c, "iam:CreateIdentityProvider", p.Account, p.Name); err != nil {
		return IdentityProvider{}, err
	}
	parsed, err := a.parseProvider(p.Name, p.Settings)
	if err != nil {
		return IdentityProvider{}, err
	}
	now := a.timestamp()
	v := providerValue{Format: recordFormat, Created: now, Updated: now, Settings: p.Settings}
	what := "account " + p.Account
	err = retry(what, func(fresh bool) error {
		home, err := a.find(ctx, recordKey(p.Account, accountRecord), what, fresh)
		if err != nil {
			return err
		}
		t, err := a.tableAt(ctx, home.Revision)
		if err != nil {
			return err
		}
		others := below(t.providers, treeKey(p.Account, ""))
		for _, o := range others {
			if o.name == p.Name || o.parsed != nil && o.parsed.Name() == parsed.Name() {
				return mesh.Errorf(mesh.ErrConflict, "identity provider %s is already present, as %s", o.name, iamARN(p.Account, o.principal(), c.Region))
			}
		}
		if len(others) >= MaxIdentityProviders {
			return mesh.Errorf(mesh.ErrLimitExceeded, "account %s has %d identity providers, allowed are %d", p.Account, len(others), MaxIdentityProviders)
		}
		// The account's record is written as it is, so that of two who make a provider of
		// one issuer one must look again.
		ch := change{puts: []store.Record{home}}
		if err := ch.put(store.Record{Key: recordKey(p.Account, providerRecord, p.Name)}, v); err != nil {
			return err
		}
		return a.commit(ctx, ch)
	})
	return v.info(p.Account, p.Name, parsed), err
}

// principal returns what the provider's ARN has behind the account.
func (p *provider) principal() string {
	if p.parsed == nil {
		return "identity-provider/" + p.name
	}
	return p.parsed.Name()
}

// IdentityProvider returns an identity provider. It needs iam:GetIdentityProvider. The
// error is ErrNotFound if there is none.
func (a *Service) IdentityProvider(ctx context.Context, c store.Caller, account, name string) (IdentityProvider, error) {
	if err := a.mayProvider(c, "iam:GetIdentityProvider", account, name); err != nil {
		return IdentityProvider{}, err
	}
	var v providerValue
	if _, err := a.read(ctx, recordKey(account, providerRecord, name), "identity provider "+name, false, &v); err != nil {
		return IdentityProvider{}, err
	}
	return a.withARN(&v, account, name), nil
}

// withARN returns a provider as callers see it.
func (a *Service) withARN(v *providerValue, account, name string) IdentityProvider {
	parsed, err := a.verifier.Parse(name, v.Settings)
	if err != nil {
		parsed = nil // said in the log when the record was read
	}
	return v.info(account, name, parsed)
}

// IdentityProviders returns the identity providers of an account by name, as this replica
// knows them. It needs iam:ListIdentityProviders on arn:aws:iam::ACCOUNT:identity-provider/.
func (a *Service) IdentityProviders(ctx context.Context, c store.Caller, account string) ([]IdentityProvider, error) {
	if err := checkAccount(account); err != nil {
		return nil, err
	}
	if err := permit(c, "iam:ListIdentityProviders", account, ProviderResource(account, "", c.Region)); err != nil {
		return nil, err
	}
	if err := a.accountPresent(ctx, account); err != nil {
		return nil, err
	}
	known := below(a.table.Load().providers, treeKey(account, ""))
	all := make([]IdentityProvider, len(known))
	for i, p := range known {
		all[i] = p.info(account, p.name, p.parsed)
	}
	return all, nil
}

// UpdateIdentityProvider replaces the settings of an identity provider. Neither its kind
// nor its issuer can change, because roles trust it by them. It needs
// iam:UpdateIdentityProvider. The errors are ErrNotFound and ErrBadRequest. Sessions that
// are there go on.
func (a *Service) UpdateIdentityProvider(ctx context.Context, c store.Caller, p IdentityProvider) (IdentityProvider, error) {
	if err := a.mayProvider(c, "iam:UpdateIdentityProvider", p.Account, p.Name); err != nil {
		return IdentityProvider{}, err
	}
	parsed, err := a.parseProvider(p.Name, p.Settings)
	if err != nil {
		return IdentityProvider{}, err
	}
	what := "identity provider " + p.Name
	v, err := alter(ctx, a, recordKey(p.Account, providerRecord, p.Name), what, func(v *providerValue) error {
		if before := a.withARN(v, p.Account, p.Name).principal; before != "" && before != parsed.Name() {
			return mesh.Errorf(mesh.ErrBadRequest, "%s is %s, which cannot become %s: make another one", what, before, parsed.Name())
		}
		v.Settings, v.Updated = p.Settings, a.timestamp()
		return nil
	})
	return v.info(p.Account, p.Name, parsed), err
}

// DeleteIdentityProvider removes an identity provider, and returns it as it was. Nobody
// gets a session through it any more; those that are there go on until they are revoked
// with their role's or end. It needs iam:DeleteIdentityProvider. The error is ErrNotFound
// if there is none.
func (a *Service) DeleteIdentityProvider(ctx context.Context, c store.Caller, account, name string) (IdentityProvider, error) {
	if err := a.mayProvider(c, "iam:DeleteIdentityProvider", account, name); err != nil {
		return IdentityProvider{}, err
	}
	what := "identity provider " + name
	var v providerValue
	err := retry(what, func(fresh bool) error {
		v = providerValue{}
		rec, err := a.read(ctx, recordKey(account, providerRecord, name), what, fresh, &v)
		if err != nil {
			return err
		}
		return a.commit(ctx, change{deletes: []store.Record{rec}})
	})
	return a.withARN(&v, account, name), err
}
