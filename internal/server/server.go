// Package server wires the control plane's rooms together: the store, the callers, the
// REST API, the snapshots and the discovery service, each on its listener. It is used
// by cmd/fairlead and by tests, holds no feature of its own and may import every room.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/live"
	"github.com/fairlead-mesh/fairlead/internal/restapi"
	"github.com/fairlead-mesh/fairlead/internal/store"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

// Config says where a control plane keeps its data and where it listens.
type Config struct {
	// Store says where the data is: a directory, or an external etcd.
	Store store.Config
	// CredentialsFile is where the first start writes the administrator's access key.
	CredentialsFile string
	// AccountID is the account that the first start makes: twelve digits.
	AccountID string
	// Regions are the regions that callers may sign for.
	Regions []string
	// APIListen, XDSListen and OpsListen are addresses, host:port; port 0 is any free one.
	APIListen, XDSListen, OpsListen string
	// Plaintext allows listening off loopback without TLS.
	Plaintext bool
	// Pprof serves /debug/pprof/ on the ops address.
	Pprof bool
	// MaxStreamAge is passed to xds.Config.
	MaxStreamAge time.Duration
	Log          *slog.Logger
}

// Server is a control plane that listens. Run makes it answer.
type Server struct {
	cfg     Config
	store   *store.Store
	access  *access.Service
	live    *live.Live
	xds     *xds.Server
	metrics *prometheus.Registry

	api, grpc, ops net.Listener
}

// shutdownWait bounds how long answers under way may take once a server is told to
// stop.
const shutdownWait = 10 * time.Second

// Open opens the store, makes the first account where there is none, and listens. Close
// or Run must follow.
func Open(ctx context.Context, cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, metrics: prometheus.NewRegistry()}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) error {
	if err := s.listen(); err != nil {
		return err
	}
	var err error
	if s.store, err = store.Open(ctx, s.cfg.Store); err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	s.access, err = access.Open(ctx, access.Config{
		Store: s.store, Regions: s.cfg.Regions, Logger: s.cfg.Log,
	})
	if err != nil {
		return fmt.Errorf("loading the access keys: %w", err)
	}
	_, err = s.access.Bootstrap(ctx, s.cfg.AccountID, func(c access.Credentials) error {
		s.cfg.Log.Info("writing the administrator's credentials", "file", s.cfg.CredentialsFile)
		return access.WriteCredentials(s.cfg.CredentialsFile, c, s.cfg.Regions[0])
	})
	if err != nil {
		return fmt.Errorf("making the first account: %w", err)
	}
	s.live = live.New(s.store, s.cfg.Log)
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.xds = xds.New(xds.Config{
		Live: s.live, Access: s.access, Log: s.cfg.Log,
		Metrics: s.metrics, MaxStreamAge: s.cfg.MaxStreamAge,
	})
	return nil
}

// listen binds the three addresses before anything is made, so that a taken port
// leaves nothing behind.
func (s *Server) listen() error {
	for _, l := range []struct {
		name, addr string
		to         *net.Listener
	}{
		{"api-listen", s.cfg.APIListen, &s.api},
		{"xds-listen", s.cfg.XDSListen, &s.grpc},
		{"ops-listen", s.cfg.OpsListen, &s.ops},
	} {
		if err := checkPlaintext(l.name, l.addr, s.cfg.Plaintext); err != nil {
			return err
		}
		var err error
		if *l.to, err = net.Listen("tcp", l.addr); err != nil {
			return fmt.Errorf("--%s %q: %w", l.name, l.addr, err)
		}
	}
	return nil
}

// checkPlaintext refuses an address that others can reach as long as it is not said
// that the connection is secured elsewhere.
func checkPlaintext(name, addr string, allowed bool) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("--%s %q: allowed is host:port, for example 127.0.0.1:9080", name, addr)
	}
	if ip := net.ParseIP(host); allowed || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("--%s %q is not a loopback address, and this version serves no TLS itself: "+
		"keep it on loopback behind a TLS proxy, or say --insecure-plaintext if the network is secured elsewhere", name, addr)
}

// Addrs are the addresses that a server listens on, host:port.
type Addrs struct {
	API, XDS, Ops string
}

// Addrs returns where the server listens.
func (s *Server) Addrs() Addrs {
	return Addrs{API: s.api.Addr().String(), XDS: s.grpc.Addr().String(), Ops: s.ops.Addr().String()}
}

// Run answers until ctx ends, then finishes what is under way and closes everything.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	api := &http.Server{
		Handler:           restapi.New(restapi.Config{Store: s.store, Verify: s.access.Verify, Logger: s.cfg.Log}),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	ops := &http.Server{
		Handler: s.opsHandler(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	discovery := s.xds.GRPC()

	g.Go(func() error { return ended(s.live.Run(ctx)) })
	g.Go(func() error { return ended(s.xds.Run(ctx)) })
	g.Go(func() error { return ended(ops.Serve(s.ops)) })
	g.Go(func() error { return ended(api.Serve(s.api)) })
	g.Go(func() error { return s.serveDiscovery(ctx, discovery) })
	g.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownWait)
		defer cancel()
		err := api.Shutdown(stop)
		return errors.Join(err, ops.Shutdown(stop))
	})
	err := g.Wait()
	return errors.Join(err, s.Close())
}

// serveDiscovery serves proxies once the snapshots are there: one that asked earlier
// would be told that its node does not exist.
func (s *Server) serveDiscovery(ctx context.Context, g *grpc.Server) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.live.Ready():
	}
	stop := context.AfterFunc(ctx, func() {
		hard := time.AfterFunc(shutdownWait, g.Stop)
		defer hard.Stop()
		g.GracefulStop()
	})
	defer stop()
	return ended(g.Serve(s.grpc))
}

// ended drops the errors that say no more than that somebody asked for the end.
func ended(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// Close closes what Open opened.
func (s *Server) Close() error {
	var errs []error
	for _, l := range []net.Listener{s.api, s.grpc, s.ops} {
		if l != nil {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if s.access != nil {
		errs = append(errs, s.access.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}
