package ca

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// standIn is a stand-in for HashiCorp Vault: it speaks its HTTP API as far as an authority
// needs it, with a real authority behind it.
type standIn struct {
	*httptest.Server
	ca     pair
	signed atomic.Int32
	broken atomic.Bool
}

const (
	vaultToken = "hvs.a-token-of-vault"
	secretID   = "a-secret-id-of-an-approle"
)

func newStandIn(t *testing.T, w *world) *standIn {
	t.Helper()
	v := &standIn{}
	v.ca, _, _ = testRoot(t, "vault's authority", nil, w.clock.Now(), func(c *x509.Certificate) { c.NotAfter = w.clock.Now().Add(5 * 365 * 24 * time.Hour) })
	refuse := func(rw http.ResponseWriter, status int, why string) {
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, `{"errors":[`+strings.TrimSpace(string(mustJSON(why)))+`]}`)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/auth/approle/login", func(rw http.ResponseWriter, r *http.Request) {
		var in map[string]string
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in["role_id"] != "fairlead" || in["secret_id"] != secretID {
			refuse(rw, http.StatusBadRequest, "invalid role or secret ID")
			return
		}
		_, _ = rw.Write(mustJSON(map[string]any{"auth": map[string]any{"client_token": vaultToken, "lease_duration": 1200}}))
	})
	mux.HandleFunc("POST /v1/pki/shop/root/sign-intermediate", func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") != vaultToken || r.Header.Get("X-Vault-Namespace") != "team-a" {
			refuse(rw, http.StatusForbidden, "permission denied")
			return
		}
		if v.broken.Load() {
			refuse(rw, http.StatusServiceUnavailable, "Vault is sealed")
			return
		}
		var in struct {
			CSR, TTL, Format string
			CommonName       string `json:"common_name"`
			MaxPathLength    int    `json:"max_path_length"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Format != "pem" {
			refuse(rw, http.StatusBadRequest, "bad request")
			return
		}
		block, _ := pem.Decode([]byte(in.CSR))
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		ttl, err2 := time.ParseDuration(in.TTL)
		if err != nil || err2 != nil || csr.CheckSignature() != nil {
			refuse(rw, http.StatusBadRequest, "the CSR cannot be used")
			return
		}
		cert, err := v.ca.sign(authorityTemplate(in.CommonName, in.MaxPathLength, w.clock.Now(), w.clock.Now().Add(ttl)), csr.PublicKey)
		if err != nil {
			refuse(rw, http.StatusInternalServerError, err.Error())
			return
		}
		v.signed.Add(1)
		issuer := encodePEM(pemCertificate, v.ca.cert.Raw)
		_, _ = rw.Write(mustJSON(map[string]any{"data": map[string]any{
			"certificate": encodePEM(pemCertificate, cert.Raw), "issuing_ca": issuer, "ca_chain": []string{issuer},
			"serial_number": "00", "expiration": cert.NotAfter.Unix(),
		}}))
	})
	v.Server = httptest.NewTLSServer(mux)
	t.Cleanup(v.Close)
	return v
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func TestVault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	v := newStandIn(t, w)
	caPEM := encodePEM(pemCertificate, v.Certificate().Raw)
	vault := func(change func(*Vault)) Root {
		one := &Vault{Address: v.URL, Mount: "pki/shop", Namespace: "team-a", CAPEM: caPEM, RoleID: "fairlead", SecretID: secretID}
		if change != nil {
			change(one)
		}
		return Root{Vault: one}
	}
	_, err := w.ca.Import(ctx, w.c, shop, vault(nil))
	wantRefusal(t, err, mesh.ErrBadRequest, "is none that this server may ask", "--vault-address")
	w.ca = w.open(Config{VaultAddresses: []string{v.URL + "/"}})
	for _, c := range []struct {
		code   mesh.Code
		words  string
		change func(*Vault)
	}{
		{mesh.ErrServiceUnavailable, "it answers 400 to auth/approle/login: invalid role or secret ID", func(v *Vault) { v.RoleID = "other" }},
		{mesh.ErrServiceUnavailable, "it answers 403 to pki/shop/root/sign-intermediate: permission denied", func(v *Vault) { v.Namespace = "" }},
		{mesh.ErrServiceUnavailable, "it answers 404 to pki/none/root/sign-intermediate", func(v *Vault) { v.Mount = "pki/none" }},
		{mesh.ErrServiceUnavailable, "it cannot be reached", func(v *Vault) { v.CAPEM = "" }},
		{mesh.ErrBadRequest, "holds no certificate", func(v *Vault) { v.CAPEM = "x" }},
		{mesh.ErrBadRequest, "is not allowed: a path such as pki/shop", func(v *Vault) { v.Mount = "../sys" }},
		{mesh.ErrBadRequest, "either token or roleId", func(v *Vault) { v.Token = vaultToken }},
		{mesh.ErrBadRequest, "either token or roleId", func(v *Vault) { v.RoleID = "" }},
	} {
		_, err := w.ca.Import(ctx, w.c, shop, vault(c.change))
		wantRefusal(t, err, c.code, c.words)
		if err != nil && (strings.Contains(err.Error(), secretID) || strings.Contains(err.Error(), vaultToken)) {
			t.Errorf("the refusal has a secret: %v", err)
		}
	}
	a, err := w.ca.Import(ctx, w.c, shop, vault(nil))
	if err != nil {
		t.Fatal(err)
	}
	cert := w.issue("virtualNode/cart")
	if a.Roots[0].Source != SourceVault || cert.Anchors != encodePEM(pemCertificate, v.ca.cert.Raw) || len(chain(t, cert.Chain)) != 2 {
		t.Errorf("%+v", a)
	}
	if err := verify(t, cert.Chain, cert.Anchors, w.clock.Now()); err != nil {
		t.Error(err)
	}
	raw := string(w.ca.known(shop).raw)
	for _, secret := range []string{secretID, "fairlead\\\"", vaultToken} {
		if strings.Contains(raw, secret) {
			t.Errorf("the record has %s", secret)
		}
	}
	// Leaves are signed without Vault; the intermediate is renewed by it, once it is there again.
	v.broken.Store(true)
	before := v.signed.Load()
	w.clock.Advance(61 * 24 * time.Hour)
	w.issue("virtualNode/cart")
	v.broken.Store(false)
	w.issue("virtualNode/cart") // not asked again so soon
	if n := v.signed.Load(); n != before {
		t.Errorf("Vault signed %d more", n-before)
	}
	w.clock.Advance(2 * time.Minute)
	renewed := w.issue("virtualNode/cart")
	if n := v.signed.Load(); n != before+1 || serialText(chain(t, renewed.Chain)[1].SerialNumber) == serialText(chain(t, cert.Chain)[1].SerialNumber) {
		t.Errorf("Vault signed %d more", n-before)
	}
	// Another authority at the mount is not trusted without anybody saying so.
	v.ca, _, _ = testRoot(t, "another", nil, w.clock.Now(), func(c *x509.Certificate) { c.NotAfter = w.clock.Now().Add(5 * 365 * 24 * time.Hour) })
	_, err = w.ca.RotateIntermediate(ctx, w.c, shop)
	wantRefusal(t, err, mesh.ErrConflict, "signs with another authority than the mesh trusts", "AddRoot")
	if added, err := w.ca.AddRoot(ctx, w.c, shop, vault(func(v *Vault) { v.RoleID, v.SecretID, v.Token = "", "", vaultToken })); err != nil || len(added.Roots) != 2 {
		t.Errorf("%+v %v", added, err)
	}
}

func TestVaultAddresses(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"https://vault.example.com:8200": true, "https://vault.example.com/": true, "http://127.0.0.1:8200": true, "http://[::1]:8200": true,
		"http://vault.example.com": false, "vault.example.com": false, "https://u:p@vault.example.com": false, "https://v/path": false,
		"https://v?x=1": false, "ftp://127.0.0.1": false, "": false,
	} {
		if err := CheckVaultAddress(address); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}
