// Package server wires the control plane's rooms together: the store, the callers, the
// REST API, the snapshots and the discovery service, each on its listener. It is used
// by cmd/fairlead and by tests, holds no feature of its own but how it listens and how
// it ends, and may import every room.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/ca"
	"github.com/fairlead-mesh/fairlead/internal/live"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/quota"
	"github.com/fairlead-mesh/fairlead/internal/registry"
	"github.com/fairlead-mesh/fairlead/internal/registry/cloudmap"
	"github.com/fairlead-mesh/fairlead/internal/replica"
	"github.com/fairlead-mesh/fairlead/internal/server/tlsfiles"
	"github.com/fairlead-mesh/fairlead/internal/store"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

// TLSFiles are the files that a listener serves TLS with.
type TLSFiles = tlsfiles.Files

// DefaultTrustDomain is the trust domain of workloads' certificates where no other is set.
const DefaultTrustDomain = ca.DefaultTrustDomain

// CheckTrustDomain says what is wrong with the name of a trust domain.
func CheckTrustDomain(name string) error { return ca.CheckTrustDomain(name) }

// CheckVaultAddress says what is wrong with the URL of a HashiCorp Vault.
func CheckVaultAddress(address string) error { return ca.CheckVaultAddress(address) }

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
	// APITLS, XDSTLS and OpsTLS are the files that TLS is served with; zero for none.
	APITLS, XDSTLS, OpsTLS TLSFiles
	// PeerListen is where the other replicas over an external etcd ask this one, host:port;
	// "": it cannot be asked. TLS is spoken there always, and needs no files. PeerAdvertise
	// is how the others reach it, a host or host:port; "": it is found out.
	PeerListen, PeerAdvertise string
	// Version is the program's, for the other replicas.
	Version string
	// APIConnections, XDSConnections and OpsConnections bound how many connections are
	// open at once; more wait in the system's queue. 0 stands for 10,000, 20,000 and 250.
	APIConnections, XDSConnections, OpsConnections int
	// Plaintext allows listening off loopback without TLS.
	Plaintext bool
	// Timeouts bound what a client may take its time with.
	Timeouts Timeouts
	// Audit says where calls and streams are recorded; without a Path they are not.
	// Its Logger is set by Open.
	Audit audit.Config
	// Pprof serves /debug/pprof/ on the ops address.
	Pprof bool
	// CloudMap says which accounts' nodes are discovered by AWS Cloud Map, beside the
	// server's own registry.
	CloudMap CloudMap
	// IdentityAudience is the server's name, which requests signed by AWS's keys must be
	// bound to when they are to prove who somebody is. "": they prove nothing here.
	IdentityAudience string
	// LoopbackIdentity lets the issuers of identity providers be on this host. It is for
	// tests.
	LoopbackIdentity bool
	// Registry knows the instances of Cloud Map services in place of the server's own
	// registry. It is for tests; nil otherwise.
	Registry live.Registry
	// TrustDomain is the host part of the names in workloads' certificates; "" for
	// DefaultTrustDomain.
	TrustDomain string
	// VaultAddresses are the servers of HashiCorp Vault that authorities may be in.
	VaultAddresses []string
	// MaxStreamAge is passed to xds.Config.
	MaxStreamAge time.Duration
	// Now is the clock that signatures, sessions, certificates and stored dates go by; nil
	// for the machine's. It is for tests.
	Now func() time.Time
	// AlterSpec is passed to live.Live.Alter. It is for tests; nil otherwise.
	AlterSpec func(mesh.Kind, any)
	Log       *slog.Logger
}

// CloudMap says where AWS Cloud Map is asked for instances.
type CloudMap struct {
	// Sources are the Cloud Maps that are asked, at most one for each account here.
	Sources []CloudMapSource
	// Endpoint is the URL of Cloud Map, "" for AWS's own.
	Endpoint string
	// Interval is how often each service is asked for, 0 for 5 s.
	Interval time.Duration
	// Rate bounds the requests a second to each source, 0 for 100.
	Rate float64
}

// has reports whether an account has a source. What was learned of one that was taken
// away does not count any more.
func (c CloudMap) has(account string) bool {
	return slices.ContainsFunc(c.Sources, func(s CloudMapSource) bool { return s.Account == account })
}

// CloudMapSource is the Cloud Map of an AWS account.
type CloudMapSource = cloudmap.Source

