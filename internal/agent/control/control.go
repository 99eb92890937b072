// Package control is how the parts of an agent reach the control plane's API. It may import
// the standard library.
package control

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// API says where the control plane's API is.
type API struct {
	Endpoint string // URL without a path; "" for nowhere
	CAFile   string // PEM file of the roots to trust; "" for the system's
}

// Client returns a client for the API that follows no redirects and uses no proxy, and gives
// a call a time. It shows a certificate if the server asks for one, unless that is nil,
// whatever authorities the server names.
func (a API) Client(timeout time.Duration, certificate *tls.Certificate) (*http.Client, error) {
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if certificate != nil {
		secure.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	if a.CAFile != "" && strings.HasPrefix(a.Endpoint, "https:") {
		var err error
		if secure.RootCAs, err = Roots("FAIRLEAD_API_CA_FILE", a.CAFile); err != nil {
			return nil, err
		}
	}
	return &http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{TLSClientConfig: secure, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// Roots reads a PEM file of roots to trust, which a variable names.
func Roots(variable, file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", variable, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading %s: no PEM certificate in %s", variable, file)
	}
	return pool, nil
}
