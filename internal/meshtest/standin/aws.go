package standin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Who is a principal of AWS.
type Who struct {
	ARN, ID, Account string
}

// STS is AWS's STS: it verifies signatures, with AWS's own signer, and says who has signed.
type STS struct {
	URL string
	// Asked counts the requests.
	Asked atomic.Int64

	mu       sync.Mutex
	keys     map[string]stsKey
	override http.HandlerFunc
}

type stsKey struct {
	creds aws.Credentials
	who   Who
}

// NewSTS runs STS until the test ends.
func NewSTS(t testing.TB) *STS {
	t.Helper()
	s := &STS{keys: map[string]stsKey{}}
	srv := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

// Know has STS know the credentials of a principal.
func (s *STS) Know(creds aws.Credentials, who Who) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[creds.AccessKeyID] = stsKey{creds, who}
}

// Override has all requests answered by h from now on; nil for the usual answers.
func (s *STS) Override(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.override = h
}

var authorizationForm = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/sts/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$`)

func (s *STS) serve(w http.ResponseWriter, r *http.Request) {
	s.Asked.Add(1)
	s.mu.Lock()
	override := s.override
	s.mu.Unlock()
	if override != nil {
		override(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	who, code := s.verify(r, body)
	w.Header().Set("Content-Type", "text/xml")
	if code != "" {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>%s</Code><Message>no</Message></Error><RequestId>1</RequestId></ErrorResponse>`, code)
		return
	}
	fmt.Fprint(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>`)
	_ = xml.EscapeText(w, []byte(who.ARN))
	fmt.Fprintf(w, `</Arn><UserId>%s</UserId><Account>%s</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>`, who.ID, who.Account)
}

// verify signs the request anew and compares.
func (s *STS) verify(r *http.Request, body []byte) (Who, string) {
	m := authorizationForm.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		return Who{}, "IncompleteSignature"
	}
	s.mu.Lock()
	known, ok := s.keys[m[1]]
	s.mu.Unlock()
	if !ok || known.creds.SessionToken != r.Header.Get("X-Amz-Security-Token") {
		return Who{}, "InvalidClientTokenId"
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > 15*time.Minute {
		return Who{}, "SignatureDoesNotMatch"
	}
	signed := strings.Split(m[4], ";")
	again, err := http.NewRequestWithContext(context.Background(), r.Method, "http://"+r.Host+"/", strings.NewReader(string(body)))
	if err != nil {
		return Who{}, "InternalFailure"
	}
	again.ContentLength = 0
	if slices.Contains(signed, "content-length") {
		again.ContentLength = r.ContentLength
	}
	for _, name := range signed {
		if v := r.Header.Get(name); v != "" && name != "x-amz-date" && name != "x-amz-security-token" {
			again.Header.Set(name, v)
		}
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(r.Context(), known.creds, again, hex.EncodeToString(sum[:]), "sts", m[3], at); err != nil {
		return Who{}, "InternalFailure"
	}
	if !strings.HasSuffix(again.Header.Get("Authorization"), "Signature="+m[5]) {
		return Who{}, "SignatureDoesNotMatch"
	}
	if string(body) != "Action=GetCallerIdentity&Version=2011-06-15" {
		return Who{}, "InvalidAction"
	}
	return known.who, ""
}

// Metadata is where a container or a virtual machine in AWS gets the credentials of its
// role.
type Metadata struct {
	URL string
	// Token is what the endpoint of ECS wants to be sent; "" for nothing.
	Token string
	// Asked counts the answers with credentials.
	Asked atomic.Int64

	role string

	mu    sync.Mutex
	creds aws.Credentials
}

// NewECS runs ECS's credentials endpoint until the test ends. Credentials are at
// /v2/credentials/ID.
func NewECS(t testing.TB, creds aws.Credentials, token string) *Metadata {
	t.Helper()
	m := &Metadata{creds: creds, Token: token}
	m.run(t, m.ecs)
	return m
}

// NewEC2 runs EC2's metadata service, version 2 only, until the test ends.
func NewEC2(t testing.TB, creds aws.Credentials, role string) *Metadata {
	t.Helper()
	m := &Metadata{creds: creds, role: role}
	m.run(t, m.ec2)
	return m
}

func (m *Metadata) run(t testing.TB, h http.HandlerFunc) {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	m.URL = srv.URL
}

// Set gives the role other credentials.
func (m *Metadata) Set(creds aws.Credentials) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.creds = creds
}

func (m *Metadata) answer(w http.ResponseWriter) {
	m.Asked.Add(1)
	m.mu.Lock()
	c := m.creds
	m.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]string{
		"Code": "Success", "Type": "AWS-HMAC", "RoleArn": m.role, "LastUpdated": time.Now().UTC().Format(time.RFC3339),
		"AccessKeyId": c.AccessKeyID, "SecretAccessKey": c.SecretAccessKey, "Token": c.SessionToken, "Expiration": c.Expires.UTC().Format(time.RFC3339),
	})
}

func (m *Metadata) ecs(w http.ResponseWriter, r *http.Request) {
	switch {
	case m.Token != "" && r.Header.Get("Authorization") != m.Token:
		http.Error(w, "unauthorized", http.StatusUnauthorized)
	case !strings.HasPrefix(r.URL.Path, "/v2/credentials/"):
		http.NotFound(w, r)
	default:
		m.answer(w)
	}
}

// ec2Token is what the metadata service hands out to be sent with requests.
const ec2Token = "AQAEAA-test-metadata-token"

func (m *Metadata) ec2(w http.ResponseWriter, r *http.Request) {
	const roles = "/latest/meta-data/iam/security-credentials/"
	switch {
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
		if r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") == "" {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, ec2Token)
	case r.Header.Get("X-Aws-Ec2-Metadata-Token") != ec2Token:
		http.Error(w, "unauthorized", http.StatusUnauthorized)
	case r.URL.Path == roles:
		_, _ = io.WriteString(w, m.role)
	case r.URL.Path == roles+m.role:
		m.answer(w)
	default:
		http.NotFound(w, r)
	}
}
