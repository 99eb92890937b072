package restapi

import (
	"context"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/ca"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
)

// doCertificates is the part of do that is about certificates. known is false if in is
// about something else.
func (c ownCall) doCertificates(ctx context.Context, in any) (out any, known bool, err error) {
	switch in := in.(type) {
	case *v1.IssueCertificateInput:
		out, err = c.issueCertificate(ctx, in)
	case *v1.ListCertificatesInput:
		out, err = c.listCertificates(ctx, in)
	case *v1.DescribeTrustBundleInput:
		out, err = c.describeTrustBundle(ctx, in)
	case *v1.DescribeAuthorityInput:
		m := c.aimMesh(in.MeshName, "")
		a, e := c.ca.Describe(ctx, c.caller.Caller, m)
		out, err = v1.DescribeAuthorityOutput{Authority: c.newAuthority(ctx, a)}, e
	case *v1.UpdateAuthorityInput:
		m := c.aimMesh(in.MeshName, "")
		a, e := c.ca.SetLeaf(ctx, c.caller.Caller, m, seconds(in.CertificateSeconds))
		out, err = v1.UpdateAuthorityOutput{Authority: c.newAuthority(ctx, a)}, e
	case *v1.ImportAuthorityInput:
		m := c.aimMesh(in.MeshName, "")
		a, e := c.ca.Import(ctx, c.caller.Caller, m, newRoot(in.Certificate, in.PrivateKey, in.Vault))
		out, err = v1.ImportAuthorityOutput{Authority: c.newAuthority(ctx, a)}, e
	default:
		return c.doRotation(ctx, in)
	}
	return out, true, err
}

// doRotation is the rest of doCertificates.
func (c ownCall) doRotation(ctx context.Context, in any) (out any, known bool, err error) {
	var a ca.Authority
	switch in := in.(type) {
	case *v1.AddRootInput:
		a, err = c.ca.AddRoot(ctx, c.caller.Caller, c.aimMesh(in.MeshName, ""), newRoot(in.Certificate, in.PrivateKey, in.Vault))
		out = v1.AddRootOutput{Authority: c.newAuthority(ctx, a)}
	case *v1.SwitchRootInput:
		a, err = c.ca.SwitchRoot(ctx, c.caller.Caller, c.aimMesh(in.MeshName, ""), in.Force)
		out = v1.SwitchRootOutput{Authority: c.newAuthority(ctx, a)}
	case *v1.RetireRootInput:
		a, err = c.ca.RetireRoot(ctx, c.caller.Caller, c.aimMesh(in.MeshName, ""), in.Force)
		out = v1.RetireRootOutput{Authority: c.newAuthority(ctx, a)}
	case *v1.CancelRotationInput:
		a, err = c.ca.CancelRotation(ctx, c.caller.Caller, c.aimMesh(in.MeshName, ""))
		out = v1.CancelRotationOutput{Authority: c.newAuthority(ctx, a)}
	case *v1.RotateIntermediateInput:
		a, err = c.ca.RotateIntermediate(ctx, c.caller.Caller, c.aimMesh(in.MeshName, ""))
		out = v1.RotateIntermediateOutput{Authority: c.newAuthority(ctx, a)}
	case *v1.RevokeCertificateInput:
		var r ca.Revocation
		r, err = c.ca.RevokeCertificate(ctx, c.caller.Caller, c.aimMesh(in.MeshName, ""), in.SerialNumber, in.Reason)
		out = v1.RevokeCertificateOutput{Revocation: newRevocation(r)}
	case *v1.RevokeWorkloadInput:
		var r ca.Revocation
		r, err = c.ca.RevokeWorkload(ctx, c.caller.Caller, c.aimMesh(in.MeshName, ""), in.Resource, in.Reason, time.Time(in.Until), in.Listed)
		out = v1.RevokeWorkloadOutput{Revocation: newRevocation(r)}
	case *v1.RestoreWorkloadInput:
		err = c.ca.RestoreWorkload(ctx, c.caller.Caller, c.aimMesh(in.MeshName, ""), in.Resource)
		out = v1.RestoreWorkloadOutput{Resource: in.Resource}
	case *v1.ListRevocationsInput:
		out, err = c.listRevocations(ctx, in)
	default:
		return nil, false, nil
	}
	return out, true, err
}

func (c ownCall) issueCertificate(ctx context.Context, in *v1.IssueCertificateInput) (any, error) {
	m := c.aimMesh(in.MeshName, "")
	if id, owner, err := mesh.ParseARN(in.ResourceARN, c.caller.Account, c.caller.Region); err == nil && id.Mesh.Name == m.Name {
		m = id.Mesh
		c.x.mesh, c.x.resource = m, id.ARN(owner)
	}
	cert, err := c.ca.Issue(ctx, c.caller.Caller, m, in.ResourceARN, in.Csr)
	if err != nil {
		return nil, err
	}
	return v1.IssueCertificateOutput{
		SerialNumber: cert.Serial, CertificateChain: cert.Chain, TrustBundle: newBundle(cert.Bundle), Uri: cert.URI,
		DnsNames: append([]string{}, cert.DNSNames...), NotBefore: v1.Time(cert.NotBefore), NotAfter: v1.Time(cert.NotAfter), RenewAfter: v1.Time(cert.RenewAfter),
	}, nil
}

