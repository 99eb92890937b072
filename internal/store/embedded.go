package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy/adapter"
)

// member is the name of the embedded etcd's only member.
const member = "fairlead"

// startEtcd locks the data directory and starts an etcd in it.
func (s *Store) startEtcd(ctx context.Context, cfg Config) error {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	var err error
	if s.lock, err = lockDir(cfg.DataDir); err != nil {
		return err
	}
	if err := finishRestore(cfg.DataDir); err != nil {
		return err
	}
	return s.runEtcd(ctx, cfg)
}

// runEtcd starts an etcd in a data directory that is locked.
func (s *Store) runEtcd(ctx context.Context, cfg Config) (err error) {
	if s.etcd, err = embed.StartEtcd(s.etcdConfig(cfg)); err != nil {
		return fmt.Errorf("starting etcd in %s: %w", filepath.Join(cfg.DataDir, etcdDir), err)
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
	case <-s.etcd.Server.StopNotify():
		return fmt.Errorf("starting etcd in %s: it stopped at once", filepath.Join(cfg.DataDir, etcdDir))
	case <-ctx.Done():
		return fmt.Errorf("starting etcd in %s: %w", filepath.Join(cfg.DataDir, etcdDir), context.Cause(ctx))
	}
	s.client = v3client.New(s.etcd.Server)
	s.kv = adapter.KvServerToKvClient(v3rpc.NewQuotaKVServer(s.etcd.Server))
	s.leases = adapter.LeaseServerToLeaseClient(v3rpc.NewQuotaLeaseServer(s.etcd.Server))
	s.reserve()
	go s.watchEtcd(s.etcd.Server.StopNotify())
	return nil
}

// defaultHistory is how long an embedded etcd keeps what was replaced.
const defaultHistory = 10 * time.Minute

// etcdConfig describes an etcd of one member without a listener.
func (s *Store) etcdConfig(cfg Config) *embed.Config {
	e := embed.NewConfig()
	e.Name = member
	e.Dir = filepath.Join(cfg.DataDir, etcdDir)
	// etcd wants an address for each member. With one member nobody ever calls it;
	// it is in numbers so that no resolver is asked for it.
	self := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	e.AdvertisePeerUrls = []url.URL{self}
	e.InitialCluster = member + "=" + self.String()
	e.ListenPeerUrls, e.ListenClientUrls, e.AdvertiseClientUrls = nil, nil, nil
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(s.log))
	// History serves watches that fell behind; feeds that fell further list again.
	e.AutoCompactionMode, e.AutoCompactionRetention = embed.CompactorModePeriodic, cmp.Or(cfg.History, defaultHistory).String()
	// etcd holds its log's newest entries in memory for members that are behind, 5,000 to
	// 15,000 by default, each as large as the object that it writes. There is no such member.
	e.SnapshotCount, e.SnapshotCatchUpEntries = 1000, 100
	e.QuotaBackendBytes = cmp.Or(cfg.MaxBytes, defaultQuota)
	if !cfg.NoDefragment {
		e.BootstrapDefragThresholdMegabytes = 512 // nobody is kept waiting who was served
	}
	// The only member always wins its election, and a start waits for it: as long as
	// these say, for nobody.
	e.TickMs, e.ElectionMs = 50, 250
	if cfg.Unsafe {
		e.TickMs, e.ElectionMs = 10, 100
		e.UnsafeNoFsync = true
	}
	return e
}

// watchEtcd says so if etcd stops by itself.
func (s *Store) watchEtcd(stopped <-chan struct{}) {
	select {
	case <-stopped:
		if s.ctx.Err() == nil {
			s.log.Error("the embedded etcd has stopped, nothing can be read or written until the server is started again")
		}
	case <-s.ctx.Done():
	}
}

// lockDir takes the lock of a data directory. etcd has one of its own, but waits for
// it without a word.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := io.ReadAll(io.LimitReader(f, 20)) // only makes the message better
		_ = f.Close()
		return nil, fmt.Errorf("data directory %s is in use by another server (process %s): stop it, or choose another --data-dir",
			dir, strings.TrimSpace(string(holder)))
	}
	if err == nil {
		err = writePID(f)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return f, nil
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintln(f, os.Getpid())
	return err
}