// Timeouts bound what a client may take its time with, so that a slow one holds nothing
// for long. Each but Drain has a default that
// 0 stands for.
type Timeouts struct {
	// Header bounds a TLS handshake, and the headers of a request: 10 s.
	Header time.Duration
	// Request bounds a whole request from its first byte, its body included: 30 s.
	Request time.Duration
	// Answer bounds the time from the end of a request's headers to the end of its
	// answer: 60 s. A client that reads more slowly is cut off.
	Answer time.Duration
	// Stall is how long an HTTP/2 connection may take nothing of what is to be sent: 20 s.
	Stall time.Duration
	// Idle is how long a connection may be open without a request: 2 min, and 5 min for
	// the discovery service's.
	Idle time.Duration
	// Shutdown is how long requests under way have when the server ends: 20 s.
	Shutdown time.Duration
	// Drain is over how long proxies' streams are ended when the server ends, within
	// Shutdown; 0 ends all at once.
	Drain time.Duration
	// TLSFiles is how often certificates are looked for changes: 5 s.
	TLSFiles time.Duration
}

// withDefaults fills in what is 0.
func (t Timeouts) withDefaults() Timeouts {
	for _, d := range []struct {
		value *time.Duration
		byDef time.Duration
	}{
		{&t.Header, 10 * time.Second},
		{&t.Request, 30 * time.Second},
		{&t.Answer, time.Minute},
		{&t.Stall, 20 * time.Second},
		{&t.Idle, 2 * time.Minute},
		{&t.Shutdown, 20 * time.Second},
		{&t.TLSFiles, 5 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.byDef
		}
	}
	return t
}

// Server is a control plane that listens. Run makes it answer.
type Server struct {
	cfg      Config
	store    *store.Store
	access   *access.Service
	audit    *audit.Log // nil: none
	registry *registry.Registry
	ca       *ca.Service
	cloudMap *cloudmap.Poller
	live     *live.Live
	xds      *xds.Server
	quota    *quota.Service
	replica  *replica.Service
	wanted   *wanted
	crowd    *crowd
	metrics  *prometheus.Registry

	api, grpc, ops *listener
	peers          *listener // nil: other replicas cannot ask
	tlsFiles       []*tlsfiles.Watcher

	// draining is set once the server has begun to end.
	draining atomic.Bool
	// requests is held for reading during each request of the API, so that the audit is
	// closed after the last of them.
	requests sync.RWMutex
}

