package federation_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/access/federation"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/clock"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/standin"
)

var testNow = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// newVerifier returns a verifier of tests, with a clock that they move.
func newVerifier(t *testing.T) (*federation.Verifier, *clock.Fake) {
	t.Helper()
	c := clock.New(testNow)
	return federation.New(federation.Config{Server: "fairlead.test", AllowLoopback: true, Now: c.Now}), c
}

func parse(t *testing.T, v *federation.Verifier, s federation.Settings) *federation.Provider {
	t.Helper()
	p, err := v.Parse("p", s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func issuedBy(i *standin.Issuer) federation.Settings {
	return federation.Settings{OIDC: &federation.OIDC{Issuer: i.URL, Audiences: []string{"other", "fairlead"}, CA: i.CA}}
}

// refused holds that an error is of a reason and says something, in one line.
func refused(t *testing.T, name string, err error, reason federation.Reason, say string) {
	t.Helper()
	if err == nil || federation.ReasonOf(err) != reason || !strings.Contains(err.Error(), say) || strings.ContainsAny(err.Error(), "\r\n") {
		t.Errorf("%s: got %v (reason %d), want reason %d with %q", name, err, federation.ReasonOf(err), reason, say)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.ES256} {
		for _, secure := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s TLS %v", alg, secure), func(t *testing.T) {
				t.Parallel()
				issuer := standin.NewIssuer(t, alg, secure)
				v, _ := newVerifier(t)
				p := parse(t, v, issuedBy(issuer))
				got, err := v.Token(t.Context(), p, issuer.Token(t, testNow, standin.Kubernetes("shop", "cart", "fairlead")))
				if err != nil {
					t.Fatal(err)
				}
				_, host, _ := strings.Cut(issuer.URL, "://")
				if got.Provider != "oidc-provider/"+host || got.Name != "system:serviceaccount:shop:cart" {
					t.Errorf("it is about %q of %q", got.Name, got.Provider)
				}
				for claim, want := range map[string][]string{
					"sub": {"system:serviceaccount:shop:cart"}, "aud": {"fairlead"}, "kubernetes.io/namespace": {"shop"},
					"kubernetes.io/serviceaccount/name": {"cart"}, "exp": {fmt.Sprint(testNow.Add(10 * time.Minute).Unix())},
				} {
					if diff := cmp.Diff(want, got.Claims[host+":"+claim]); diff != "" {
						t.Errorf("%s: %s", claim, diff)
					}
				}
			})
		}
	}
}

