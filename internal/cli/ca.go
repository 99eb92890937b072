package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/api/client"
)

// Root says which root an authority gets: one that Fairlead makes if it is empty.
type Root struct {
	// Certificate and PrivateKey are files in PEM form; "-" reads one from the input.
	Certificate, PrivateKey string
	// Vault is the URL of a HashiCorp Vault, and Mount the path of its PKI secrets engine.
	Vault, Mount, Namespace string
	// CAFile is what its certificate is checked against.
	CAFile string
	// RoleID and the file of its secret log in by AppRole, at AuthMount; else the file of a
	// token.
	RoleID, SecretIDFile, AuthMount, TokenFile string
}

// read returns what the flags stand for.
func (r Root) read(in io.Reader) (certificate, key string, vault *client.VaultSigner, err error) {
	if r.Vault == "" {
		if r.Mount+r.Namespace+r.CAFile+r.RoleID+r.SecretIDFile+r.AuthMount+r.TokenFile != "" {
			return "", "", nil, usagef("--vault is required with the other flags of Vault: the URL of the server")
		}
		if (r.Certificate == "") != (r.PrivateKey == "") {
			return "", "", nil, usagef("--certificate and --private-key belong together")
		}
		if certificate, err = readText(in, r.Certificate, "--certificate"); err != nil {
			return "", "", nil, err
		}
		key, err = readText(in, r.PrivateKey, "--private-key")
		return certificate, key, nil, err
	}
	if r.Certificate != "" || r.PrivateKey != "" {
		return "", "", nil, usagef("--vault and --certificate exclude each other")
	}
	vault = &client.VaultSigner{Address: r.Vault, Mount: r.Mount, Namespace: r.Namespace, RoleID: r.RoleID, AuthMount: r.AuthMount}
	if vault.CaPem, err = readText(in, r.CAFile, "--vault-ca-file"); err != nil {
		return "", "", nil, err
	}
	secret, err := readText(in, r.SecretIDFile, "--vault-secret-id-file")
	if err != nil {
		return "", "", nil, err
	}
	token, err := readText(in, r.TokenFile, "--vault-token-file")
	vault.SecretID, vault.Token = strings.TrimSpace(secret), strings.TrimSpace(token)
	return "", "", vault, err
}

// given reports whether a root is said at all.
func (r Root) given() bool { return r.Certificate != "" || r.PrivateKey != "" || r.Vault != "" }

// readText reads a file, or the input for "-"; nothing for "".
func readText(in io.Reader, path, flag string) (string, error) {
	var raw []byte
	var err error
	switch path {
	case "":
		return "", nil
	case "-":
		raw, err = io.ReadAll(in)
	default:
		raw, err = os.ReadFile(path)
	}
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", flag, err)
	}
	return string(raw), nil
}

// printAuthority prints an authority: what it is, and what can be done next.
func printAuthority(term Terminal, form string, a client.Authority) error {
	if form == FormJSON {
		return printJSON(term, a)
	}
	term.printf("mesh %s of account %s, trust domain %s\n", printable(a.MeshName), a.MeshOwner, printable(a.TrustDomain))
	term.printf("certificates are valid for %s\n", span(a.CertificateSeconds))
	term.printf("intermediate %s, until %s, below root %s\n", a.Intermediate.SerialNumber, day(a.Intermediate.NotAfter), a.Intermediate.RootID)
	if a.Agents > 0 {
		term.printf("%d of %d agents at this server have the present trust bundle\n", a.AgentsCurrent, a.Agents)
	}
	switch a.Rotation {
	case client.RotationStepAdded:
		term.printf("a new root is trusted; it can sign from %s on: fairlead ca switch-root\n", day(a.NextStepAt))
	case client.RotationStepSwitched:
		term.printf("the new root signs; the old one can leave from %s on: fairlead ca retire-root\n", day(a.NextStepAt))
	}
	t := &table{head: []string{"ROOT", "SOURCE", "SIGNS", "UNTIL", "SINCE", "SUBJECT"}}
	for _, r := range a.Roots {
		signs := ""
		if r.Signs {
			signs = "yes"
		}
		t.add(r.RootID, strings.ToLower(r.Source), signs, day(r.NotAfter), day(r.Since), printable(r.Subject))
	}
	return t.printOr(term, "there is no root")
}

// ShowAuthority prints the authority of a mesh.
func ShowAuthority(ctx context.Context, s *Session, term Terminal, meshName, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	out, err := ask(ctx, s, s.own.DescribeAuthority, &client.DescribeAuthorityInput{MeshName: meshName})
	if err != nil {
		return err
	}
	return printAuthority(term, form, out.Authority)
}

