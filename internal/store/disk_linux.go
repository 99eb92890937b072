package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// freeBytes returns how many bytes of a folder's disk are free for this user.
func freeBytes(folder string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(folder, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: folder, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil //nolint:gosec // a disk has fewer bytes than 2^63
}

// allocate has the disk hold all of a file, holes too, and some bytes behind its end. What
// is in the file and how long it is stays.
func allocate(file string, ahead int64) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, st.Size()+ahead); err != nil {
		return &os.PathError{Op: "fallocate", Path: file, Err: err}
	}
	return nil
}
