package replica

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

const (
	// askPath is where questions are asked: POST askPath + NAME.
	askPath = "/ask/"
	// replicaHeader names the replica that is meant, by its id: an address may be
	// another's by now.
	replicaHeader = "Fairlead-Replica"
	// patienceHeader says how much longer than others a question may take, as "30s".
	patienceHeader = "Fairlead-Patience"
	// keyPurpose is what the key of all replicas is derived for.
	keyPurpose = "replicas"
	// maxPeers bounds the connections of others at once.
	maxPeers = 256
	// endTime is how long questions under way have when the server ends.
	endTime = 2 * time.Second
)

// peer is how replicas talk to each other: TLS on both sides with one key, which each
// derives from the seal key. Who has it is a replica of the same store.
type peer struct {
	client *http.Client
	server *tls.Config
}

func newPeer(st *store.Store, timeout time.Duration) (*peer, error) {
	seed, err := st.DeriveKey(keyPurpose)
	if err != nil {
		return nil, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	cert, err := selfSigned(key)
	if err != nil {
		return nil, err
	}
	check := func(c tls.ConnectionState) error { return samePublic(c, key.Public().(ed25519.PublicKey)) }
	common := tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, VerifyConnection: check, SessionTicketsDisabled: true,
	}
	server, client := common.Clone(), common.Clone()
	server.ClientAuth = tls.RequireAnyClientCert
	// No authority vouches for the names of replicas: who holds the key is one, and
	// VerifyConnection looks at that.
	client.InsecureSkipVerify = true
	return &peer{
		server: server,
		client: &http.Client{
			Transport: &http.Transport{
				TLSClientConfig: client, DialContext: (&net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}).DialContext,
				TLSHandshakeTimeout: timeout, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// selfSigned returns a certificate of a key. Only the key counts.
func selfSigned(key ed25519.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making the certificate of a replica: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// errStranger says that the other side is no replica of the same store.
var errStranger = errors.New("the other side is no replica of this store: it has another seal key (--seal-key)")

// samePublic holds that the other side's certificate is of a key. That it holds the key
// itself TLS has found out.
func samePublic(c tls.ConnectionState, want ed25519.PublicKey) error {
	if len(c.PeerCertificates) == 0 {
		return errStranger
	}
	got, ok := c.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || subtle.ConstantTimeCompare(got, want) != 1 {
		return errStranger
	}
	return nil
}

// serve answers the others until ctx ends.
func (s *Service) serve(ctx context.Context) error {
	server := &http.Server{
		Handler: http.HandlerFunc(s.answer), TLSConfig: s.peer.server, DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout: s.cfg.Timeout, ReadTimeout: 2 * s.cfg.Timeout, WriteTimeout: 4 * s.cfg.Timeout, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 8 << 10,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(netutil.LimitListener(s.cfg.Listener, maxPeers), "", "") }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving other replicas: %w", err)
	case <-ctx.Done():
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	if err := server.Shutdown(within); err != nil {
		_ = server.Close() // what is under way is cut, and its asker told
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving other replicas: %w", err)
	}
	s.peer.client.CloseIdleConnections()
	return ctx.Err()
}

// answer answers a question of another replica.
func (s *Service) answer(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(r.URL.Path, askPath)
	handler := s.cfg.Handlers[name]
	switch {
	case r.Header.Get(replicaHeader) != s.self.ID:
		http.Error(w, "this is another replica", http.StatusMisdirectedRequest)
		return
	case !ok || r.Method != http.MethodPost || handler == nil:
		http.Error(w, "this replica, version "+s.self.Version+", does not know the question", http.StatusNotFound)
		return
	}
	in, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestion))
	if err != nil {
		http.Error(w, "the question cannot be read", http.StatusBadRequest)
		return
	}
	patience := patienceOf(r)
	if patience > 0 {
		until := time.Now().Add(4*s.cfg.Timeout + patience)
		control := http.NewResponseController(w)
		if err := errors.Join(control.SetReadDeadline(until), control.SetWriteDeadline(until)); err != nil {
			s.log.ErrorContext(r.Context(), "giving an answer more time failed", "question", name, "error", err)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Timeout+patience)
	defer cancel()
	out, err := s.handle(ctx, name, handler, in)
	if err != nil {
		s.log.WarnContext(ctx, "a question of another replica could not be answered", "question", name, "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out) // an asker that is gone needs no answer
}

// patienceOf returns how much longer than others a question may take: none without a header
// that says so.
func patienceOf(r *http.Request) time.Duration {
	d, err := time.ParseDuration(r.Header.Get(patienceHeader))
	if err != nil {
		return 0
	}
	return max(0, min(d, maxPatience))
}

// handle calls a handler, and survives its panics.
func (s *Service) handle(ctx context.Context, name string, h Handler, in []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "answering another replica panicked", "question", name, "panic", p, "stack", string(debug.Stack()))
			err = errors.New("answering failed")
		}
	}()
	v, err := h(ctx, in)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}
