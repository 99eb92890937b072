package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

// serverFlags are the flags of "fairlead server" that are not in server.Config as they are.
type serverFlags struct {
	store     storeFlags
	listen    listenFlags
	auditFile string
	auditSize byteSize
	cloudMap  cloudMapFlags
	quotaSet  string
	storeMax  byteSize
	noDefrag  bool
	history   time.Duration
	compact   string
	clock     time.Duration
	cfg       server.Config
}

func newServer() *cobra.Command { return new(serverFlags).command() }

func (f *serverFlags) command() *cobra.Command {
	f.auditSize, f.storeMax = 100e6, 8<<30
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the control plane",
		Long: "Run the control plane: the App Mesh REST API, discovery for Envoy, and metrics.\n" +
			"The first start on an empty store makes an account and writes its administrator's access key.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	f.store.register(fl)
	f.listen.register(fl)
	f.cloudMap.register(fl)
	fl.StringVar(&f.cfg.APIListen, "api-listen", "127.0.0.1:9080", "address of the REST API")
	fl.StringVar(&f.cfg.XDSListen, "xds-listen", "127.0.0.1:9081", "address that Envoys connect to")
	fl.StringVar(&f.cfg.OpsListen, "ops-listen", "127.0.0.1:9082", "address of /readyz, /livez and /metrics")
	fl.StringVar(&f.cfg.PeerListen, "peer-listen", "", "address that other servers over the same etcd ask this one at, \"off\" for none (default "+defaultPeers+" with --etcd-endpoints)")
	fl.StringVar(&f.cfg.PeerAdvertise, "peer-advertise", "", "how the other servers reach --peer-listen: a host or host:port (default found out)")
	fl.StringSliceVar(&f.cfg.Regions, "region", []string{"us-east-1"}, "region that callers sign for; may be given more than once")
	fl.StringVar(&f.cfg.AccountID, "account-id", "000000000001", "account that the first start makes: twelve digits")
	fl.StringVar(&f.auditFile, "audit-file", "", "file that each call and stream is recorded in, \"off\" for none (default DATA_DIR/audit/audit.log)")
	fl.Var(&f.auditSize, "audit-max-size", "size at which the audit file is put aside and a new one begun")
	fl.IntVar(&f.cfg.Audit.MaxFiles, "audit-max-files", 10, "audit files that are kept, the current one included")
	fl.StringVar(&f.cfg.IdentityAudience, "identity-audience", "", "name of this server, which AWS roles sign for when they prove who they are")
	fl.StringVar(&f.cfg.TrustDomain, "trust-domain", server.DefaultTrustDomain, "host part of the names in workloads' certificates, spiffe://TRUST_DOMAIN/…")
	fl.StringSliceVar(&f.cfg.VaultAddresses, "vault-address", nil, "URL of a HashiCorp Vault that may hold the authorities of meshes; may be given more than once")
	fl.Var(&f.storeMax, "store-quota", "size that the file of the embedded store may have; nothing new is taken from nine tenths of it on")
	fl.BoolVar(&f.noDefrag, "no-defragment", false, "leave the file of the embedded store as large as it was once")
	// For tests that watch the file's size and cannot wait for tens of minutes.
	fl.DurationVar(&f.history, "store-history", 0, "how long the embedded store keeps what was replaced (default 10m)")
	_ = fl.MarkHidden("store-history") // it is there
	fl.StringVar(&f.compact, "etcd-compaction", "auto", "how long an external etcd keeps its history, which the leading server compacts: for example 30m; \"auto\" for 30m if etcd holds nothing of others, \"off\" for never")
	fl.StringVar(&f.quotaSet, "quota-set", "default", "quotas of accounts without values of their own: default, app-mesh")
	fl.BoolVar(&f.cfg.Plaintext, "insecure-plaintext", false, "allow listening off loopback without TLS: the network is secured elsewhere")
	fl.BoolVar(&f.cfg.Pprof, "pprof", false, "serve /debug/pprof/ on the ops address")
	fl.DurationVar(&f.cfg.MaxStreamAge, "max-stream-age", 0, "when a proxy's stream is ended so that it signs anew (default 30m)")
	fl.DurationVar(&f.cfg.Timeouts.Drain, "drain-time", 0, "over how long proxies' streams are ended once the server is told to end (default 10s with an external etcd, else all at once)")
	fl.DurationVar(&f.cfg.Timeouts.Shutdown, "shutdown-wait", 20*time.Second, "how long requests under way may take once the server is told to end")
	fl.DurationVar(&f.clock, "clock-offset", 0, "how far the server's clock is ahead of the machine's, for tests of clocks that are wrong")
	if err := fl.MarkHidden("clock-offset"); err != nil {
		panic(err) // the line above has it
	}
	return cmd
}

