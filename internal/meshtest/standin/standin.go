// Package standin has stand-ins for those who vouch for workloads, which speak the real
// protocols: an issuer of OpenID Connect tokens, AWS's STS, and the metadata endpoints of
// ECS and EC2. Only tests import it; it imports no room.
package standin

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// Issuer is an issuer of OpenID Connect tokens: it serves its configuration and its keys.
type Issuer struct {
	// URL is the issuer, and CA the PEM of what its TLS is verified with; "" without TLS.
	URL, CA string
	// Asked counts the requests for its keys.
	Asked atomic.Int64

	srv *httptest.Server

	mu       sync.Mutex
	key      jose.JSONWebKey
	alg      jose.SignatureAlgorithm
	old      []jose.JSONWebKey
	serial   int
	override http.HandlerFunc
}

// NewIssuer runs an issuer until the test ends. alg is RS256 or ES256, for example. With
// secure it speaks TLS.
func NewIssuer(t testing.TB, alg jose.SignatureAlgorithm, secure bool) *Issuer {
	t.Helper()
	i := &Issuer{alg: alg}
	i.Rotate(t)
	i.srv = httptest.NewUnstartedServer(http.HandlerFunc(i.serve))
	if secure {
		i.srv.StartTLS()
		i.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.srv.Certificate().Raw}))
	} else {
		i.srv.Start()
	}
	i.URL = i.srv.URL
	t.Cleanup(i.srv.Close)
	return i
}

// Rotate gives the issuer another key. The one before stays in the key set.
func (i *Issuer) Rotate(t testing.TB) {
	t.Helper()
	var key crypto.Signer
	var err error
	if i.alg == jose.ES256 {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.serial > 0 {
		i.old = append(i.old, i.key.Public())
	}
	i.serial++
	i.key = jose.JSONWebKey{Key: key, KeyID: fmt.Sprintf("key-%d", i.serial), Algorithm: string(i.alg), Use: "sig"}
}

// Override has all requests answered by h from now on; nil for the usual answers.
func (i *Issuer) Override(h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.override = h
}

// Close ends the issuer's server before the test ends.
func (i *Issuer) Close() { i.srv.Close() }

// KeySet returns the JSON Web Key Set.
func (i *Issuer) KeySet() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: append([]jose.JSONWebKey{i.key.Public()}, i.old...)})
	if err != nil {
		panic(err) // keys of this package's own making
	}
	return b
}

func (i *Issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	override := i.override
	i.mu.Unlock()
	switch {
	case override != nil:
		override(w, r)
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{string(i.alg)}})
	case r.URL.Path == "/keys":
		i.Asked.Add(1)
		_, _ = w.Write(i.KeySet())
	default:
		http.NotFound(w, r)
	}
}

// Claims are those of a token.
type Claims map[string]any

// Token returns a token of the issuer that is good for ten minutes from now. The claims
// are put over the usual ones; nil takes one out.
func (i *Issuer) Token(t testing.TB, now time.Time, over Claims) string {
	t.Helper()
	all := Claims{"iss": i.URL, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(10 * time.Minute).Unix()}
	for name, v := range over {
		all[name] = v
		if v == nil {
			delete(all, name)
		}
	}
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	key := i.key
	i.mu.Unlock()
	return Sign(t, i.alg, key, payload)
}

// Sign returns a token with any payload.
func Sign(t testing.TB, alg jose.SignatureAlgorithm, key any, payload []byte) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Kubernetes returns the claims that a Kubernetes API server gives the token of a service
// account that is projected into a pod.
func Kubernetes(namespace, account, audience string) Claims {
	return Claims{
		"aud": []string{audience}, "sub": "system:serviceaccount:" + namespace + ":" + account,
		"kubernetes.io": map[string]any{
			"namespace":      namespace,
			"serviceaccount": map[string]any{"name": account, "uid": "6b8f1c9e-1f0e-4a53-8a3e-2f3a1f1c7b11"},
			"pod":            map[string]any{"name": account + "-7d4b9c", "uid": "0d0b1d1c-5f1e-4e0f-9a80-40e1f0a6b2de"},
		},
	}
}

// GitHub returns the claims that GitHub Actions gives the token of a job.
func GitHub(repository, ref, audience string) Claims {
	return Claims{
		"aud": audience, "sub": "repo:" + repository + ":ref:" + ref, "repository": repository, "ref": ref,
		"repository_owner": "octo-org", "repository_id": "74", "run_attempt": "2", "event_name": "push", "actor": "octocat",
		"job_workflow_ref": repository + "/.github/workflows/deploy.yml@" + ref,
	}
}