func TestTokenRefused(t *testing.T) {
	t.Parallel()
	issuer, stranger := standin.NewIssuer(t, jose.RS256, true), standin.NewIssuer(t, jose.RS256, true)
	v, _ := newVerifier(t)
	p := parse(t, v, issuedBy(issuer))
	good := standin.GitHub("octo-org/shop", "refs/heads/main", "fairlead")
	with := func(over standin.Claims) string {
		all := standin.Claims{}
		for _, c := range []standin.Claims{good, over} {
			for name, value := range c {
				all[name] = value
			}
		}
		return issuer.Token(t, testNow, all)
	}
	ok := with(nil)
	if _, err := v.Token(t.Context(), p, ok); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(ok, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	foreignKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token  string
		reason federation.Reason
		say    string
	}{
		"empty":                {"", federation.Malformed, "cannot be read"},
		"not a token":          {"a.b.c", federation.Malformed, "cannot be read"},
		"long":                 {strings.Repeat("a", federation.MaxToken+1), federation.Malformed, "at most 16384 bytes"},
		"no algorithm":         {none + "." + parts[1] + ".", federation.Malformed, "asymmetric"},
		"a shared secret":      {standin.Sign(t, jose.HS256, issuer.KeySet(), payload), federation.Malformed, "asymmetric"},
		"no signature":         {parts[0] + "." + parts[1] + ".", federation.Invalid, "does not hold"},
		"changed":              {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), "octo-org", "evil-org", 1))) + "." + parts[2], federation.Invalid, "does not hold"},
		"another key":          {standin.Sign(t, jose.ES256, foreignKey, payload), federation.Invalid, "not among the issuer's"},
		"another issuer's key": {stranger.Token(t, testNow, standin.Claims{"iss": issuer.URL, "sub": "x", "aud": "fairlead"}), federation.Invalid, "does not hold"},
		"another issuer":       {with(standin.Claims{"iss": stranger.URL}), federation.Invalid, "another issuer"},
		"expired":              {with(standin.Claims{"exp": testNow.Add(-time.Second).Unix()}), federation.Expired, "has expired"},
		"no end":               {with(standin.Claims{"exp": nil}), federation.Expired, "has expired"},
		"not yet":              {with(standin.Claims{"nbf": testNow.Add(time.Hour).Unix()}), federation.Invalid, "not valid yet"},
		"from the future":      {with(standin.Claims{"iat": testNow.Add(time.Hour).Unix()}), federation.Invalid, "in the future"},
		"for another":          {with(standin.Claims{"aud": []string{"sts.amazonaws.com"}}), federation.Invalid, "audience"},
		"for nobody":           {with(standin.Claims{"aud": nil}), federation.Invalid, "audience"},
		"about nobody":         {with(standin.Claims{"sub": nil}), federation.Invalid, "no subject"},
		"odd times":            {with(standin.Claims{"exp": "tomorrow"}), federation.Malformed, "cannot be read"},
	} {
		_, err := v.Token(t.Context(), p, c.token)
		refused(t, name, err, c.reason, c.say)
	}
}

// TestKeysAreFetchedRarely holds that an issuer is asked when it has to be, once for many
// who ask at the same time, and not for each token with a key of somebody's invention.
func TestKeysAreFetchedRarely(t *testing.T) {
	t.Parallel()
	issuer := standin.NewIssuer(t, jose.ES256, true)
	v, now := newVerifier(t)
	p := parse(t, v, issuedBy(issuer))
	about := standin.Kubernetes("shop", "cart", "fairlead")
	asked := func(what string, want int64) {
		t.Helper()
		if n := issuer.Asked.Load(); n != want {
			t.Errorf("%s: the issuer was asked %d times, want %d", what, n, want)
		}
	}
	token := issuer.Token(t, now.Now(), about)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := v.Token(t.Context(), p, token); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	asked("many at once", 1)

	issuer.Rotate(t)
	rotated := issuer.Token(t, now.Now(), about)
	_, err := v.Token(t.Context(), p, rotated)
	refused(t, "a new key, too soon", err, federation.Invalid, "not among")
	asked("a new key, too soon", 1)
	now.Advance(31 * time.Second)
	if _, err := v.Token(t.Context(), p, rotated); err != nil {
		t.Errorf("a new key: %v", err)
	}
	asked("a new key", 2)
	stranger := standin.NewIssuer(t, jose.ES256, true).Token(t, now.Now(), standin.Claims{"iss": issuer.URL, "sub": "x", "aud": "fairlead"})
	for range 20 {
		_, err := v.Token(t.Context(), p, stranger)
		refused(t, "a made-up key", err, federation.Invalid, "does not hold")
	}
	asked("made-up keys", 2)

	now.Advance(16 * time.Minute)
	issuer.Override(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) })
	if _, err := v.Token(t.Context(), p, issuer.Token(t, now.Now(), about)); err != nil {
		t.Errorf("with the issuer away: %v", err)
	}
	now.Advance(7 * time.Hour)
	_, err = v.Token(t.Context(), p, issuer.Token(t, now.Now(), about))
	refused(t, "with the issuer away for long", err, federation.Unavailable, "try again")
	issuer.Override(nil)
	now.Advance(6 * time.Second)
	if _, err := v.Token(t.Context(), p, issuer.Token(t, now.Now(), about)); err != nil {
		t.Errorf("with the issuer back: %v", err)
	}
}

