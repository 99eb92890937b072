package agent

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fairlead-mesh/fairlead/internal/agent/control"
)

// rootFiles are where Linux distributions keep the roots that they trust: Debian,
// Red Hat, Alpine.
var rootFiles = []string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/cert.pem",
	"/etc/ssl/cert.pem",
}

// Resolve looks at the files that s names and fills in the system's roots, so that
// what is missing is said before Envoy starts. The error is one line.
func (s Settings) Resolve() (Settings, error) {
	if s.ConfigFile != "" {
		b, err := os.ReadFile(s.ConfigFile)
		if err == nil && len(bytes.TrimSpace(b)) == 0 {
			err = errors.New("the file is empty")
		}
		if err != nil {
			return s, fmt.Errorf("reading ENVOY_CONFIG_FILE, which must hold a whole Envoy bootstrap: %w", err)
		}
		return s, nil
	}
	if !s.Identity.Kind.Exchanges() { // the file is made by Run
		if err := s.XDS.Credentials.check(); err != nil {
			return s, err
		}
	}
	var err error
	if s.Placement, err = s.Placement.resolveBind(); err != nil {
		return s, err
	}
	if s.Overlays, err = loadOverlays(s.OverlayFiles); err != nil {
		return s, err
	}
	if s.Telemetry, err = s.Telemetry.resolve(); err != nil {
		return s, err
	}
	if s.XDS.Plaintext || s.XDS.Socket != "" {
		return s, nil
	}
	s.XDS.CAFile, err = findRoots(s.XDS.CAFile, rootFiles, "FAIRLEAD_XDS_CA_FILE")
	return s, err
}

// findRoots returns the file of roots: the one given, or the first of the
// well-known ones that exists.
func findRoots(given string, known []string, variable string) (string, error) {
	if given == "" {
		for _, f := range known {
			if _, err := os.Stat(f); err == nil {
				return f, nil
			}
		}
		return "", fmt.Errorf("no file of trusted root certificates on this system (looked for %s); install ca-certificates or set %s",
			strings.Join(known, ", "), variable)
	}
	if _, err := control.Roots(variable, given); err != nil {
		return "", err
	}
	return given, nil
}

// check looks whether the credentials file holds a key under the profile. It says
// nothing of the key itself.
func (c Credentials) check() error {
	if c.File == "" {
		return nil
	}
	_, err := c.readFile()
	return err
}

// provider returns what reads the key anew each time that it is asked, because the key may
// be replaced: credentials of a role are, every hour.
func (c Credentials) provider(environ []string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		key, err := c.read(environ)
		key.CanExpire, key.Expires = true, time.Now() // for who would keep it
		return key, err
	})
}

// read returns the key as it is now: from the file, or from an environment.
func (c Credentials) read(environ []string) (key aws.Credentials, err error) {
	if c.File != "" {
		return c.readFile()
	}
	for _, variable := range environ { // the last one holds
		switch name, value, _ := strings.Cut(variable, "="); name {
		case "AWS_ACCESS_KEY_ID":
			key.AccessKeyID = value
		case "AWS_SECRET_ACCESS_KEY":
			key.SecretAccessKey = value
		case "AWS_SESSION_TOKEN":
			key.SessionToken = value
		}
	}
	return key, nil
}

// readFile returns the key that the file holds under the profile.
func (c Credentials) readFile() (aws.Credentials, error) {
	f, err := os.Open(c.File)
	if errors.Is(err, os.ErrNotExist) {
		return aws.Credentials{}, fmt.Errorf("%w (looked for %s)", errNoCredentials, c.File)
	}
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("reading the credentials file, see AWS_SHARED_CREDENTIALS_FILE: %w", err)
	}
	defer f.Close()
	found := false
	keys := map[string]string{}
	scan := bufio.NewScanner(f)
	for section := ""; scan.Scan(); {
		line := strings.TrimSpace(scan.Text())
		if strings.HasPrefix(line, "[") {
			section = strings.TrimSpace(strings.Trim(line, "[]"))
			found = found || section == c.Profile
		} else if name, value, ok := strings.Cut(line, "="); ok && section == c.Profile {
			keys[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	key := aws.Credentials{
		AccessKeyID: keys["aws_access_key_id"], SecretAccessKey: keys["aws_secret_access_key"], SessionToken: keys["aws_session_token"],
	}
	switch {
	case scan.Err() != nil:
		return key, fmt.Errorf("reading the credentials file, see AWS_SHARED_CREDENTIALS_FILE: %w", scan.Err())
	case !found:
		return key, fmt.Errorf("%s has no profile %q; set AWS_PROFILE to one that it has", c.File, c.Profile)
	case key.AccessKeyID == "" || key.SecretAccessKey == "":
		return key, fmt.Errorf("profile %q of %s lacks aws_access_key_id or aws_secret_access_key", c.Profile, c.File)
	}
	return key, nil
}
