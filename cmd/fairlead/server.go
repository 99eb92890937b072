package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/server"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// serverFlags are the flags of "fairlead server" that are not in server.Config as they are.
type serverFlags struct {
	dataDir, sealKey, credentials string
	etcdEndpoints                 []string
	etcdCA, etcdCert, etcdKey     string
	etcdUser, etcdPasswordFile    string
	logLevel, logFormat           string
	cfg                           server.Config
}

func newServer() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the control plane",
		Long: "Run the control plane: the App Mesh REST API, discovery for Envoy, and metrics.\n" +
			"The first start on an empty store makes an account and writes its administrator's access key.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.dataDir, "data-dir", "", "directory of the embedded store and of the first credentials")
	fl.StringVar(&f.cfg.APIListen, "api-listen", "127.0.0.1:9080", "address of the REST API")
	fl.StringVar(&f.cfg.XDSListen, "xds-listen", "127.0.0.1:9081", "address that Envoys connect to")
	fl.StringVar(&f.cfg.OpsListen, "ops-listen", "127.0.0.1:9082", "address of /readyz, /livez and /metrics")
	fl.StringSliceVar(&f.cfg.Regions, "region", []string{"us-east-1"}, "region that callers sign for; may be given more than once")
	fl.StringVar(&f.cfg.AccountID, "account-id", "000000000001", "account that the first start makes: twelve digits")
	fl.StringVar(&f.credentials, "credentials-file", "", "where the first start writes the administrator's access key (default DATA_DIR/credentials)")
	fl.StringVar(&f.sealKey, "seal-key", "", "file with the key that secrets are sealed with (default DATA_DIR/seal.key)")
	fl.StringSliceVar(&f.etcdEndpoints, "etcd-endpoints", nil, "an external etcd instead of the embedded store: host:port or URLs")
	fl.StringVar(&f.etcdCA, "etcd-ca-cert", "", "certificate authority of the external etcd, a PEM file")
	fl.StringVar(&f.etcdCert, "etcd-cert", "", "client certificate for the external etcd, a PEM file")
	fl.StringVar(&f.etcdKey, "etcd-key", "", "key of the client certificate, a PEM file")
	fl.StringVar(&f.etcdUser, "etcd-username", "", "user name for the external etcd")
	fl.StringVar(&f.etcdPasswordFile, "etcd-password-file", "", "file with the password for the external etcd")
	fl.BoolVar(&f.cfg.Plaintext, "insecure-plaintext", false, "allow listening off loopback without TLS: the network is secured elsewhere")
	fl.BoolVar(&f.cfg.Pprof, "pprof", false, "serve /debug/pprof/ on the ops address")
	fl.DurationVar(&f.cfg.MaxStreamAge, "max-stream-age", 0, "when a proxy's stream is ended so that it signs anew (default 30m)")
	fl.StringVar(&f.logLevel, "log-level", "info", "least severe log lines to write: debug, info, warn, error")
	fl.StringVar(&f.logFormat, "log-format", "text", "form of log lines: text, json")
	return cmd
}

func (f *serverFlags) run(cmd *cobra.Command) error {
	if err := f.fill(); err != nil {
		return usageError{err}
	}
	s, err := server.Open(cmd.Context(), f.cfg)
	if err != nil {
		return err
	}
	at := s.Addrs()
	f.cfg.Log.Info("listening", "api", at.API, "xds", at.XDS, "ops", at.Ops)
	return s.Run(cmd.Context())
}

// fill checks the flags and completes the configuration with them.
func (f *serverFlags) fill() error {
	log, err := newLogger(f.logLevel, f.logFormat)
	if err != nil {
		return err
	}
	switch {
	case f.dataDir == "" && len(f.etcdEndpoints) == 0:
		return errors.New("--data-dir is required (or --etcd-endpoints for an external store)")
	case f.dataDir != "" && len(f.etcdEndpoints) > 0:
		return errors.New("--data-dir and --etcd-endpoints exclude each other")
	case len(f.etcdEndpoints) > 0 && f.sealKey == "":
		return errors.New("--seal-key is required with --etcd-endpoints: every replica needs the same key")
	case !mesh.ValidAccount(f.cfg.AccountID):
		return fmt.Errorf("--account-id %q is not allowed: twelve digits", f.cfg.AccountID)
	case len(f.cfg.Regions) == 0 || slices.Contains(f.cfg.Regions, ""):
		return errors.New("--region is empty: give a name, for example us-east-1")
	}
	tlsConfig, err := f.etcdTLS()
	if err != nil {
		return err
	}
	password, err := f.etcdPassword()
	if err != nil {
		return err
	}
	f.cfg.Log = log
	f.cfg.Store = store.Config{
		DataDir: f.dataDir, Endpoints: f.etcdEndpoints, TLS: tlsConfig,
		Username: f.etcdUser, Password: password, SealKeyFile: f.sealKey, Logger: log,
	}
	f.cfg.CredentialsFile = f.credentials
	if f.cfg.CredentialsFile == "" {
		f.cfg.CredentialsFile = filepath.Join(f.dataDir, "credentials")
	}
	return nil
}

func (f *serverFlags) etcdPassword() (string, error) {
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
func (f *serverFlags) etcdTLS() (*tls.Config, error) {
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