// Open opens the store, makes the first account where there is none, and listens. Close
// or Run must follow.
func Open(ctx context.Context, cfg Config) (*Server, error) {
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	s := &Server{cfg: cfg, metrics: prometheus.NewRegistry()}
	if err := s.open(ctx); err != nil {
		if err := s.Close(); err != nil {
			cfg.Log.Error("closing a server that could not be opened", "error", err)
		}
		return nil, err
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) error {
	s.cfg.Store.Now, s.cfg.Audit.Now = s.cfg.Now, s.cfg.Now
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := s.listen(); err != nil {
		return err
	}
	if err := s.listenPeers(); err != nil {
		return err
	}
	var err error
	if s.store, err = store.Open(ctx, s.cfg.Store); err != nil {
		return err // says that it is the store's
	}
	s.metrics.MustRegister(newStoreMetrics(s.store))
	if s.cfg.Audit.Path != "" {
		s.cfg.Audit.Logger, s.cfg.Audit.Metrics = s.cfg.Log, s.metrics
		if s.audit, err = audit.Open(s.cfg.Audit); err != nil {
			return fmt.Errorf("--audit-file: %w", err)
		}
	}
	s.access, err = access.Open(ctx, access.Config{
		Store: s.store, Regions: s.cfg.Regions, Now: s.cfg.Now, Logger: s.cfg.Log,
		IdentityServer: s.cfg.IdentityAudience, LoopbackIdentity: s.cfg.LoopbackIdentity,
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
	s.registry, err = registry.Open(ctx, registry.Config{
		Store: s.store, Imports: s.cfg.CloudMap.has, Leads: func() bool { return s.replica.Leading() },
		Now: s.cfg.Now, Metrics: s.metrics, Logger: s.cfg.Log,
	})
	if err != nil {
		return err // says that it is the registry's
	}
	s.ca, err = ca.Open(ctx, ca.Config{
		Store: s.store, TrustDomain: s.cfg.TrustDomain, VaultAddresses: s.cfg.VaultAddresses,
		Now: s.cfg.Now, Logger: s.cfg.Log,
	})
	if err != nil {
		return err // says that it is the authority's
	}
	s.live = live.New(s.store, s.instances(), s.cfg.Log)
	s.live.Alter(s.cfg.AlterSpec)
	s.live.Clock(s.cfg.Now)
	if err := s.openCloudMap(); err != nil {
		return err
	}
	s.quota = quota.New(s.quotaConfig())
	s.xds = xds.New(xds.Config{
		Quota: s.quota,
		Live:  s.live, Access: s.access, CA: s.ca, TrustDomain: s.ca.TrustDomain(), Log: s.cfg.Log,
		Metrics: s.metrics, MaxStreamAge: s.cfg.MaxStreamAge, Spread: s.cfg.Timeouts.Drain,
		Audit: s.audit, Quotas: s.store.Quotas,
		Shared: s.store.Shared, SettingsChanged: s.store.SettingsChanged,
		Ask:       s.askPropagation,
		Elsewhere: func(c xds.Crowd, limit int) int { return s.crowd.elsewhere(c, limit) },
	})
	return s.openReplica()
}

// Addrs are the addresses that a server listens on, host:port.
type Addrs struct {
	API, XDS, Ops string
	// Peer is where the other replicas are told to ask, "" for nowhere.
	Peer string
}

// Addrs returns where the server listens.
func (s *Server) Addrs() Addrs {
	return Addrs{API: s.api.Addr().String(), XDS: s.grpc.Addr().String(), Ops: s.ops.Addr().String(), Peer: s.replica.Self().Address}
}

// Registry returns the server's registry of instances.
func (s *Server) Registry() *registry.Registry { return s.registry }

// Store returns the server's store, for what a test does beside the API.
func (s *Server) Store() *store.Store { return s.store }

// openCloudMap prepares the poller of AWS Cloud Map. It asks for the services that
// proxies need, those of other replicas too while this one leads, and keeps the answers in the registry, so that they
// outlast a restart while AWS is away.
func (s *Server) openCloudMap() (err error) {
	s.wanted = &wanted{
		own: s.live.Wanted, replica: func() *replica.Service { return s.replica },
		asked: map[string]time.Time{}, others: map[string]answered{},
	}
	for _, source := range s.cfg.CloudMap.Sources {
		s.wanted.accounts = append(s.wanted.accounts, source.Account)
	}
	s.cloudMap, err = cloudmap.New(cloudmap.Config{
		Sources: s.cfg.CloudMap.Sources, Endpoint: s.cfg.CloudMap.Endpoint, Self: s.api.Addr().String(),
		Interval: s.cfg.CloudMap.Interval, Rate: s.cfg.CloudMap.Rate,
		Wanted: s.wanted.services, Known: s.registry.Imported,
		Import: func(ctx context.Context, k mesh.InstancesKey, all []mesh.Instance) error {
			return s.registry.Import(ctx, k.Account, k.Region, k.Namespace, k.Service, all)
		},
		Forget: func(ctx context.Context, k mesh.InstancesKey) error {
			return s.registry.Forget(ctx, k.Account, k.Region, k.Namespace, k.Service)
		},
		Logger: s.cfg.Log, Metrics: s.metrics,
	})
	if err != nil {
		return fmt.Errorf("preparing to ask AWS Cloud Map: %w", err)
	}
	return nil
}

// instances returns what knows the instances of Cloud Map services.
func (s *Server) instances() live.Registry {
	if s.cfg.Registry != nil {
		return s.cfg.Registry
	}
	return s.registry
}

// Close closes what Open opened. Run does it by itself.
func (s *Server) Close() error {
	var errs []error
	for _, l := range []*listener{s.api, s.grpc, s.ops, s.peers} {
		if l != nil {
			errs = append(errs, l.close())
		}
	}
	if s.access != nil {
		errs = append(errs, s.access.Close())
	}
	if s.registry != nil {
		errs = append(errs, s.registry.Close())
	}
	if s.ca != nil {
		errs = append(errs, s.ca.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.audit != nil {
		// Calls that were cut off end with the store, and are recorded too.
		s.requests.Lock()
		defer s.requests.Unlock()
		errs = append(errs, s.audit.Close())
	}
	return errors.Join(errs...)
}