// ImportAuthority gives a mesh an authority whose root is the caller's.
func ImportAuthority(ctx context.Context, s *Session, term Terminal, meshName string, root Root) error {
	if !root.given() {
		return usagef("what to import is required: --certificate and --private-key, or --vault")
	}
	certificate, key, vault, err := root.read(term.In)
	if err != nil {
		return err
	}
	out, err := ask(ctx, s, s.own.ImportAuthority, &client.ImportAuthorityInput{MeshName: meshName, Certificate: certificate, PrivateKey: key, Vault: vault})
	if err != nil {
		return err
	}
	return printAuthority(term, FormTable, out.Authority)
}

// DefaultCertificateLife is how long certificates are valid where nobody has said otherwise.
const DefaultCertificateLife = time.Hour

// SetCertificateLife sets how long the certificates of a mesh are valid.
func SetCertificateLife(ctx context.Context, s *Session, term Terminal, meshName string, life time.Duration) error {
	n, err := wholeSeconds("certificate-life", life)
	if err != nil {
		return err
	}
	out, err := ask(ctx, s, s.own.UpdateAuthority, &client.UpdateAuthorityInput{MeshName: meshName, CertificateSeconds: n})
	if err != nil {
		return err
	}
	return printAuthority(term, FormTable, out.Authority)
}

// AddRoot begins the replacement of a mesh's root.
func AddRoot(ctx context.Context, s *Session, term Terminal, meshName string, root Root) error {
	certificate, key, vault, err := root.read(term.In)
	if err != nil {
		return err
	}
	out, err := ask(ctx, s, s.own.AddRoot, &client.AddRootInput{MeshName: meshName, Certificate: certificate, PrivateKey: key, Vault: vault})
	if err != nil {
		return err
	}
	return printAuthority(term, FormTable, out.Authority)
}

// SwitchRoot has the new root sign.
func SwitchRoot(ctx context.Context, s *Session, term Terminal, meshName string, force bool) error {
	out, err := ask(ctx, s, s.own.SwitchRoot, &client.SwitchRootInput{MeshName: meshName, Force: force})
	if err != nil {
		return err
	}
	return printAuthority(term, FormTable, out.Authority)
}

// RetireRoot takes the old root out of the trust bundle.
func RetireRoot(ctx context.Context, s *Session, term Terminal, meshName string, force bool) error {
	out, err := ask(ctx, s, s.own.RetireRoot, &client.RetireRootInput{MeshName: meshName, Force: force})
	if err != nil {
		return err
	}
	return printAuthority(term, FormTable, out.Authority)
}

// CancelRotation takes a new root that has not signed out of the trust bundle.
func CancelRotation(ctx context.Context, s *Session, term Terminal, meshName string) error {
	out, err := ask(ctx, s, s.own.CancelRotation, &client.CancelRotationInput{MeshName: meshName})
	if err != nil {
		return err
	}
	return printAuthority(term, FormTable, out.Authority)
}

// RotateIntermediate has a new intermediate sign.
func RotateIntermediate(ctx context.Context, s *Session, term Terminal, meshName string) error {
	out, err := ask(ctx, s, s.own.RotateIntermediate, &client.RotateIntermediateInput{MeshName: meshName})
	if err != nil {
		return err
	}
	return printAuthority(term, FormTable, out.Authority)
}

// ShowBundle prints what a mesh trusts, in PEM form: the roots, or with crl the lists of
// revoked certificates.
func ShowBundle(ctx context.Context, s *Session, term Terminal, scope Scope, crl bool) error {
	out, err := ask(ctx, s, s.own.DescribeTrustBundle, &client.DescribeTrustBundleInput{MeshName: scope.Mesh, MeshOwner: scope.Owner})
	if err != nil {
		return err
	}
	if crl {
		term.printf("%s", out.TrustBundle.Crl)
		return nil
	}
	term.printf("%s", out.TrustBundle.Certificates)
	return nil
}

// IssueCertificate has a certificate request signed, and prints the certificate with what is
// between it and the root.
func IssueCertificate(ctx context.Context, s *Session, term Terminal, scope Scope, resource, csr string) error {
	if csr == "" {
		return usagef("--csr is required: a file with a certificate request in PEM form, or - for the input")
	}
	text, err := readText(term.In, csr, "--csr")
	if err != nil {
		return err
	}
	arn := resource
	if !strings.HasPrefix(resource, "arn:") {
		arn = "mesh/" + scope.Mesh
		if scope.Owner != "" {
			arn += "@" + scope.Owner
		}
		arn += "/" + resource
	}
	out, err := ask(ctx, s, s.own.IssueCertificate, &client.IssueCertificateInput{MeshName: scope.Mesh, ResourceARN: arn, Csr: text})
	if err != nil {
		return err
	}
	term.printf("%s", out.CertificateChain)
	return nil
}