// TestStaticKeys holds that an issuer whose keys were set is never asked.
func TestStaticKeys(t *testing.T) {
	t.Parallel()
	issuer := standin.NewIssuer(t, jose.RS256, true)
	token := issuer.Token(t, testNow, standin.Kubernetes("shop", "cart", "fairlead"))
	set := issuer.KeySet()
	issuer.Close()
	v, _ := newVerifier(t)
	s := issuedBy(issuer)
	s.OIDC.KeySet = set
	if _, err := v.Token(t.Context(), parse(t, v, s), token); err != nil {
		t.Error(err)
	}
	issuer.Rotate(t)
	s.OIDC.KeySet = standin.NewIssuer(t, jose.RS256, false).KeySet()
	_, err := v.Token(t.Context(), parse(t, v, s), token)
	refused(t, "another's keys", err, federation.Invalid, "not among")
}

// TestIssuerAnswers tries what an issuer may answer that it should not.
func TestIssuerAnswers(t *testing.T) {
	t.Parallel()
	elsewhere := standin.NewIssuer(t, jose.RS256, false)
	says := func(v any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v) }
	}
	for name, answer := range map[string]func(*standin.Issuer) http.HandlerFunc{
		"not JSON": func(*standin.Issuer) http.HandlerFunc { return says("x") },
		"another issuer": func(i *standin.Issuer) http.HandlerFunc {
			return says(map[string]string{"issuer": elsewhere.URL, "jwks_uri": i.URL + "/keys"})
		},
		"keys in plaintext": func(i *standin.Issuer) http.HandlerFunc {
			return says(map[string]string{"issuer": i.URL, "jwks_uri": "http://192.0.2.1/keys"})
		},
		"keys in a file": func(i *standin.Issuer) http.HandlerFunc {
			return says(map[string]string{"issuer": i.URL, "jwks_uri": "file:///etc/passwd"})
		},
		"no keys": func(i *standin.Issuer) http.HandlerFunc {
			return says(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "keys": []string{}})
		},
		"a redirect": func(*standin.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
			}
		},
		"very much": func(i *standin.Issuer) http.HandlerFunc {
			return says(map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "x": strings.Repeat("x", 300<<10)})
		},
		"metadata": func(i *standin.Issuer) http.HandlerFunc {
			return says(map[string]string{"issuer": i.URL, "jwks_uri": "https://169.254.169.254/latest"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			issuer := standin.NewIssuer(t, jose.RS256, true)
			issuer.Override(answer(issuer))
			v, _ := newVerifier(t)
			_, err := v.Token(t.Context(), parse(t, v, issuedBy(issuer)), issuer.Token(t, testNow, standin.Kubernetes("a", "b", "fairlead")))
			refused(t, name, err, federation.Unavailable, "cannot be had just now")
			if elsewhere.Asked.Load() != 0 {
				t.Error("the redirect was followed")
			}
		})
	}
	// By default nothing on this host is asked, whatever its name is.
	issuer := standin.NewIssuer(t, jose.RS256, true)
	strict := federation.New(federation.Config{Now: func() time.Time { return testNow }})
	_, err := strict.Token(t.Context(), parse(t, strict, issuedBy(issuer)), issuer.Token(t, testNow, standin.Kubernetes("a", "b", "fairlead")))
	refused(t, "loopback", err, federation.Unavailable, "cannot be had just now")
	if issuer.Asked.Load() != 0 {
		t.Error("an issuer on this host was asked")
	}
}

func TestIssuer(t *testing.T) {
	t.Parallel()
	issuer := standin.NewIssuer(t, jose.RS256, false)
	if got, err := federation.Issuer(issuer.Token(t, testNow, nil)); err != nil || got != issuer.URL {
		t.Errorf("the issuer is %q, %v", got, err)
	}
	for _, token := range []string{"", "..", "a.!.c", "a.bnVsbA.c", "a.e30.c", "a.eyJpc3MiOjF9.c", strings.Repeat("a", 20000)} {
		_, err := federation.Issuer(token)
		refused(t, token[:min(len(token), 20)], err, federation.Malformed, "JSON Web Token")
	}
}
