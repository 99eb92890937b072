package envoy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/standin"
)

// shortSession is how long the sessions last that shortSessions gives: the agent renews
// them when two thirds are over, and then needs some time on a busy machine.
const shortSession = 9 * time.Second

// shortSessions stands before the API of a control plane and answers exchanges with
// sessions that end in seconds. The API gives 15 minutes at least, so they are made over
// the same store by the clock of somebody who is that much behind. It returns its URL.
func (s *vouchedStage) shortSessions() string {
	s.t.Helper()
	now := func() time.Time { return time.Now().Add(shortSession - access.MinSession) }
	a, err := access.Open(s.t.Context(), access.Config{Store: s.plane.Server().Store(), Regions: []string{meshtest.Region}, LoopbackIdentity: true, Now: now})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := a.Close(); err != nil {
			s.t.Error(err)
		}
	})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The agent's own token is of now, which is the future there.
		token := s.issuer.Token(s.t, now(), standin.Kubernetes("test", "front", "fairlead"))
		got, err := a.AssumeRoleWithWebIdentity(r.Context(), access.Federated{RoleARN: frontRole, Duration: access.MinSession}, token)
		if err != nil {
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(map[string]string{"message": err.Error()})
			return
		}
		c := got.Credentials
		_ = json.NewEncoder(w).Encode(map[string]any{"assumedRoleArn": got.Principal.ARN, "credentials": map[string]any{
			"accessKeyId": c.AccessKeyID, "secretAccessKey": c.SecretAccessKey, "sessionToken": c.SessionToken, "expiration": c.Expires.Format(time.RFC3339),
		}})
	}))
	s.t.Cleanup(srv.Close)
	return srv.URL
}

// streamEvent is an event of a stream, as the audit log has it.
type streamEvent struct {
	UserIdentity struct{ AccessKeyID string }
	ErrorCode    string
	Details      struct{ EventStatus string } `json:"serviceEventDetails"`
}

// streams returns the events of streams, the newest first, of the keys that front's agent
// has got.
func (s *vouchedStage) streams() []streamEvent {
	s.t.Helper()
	var out struct{ Events []streamEvent }
	s.plane.Signed(s.t).Want(s.t, http.MethodGet, "/v1/events?eventName=StreamAggregatedResources&limit=100", "", &out)
	own := keys(s.front)
	return slices.DeleteFunc(out.Events, func(e streamEvent) bool { return !slices.Contains(own, e.UserIdentity.AccessKeyID) })
}

// trust has front's role let in one service account.
func (s *vouchedStage) trust(account string) {
	s.t.Helper()
	_, host, _ := strings.Cut(s.issuer.URL, "://")
	s.plane.Signed(s.t).Want(s.t, http.MethodPut, "/v1/roles/front", fmt.Sprintf(`{"trustPolicy":{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
		"Principal":{"Federated":"arn:aws:iam::%s:oidc-provider/%s"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"%s:sub":"system:serviceaccount:test:%s"}}}]}}`,
		meshtest.Account, host, host, account), nil)
}

// TestCredentialsEndOnAnOpenStream holds what happens to a stream whose credentials come
// to their end while it is open, for an Envoy that signs for itself and for one behind a
// relay: it ends, and the next is signed with what the agent has got meanwhile. Nothing is
// refused, and no request fails. With a session that was revoked, and no other to be had,
// it is refused; Envoy goes on with what it has, and an edit waits until its workload is
// let in again.
func TestCredentialsEndOnAnOpenStream(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]func(t *testing.T) []string{
		"direct": func(*testing.T) []string { return nil },
		"relay":  func(t *testing.T) []string { return []string{"FAIRLEAD_CACHE_DIR=" + shortDir(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newVouchedStageWith(t, 0) // no stream ends of its age
			s.app("blue", named("blue")).Ready(t)
			s.app("green", named("green")).Ready(t)
			s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1, "green", 0))
			c := s.defineFront()
			c.Env = s.env(append(env(t), "FAIRLEAD_API_ENDPOINT="+s.shortSessions())...)
			s.startFront(c)
			s.awaitAnswer("/", http.StatusOK)
			l := s.startLoad()
			meshtest.Eventually(t, "two streams have ended with their credentials, and a third is open", func() error { return s.takenUpAnew(3) })

			s.trust("nobody")
			s.plane.Signed(t).Want(t, http.MethodPut, "/v1/roles/front/revocation", "", nil)
			meshtest.Eventually(t, "the stream is refused, and so are other credentials", func() error {
				for _, want := range []string{"has been revoked", "the control plane refuses credentials of the role"} {
					if !strings.Contains(s.front.Log.String(), want) {
						return fmt.Errorf("the log does not say %q", want)
					}
				}
				return nil
			})
			s.route(meshtest.Weights("blue", 0, "green", 1))
			l.more(400)
			if n := l.answers("green"); n > 0 {
				t.Errorf("an Envoy that is refused obeys an edit: %d answers", n)
			}
			s.trust("front")
			l.awaitShift(t, "green", "blue")
			l.end(t)
			s.noMeshFailures()
		})
	}
}

// takenUpAnew reports what lacks until streams have been opened with a number of keys, one
// after the other, all but the last of which have ended as they should.
func (s *vouchedStage) takenUpAnew(want int) error {
	opened, ended := map[string]bool{}, map[string]bool{}
	for _, e := range s.streams() {
		switch {
		case e.ErrorCode != "":
			s.t.Fatalf("a stream was refused: %+v", e)
		case e.Details.EventStatus == "ConnectionTerminated":
			s.t.Fatalf("a stream was not ended gracefully: %+v", e)
		case e.Details.EventStatus == "ConnectionEstablished":
			opened[e.UserIdentity.AccessKeyID] = true
		default:
			ended[e.UserIdentity.AccessKeyID] = true
		}
	}
	if len(opened) < want || len(ended) < want-1 {
		return errors.New(fmt.Sprint("opened with ", len(opened), " keys, ended with ", len(ended)))
	}
	return nil
}