// ListCertificates prints the certificates of a mesh that have not expired.
func ListCertificates(ctx context.Context, s *Session, term Terminal, meshName, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	list, err := all(ctx, s, s.own.AllCertificates, &client.ListCertificatesInput{MeshName: meshName})
	if err != nil {
		return err
	}
	if form == FormJSON {
		return printJSON(term, append([]client.Certificate{}, list...))
	}
	t := &table{head: []string{"WORKLOAD", "SERIAL", "UNTIL", "", "CALLER"}}
	for _, x := range list {
		note := ""
		if x.Revoked {
			note = "revoked"
		}
		t.add(printable(x.Resource), x.SerialNumber, day(x.NotAfter), note, x.Caller)
	}
	return t.printOr(term, "no certificate is valid")
}

// Revoking is what is revoked, and for how long.
type Revoking struct {
	// Workload is virtualNode/NAME or virtualGateway/NAME, or else Serial a certificate's
	// serial number.
	Workload, Serial string
	// For bounds how long a workload gets no certificates; 0 is until it is restored.
	For    time.Duration
	Reason string
	// Listed puts the certificates that a workload has on the list of revoked ones.
	Listed bool
}

// Revoke refuses a workload certificates, or puts a certificate on the list of revoked ones.
func Revoke(ctx context.Context, s *Session, term Terminal, meshName string, r Revoking) error {
	switch {
	case (r.Workload == "") == (r.Serial == ""):
		return usagef("either a workload is required, virtualNode/NAME or virtualGateway/NAME, or --serial")
	case r.Serial != "" && (r.For != 0 || r.Listed):
		return usagef("--for and --listed do not go with --serial: a certificate is on the list until it expires")
	case r.For < 0:
		return usagef("--for %s is not allowed: more than 0, for example 24h", r.For)
	}
	if r.Serial != "" {
		out, err := ask(ctx, s, s.own.RevokeCertificate, &client.RevokeCertificateInput{MeshName: meshName, SerialNumber: r.Serial, Reason: r.Reason})
		if err != nil {
			return err
		}
		term.printf("certificate %s of %s is on the list of revoked ones until it expires at %s\n", out.Revocation.SerialNumber, printable(out.Revocation.Resource), day(out.Revocation.Until))
		return nil
	}
	in := &client.RevokeWorkloadInput{MeshName: meshName, Resource: r.Workload, Reason: r.Reason, Listed: r.Listed}
	if r.For > 0 {
		in.Until = time.Now().Add(r.For)
	}
	out, err := ask(ctx, s, s.own.RevokeWorkload, in)
	if err != nil {
		return err
	}
	until := "until it is restored"
	if !out.Revocation.Until.IsZero() {
		until = "until " + day(out.Revocation.Until)
	}
	term.printf("%s gets no certificates %s\n", printable(out.Revocation.Resource), until)
	return nil
}

// Restore lets a workload have certificates again.
func Restore(ctx context.Context, s *Session, term Terminal, meshName, workload string) error {
	out, err := ask(ctx, s, s.own.RestoreWorkload, &client.RestoreWorkloadInput{MeshName: meshName, Resource: workload})
	if err != nil {
		return err
	}
	term.printf("%s can have certificates again\n", printable(out.Resource))
	return nil
}

// ListRevocations prints what is revoked in a mesh.
func ListRevocations(ctx context.Context, s *Session, term Terminal, meshName, form string) error {
	if err := checkTableOrJSON(form); err != nil {
		return err
	}
	list, err := all(ctx, s, s.own.AllRevocations, &client.ListRevocationsInput{MeshName: meshName})
	if err != nil {
		return err
	}
	if form == FormJSON {
		return printJSON(term, append([]client.Revocation{}, list...))
	}
	t := &table{head: []string{"WORKLOAD", "CERTIFICATE", "AT", "UNTIL", "REASON", "BY"}}
	for _, r := range list {
		t.add(printable(r.Resource), r.SerialNumber, day(r.RevokedAt), day(r.Until), printable(r.Reason), r.RevokedBy)
	}
	return t.printOr(term, "nothing is revoked")
}
