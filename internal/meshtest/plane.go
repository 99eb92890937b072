// Package meshtest runs a whole control plane in the test's process: real etcd, the real
// AWS SDK client in, and a light ADS client or a real Envoy out. Tests import it; nothing
// else does.
package meshtest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/server"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Account and Region are those of a Plane's administrator.
const (
	Account = "000000000001"
	Region  = "us-east-1"
)

// wait bounds every wait of this package.
const wait = 30 * time.Second

// Plane is a control plane under test.
type Plane struct {
	Addrs server.Addrs
	Creds aws.Credentials
	// API is a client of the administrator.
	API *appmesh.Client
	// Log holds what the control plane has logged.
	Log *Log
	// CA has signed the certificate of all listeners; nil without TLS.
	CA *Authority

	http   *http.Client
	server *server.Server
	cfg    server.Config
	stop   context.CancelFunc
	done   chan error
}

// Options are what a plane may have that Start's has not.
type Options struct {
	// Durable forces what is written to the disk, as users' servers do.
	Durable bool
	// TLS serves all listeners with a certificate of an authority of the test's own.
	TLS bool
	// Quotas are those of all accounts; zero for Fairlead's defaults.
	Quotas mesh.Quotas
	// Change may change the configuration before the server is opened.
	Change func(*server.Config)
}

// MostQuotas returns the greatest values that quotas can have, for tests that are about
// something else.
func MostQuotas() mesh.Quotas {
	var all mesh.Quotas
	for _, q := range mesh.AllQuotas() {
		all[q] = q.Most()
	}
	return all
}

// Start runs a control plane until the test ends. Its store does not wait for the disk;
// StartDurable's does.
func Start(t testing.TB) *Plane {
	t.Helper()
	return StartWith(t, Options{})
}

// StartDurable runs a control plane as users run it, until the test ends.
func StartDurable(t testing.TB) *Plane {
	t.Helper()
	return StartWith(t, Options{Durable: true})
}

// StartWith runs a control plane with options until the test ends.
func StartWith(t testing.TB, o Options) *Plane {
	t.Helper()
	dir := t.TempDir()
	p := &Plane{Log: &Log{}}
	logger := slog.New(slog.NewTextHandler(p.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p.cfg = server.Config{
		Store:           store.Config{DataDir: dir, Logger: logger, Unsafe: !o.Durable, Quotas: o.Quotas},
		CredentialsFile: filepath.Join(dir, "credentials"),
		AccountID:       Account, Regions: []string{Region}, Log: logger,
		APIListen: "127.0.0.1:0", XDSListen: "127.0.0.1:0", OpsListen: "127.0.0.1:0",
	}
	p.cfg.AlterSpec = takeOut(t)
	p.cfg.Audit.Path = filepath.Join(dir, "audit", "audit.log")
	if o.TLS {
		p.CA = NewAuthority(t)
		files := server.TLSFiles{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
		cert, key := p.CA.Issue(t, "fairlead", time.Hour)
		WriteFile(t, files.Cert, cert)
		WriteFile(t, files.Key, key)
		p.cfg.APITLS, p.cfg.XDSTLS, p.cfg.OpsTLS = files, files, files
	}
	if o.Change != nil {
		o.Change(&p.cfg)
	}
	p.http = p.HTTP()
	p.Run(t)
	t.Cleanup(func() { p.Stop(t) })
	p.Creds = ReadCredentials(t, p.cfg.CredentialsFile)
	p.API = p.Client(p.Creds)
	return p
}

// Run starts a plane that was stopped, on the same data and the same addresses.
func (p *Plane) Run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s, err := server.Open(ctx, p.cfg)
	if err != nil {
		cancel()
		t.Fatalf("opening the control plane: %v", err)
	}
	p.server, p.Addrs, p.stop, p.done = s, s.Addrs(), cancel, make(chan error, 1)
	p.cfg.APIListen, p.cfg.XDSListen, p.cfg.OpsListen = p.Addrs.API, p.Addrs.XDS, p.Addrs.Ops
	done := p.done
	go func() { done <- s.Run(ctx) }()
	Eventually(t, "the control plane is ready", func() error {
		resp, err := p.http.Get(p.scheme() + p.Addrs.Ops + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz answers %s", resp.Status)
		}
		return nil
	})
}

// Server returns the server that runs, for what is done beside its API.
func (p *Plane) Server() *server.Server { return p.server }

// CloseIdle closes the connections that the plane's own clients keep for later.
func (p *Plane) CloseIdle() { p.http.CloseIdleConnections() }

// Terminate tells the plane to end, and does not wait: Stop does.
func (p *Plane) Terminate() { p.stop() }

// Stop ends the plane and waits for it; stopping twice is allowed.
func (p *Plane) Stop(t testing.TB) {
	t.Helper()
	if p.stop == nil {
		return
	}
	p.stop()
	p.stop = nil
	select {
	case err := <-p.done:
		if err != nil {
			t.Errorf("the control plane ended with: %v", err)
		}
	case <-time.After(wait):
		t.Errorf("the control plane did not end within %s", wait)
	}
}

// Client returns an API client that signs with the given credentials.
func (p *Plane) Client(c aws.Credentials) *appmesh.Client {
	return appmesh.New(appmesh.Options{
		Region: Region, BaseEndpoint: aws.String(p.URL()),
		Credentials:      aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil }),
		HTTPClient:       p.HTTP(),
		RetryMaxAttempts: 1,
	})
}

var credentialsLine = regexp.MustCompile(`(?m)^aws_(access_key_id|secret_access_key)\s*=\s*(\S+)$`)

// ReadCredentials returns the access key of a credentials file.
func ReadCredentials(t testing.TB, path string) aws.Credentials {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("reading the administrator's credentials: %v", err)
	}
	m := credentialsLine.FindAllSubmatch(raw, -1)
	if len(m) != 2 {
		t.Fatalf("%s does not hold an access key and its secret", path)
	}
	return aws.Credentials{AccessKeyID: string(m[0][2]), SecretAccessKey: string(m[1][2])}
}

// Eventually tries until f returns nil, and fails the test if it never does.
func Eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	wait := patience()
	deadline := time.Now().Add(wait)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s until %s: %v", wait, what, err)
		}
		<-tick.C
	}
}

// Log collects log lines.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// String returns all lines so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Reset forgets all lines so far.
func (l *Log) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Reset()
}
