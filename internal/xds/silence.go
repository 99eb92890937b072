package xds

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// A proxy that does not read is dropped. What it is sent waits in its own stream, so it
// holds nobody up, but its node has a proxy fewer than it seems, and its feed must remember
// removals for it. That a connection is dead is found out by HTTP/2's pings (GRPC); this
// is about one that answers them and takes nothing.

const (
	// maxSilence is how long a proxy may leave what it was sent unanswered without a word.
	// Envoy may take its time with clusters: their names are resolved, for 20 s, and their
	// health is checked once, for 60 s.
	maxSilence = 2 * time.Minute
	// longSilence is when that is told as a problem.
	longSilence = 30 * time.Second
	// farewell is how long a proxy that is dropped has to read why.
	farewell = 10 * time.Second
)

// errSlow says that gRPC did not take a response, because the proxy takes none.
var errSlow = errors.New("the response was not taken")

// silentError returns what ends the streams of proxies that do not read.
func silentError(after time.Duration) error {
	return refuse(codes.DeadlineExceeded, mesh.ErrServiceUnavailable,
		"the proxy has neither taken nor answered for %s what it was sent, and said nothing else", after)
}

// deliver sends, and returns early where the proxy does not take it within a bound, or the
// stream ends for another reason. A send that is left behind ends with the stream.
func deliver(ctx context.Context, failed <-chan error, bound time.Duration, send func() error) error {
	sent := make(chan error, 1)
	go func() { sent <- send() }()
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case err := <-sent:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-failed:
		return err
	case <-timer.C:
		return errSlow
	}
}

// silentSince returns since when a proxy has left something unanswered without a word; zero
// if it has not.
func (s *stream) silentSince() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var since time.Time
	for t := range s.types {
		if flights := s.types[t].inflight; len(flights) > 0 && (since.IsZero() || flights[0].at.Before(since)) {
			since = flights[0].at
		}
	}
	if since.IsZero() {
		return since
	}
	if heard := time.Unix(0, s.heard.Load()); heard.After(since) {
		return heard
	}
	return since
}

// mayBeSilent returns how much longer a proxy may say nothing.
func (s *stream) mayBeSilent(now time.Time) time.Duration {
	since := s.silentSince()
	if since.IsZero() || s.patience == 0 {
		return time.Hour
	}
	return since.Add(s.patience).Sub(now)
}

// silence returns the problem that a proxy does not read, if it is one.
func (s *Server) silence(one *session, now time.Time) []Problem {
	since := one.stream.silentSince()
	if since.IsZero() || now.Sub(since) < min(longSilence, s.cfg.MaxSilence/2) {
		return nil
	}
	return []Problem{{
		ARN: one.key.arn(), Object: one.key.id.Key.String(),
		Message: one.called() + " does not answer what it is sent; it is dropped after " + s.cfg.MaxSilence.String(),
	}}
}

// Credentials returns what gRPC secures connections with, TLS or nothing, in a form that
// lets the server close the connection of a proxy that does not read.
func Credentials(config *tls.Config) credentials.TransportCredentials {
	if config == nil {
		return closable{insecure.NewCredentials()}
	}
	return closable{credentials.NewTLS(config)}
}

type closable struct {
	credentials.TransportCredentials
}

// ServerHandshake makes the handshake and remembers the connection.
func (c closable) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	return conn, connection{info, raw}, err
}

// Clone returns a copy.
func (c closable) Clone() credentials.TransportCredentials {
	return closable{c.TransportCredentials.Clone()}
}

// connection is what is known of a connection.
type connection struct {
	credentials.AuthInfo
	raw net.Conn
}

// secure reports whether a connection has TLS.
func (c connection) secure() bool {
	_, ok := c.AuthInfo.(credentials.TLSInfo)
	return ok
}

// drop closes the connection of a proxy that does not read, once it has had the time to
// read why. Until then gRPC would keep what it has not taken, and the answer behind it.
func (one *session) drop() {
	if one.conn == nil {
		return
	}
	time.AfterFunc(farewell, func() { _ = one.conn.Close() }) // it may be closed
}
