package workload

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/grpc"

	"github.com/fairlead-mesh/fairlead/internal/agent/private"
)

// The names of the secrets, a contract with the control plane (docs/design/workloads.md).
const (
	// CertificateName is the workload's certificate with its key.
	CertificateName = "workload"
	// trustPrefix begins the names of trust bundles, which the control plane knows.
	trustPrefix = "trust:"
)

// Config is what New needs. All of it is required but Dir.
type Config struct {
	// Socket is the path of the Unix socket that Envoy asks at. It is made with mode 0600.
	Socket string
	// Issue has the control plane sign a request for a certificate, in PEM form.
	Issue func(ctx context.Context, request []byte) (Issued, error)
	// Control leads to the control plane, for trust bundles. Its streams are signed by its
	// credentials.
	Control grpc.ClientConnInterface
	// Node is the resource that the workload is, as Envoy's node.id has it.
	Node string
	// Dir is a folder of mode 0700 where key, certificate and trust bundle are kept for a
	// restart while the control plane is away; "" keeps them in memory only.
	Dir    string
	Logger *slog.Logger
}

// Issued is a certificate as the control plane has signed it.
type Issued struct {
	// Chain is the certificate, and behind it what is between it and the root, in PEM form.
	Chain string
	// NotAfter is when it expires, RenewAfter when another is to be asked for.
	NotAfter, RenewAfter time.Time
}

// Workload serves one Envoy. It is made by New.
type Workload struct {
	cfg Config

	mu      sync.Mutex
	secrets map[string]*secret
	changed chan struct{}   // closed and replaced when a secret changes
	wanted  map[string]bool // what is looked after
	status  Status
	running context.Context // of what looks after secrets; nil before Serve
	group   sync.WaitGroup
}

// secret is a secret of some version.
type secret struct {
	body    *tlsv3.Secret
	version string
}

// Status says how a workload stands with its certificate.
type Status struct {
	// NotAfter and RenewAfter are of the certificate that is served; zero for none.
	NotAfter, RenewAfter time.Time
	// Reason says why there is none, or why it could not be renewed; "" if all is well.
	Reason string
	// Certificates is how many have been issued.
	Certificates uint64
}

// New returns a workload that has what Dir keeps and is still good. It asks for nothing.
func New(cfg Config) (*Workload, error) {
	w := &Workload{cfg: cfg, secrets: map[string]*secret{}, changed: make(chan struct{}), wanted: map[string]bool{}}
	if cfg.Dir == "" {
		return w, nil
	}
	if err := private.Folder(cfg.Dir); err != nil {
		return nil, fmt.Errorf("preparing to keep certificates: %w", err)
	}
	w.load(time.Now())
	return w, nil
}

// Status returns how the workload stands with its certificate now.
func (w *Workload) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// Listen makes the socket.
func (w *Workload) Listen() (net.Listener, error) { return private.Listen(w.cfg.Socket) }

// Serve serves Envoy at a listener until ctx ends, and closes it.
func (w *Workload) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	w.mu.Lock()
	w.running = ctx
	w.mu.Unlock()
	defer w.group.Wait()
	defer cancel()
	g := grpc.NewServer()
	w.register(g)
	stop := context.AfterFunc(ctx, g.Stop)
	defer stop()
	if err := g.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serving the workload's certificate: %w", err)
	}
	return nil
}

// want looks after a secret from now on, if it is one that this workload can have.
func (w *Workload) want(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wanted[name] || w.running == nil || w.running.Err() != nil {
		return
	}
	look := w.lookAfter(name)
	if look == nil {
		return
	}
	ctx := w.running
	w.wanted[name] = true
	w.group.Go(func() { look(ctx) })
}

// put makes a secret what is served.
func (w *Workload) put(s *tlsv3.Secret, version string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := w.secrets[s.GetName()]; now != nil && now.version == version {
		return
	}
	w.secrets[s.GetName()] = &secret{body: s, version: version}
	close(w.changed)
	w.changed = make(chan struct{})
}

// get returns a secret, nil if there is none yet, and a channel that is closed when
// something has changed.
func (w *Workload) get(name string) (*secret, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.secrets[name], w.changed
}

func (w *Workload) note(change func(*Status)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.status)
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}
