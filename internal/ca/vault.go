package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Vault is a mount of HashiCorp Vault's PKI secrets engine, whose authority signs the
// intermediates of a mesh. The private key of the root stays in Vault. It is kept sealed.
type Vault struct {
	// Address is the server's URL, one of Config.VaultAddresses.
	Address string `json:"address"`
	// Mount is the path of the secrets engine, for example "pki/shop".
	Mount string `json:"mount"`
	// Namespace is that of Vault Enterprise; "" for none.
	Namespace string `json:"namespace,omitempty"`
	// CAPEM are the certificates that the server's is checked against; "" for the system's.
	CAPEM string `json:"caPem,omitempty"`
	// Token is a Vault token that may sign.
	Token string `json:"token,omitempty"`
	// RoleID and SecretID log in by AppRole, in place of Token, at AuthMount ("approle" if
	// it is "").
	RoleID    string `json:"roleId,omitempty"`
	SecretID  string `json:"secretId,omitempty"`
	AuthMount string `json:"authMount,omitempty"`
}

const (
	vaultTime   = 8 * time.Second // less than a call to the API may take
	maxVaultLen = 1 << 20
)

var mountPattern = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)

// CheckVaultAddress says what is wrong with the URL of a Vault server.
func CheckVaultAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("%q is not allowed: a URL such as https://vault.example.com:8200", clip(address, 200))
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%q is not allowed: https, or http to a loopback address", clip(address, 200))
}

// checkVault refuses what cannot be asked, or must not be.
func (s *Service) checkVault(v *Vault) error {
	same := func(a string) bool { return strings.TrimSuffix(a, "/") == strings.TrimSuffix(v.Address, "/") }
	switch {
	case !slices.ContainsFunc(s.vaults, same):
		return mesh.Errorf(mesh.ErrBadRequest, "vault.address %q is none that this server may ask: its operator names them with --vault-address", clip(v.Address, 200))
	case !mountPattern.MatchString(v.Mount) || v.AuthMount != "" && !mountPattern.MatchString(v.AuthMount):
		return mesh.Errorf(mesh.ErrBadRequest, "vault.mount %q or vault.authMount %q is not allowed: a path such as pki/shop", clip(v.Mount, 100), clip(v.AuthMount, 100))
	case (v.Token == "") == (v.RoleID == ""):
		return mesh.Errorf(mesh.ErrBadRequest, "vault needs either token or roleId and secretId")
	}
	return nil
}

// newVaultClient returns a client that goes where it is told and nowhere else.
func newVaultClient() *http.Client {
	return &http.Client{
		Timeout:       vaultTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     vaultTransport(nil),
	}
}

func vaultTransport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: vaultTime,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
}

// client returns what asks a Vault.
func (s *Service) client(v *Vault) (*http.Client, func(), error) {
	if v.CAPEM == "" {
		return s.http, func() {}, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(v.CAPEM)) {
		return nil, nil, mesh.Errorf(mesh.ErrBadRequest, "vault.caPem holds no certificate")
	}
	one := *s.http
	transport := vaultTransport(roots)
	one.Transport = transport
	return &one, transport.CloseIdleConnections, nil
}

// signedByVault is what Vault answers to a request to sign an intermediate.
type signedByVault struct {
	Certificate string   `json:"certificate"`
	IssuingCA   string   `json:"issuing_ca"`
	CAChain     []string `json:"ca_chain"`
}

// askVault has Vault sign a new intermediate. It returns it with its key, and the
// certificate of the authority that signed.
func (s *Service) askVault(ctx context.Context, m mesh.MeshID, v *Vault) (pair, *x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, vaultTime)
	defer cancel()
	client, done, err := s.client(v)
	if err != nil {
		return pair{}, nil, err
	}
	defer done()
	key, err := newKey()
	if err != nil {
		return pair{}, nil, err
	}
	name := clip(intermediateName(m), 64)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return pair{}, nil, fmt.Errorf("making a certificate request: %w", err)
	}
	token := v.Token
	if token == "" {
		if token, err = v.login(ctx, client); err != nil {
			return pair{}, nil, err
		}
	}
	var signed struct {
		Data signedByVault `json:"data"`
	}
	err = v.post(ctx, client, token, v.Mount+"/root/sign-intermediate", map[string]any{
		"csr": encodePEM(pemRequest, csr), "common_name": name, "format": "pem", "max_path_length": 0,
		"ttl": fmt.Sprintf("%ds", int64(intermediateLife/time.Second)),
	}, &signed)
	if err != nil {
		return pair{}, nil, err
	}
	return s.checkSigned(v, key, signed.Data)
}

// checkSigned makes sure that Vault signed what it was asked to.
func (s *Service) checkSigned(v *Vault, key crypto.Signer, signed signedByVault) (pair, *x509.Certificate, error) {
	refuse := func(format string, args ...any) (pair, *x509.Certificate, error) {
		return pair{}, nil, mesh.Errorf(mesh.ErrBadRequest, "Vault at %s, mount %s: %s", v.Address, v.Mount, fmt.Sprintf(format, args...))
	}
	certs, err := parseCertificates(signed.Certificate)
	if err != nil || len(certs) == 0 {
		return refuse("its answer has no certificate that can be read")
	}
	issuers, err := parseCertificates(signed.IssuingCA)
	if err != nil || len(issuers) == 0 {
		return refuse("its answer does not say which authority signed")
	}
	cert, issuer := certs[0], issuers[0]
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(cert.PublicKey) {
		return refuse("it signed another key than it was asked to")
	}
	if err := cert.CheckSignatureFrom(issuer); err != nil {
		return refuse("its certificate is not signed by the authority that it names: %v", err)
	}
	if err := s.checkAuthority(cert); err != nil {
		return refuse("the intermediate that it signed cannot be used: %v", err)
	}
	return pair{cert, key}, issuer, nil
}

// login returns a token for the AppRole.
func (v *Vault) login(ctx context.Context, client *http.Client) (string, error) {
	mount := v.AuthMount
	if mount == "" {
		mount = "approle"
	}
	var answer struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	err := v.post(ctx, client, "", "auth/"+mount+"/login", map[string]any{"role_id": v.RoleID, "secret_id": v.SecretID}, &answer)
	if err == nil && answer.Auth.Token == "" {
		err = v.failed("logging in by AppRole gave no token")
	}
	return answer.Auth.Token, err
}

// failed is a refusal that says what Vault did.
func (v *Vault) failed(format string, args ...any) error {
	return mesh.Errorf(mesh.ErrServiceUnavailable, "Vault at %s, mount %s: %s", v.Address, v.Mount, fmt.Sprintf(format, args...))
}

// post makes a call of Vault's HTTP API. Nothing secret is in its errors.
func (v *Vault) post(ctx context.Context, client *http.Client, token, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("asking Vault: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(v.Address, "/")+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("asking Vault: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Vault-Request", "true")
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	if v.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", v.Namespace)
	}
	resp, err := client.Do(req)
	if err != nil {
		return v.failed("it cannot be reached: %v", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxVaultLen))
	if err != nil {
		return v.failed("its answer cannot be read: %v", err)
	}
	if resp.StatusCode != http.StatusOK {
		var why struct {
			Errors []string `json:"errors"`
		}
		_ = json.Unmarshal(answer, &why) // without reasons the status must do
		return v.failed("it answers %d to %s: %s", resp.StatusCode, path, clip(strings.Join(why.Errors, "; "), 500))
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return v.failed("its answer to %s is not the JSON of Vault", path)
	}
	return nil
}
