package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// An embedded etcd ends its process when it cannot write, so it must never come to that:
//
//   - Nothing is written while the disk has less than diskLeast bytes free, twice as much as
//     etcd puts on the disk ahead for its log.
//   - What etcd writes by itself, while something else fills the disk to the last byte, has
//     room in its file: diskAhead bytes behind what it has are the file's already.
const (
	diskLeast = 128 << 20
	diskAhead = 32 << 20
)

// disk is what is known of the disk of an embedded etcd.
type disk struct {
	folder string // "" with an external cluster
	// free returns how many bytes of a folder's disk are free for us; tests have their own.
	free func(folder string) (int64, error)
	low  atomic.Bool // as was logged
}

// backend returns etcd's file in a data directory.
func backend(dataDir string) string { return filepath.Join(dataDir, etcdDir, "member", "snap", "db") }

// DiskFree returns how many bytes are free on the disk of an embedded store; ok is false with
// an external cluster, or where that cannot be told.
func (s *Store) DiskFree() (bytes int64, ok bool) {
	if s.disk.folder == "" {
		return 0, false
	}
	bytes, err := s.disk.free(s.disk.folder)
	return bytes, err == nil
}

// writable refuses a write for which the disk has no room.
func (s *Store) writable() error {
	free, ok := s.DiskFree()
	if !ok {
		return nil
	}
	low := free < diskLeast
	if s.disk.low.Swap(low) != low {
		if low {
			s.log.Error("the disk of the data directory is nearly full: nothing is written until it has room, all else goes on", "folder", s.disk.folder, "free", mebibytes(free), "needed", mebibytes(diskLeast))
		} else {
			s.log.Info("the disk of the data directory has room again", "folder", s.disk.folder, "free", mebibytes(free))
		}
	}
	if low {
		return mesh.Errorf(mesh.ErrServiceUnavailable,
			"the disk of the control plane's data is nearly full (%s free, %s are needed): nothing can be written until it has room; reading and the service of proxies go on",
			mebibytes(free), mebibytes(diskLeast))
	}
	return nil
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// reserve makes etcd's file own room for what comes. Where the file system cannot do that
// there is none, and a full disk may end the server.
func (s *Store) reserve() {
	if s.disk.folder == "" {
		return
	}
	if err := allocate(backend(s.disk.folder), diskAhead); err != nil && !errors.Is(err, errors.ErrUnsupported) && s.writable() == nil {
		s.log.Warn("room on the disk for etcd's file cannot be reserved", "error", err)
	}
}
