package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/grpc"

	"github.com/fairlead-mesh/fairlead/internal/agent/control"
	"github.com/fairlead-mesh/fairlead/internal/agent/private"
	"github.com/fairlead-mesh/fairlead/internal/agent/relay"
)

// Resolve looks at the files that s names and fills in the system's roots.
func (s RelaySettings) Resolve() (RelaySettings, error) {
	var err error
	if !s.Identity.Kind.Exchanges() { // the file is made by RunRelay
		err = s.XDS.Credentials.check()
	}
	if err != nil || s.XDS.Plaintext {
		return s, err
	}
	s.XDS.CAFile, err = findRoots(s.XDS.CAFile, rootFiles, "FAIRLEAD_XDS_CA_FILE")
	return s, err
}

// RunRelay serves the Envoys of a host at a socket until ctx ends. environ is where the
// access key is, unless a file has it; nil is for this process's environment.
func RunRelay(ctx context.Context, s RelaySettings, environ []string, logger *slog.Logger) error {
	if environ == nil {
		environ = os.Environ()
	}
	source, stop, err := startIdentity(ctx, s.Identity, &s.XDS, logger)
	if err != nil {
		return err
	}
	defer stop()
	copies := ""
	if s.CacheDir != "" {
		copies = filepath.Join(s.CacheDir, "copies")
	}
	r, err := startRelay(ctx, s, copies, environ, source.Renew, logger)
	if err != nil {
		return err
	}
	logger.Info("relaying", "socket", s.Socket, "server", s.XDS.Address())
	<-ctx.Done()
	return r.stop()
}

// relaying is a relay that runs.
type relaying struct {
	*relay.Relay

	cancel context.CancelFunc
	conn   *grpc.ClientConn
	served sync.WaitGroup
	err    error // of serving; read when served is done
}

// startRelay runs a relay until it is stopped.
func startRelay(ctx context.Context, s RelaySettings, copies string, environ []string, renew func(), logger *slog.Logger) (*relaying, error) {
	conn, err := dialServer(s.XDS, environ)
	if err != nil {
		return nil, err
	}
	one := &relaying{conn: conn}
	one.Relay, err = relay.New(relay.Config{
		Socket: s.Socket, Upstream: conn, Copies: copies, Refused: renew, Logger: logger.With("server", s.XDS.Address()),
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	l, err := one.Listen()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	ctx, one.cancel = context.WithCancel(ctx)
	one.served.Go(func() { one.err = one.Serve(ctx, l) })
	conn.Connect()
	return one, nil
}

// stop ends the relay, and returns what was wrong with serving.
func (r *relaying) stop() error {
	r.cancel()
	r.served.Wait()
	return errors.Join(r.err, r.conn.Close())
}

// dialServer prepares a connection to the control plane, signed by the key of the
// settings, which is read again for each stream.
func dialServer(x XDS, environ []string) (*grpc.ClientConn, error) {
	server := relay.Server{
		Address: x.Address(), Region: x.Region, SigningName: x.SigningName,
		Credentials: x.Credentials.provider(environ),
	}
	if !x.Plaintext {
		roots, err := control.Roots("FAIRLEAD_XDS_CA_FILE", x.CAFile)
		if err != nil {
			return nil, err
		}
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: x.Host}
	}
	return relay.Dial(server)
}

// ownRelay starts the relay that an agent runs for its own Envoy. Without a folder for
// copies there is none.
func ownRelay(ctx context.Context, cfg RunConfig, renew func()) (*relaying, error) {
	s := cfg.Settings
	if s.CacheDir == "" {
		return nil, nil
	}
	own := RelaySettings{Socket: s.CacheDir + cacheSocket, XDS: s.XDS}
	return startRelay(ctx, own, filepath.Join(s.CacheDir, "copies"), envoyEnviron(cfg), renew, cfg.Logger)
}

// makeCacheDir makes the folder for copies, if there is to be one.
func (s Settings) makeCacheDir() error {
	if s.CacheDir == "" {
		return nil
	}
	if err := private.Folder(s.CacheDir); err != nil {
		return fmt.Errorf("preparing FAIRLEAD_CACHE_DIR: %w", err)
	}
	return nil
}

// reached returns how Envoy reaches the control plane: by the agent's own relay, if it has
// one.
func (s Settings) reached() XDS {
	if s.CacheDir == "" {
		return s.XDS
	}
	return XDS{Socket: s.CacheDir + cacheSocket, FetchTimeout: s.XDS.FetchTimeout}
}
