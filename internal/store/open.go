package store

import (
	"cmp"
	"context"
	"crypto/cipher"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// callTimeout bounds each call to etcd, so that a lost quorum is an error and not a
// hang.
const callTimeout = 10 * time.Second

// reconnect bounds the pauses between tries to reach an etcd that was lost: gRPC's
// own go up to two minutes.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
	MinConnectTimeout: 5 * time.Second,
}

// A connection to an external etcd on which nothing comes back is given up after etcdSilence,
// whether something is under way on it or a ping that is sent every etcdPing: gRPC allows no
// shorter one. Calls that were on it wait that long when a host goes without a word.
const (
	etcdPing    = 10 * time.Second
	etcdSilence = 3 * time.Second
)

// Config says where the store is. Exactly one of DataDir and Endpoints is set.
type Config struct {
	// DataDir is the directory of an etcd of one member that runs in this process
	// and listens nowhere. It is made if it is not there.
	DataDir string
	// Endpoints are the client URLs of an external etcd cluster, and TLS, Username
	// and Password what it asks for.
	Endpoints          []string
	TLS                *tls.Config
	Username, Password string
	// SealKeyFile holds the key of Seal: 32 bytes as hexadecimal or base64 text.
	// Empty with DataDir, it is DataDir/seal.key, which is made at the first start.
	SealKeyFile string
	// Quotas are those of accounts without values of their own. The zero value is
	// mesh.DefaultQuotas().
	Quotas mesh.Quotas
	// MaxBytes is how large an embedded etcd's file may grow; 0 for 8 GiB. Nothing new is
	// taken from nine tenths of it on.
	MaxBytes int64
	// NoDefragment leaves an embedded etcd's file as large as it was once.
	NoDefragment bool
	// History is for how long what was overwritten and deleted is kept. What is older is
	// compacted away, of an external etcd by Lead; 0 leaves that to etcd and its operator.
	// Embedded it is at least 1 second, and 0 stands for 10 minutes. Watches that fell behind
	// further read everything again.
	History time.Duration
	// OwnEtcdOnly leaves the history of an external etcd alone as long as that holds keys of
	// others, whose history it is too.
	OwnEtcdOnly bool
	// MemberLease is how long a server that fell silent counts as one that is there: whole
	// seconds, 0 for 10 s. etcd has a least value, of 2 s with its own settings.
	MemberLease time.Duration
	// Records are the formats of records that have more than one.
	Records []RecordForms
	// FormatWait is how long no server may have been there that does not read a new format
	// before documents are written in it, 0 for an hour: longer than the restart of all of
	// them takes, and long enough to find out that the old version was better.
	FormatWait time.Duration
	// Now is the clock of the dates that are stored; nil for time.Now.
	Now func() time.Time
	// Logger gets the store's messages, and etcd's warnings and errors. Nil
	// discards them.
	Logger *slog.Logger
	// Unsafe is for tests only: elections take milliseconds, and what is written is
	// not forced to the disk.
	Unsafe bool

	// For tests of this package: other formats, and less time.
	formats formats
	times   times
}

// Store is an open store. Its methods may be called concurrently.
type Store struct {
	log    *slog.Logger
	client *clientv3.Client
	// kv is the client below clientv3's, for transactions.
	kv      pb.KVClient
	leases  pb.LeaseClient
	etcd    *embed.Etcd // nil with an external cluster
	lock    *os.File    // of the data directory, nil with an external cluster
	seal    cipher.AEAD
	sealID  sealID
	sealHex string // the key itself, for backups that are to hold it
	// sealRoot is what other keys are derived from: made of the seal key, and not it.
	sealRoot []byte
	// timeout bounds one call of etcd, in nanoseconds; tests change it while work goes on.
	timeout atomic.Int64
	now     func() time.Time

	formats formats                 // that this build knows
	level   atomic.Pointer[written] // the format that documents are written in
	member  membership
	// formatWait is Config.FormatWait.
	formatWait time.Duration
	moved      migrationProgress
	sizing     sizing
	disk       disk
	// keepFile says that etcd's file is never defragmented by itself.
	keepFile bool
	history  history
	times    times

	quotas   mesh.Quotas // of accounts without values of their own
	settings settings

	// ctx ends when the store is closed, and background is waited for then.
	ctx        context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup
	// calls is held for reading during each call to etcd, so that Close can wait.
	calls  sync.RWMutex
	closed bool
}

// Open starts or reaches etcd and checks the seal key. ctx bounds opening only. The
// error is one line that says what to do.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	s := newRaw(cfg)
	s.quotas = cfg.Quotas
	if s.quotas == (mesh.Quotas{}) {
		s.quotas = mesh.DefaultQuotas()
	}
	if err := s.open(ctx, cfg); err != nil {
		if err := s.Close(); err != nil {
			s.log.Error("closing a store that could not be opened", "error", err)
		}
		return nil, fmt.Errorf("opening store: %w", err)
	}
	return s, nil
}