func (f *serverFlags) run(cmd *cobra.Command) error {
	if err := f.fill(); err != nil {
		return usageError{err}
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	defer runtime.KeepAlive(layFloor())
	s, err := server.Open(cmd.Context(), f.cfg)
	if err != nil && errors.Is(cmd.Context().Err(), context.Canceled) {
		f.cfg.Log.Info("told to end while starting")
		return nil
	}
	if err != nil {
		return err
	}
	// A second signal ends the process at once: nothing that was answered is lost by it.
	defer context.AfterFunc(cmd.Context(), func() { signal.Reset(os.Interrupt, syscall.SIGTERM) })()
	at := s.Addrs()
	f.cfg.Log.Info("listening", "api", at.API, "xds", at.XDS, "ops", at.Ops, "peers", at.Peer)
	return s.Run(cmd.Context())
}

// minStore and maxStore bound --store-quota: etcd's file begins with some MiB, and all of
// it is in the page cache or read from the disk.
const minStore, maxStore = 64 << 20, 100 << 30

// audienceForm is the form of a server's name for AWS's signatures: it is a header's value.
var audienceForm = regexp.MustCompile(`^[A-Za-z0-9._:/-]{0,255}$`)

// fill checks the flags and completes the configuration with them.
func (f *serverFlags) fill() error {
	var err error
	if f.cfg.Store, err = f.store.config(); err != nil {
		return err
	}
	if err := checkAccount(f.cfg.AccountID, false); err != nil {
		return err
	}
	f.cfg.Store.MaxBytes, f.cfg.Store.NoDefragment = int64(f.storeMax), f.noDefrag
	switch {
	case f.history != 0 && f.history < time.Second:
		return fmt.Errorf("--store-history %s is not allowed: at least 1s", f.history)
	case f.storeMax < minStore || f.storeMax > maxStore:
		return fmt.Errorf("--store-quota %s is not allowed: 64MiB to 100GiB", f.storeMax.String())
	case len(f.cfg.Regions) == 0 || slices.Contains(f.cfg.Regions, ""):
		return errors.New("--region is empty: give a name, for example us-east-1")
	case !audienceForm.MatchString(f.cfg.IdentityAudience):
		return fmt.Errorf("--identity-audience %q is not allowed: at most 255 letters, digits and -._:/, for example fairlead.example.com", f.cfg.IdentityAudience)
	case f.cfg.Timeouts.Shutdown <= 0:
		return fmt.Errorf("--shutdown-wait %s is not allowed: more than 0, for example 20s", f.cfg.Timeouts.Shutdown)
	case f.cfg.Timeouts.Drain < 0 || f.cfg.Timeouts.Drain > 0 && f.cfg.Timeouts.Drain >= f.cfg.Timeouts.Shutdown:
		return fmt.Errorf("--drain-time %s is not allowed: more than 0 and less than --shutdown-wait, which is %s", f.cfg.Timeouts.Drain, f.cfg.Timeouts.Shutdown)
	case f.cfg.MaxStreamAge < 0:
		return fmt.Errorf("--max-stream-age %s is not allowed: more than 0, for example 30m", f.cfg.MaxStreamAge)
	}
	if err := f.fillHistory(); err != nil {
		return err
	}
	if f.cfg.Timeouts.Drain == 0 && len(f.store.etcdEndpoints) > 0 { // there are other servers to go to
		f.cfg.Timeouts.Drain = min(10*time.Second, f.cfg.Timeouts.Shutdown/2)
	}
	if err := server.CheckTrustDomain(f.cfg.TrustDomain); err != nil {
		return fmt.Errorf("--trust-domain: %w", err)
	}
	for _, address := range f.cfg.VaultAddresses {
		if err := server.CheckVaultAddress(address); err != nil {
			return fmt.Errorf("--vault-address: %w", err)
		}
	}
	switch f.quotaSet {
	case "default":
		f.cfg.Store.Quotas = mesh.DefaultQuotas()
	case "app-mesh":
		f.cfg.Store.Quotas = mesh.AppMeshQuotas()
	default:
		return fmt.Errorf("--quota-set %q is not allowed: default or app-mesh", f.quotaSet)
	}
	if ahead := f.clock; ahead != 0 {
		f.cfg.Now = func() time.Time { return time.Now().Add(ahead) }
		f.cfg.Store.Logger.Warn("the server's clock is wrong on purpose (--clock-offset)", "ahead", ahead)
	}
	f.cfg.Log, f.cfg.CredentialsFile = f.cfg.Store.Logger, f.store.credentialsFile()
	if err := f.listen.fill(&f.cfg); err != nil {
		return err
	}
	if f.cfg.CloudMap, err = f.cloudMap.config(); err != nil {
		return err
	}
	if err := f.fillPeers(); err != nil {
		return err
	}
	return f.fillAudit()
}

// autoHistory is how long an etcd of Fairlead's own keeps its history: for servers that were
// cut off and for backups. minHistory and maxHistory bound what may be asked for.
const autoHistory, minHistory, maxHistory = 30 * time.Minute, 5 * time.Minute, 30 * 24 * time.Hour

// fillHistory decides what becomes of the history of an etcd, external or embedded.
func (f *serverFlags) fillHistory() error {
	var keep time.Duration
	switch f.compact {
	case "auto":
		keep = autoHistory
	case off:
	default:
		var err error
		if keep, err = time.ParseDuration(f.compact); err != nil || keep < minHistory || keep > maxHistory {
			return fmt.Errorf("--etcd-compaction %q is not allowed: auto, off, or 5m to 720h", f.compact)
		}
	}
	to := &f.cfg.Store
	to.History, to.OwnEtcdOnly = keep, f.compact == "auto"
	if len(f.store.etcdEndpoints) == 0 {
		to.History = f.history
	}
	return nil
}

// defaultPeers is where the servers over one etcd ask each other.
const defaultPeers = ":9083"

// peerHost is the form of --peer-advertise: a host or an address, with a port or without.
var peerHost = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?)(:[0-9]{1,5})?$`)

// fillPeers decides where other servers ask this one. One with a store of its own has none.
func (f *serverFlags) fillPeers() error {
	switch {
	case f.cfg.PeerListen == off:
		f.cfg.PeerListen = ""
	case f.store.dataDir != "" && f.cfg.PeerListen != "":
		return errors.New("--peer-listen has no meaning with --data-dir: only servers over one etcd (--etcd-endpoints) ask each other")
	case f.store.dataDir == "" && f.cfg.PeerListen == "":
		f.cfg.PeerListen = defaultPeers
	}
	switch {
	case f.cfg.PeerAdvertise == "":
	case f.cfg.PeerListen == "":
		return errors.New("--peer-advertise needs --peer-listen")
	case !peerHost.MatchString(f.cfg.PeerAdvertise):
		return fmt.Errorf("--peer-advertise %q is not allowed: a host or host:port, for example fairlead-1.example.com", f.cfg.PeerAdvertise)
	}
	f.cfg.Version = version()
	return nil
}

// minAuditSize is the least size at which an audit file is put aside: one event can be
// as long as a request.
const minAuditSize = 1e6

// fillAudit decides where the audit goes. That there is none is only ever said, never
// guessed.
func (f *serverFlags) fillAudit() error {
	f.cfg.Audit.MaxBytes = int64(f.auditSize)
	switch {
	case f.auditSize < minAuditSize:
		return fmt.Errorf("--audit-max-size %s is not allowed: at least 1MB", f.auditSize.String())
	case f.cfg.Audit.MaxFiles < 1 || f.cfg.Audit.MaxFiles > 10_000:
		return fmt.Errorf("--audit-max-files %d is not allowed: 1 to 10000", f.cfg.Audit.MaxFiles)
	case f.auditFile == off:
		f.cfg.Audit.Path = ""
	case f.auditFile != "":
		f.cfg.Audit.Path = f.auditFile
	case f.store.dataDir == "":
		return errors.New("--audit-file is required with --etcd-endpoints: a file of this replica's own, or \"off\" for no audit")
	default:
		f.cfg.Audit.Path = filepath.Join(f.store.dataDir, "audit", "audit.log")
	}
	return nil
}
