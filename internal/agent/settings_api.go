package agent

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// API is how the agent reaches the control plane's API.
type API struct {
	Endpoint string // URL without a path; "" for not at all
	CAFile   string // PEM file of the roots; "" for the system's
}

// readAPIWanted reads where the API is, unless nobody says so. What needs it asks by readAPI.
func readAPIWanted(e *env, x XDS) API {
	if e.text("FAIRLEAD_API_ENDPOINT", "") == "" {
		return API{}
	}
	return API{Endpoint: readAPI(e, ""), CAFile: e.text("FAIRLEAD_API_CA_FILE", x.CAFile)}
}

// client returns a client for the API that follows no redirects and uses no proxy.
func (a API) client(timeout time.Duration) (*http.Client, error) {
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CAFile != "" && strings.HasPrefix(a.Endpoint, "https:") {
		text, err := os.ReadFile(a.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading FAIRLEAD_API_CA_FILE: %w", err)
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("reading FAIRLEAD_API_CA_FILE: no PEM certificate in %s", a.CAFile)
		}
	}
	return &http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{TLSClientConfig: secure, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}
