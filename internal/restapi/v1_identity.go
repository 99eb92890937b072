package restapi

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
)

// aimProvider says for the audit log which identity provider is meant.
func (c ownCall) aimProvider(name string) {
	c.x.resource = access.ProviderResource(c.caller.Account, name, c.caller.Region)
}

func (c ownCall) createIdentityProvider(ctx context.Context, in *v1.CreateIdentityProviderInput) (any, error) {
	c.aimProvider(in.ProviderName)
	p, err := c.access.CreateIdentityProvider(ctx, c.caller.Caller, access.IdentityProvider{
		Account: c.caller.Account, Name: in.ProviderName, Settings: providerSettings(in.Oidc, in.Certificate, in.Aws),
	})
	if err != nil {
		return nil, err
	}
	return v1.CreateIdentityProviderOutput{IdentityProvider: c.newIdentityProvider(p)}, nil
}

func (c ownCall) listIdentityProviders(ctx context.Context, in *v1.ListIdentityProvidersInput) (any, error) {
	all, err := c.access.IdentityProviders(ctx, c.caller.Caller, c.caller.Account)
	if err != nil {
		return nil, err
	}
	list, next, err := page(c, all, func(p access.IdentityProvider) string { return p.Name }, in.Limit, in.NextToken)
	if err != nil {
		return nil, err
	}
	return v1.ListIdentityProvidersOutput{IdentityProviders: each(list, c.newIdentityProvider), NextToken: next}, nil
}

func (c ownCall) describeIdentityProvider(ctx context.Context, in *v1.DescribeIdentityProviderInput) (any, error) {
	c.aimProvider(in.ProviderName)
	p, err := c.access.IdentityProvider(ctx, c.caller.Caller, c.caller.Account, in.ProviderName)
	if err != nil {
		return nil, err
	}
	return v1.DescribeIdentityProviderOutput{IdentityProvider: c.newIdentityProvider(p)}, nil
}

func (c ownCall) updateIdentityProvider(ctx context.Context, in *v1.UpdateIdentityProviderInput) (any, error) {
	c.aimProvider(in.ProviderName)
	p, err := c.access.UpdateIdentityProvider(ctx, c.caller.Caller, access.IdentityProvider{
		Account: c.caller.Account, Name: in.ProviderName, Settings: providerSettings(in.Oidc, in.Certificate, in.Aws),
	})
	if err != nil {
		return nil, err
	}
	return v1.UpdateIdentityProviderOutput{IdentityProvider: c.newIdentityProvider(p)}, nil
}

func (c ownCall) deleteIdentityProvider(ctx context.Context, in *v1.DeleteIdentityProviderInput) (any, error) {
	c.aimProvider(in.ProviderName)
	p, err := c.access.DeleteIdentityProvider(ctx, c.caller.Caller, c.caller.Account, in.ProviderName)
	if err != nil {
		return nil, err
	}
	return v1.DeleteIdentityProviderOutput{IdentityProvider: c.newIdentityProvider(p)}, nil
}

// providerSettings turns what was given of the three into settings.
func providerSettings(o *v1.OidcProvider, c *v1.CertificateProvider, a *v1.AwsProvider) access.ProviderSettings {
	var s access.ProviderSettings
	if o != nil {
		s.OIDC = &access.OIDCSettings{Issuer: o.Issuer, Audiences: o.Audiences, CA: o.CaCertificate, KeySet: o.KeySet}
	}
	if c != nil {
		s.Certificate = &access.CertificateSettings{Anchors: c.TrustAnchors, Lists: c.RevocationLists}
	}
	if a != nil {
		s.AWS = &access.AWSSettings{Accounts: a.AccountIds, Regions: a.Regions, Endpoints: a.Endpoints}
	}
	return s
}

