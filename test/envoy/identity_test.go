package envoy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/standin"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

// vouchedStage is a stage on which a cluster's service accounts may take on the role of
// the virtual node front, and nothing else.
type vouchedStage struct {
	*stage
	issuer *standin.Issuer
	token  string // a file with the token of front's service account
}

const frontRole = "arn:aws:iam::" + meshtest.Account + ":role/front"

// newVouchedStage returns one whose streams end after two seconds.
func newVouchedStage(t *testing.T) *vouchedStage { return newVouchedStageWith(t, 2*time.Second) }

func newVouchedStageWith(t *testing.T, streamAge time.Duration) *vouchedStage {
	t.Helper()
	meshtest.EnvoyPath(t) // skips before anything is started
	s := &vouchedStage{issuer: standin.NewIssuer(t, jose.ES256, false), token: filepath.Join(t.TempDir(), "token")}
	s.stage = &stage{t: t, plane: meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) {
		c.LoopbackIdentity = true
		c.MaxStreamAge = streamAge
	}})}
	s.plane.Put(t, "/meshes", `{"meshName":"test"}`)
	_, host, _ := strings.Cut(s.issuer.URL, "://")
	admin := s.plane.Signed(t)
	admin.Want(t, http.MethodPut, "/v1/identityProviders", `{"providerName":"cluster","oidc":{"issuer":"`+s.issuer.URL+`","audiences":["fairlead"]}}`, nil)
	admin.Want(t, http.MethodPut, "/v1/roles", fmt.Sprintf(`{"roleName":"front","trustPolicy":{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
		"Principal":{"Federated":"arn:aws:iam::%s:oidc-provider/%s"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"%s:sub":"system:serviceaccount:test:front"}}}]},
		"policies":{"proxy":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"appmesh:StreamAggregatedResources","Resource":"%s"}]}}}`,
		meshtest.Account, host, host, meshtest.ARN("test", "front")), nil)
	meshtest.WriteFile(t, s.token, []byte(s.newToken("front")))
	return s
}

func (s *vouchedStage) newToken(account string) string {
	return s.issuer.Token(s.t, time.Now(), standin.Kubernetes("test", account, "fairlead"))
}

// env is the environment of an agent that exchanges a token.
func (s *vouchedStage) env(more ...string) []string {
	return append([]string{
		"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "FAIRLEAD_ROLE_ARN=" + frontRole, "FAIRLEAD_WEB_IDENTITY_TOKEN_FILE=" + s.token,
		"FAIRLEAD_API_ENDPOINT=" + s.plane.URL(),
	}, more...)
}

var gotKey = regexp.MustCompile(`got credentials of a role.*accessKey=(FLAS\w+)`)

// keys returns the access keys that an agent has got so far, in order.
func keys(x *meshtest.Proxy) []string {
	var all []string
	for _, m := range gotKey.FindAllStringSubmatch(x.Log.String(), -1) {
		all = append(all, m[1])
	}
	return all
}

// TestRotationFailsNoRequest rotates a proxy's credentials again and again, its streams
// end and are signed anew with what is there, its sessions are revoked, and the control
// plane is restarted: no request fails.
func TestRotationFailsNoRequest(t *testing.T) {
	t.Parallel()
	s := newVouchedStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	c := s.defineFront()
	c.Env = s.env("FAIRLEAD_IDENTITY_RENEW_SECONDS=6")
	s.startFront(c)
	s.awaitAnswer("/", http.StatusOK)
	l := s.startLoad()
	rotated := func(what string, more int) {
		t.Helper()
		before := len(keys(s.front))
		meshtest.Eventually(t, what, func() error {
			if n := len(keys(s.front)); n < before+more {
				return fmt.Errorf("%d exchanges, %d before", n, before)
			}
			return nil
		})
	}
	rotated("the credentials are rotated", 2)
	// The newest key signs the next stream.
	meshtest.Eventually(t, "a stream is signed with the newest key", func() error {
		all := keys(s.front)
		var out struct{ Events []json.RawMessage }
		s.plane.Signed(t).Want(t, http.MethodGet, "/v1/events?eventName=StreamAggregatedResources&limit=20", "", &out)
		for _, e := range out.Events {
			if strings.Contains(string(e), all[len(all)-1]) {
				return nil
			}
		}
		return errors.New("none yet")
	})
	s.plane.Signed(t).Want(t, http.MethodPut, "/v1/roles/front/revocation", "", nil)
	rotated("credentials are got anew when they are refused", 1)
	meshtest.Eventually(t, "Envoy has reconnected", func() error { return connected(s.front, true) })
	s.plane.Stop(t)
	s.plane.Run(t)
	rotated("the credentials are rotated", 1)
	meshtest.Eventually(t, "Envoy has reconnected", func() error { return connected(s.front, true) })
	l.end(t)
	s.noMeshFailures()
}

// TestRevokedSessionIsReplaced holds that an agent gets other credentials when those that
// it has are revoked, long before it would renew them.
func TestRevokedSessionIsReplaced(t *testing.T) {
	t.Parallel()
	s := newVouchedStage(t)
	c := s.defineFront()
	c.Env = s.env()
	s.startFront(c)
	s.plane.Signed(t).Want(t, http.MethodPut, "/v1/roles/front/revocation", "", nil)
	meshtest.Eventually(t, "there are other credentials", func() error {
		if n := len(keys(s.front)); n < 2 {
			return fmt.Errorf("%d exchanges", n)
		}
		return connected(s.front, true)
	})
}

