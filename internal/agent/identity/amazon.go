package identity

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/fairlead-mesh/fairlead/api/client"
)

const (
	// metadataTime bounds one question to a metadata service, which is near or not there.
	metadataTime = 2 * time.Second
	identityBody = "Action=GetCallerIdentity&Version=2011-06-15"
	// serverHeader binds what is signed to one control plane.
	serverHeader = "X-Fairlead-Server"
)

// callerIdentity signs a request that asks STS who signed it, for one control plane.
func callerIdentity(ctx context.Context, key aws.Credentials, a Amazon, now time.Time) (client.SignedRequest, error) {
	u, err := url.Parse(a.STS)
	if err != nil {
		u = &url.URL{} // Read has looked; the control plane refuses it
	}
	req := &http.Request{Method: http.MethodPost, URL: u, Header: http.Header{}}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	req.Header.Set(serverHeader, a.Audience)
	sum := sha256.Sum256([]byte(identityBody))
	if err := v4.NewSigner().SignHTTP(ctx, key, req, hex.EncodeToString(sum[:]), "sts", a.Region, now); err != nil {
		return client.SignedRequest{}, fmt.Errorf("signing for AWS: %w", err)
	}
	out := client.SignedRequest{Method: req.Method, URL: a.STS, Body: identityBody, Headers: map[string]string{}}
	for name := range req.Header {
		out.Headers[name] = req.Header.Get(name)
	}
	return out, nil
}

// amazonKey gets the credentials of the AWS role: from the environment, else from the
// container's endpoint, else from EC2's metadata service.
func (s *Source) amazonKey(ctx context.Context) (aws.Credentials, error) {
	a := s.cfg.Settings.Amazon
	switch {
	case a.Environment:
		return aws.Credentials{
			AccessKeyID: s.cfg.Text("AWS_ACCESS_KEY_ID"), SecretAccessKey: s.cfg.Text("AWS_SECRET_ACCESS_KEY"), SessionToken: s.cfg.Text("AWS_SESSION_TOKEN"),
		}, nil
	case a.ContainerURL != "":
		key, err := s.containerKey(ctx, a)
		if err != nil {
			return key, fmt.Errorf("asking the container's credentials endpoint for the AWS role: %w", err)
		}
		return key, nil
	}
	key, err := s.instanceKey(ctx, a.Metadata)
	if err != nil {
		return key, fmt.Errorf("asking the instance's metadata service for the AWS role (from a container it may need a hop limit of 2): %w", err)
	}
	return key, nil
}

func (s *Source) containerKey(ctx context.Context, a Amazon) (aws.Credentials, error) {
	header := http.Header{}
	token := a.ContainerToken
	if a.ContainerTokenFile != "" {
		text, err := readFile(a.ContainerTokenFile)
		if err != nil {
			return aws.Credentials{}, fmt.Errorf("reading AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	if token != "" {
		header.Set("Authorization", token)
	}
	body, err := s.metadata(ctx, http.MethodGet, a.ContainerURL, header)
	if err != nil {
		return aws.Credentials{}, err
	}
	return readKey(body)
}

// instanceKey speaks version 2 of the metadata service: first a token, then the name of
// the role, then its credentials.
func (s *Source) instanceKey(ctx context.Context, service string) (aws.Credentials, error) {
	header := http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"60"}}
	token, err := s.metadata(ctx, http.MethodPut, service+"/latest/api/token", header)
	if err != nil {
		return aws.Credentials{}, err
	}
	header = http.Header{"X-Aws-Ec2-Metadata-Token": {strings.TrimSpace(string(token))}}
	const roles = "/latest/meta-data/iam/security-credentials/"
	names, err := s.metadata(ctx, http.MethodGet, service+roles, header)
	if err != nil {
		return aws.Credentials{}, err
	}
	role, _, _ := strings.Cut(strings.TrimSpace(string(names)), "\n")
	if role == "" {
		return aws.Credentials{}, errors.New("the instance has no role: it needs an instance profile")
	}
	body, err := s.metadata(ctx, http.MethodGet, service+roles+url.PathEscape(role), header)
	if err != nil {
		return aws.Credentials{}, err
	}
	return readKey(body)
}

func (s *Source) metadata(ctx context.Context, method, target string, header http.Header) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	resp, err := metadataClient.Do(req)
	if err != nil {
		return nil, err // says the method and the URL
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s %s: the answer has status %d", method, target, resp.StatusCode)
	}
	return body, nil
}

// metadataClient asks services of this host or the next: no proxy, no redirects, and no
// connection is kept for the hours between two questions.
var metadataClient = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// readKey reads what ECS and EC2 answer.
func readKey(body []byte) (aws.Credentials, error) {
	var out struct{ Code, Message, AccessKeyID, SecretAccessKey, Token string }
	if err := json.Unmarshal(body, &out); err != nil {
		return aws.Credentials{}, errors.New("the answer cannot be read")
	}
	if out.Code != "" && out.Code != "Success" {
		return aws.Credentials{}, fmt.Errorf("the answer is %q", cmp.Or(out.Message, out.Code))
	}
	key := aws.Credentials{AccessKeyID: out.AccessKeyID, SecretAccessKey: out.SecretAccessKey, SessionToken: out.Token}
	if !plain(key) {
		return aws.Credentials{}, errors.New("the answer has no credentials")
	}
	return key, nil
}