func (c ownCall) listCertificates(ctx context.Context, in *v1.ListCertificatesInput) (any, error) {
	all, err := c.ca.Issued(ctx, c.caller.Caller, c.aimMesh(in.MeshName, ""))
	if err != nil {
		return nil, err
	}
	list, next, err := page(c, all, func(x ca.Issued) string { return x.Resource + "\x00" + x.Serial }, in.Limit, in.NextToken, in.MeshName)
	if err != nil {
		return nil, err
	}
	return v1.ListCertificatesOutput{NextToken: next, Certificates: each(list, func(x ca.Issued) v1.Certificate {
		return v1.Certificate{
			SerialNumber: x.Serial, Resource: x.Resource, Uri: x.URI, Caller: x.Caller, Revoked: x.Revoked,
			NotBefore: v1.Time(x.NotBefore), NotAfter: v1.Time(x.NotAfter),
		}
	})}, nil
}

func (c ownCall) listRevocations(ctx context.Context, in *v1.ListRevocationsInput) (any, error) {
	all, err := c.ca.Revocations(ctx, c.caller.Caller, c.aimMesh(in.MeshName, ""))
	if err != nil {
		return nil, err
	}
	list, next, err := page(c, all, func(x ca.Revocation) string { return x.Resource + "\x00" + x.Serial }, in.Limit, in.NextToken, in.MeshName)
	if err != nil {
		return nil, err
	}
	return v1.ListRevocationsOutput{Revocations: each(list, newRevocation), NextToken: next}, nil
}

func (c ownCall) describeTrustBundle(ctx context.Context, in *v1.DescribeTrustBundleInput) (any, error) {
	b, err := c.ca.TrustBundle(ctx, c.caller.Caller, c.aimMesh(in.MeshName, in.MeshOwner))
	if err != nil {
		return nil, err
	}
	return v1.DescribeTrustBundleOutput{TrustBundle: newBundle(b)}, nil
}

func newBundle(b ca.Bundle) v1.TrustBundle {
	return v1.TrustBundle{Version: b.Version, Certificates: b.Anchors, Crl: b.CRL}
}

func newRevocation(r ca.Revocation) v1.Revocation {
	return v1.Revocation{Resource: r.Resource, SerialNumber: r.Serial, RevokedAt: v1.Time(r.At), Until: v1.Time(r.Until), Reason: r.Reason, RevokedBy: r.By}
}

func newRoot(certificate, key string, vault *v1.VaultSigner) ca.Root {
	r := ca.Root{Certificate: certificate, PrivateKey: key}
	if v := vault; v != nil {
		r.Vault = &ca.Vault{
			Address: v.Address, Mount: v.Mount, Namespace: v.Namespace, CAPEM: v.CaPem,
			Token: v.Token, RoleID: v.RoleID, SecretID: v.SecretID, AuthMount: v.AuthMount,
		}
	}
	return r
}

func (c ownCall) newAuthority(ctx context.Context, a ca.Authority) v1.Authority {
	out := v1.Authority{
		MeshName: a.Mesh.Name, MeshOwner: a.Mesh.Account, TrustDomain: a.TrustDomain, CertificateSeconds: int(a.Leaf / time.Second),
		Roots: each(a.Roots, func(r ca.RootState) v1.Root {
			return v1.Root{
				RootID: r.ID, Subject: r.Subject, Source: r.Source, Signs: r.Signs, Certificate: r.Certificate,
				NotBefore: v1.Time(r.NotBefore), NotAfter: v1.Time(r.NotAfter), Since: v1.Time(r.Since),
			}
		}),
		Intermediate: v1.Intermediate{
			SerialNumber: a.Intermediate.Serial, Subject: a.Intermediate.Subject, RootID: a.Intermediate.Root,
			NotBefore: v1.Time(a.Intermediate.NotBefore), NotAfter: v1.Time(a.Intermediate.NotAfter),
		},
		TrustBundle: newBundle(a.Bundle), CreatedAt: v1.Time(a.CreatedAt), LastUpdatedAt: v1.Time(a.UpdatedAt),
	}
	if a.Step != ca.StepNone {
		out.Rotation, out.RotationAt, out.NextStepAt = a.Step, v1.Time(a.StepAt), v1.Time(a.NextStepAt)
	}
	if c.bundleStreams != nil {
		b := c.bundleStreams(ctx, a.Mesh)
		out.Agents, out.AgentsCurrent, out.MissingReplicas = b.Connected, b.Current, b.Missing
	}
	return out
}
