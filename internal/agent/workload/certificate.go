package workload

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/fairlead-mesh/fairlead/internal/agent/backoff"
)

// retry is how long to wait before something that failed is tried again.
var retry = backoff.Policy{First: time.Second, Most: 30 * time.Second}

// lookAfter returns what keeps a secret fresh until its context ends; nil for a name that
// is none of ours.
func (w *Workload) lookAfter(name string) func(context.Context) {
	switch {
	case name == CertificateName:
		return w.renew
	case strings.HasPrefix(name, trustPrefix):
		return func(ctx context.Context) { w.followTrust(ctx, name) }
	}
	w.cfg.Logger.Warn("Envoy asks for a secret that the agent does not have", "name", name)
	return nil
}

// renew keeps a certificate that has not reached its end.
func (w *Workload) renew(ctx context.Context) {
	failures := 0
	for due := w.Status().RenewAfter; ; {
		if !backoff.Wait(ctx, time.Until(due)) {
			return
		}
		issued, err := w.issue(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.failed(err)
			failures++
			due = time.Now().Add(retry.After(failures))
			continue
		}
		// Many that were issued at once are not renewed at once.
		due = issued.RenewAfter.Add(backoff.Part(max(0, min(issued.NotAfter.Sub(issued.RenewAfter), time.Until(issued.RenewAfter)))/8, 0.5))
		failures = 0
	}
}

// issue makes a key and has it signed, and serves both from then on.
func (w *Workload) issue(ctx context.Context) (Issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Issued{}, fmt.Errorf("making a key: %w", err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return Issued{}, fmt.Errorf("making a request for a certificate: %w", err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Issued{}, fmt.Errorf("encoding a key: %w", err)
	}
	issued, err := w.cfg.Issue(ctx, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}))
	if err != nil {
		return Issued{}, err
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
	if _, err := tls.X509KeyPair([]byte(issued.Chain), private); err != nil {
		return Issued{}, fmt.Errorf("reading the certificate that was issued: %w", err)
	}
	w.serveCertificate(issued, private)
	w.note(func(s *Status) { s.Certificates++ })
	w.cfg.Logger.Info("certificate issued", "notAfter", issued.NotAfter, "renewAfter", issued.RenewAfter)
	w.keepCertificate(issued, private)
	return issued, nil
}

func (w *Workload) serveCertificate(issued Issued, key []byte) {
	sum := sha256.Sum256([]byte(issued.Chain))
	w.note(func(s *Status) { s.NotAfter, s.RenewAfter, s.Reason = issued.NotAfter, issued.RenewAfter, "" })
	w.put(&tlsv3.Secret{Name: CertificateName, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inline([]byte(issued.Chain)), PrivateKey: inline(key),
	}}}, hex.EncodeToString(sum[:8]))
}

// failed says once why there is no new certificate, and again when the reason changes.
func (w *Workload) failed(err error) {
	s := w.Status()
	if s.Reason == err.Error() {
		return
	}
	w.note(func(s *Status) { s.Reason = err.Error() })
	w.cfg.Logger.Error("no certificate could be had; it is tried again", "error", err, "notAfter", s.NotAfter)
}
