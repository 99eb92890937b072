package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fairlead-mesh/fairlead/api/client"
)

const (
	// callTime bounds one call.
	callTime = 10 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes, and maxFile of a file.
	maxAnswer = 64 << 10
	maxFile   = 64 << 10
)

// Credentials are what an exchange gave.
type Credentials struct {
	Key     aws.Credentials
	ARN     string // of the session
	Expires time.Time
}

// Refusal is what the control plane answered in place of credentials.
type Refusal struct {
	Status        int
	Code, Message string
}

// Error returns code and message.
func (e *Refusal) Error() string { return e.Code + ": " + e.Message }

// exchange gets credentials for what proves who this is. What proves it is read anew each
// time.
func (s *Source) exchange(ctx context.Context) (Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*callTime)
	defer cancel()
	set := s.cfg.Settings
	seconds := int(set.Duration / time.Second)
	switch set.Kind {
	case WebIdentity:
		token, err := readFile(set.TokenFile)
		if err != nil {
			return Credentials{}, fmt.Errorf("reading the token (%s): %w", tokenVariables[0], err)
		}
		return s.ask(nil, func(c *client.Client) (*client.AssumeRoleOutput, error) {
			out, err := c.AssumeRoleWithWebIdentity(ctx, &client.AssumeRoleWithWebIdentityInput{
				RoleARN: set.RoleARN, SessionName: set.Session, DurationSeconds: seconds, WebIdentityToken: strings.TrimSpace(string(token)),
			})
			return (*client.AssumeRoleOutput)(out), err
		})
	case Certificate:
		pair, err := tls.LoadX509KeyPair(set.CertFile, set.KeyFile)
		if err != nil {
			return Credentials{}, fmt.Errorf("reading the client certificate (%s, %s): %w", certVariable, keyVariable, err)
		}
		return s.ask(&pair, func(c *client.Client) (*client.AssumeRoleOutput, error) {
			out, err := c.AssumeRoleWithCertificate(ctx, &client.AssumeRoleWithCertificateInput{
				RoleARN: set.RoleARN, SessionName: set.Session, DurationSeconds: seconds,
			})
			return (*client.AssumeRoleOutput)(out), err
		})
	case AWS:
		key, err := s.amazonKey(ctx)
		if err != nil {
			return Credentials{}, err
		}
		request, err := callerIdentity(ctx, key, set.Amazon, s.now())
		if err != nil {
			return Credentials{}, err
		}
		return s.ask(nil, func(c *client.Client) (*client.AssumeRoleOutput, error) {
			out, err := c.AssumeRoleWithAWSIdentity(ctx, &client.AssumeRoleWithAWSIdentityInput{
				RoleARN: set.RoleARN, SessionName: set.Session, DurationSeconds: seconds, Request: request,
			})
			return (*client.AssumeRoleOutput)(out), err
		})
	default:
		return Credentials{}, fmt.Errorf("the identity %s is not exchanged", set.Kind)
	}
}

// readFile reads a small file.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", path, err)
	case len(b) > maxFile:
		return nil, fmt.Errorf("%s is longer than %d bytes", path, maxFile)
	case len(bytes.TrimSpace(b)) == 0:
		return nil, fmt.Errorf("%s is empty", path)
	}
	return b, nil
}

// ask calls the control plane once, over a connection of its own: certificates and roots
// may have changed.
func (s *Source) ask(certificate *tls.Certificate, call func(*client.Client) (*client.AssumeRoleOutput, error)) (Credentials, error) {
	transport, err := s.cfg.Settings.API.Client(callTime, certificate)
	if err != nil {
		return Credentials{}, err
	}
	defer transport.CloseIdleConnections()
	c, err := client.New(client.Config{
		Endpoint: s.cfg.Settings.API.Endpoint, HTTPClient: transport, MaxAttempts: 1, MaxAnswer: maxAnswer, UserAgent: "fairlead-agent",
	})
	if err != nil {
		return Credentials{}, fmt.Errorf("asking the control plane (%s): %w", endpointVariable, err)
	}
	out, err := call(c)
	if err != nil {
		return Credentials{}, unanswered(err)
	}
	got := Credentials{
		Key: aws.Credentials{
			AccessKeyID: out.Credentials.AccessKeyID, SecretAccessKey: out.Credentials.SecretAccessKey, SessionToken: out.Credentials.SessionToken,
		},
		ARN: out.AssumedRoleARN, Expires: out.Credentials.Expiration,
	}
	if !plain(got.Key) || got.Expires.IsZero() {
		return Credentials{}, errors.New("the control plane's answer has no credentials")
	}
	return got, nil
}

// unanswered says why a call gave no credentials, in the same words each time.
func unanswered(err error) error {
	var (
		refused *client.Error
		unsent  *url.Error
	)
	switch {
	case errors.As(err, &refused) && refused.Code != "":
		return &Refusal{Status: refused.Status, Code: refused.Code, Message: refused.Message}
	case refused != nil:
		return &Refusal{Status: refused.Status, Code: fmt.Sprintf("HTTP status %d", refused.Status), Message: "is " + endpointVariable + " where Fairlead's API is?"}
	case errors.As(err, &unsent):
		return fmt.Errorf("asking the control plane: %w", unsent)
	}
	return fmt.Errorf("the control plane's answer: %w", err)
}

// plain reports whether a key is whole and can stand in a credentials file.
func plain(k aws.Credentials) bool {
	bad := func(s string) bool {
		return s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
	}
	return !bad(k.AccessKeyID) && !bad(k.SecretAccessKey) && !bad(k.SessionToken)
}