// TestCredentialsAreRefused brings credentials that are wrong, expired, revoked, of
// another account or of another proxy to the control plane: none gets anything, the
// status says why, Envoy tries again, and the agent says it.
func TestCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	s := newVouchedStage(t)
	s.plane.Node(t, "test", "front", "", 0)
	s.plane.Node(t, "test", "other", "", 0)
	foreign := s.plane.Account(t, "000000000002")
	expired := s.pastSession(t)
	revoked := s.session(t)
	s.plane.Signed(t).Want(t, http.MethodPut, "/v1/roles/front/revocation", "", nil)
	good := s.session(t)
	signed := func(id, secret, token string) []string {
		return []string{"AWS_ACCESS_KEY_ID=" + id, "AWS_SECRET_ACCESS_KEY=" + secret, "AWS_SESSION_TOKEN=" + token}
	}
	till := filepath.Join(t.TempDir(), "token")
	meshtest.WriteFile(t, till, []byte(s.newToken("till")))
	const refuses = "the control plane refuses the stream"
	for name, c := range map[string]struct {
		node, code, say, agent string
		env                    []string
	}{
		"wrong key":           {"front", "16", "InvalidSignatureException", refuses, []string{"AWS_SECRET_ACCESS_KEY=wrong"}},
		"unknown key":         {"front", "16", "UnrecognizedClientException", refuses, signed("FLAKNOBODYNOBODYNOBO", "wrong", "")},
		"expired session":     {"front", "16", "ExpiredTokenException", refuses, signed(expired.AccessKeyID, expired.SecretAccessKey, expired.SessionToken)},
		"revoked session":     {"front", "16", "has been revoked", refuses, signed(revoked.AccessKeyID, revoked.SecretAccessKey, revoked.SessionToken)},
		"another account":     {"front", "7", "may not have the resources", refuses, signed(foreign.AccessKeyID, foreign.SecretAccessKey, "")},
		"another proxy":       {"other", "7", "is not authorized to perform", refuses, signed(good.AccessKeyID, good.SecretAccessKey, good.SessionToken)},
		"no session at all":   {"front", "16", "is not signed", "the control plane refuses credentials of the role", s.env("FAIRLEAD_WEB_IDENTITY_TOKEN_FILE=" + till)},
		"exchange, not there": {"front", "16", "is not signed", "credentials of the role cannot be had just now", s.env("FAIRLEAD_WEB_IDENTITY_TOKEN_FILE=/none")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := s.plane.Proxy(t, meshtest.ProxyConfig{ARN: meshtest.ARN("test", c.node), Bind: meshtest.Address(t), App: meshtest.Address(t), Env: c.env})
			closed := regexp.MustCompile(`stream to fairlead_xds closed(?: since [^:]*)?: ` + c.code + `,[^\n]*` + regexp.QuoteMeta(c.say))
			meshtest.Eventually(t, "the refusal is in Envoy's and the agent's log", func() error {
				log := x.Log.String()
				if !closed.MatchString(log) {
					return fmt.Errorf("Envoy does not say code %s with %q", c.code, c.say)
				}
				if !strings.Contains(log, c.agent) {
					return fmt.Errorf("the agent does not say %q", c.agent)
				}
				return nil
			})
			meshtest.Eventually(t, "Envoy tries again", func() error {
				stats, err := x.Admin("/stats?filter=cluster.fairlead_xds.upstream_rq_total")
				if err != nil {
					return err
				}
				var n int
				if _, err := fmt.Sscanf(stats, "cluster.fairlead_xds.upstream_rq_total: %d", &n); err != nil || n < 3 {
					return fmt.Errorf("it has tried %d times", n)
				}
				return nil
			})
			if ready, err := x.Admin("/ready"); err == nil && strings.Contains(ready, "LIVE") {
				t.Error("an Envoy that is refused got a configuration")
			}
		})
	}
}

// session returns credentials of front's role.
func (s *vouchedStage) session(t *testing.T) access.Credentials {
	t.Helper()
	nobody := meshtest.NewSigned(s.plane.URL(), s.plane.Creds)
	nobody.Creds.AccessKeyID = ""
	defer nobody.Close()
	var out struct {
		Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	}
	nobody.Want(t, http.MethodPut, "/v1/assumedRoles/webIdentity", `{"roleArn":"`+frontRole+`","webIdentityToken":"`+s.newToken("front")+`"}`, &out)
	return access.Credentials{AccessKeyID: out.Credentials.AccessKeyID, SecretAccessKey: out.Credentials.SecretAccessKey, SessionToken: out.Credentials.SessionToken}
}

// pastSession returns credentials that were got two hours ago, for one.
func (s *vouchedStage) pastSession(t *testing.T) access.Credentials {
	t.Helper()
	past := func() time.Time { return time.Now().Add(-2 * time.Hour) }
	a, err := access.Open(t.Context(), access.Config{Store: s.plane.Server().Store(), Regions: []string{meshtest.Region}, LoopbackIdentity: true, Now: past})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	token := s.issuer.Token(t, past(), standin.Kubernetes("test", "front", "fairlead"))
	got, err := a.AssumeRoleWithWebIdentity(context.Background(), access.Federated{RoleARN: frontRole}, token)
	if err != nil {
		t.Fatal(err)
	}
	return got.Credentials
}