func (c ownCall) newIdentityProvider(p access.IdentityProvider) v1.IdentityProvider {
	out := v1.IdentityProvider{
		ProviderName: p.Name, ARN: p.ARN(c.caller.Region), CreatedAt: v1.Time(p.CreatedAt), LastUpdatedAt: v1.Time(p.UpdatedAt),
	}
	switch s := p.Settings; {
	case s.OIDC != nil:
		out.Type = v1.IdentityProviderTypeOidc
		out.Oidc = &v1.OidcProvider{Issuer: s.OIDC.Issuer, Audiences: s.OIDC.Audiences, CaCertificate: s.OIDC.CA, KeySet: s.OIDC.KeySet}
	case s.Certificate != nil:
		out.Type = v1.IdentityProviderTypeCertificate
		out.Certificate = &v1.CertificateProvider{TrustAnchors: s.Certificate.Anchors, RevocationLists: s.Certificate.Lists}
	case s.AWS != nil:
		out.Type = v1.IdentityProviderTypeAws
		out.Aws = &v1.AwsProvider{AccountIds: s.AWS.Accounts, Regions: s.AWS.Regions, Endpoints: s.AWS.Endpoints}
	}
	return out
}

// federated returns what the three ways to a role by somebody else's word have in common.
func (c ownCall) federated(roleARN, session string, duration int, policy json.RawMessage) access.Federated {
	c.x.resource = roleARN
	return access.Federated{
		RoleARN: roleARN, Session: session, Duration: seconds(duration), Policy: policy, SourceIP: c.x.addr, Secure: c.x.r.TLS != nil,
	}
}

func (c ownCall) assumeRoleWithWebIdentity(ctx context.Context, in *v1.AssumeRoleWithWebIdentityInput) (any, error) {
	a, err := c.access.AssumeRoleWithWebIdentity(ctx, c.federated(in.RoleARN, in.SessionName, in.DurationSeconds, in.Policy), in.WebIdentityToken)
	if err := c.assumed(a, err); err != nil {
		return nil, err
	}
	return v1.AssumeRoleWithWebIdentityOutput{Credentials: newCredentials(a.Credentials), AssumedRoleARN: a.Principal.ARN}, nil
}

func (c ownCall) assumeRoleWithCertificate(ctx context.Context, in *v1.AssumeRoleWithCertificateInput) (any, error) {
	var chain []*x509.Certificate
	if c.x.r.TLS != nil {
		chain = c.x.r.TLS.PeerCertificates
	}
	a, err := c.access.AssumeRoleWithCertificate(ctx, c.federated(in.RoleARN, in.SessionName, in.DurationSeconds, in.Policy), chain)
	if err := c.assumed(a, err); err != nil {
		return nil, err
	}
	return v1.AssumeRoleWithCertificateOutput{Credentials: newCredentials(a.Credentials), AssumedRoleARN: a.Principal.ARN}, nil
}

func (c ownCall) assumeRoleWithAWSIdentity(ctx context.Context, in *v1.AssumeRoleWithAWSIdentityInput) (any, error) {
	a, err := c.access.AssumeRoleWithAWSIdentity(ctx, c.federated(in.RoleARN, in.SessionName, in.DurationSeconds, in.Policy),
		access.SignedRequest{Method: in.Request.Method, URL: in.Request.URL, Body: in.Request.Body, Headers: in.Request.Headers})
	if err := c.assumed(a, err); err != nil {
		return nil, err
	}
	return v1.AssumeRoleWithAWSIdentityOutput{Credentials: newCredentials(a.Credentials), AssumedRoleARN: a.Principal.ARN}, nil
}

// assumed looks at how an exchange ended. One that was granted counts as a call of the
// account, so that nobody who cannot prove who they are can use up its rates; one that
// was refused counts as a request that could not be authenticated.
func (c ownCall) assumed(a access.Assumed, err error) error {
	c.x.voucher, c.x.assumed = a.Voucher, a.Principal
	var refusal *mesh.Error
	if errors.As(err, &refusal) && refusal.Code != mesh.ErrServiceUnavailable {
		c.rates.failed(c.rates.source(c.x.addr, ""))
	}
	if err != nil {
		return err
	}
	return c.rates.admit(a.Principal.Account, "", false)
}

// proofs are the members of requests that prove who somebody is. They are as good as
// secrets while they are fresh, and so never go into the audit log.
var proofs = []string{"webIdentityToken", "request"}

// withoutProof returns the parameters of a request without what proves who it is of.
func withoutProof(parameters json.RawMessage) json.RawMessage {
	var all map[string]json.RawMessage
	if json.Unmarshal(parameters, &all) != nil {
		return nil
	}
	for _, name := range proofs {
		delete(all, name)
	}
	clean, err := encode(all)
	if err != nil {
		return nil
	}
	return bytes.TrimSpace(clean)
}
