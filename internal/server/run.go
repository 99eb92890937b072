package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/xds"
)

// maxHeader bounds the headers of a request, in bytes.
const maxHeader = 64 << 10

// Run answers until ctx ends, then lets what is under way end, for a bounded time, and
// closes everything. An answer that was given is in the store.
func (s *Server) Run(ctx context.Context) error {
	// ctx only begins the end: what answers are made of goes on until the last one.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, running := errgroup.WithContext(work) // ends with the first part that fails, too
	streams, endStreams := context.WithCancel(running)
	defer endStreams()

	api := s.httpServer(s.api, s.dated(s.counting(s.restAPI())))
	ops := s.httpServer(s.ops, s.opsHandler())
	discovery := s.xds.GRPC(s.grpcOptions()...)

	g.Go(func() error { return ended(s.live.Run(running)) })
	g.Go(func() error { return ended(s.registry.Run(running)) })
	g.Go(func() error { return ended(s.cloudMap.Run(running)) })
	// Another replica goes on with what only one does as soon as this one begins to end.
	g.Go(func() error { return ended(s.replica.Run(streams)) })
	g.Go(func() error { return ended(s.crowd.run(streams)) })
	g.Go(func() error { return ended(s.xds.Run(streams)) })
	g.Go(func() error { return ended(s.quota.Run(running)) })
	for _, w := range s.tlsFiles {
		g.Go(func() error { return ended(w.Run(running)) })
	}
	g.Go(func() error { return ended(serve(ops, s.ops)) })
	g.Go(func() error { return ended(serve(api, s.api)) })
	g.Go(func() error { return s.serveDiscovery(running, discovery) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-running.Done():
		}
		s.drain(api, ops, discovery, endStreams)
		stop()
		return nil
	})
	err := g.Wait()
	return errors.Join(err, s.Close())
}

// httpServer returns a server that holds nothing for a client that is slow.
func (s *Server) httpServer(l *listener, h http.Handler) *http.Server {
	t := s.cfg.Timeouts
	return &http.Server{
		Handler: h, TLSConfig: l.tls, DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout: t.Header, ReadTimeout: t.Request, WriteTimeout: t.Answer, IdleTimeout: t.Idle,
		MaxHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 100,
			// A peer that takes nothing of what is sent to it, or that has gone.
			WriteByteTimeout: t.Stall, SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second,
		},
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
}

func serve(h *http.Server, l *listener) error {
	if l.tls != nil {
		return h.ServeTLS(l, "", "")
	}
	return h.Serve(l)
}

// counting lets Close wait for requests.
func (s *Server) counting(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.RLock()
		defer s.requests.RUnlock()
		h.ServeHTTP(w, r)
	})
}

// dated has answers say the time that signatures are held against, by which clients of AWS
// correct their own. net/http says the machine's, which is the same but in tests.
func (s *Server) dated(h http.Handler) http.Handler {
	if s.cfg.Now == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", s.cfg.Now().UTC().Format(http.TimeFormat))
		h.ServeHTTP(w, r)
	})
}

// grpcOptions are those of the discovery service that are not about discovery.
func (s *Server) grpcOptions() []grpc.ServerOption {
	opts := []grpc.ServerOption{
		grpc.ConnectionTimeout(s.cfg.Timeouts.Header),
		grpc.MaxHeaderListSize(maxHeader),
		// The discovery service's own, with an end for connections without a stream.
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 15 * time.Second, Timeout: 15 * time.Second,
			MaxConnectionIdle: s.cfg.Timeouts.Idle * 5 / 2,
		}),
		grpc.ChainStreamInterceptor(s.refuseWhileDraining),
		grpc.WaitForHandlers(true), // streams that are cut are recorded too
	}
	if s.grpc.tls != nil {
		opts = append(opts, grpc.Creds(xds.Credentials(s.grpc.tls)))
	}
	return opts
}

// refuseWhileDraining keeps a proxy whose stream was just ended from opening the next
// on the same connection.
func (s *Server) refuseWhileDraining(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if s.draining.Load() {
		return status.Error(codes.Unavailable, "the control plane is shutting down")
	}
	return next(srv, stream)
}

// serveDiscovery serves proxies once the snapshots are there: one that asked earlier
// would be told that its node does not exist.
func (s *Server) serveDiscovery(ctx context.Context, g *grpc.Server) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.live.Ready():
	}
	return ended(g.Serve(s.xds.Gate(s.grpc)))
}

// drain ends the listeners: new connections are refused at once, requests under way are
// answered and streams are told, and after Timeouts.Shutdown the rest is cut. The ops
// listener is the last, so that /readyz says until then that it is so.
func (s *Server) drain(api, ops *http.Server, discovery *grpc.Server, endStreams func()) {
	s.draining.Store(true)
	s.cfg.Log.Info("shutting down", "wait", s.cfg.Timeouts.Shutdown)
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Timeouts.Shutdown)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { s.drainHTTP(ctx, "api", api) })
	wg.Go(func() {
		stopped := make(chan struct{})
		go func() { // ends with the last stream, or with Stop
			discovery.GracefulStop()
			close(stopped)
		}()
		endStreams()
		select {
		case <-stopped:
		case <-ctx.Done():
			s.cfg.Log.Warn("discovery streams were cut: they did not end in time")
			discovery.Stop()
			<-stopped
		}
	})
	wg.Wait()
	s.drainHTTP(ctx, "ops", ops)
}

func (s *Server) drainHTTP(ctx context.Context, name string, h *http.Server) {
	err := h.Shutdown(ctx)
	if err == nil {
		return
	}
	if ctx.Err() != nil {
		s.cfg.Log.Warn("requests under way were cut: they did not end in time", "listener", name)
	} else {
		s.cfg.Log.Warn("closing a listener failed", "listener", name, "error", err)
	}
	_ = h.Close() // the listener, which is closed, is all that it could complain of
}

// ended drops the errors that say no more than that somebody asked for the end.
func ended(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}
