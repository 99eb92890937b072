package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// storeFlags are the flags of the commands that open a store: where it is, where they
// write credentials, and how they log.
type storeFlags struct {
	dataDir, sealKey, credentials string
	etcdEndpoints                 []string
	etcdCA, etcdCert, etcdKey     string
	etcdUser, etcdPasswordFile    string
	logLevel, logFormat           string
}

func (f *storeFlags) register(fl *pflag.FlagSet) {
	f.registerPlace(fl)
	fl.StringVar(&f.credentials, "credentials-file", "", "file that a new administrator's access key is written to (default DATA_DIR/credentials)")
}

// registerPlace adds the flags that say where the store is, and how it is logged about.
func (f *storeFlags) registerPlace(fl *pflag.FlagSet) {
	fl.StringVar(&f.sealKey, "seal-key", "", "file with the key that secrets are sealed with (default DATA_DIR/seal.key)")
	f.registerEtcd(fl)
}

// registerEtcd adds those of them that have nothing to do with secrets.
func (f *storeFlags) registerEtcd(fl *pflag.FlagSet) {
	fl.StringVar(&f.dataDir, "data-dir", "", "directory of the embedded store and of the first credentials")
	fl.StringSliceVar(&f.etcdEndpoints, "etcd-endpoints", nil, "an external etcd instead of the embedded store: host:port or URLs")
	fl.StringVar(&f.etcdCA, "etcd-ca-cert", "", "certificate authority of the external etcd, a PEM file")
	fl.StringVar(&f.etcdCert, "etcd-cert", "", "client certificate for the external etcd, a PEM file")
	fl.StringVar(&f.etcdKey, "etcd-key", "", "key of the client certificate, a PEM file")
	fl.StringVar(&f.etcdUser, "etcd-username", "", "user name for the external etcd")
	fl.StringVar(&f.etcdPasswordFile, "etcd-password-file", "", "file with the password for the external etcd")
	fl.StringVar(&f.logLevel, "log-level", "info", "least severe log lines to write: debug, info, warn, error")
	fl.StringVar(&f.logFormat, "log-format", "text", "form of log lines: text, json")
}

// config checks the flags and returns what they say.
func (f *storeFlags) config() (store.Config, error) {
	if len(f.etcdEndpoints) > 0 && f.dataDir == "" && f.sealKey == "" {
		return store.Config{}, errors.New("--seal-key is required with --etcd-endpoints: every replica needs the same key")
	}
	return f.place()
}

// place is config for what needs no seal key.
func (f *storeFlags) place() (store.Config, error) {
	log, err := newLogger(f.logLevel, f.logFormat)
	if err != nil {
		return store.Config{}, err
	}
	switch {
	case f.dataDir == "" && len(f.etcdEndpoints) == 0:
		return store.Config{}, errors.New("--data-dir is required (or --etcd-endpoints for an external store)")
	case f.dataDir != "" && len(f.etcdEndpoints) > 0:
		return store.Config{}, errors.New("--data-dir and --etcd-endpoints exclude each other")
	}
	tlsConfig, err := f.etcdTLS()
	if err != nil {
		return store.Config{}, err
	}
	password, err := f.etcdPassword()
	if err != nil {
		return store.Config{}, err
	}
	return store.Config{
		DataDir: f.dataDir, Endpoints: f.etcdEndpoints, TLS: tlsConfig,
		Username: f.etcdUser, Password: password, SealKeyFile: f.sealKey, Logger: log,
	}, nil
}

// credentialsFile returns where an administrator's key is written.
func (f *storeFlags) credentialsFile() string {
	if f.credentials != "" {
		return f.credentials
	}
	return filepath.Join(f.dataDir, "credentials")
}

// checkAccount says what is wrong with --account-id. "" stands for none where that is
// allowed.
func checkAccount(id string, optional bool) error {
	if mesh.ValidAccount(id) || id == "" && optional {
		return nil
	}
	return fmt.Errorf("--account-id %q is not allowed: twelve digits", id)
}

func (f *storeFlags) etcdPassword() (string, error) {
	if f.etcdPasswordFile == "" {
		return "", nil
	}
	raw, err := os.ReadFile(f.etcdPasswordFile)
	if err != nil {
		return "", fmt.Errorf("reading --etcd-password-file: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// etcdTLS returns nil where no certificate is given: the endpoints' scheme decides then.
func (f *storeFlags) etcdTLS() (*tls.Config, error) {
	if f.etcdCA == "" && f.etcdCert == "" && f.etcdKey == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.etcdCA != "" {
		pem, err := os.ReadFile(f.etcdCA)
		if err != nil {
			return nil, fmt.Errorf("reading --etcd-ca-cert: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--etcd-ca-cert %s holds no certificate in PEM form", f.etcdCA)
		}
	}
	if f.etcdCert != "" || f.etcdKey != "" {
		pair, err := tls.LoadX509KeyPair(f.etcdCert, f.etcdKey)
		if err != nil {
			return nil, fmt.Errorf("reading --etcd-cert and --etcd-key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func newLogger(level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q is not allowed: debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q is not allowed: text or json", format)
}