// newRaw returns a store without settings and seal key, whose etcd is not there yet.
func newRaw(cfg Config) *Store {
	s := &Store{log: cfg.logger(), now: cfg.Now, formats: cfg.knownFormats(), times: cfg.times.withDefaults()}
	if s.now == nil {
		s.now = time.Now
	}
	s.timeout.Store(int64(callTimeout))
	s.formatWait = cmp.Or(cfg.FormatWait, time.Hour)
	s.member.life = cmp.Or(cfg.MemberLease, memberLife)
	s.level.Store(&written{writes: firstFormat})
	s.disk.folder, s.disk.free = cfg.DataDir, freeBytes
	s.keepFile, s.sizing.quota = cfg.NoDefragment, cmp.Or(cfg.MaxBytes, defaultQuota)
	s.history.keep, s.history.ownOnly = cfg.History, cfg.OwnEtcdOnly
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// knownFormats are those of this build, or a test's.
func (cfg Config) knownFormats() formats {
	if cfg.formats.newest > 0 {
		return cfg.formats
	}
	return knownFormats(cfg.Records)
}

// logger returns one that can be used.
func (cfg Config) logger() *slog.Logger {
	if cfg.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return cfg.Logger
}

func (cfg Config) check() error {
	switch {
	case cfg.DataDir == "" && len(cfg.Endpoints) == 0:
		return errors.New("neither a data directory (--data-dir) nor an external etcd (--etcd-endpoints) is given")
	case cfg.DataDir != "" && len(cfg.Endpoints) > 0:
		return fmt.Errorf("both a data directory (--data-dir %s) and an external etcd (--etcd-endpoints %s) are given, choose one",
			cfg.DataDir, strings.Join(cfg.Endpoints, ","))
	case len(cfg.Endpoints) > 0 && cfg.SealKeyFile == "":
		return errors.New("an external etcd (--etcd-endpoints) needs a seal key file (--seal-key) that all replicas share; " + makeKeyHint)
	case cfg.MemberLease < 0 || cfg.MemberLease%time.Second != 0:
		return fmt.Errorf("a lease of %s is not allowed: whole seconds", cfg.MemberLease)
	}
	return nil
}

// Present refuses a data directory that no server has been started on. Commands ask first:
// Open would make a store there, and a mistyped name be taken for success.
func (cfg Config) Present() error {
	if cfg.DataDir == "" {
		return nil
	}
	_, err := os.Stat(filepath.Join(cfg.DataDir, etcdDir))
	if errors.Is(err, fs.ErrNotExist) { // a restore may have been cut off in its last step
		if _, ready := os.Stat(filepath.Join(cfg.DataDir, readyDir)); ready == nil {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("--data-dir %s holds no store: %w", cfg.DataDir, err)
	}
	return nil
}

func (s *Store) open(ctx context.Context, cfg Config) error {
	var err error
	if cfg.DataDir != "" {
		err = s.startEtcd(ctx, cfg)
	} else {
		err = s.dial(ctx, cfg)
	}
	if err != nil {
		return err
	}
	if err := s.openSeal(ctx, cfg); err != nil {
		return err
	}
	if err := s.startSettings(ctx); err != nil {
		return err
	}
	return s.startMember(ctx)
}

// dial makes the client of an external cluster, and reads from it once.
func (s *Store) dial(ctx context.Context, cfg Config) error {
	var err error
	s.client, err = s.newClient(cfg, cfg.Endpoints...)
	if err == nil {
		s.kv, s.leases = clientv3.RetryKVClient(s.client), clientv3.RetryLeaseClient(s.client)
		err = s.try(ctx, s.ping)
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = fmt.Errorf("no answer within %s: %w", s.callTimeout(), err)
	}
	if err != nil {
		return fmt.Errorf("reaching etcd at %s (--etcd-endpoints): %w", strings.Join(cfg.Endpoints, ","), err)
	}
	return nil
}

// newClient returns a client of some of an external etcd's members.
func (s *Store) newClient(cfg Config, endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: endpoints, TLS: cfg.TLS, Username: cfg.Username, Password: cfg.Password,
		DialTimeout: 5 * time.Second, DialKeepAliveTime: etcdPing, DialKeepAliveTimeout: etcdSilence,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(reconnect)},
		Logger:      zapLogger(s.log),
	})
}

// Close ends feeds and calls, and stops an embedded etcd. What was answered before
// is on the disk. Closing twice is no error.
func (s *Store) Close() error {
	s.leave()
	s.cancel()
	s.background.Wait()
	s.calls.Lock()
	defer s.calls.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	if s.client != nil {
		if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("closing the etcd client: %w", err))
		}
	}
	if s.etcd != nil {
		s.etcd.Close()
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Healthy returns nil if the store can serve: a read that a majority of etcd's
// members agrees to succeeds, and the documents are in a format that this build reads.
func (s *Store) Healthy(ctx context.Context) error {
	if err := s.current(); err != nil {
		return err
	}
	return s.call(ctx, s.ping)
}

func (s *Store) ping(ctx context.Context) error {
	_, err := s.client.Get(ctx, storeKey, clientv3.WithKeysOnly())
	return err
}

// sealKeyFile returns the key file, and whether the store may make it.
func (cfg Config) sealKeyFile() (path string, own bool) {
	if cfg.SealKeyFile != "" {
		return cfg.SealKeyFile, false
	}
	return filepath.Join(cfg.DataDir, "seal.key"), true
}
