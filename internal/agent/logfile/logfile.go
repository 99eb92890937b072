// Package logfile writes a log to a file that is kept from growing: when it is large
// enough it is put aside, and of those put aside the newest are kept. It may import the
// standard library only.
package logfile

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Config says where a log goes. The zero value is none.
type Config struct {
	// Dir is a folder that exists, Name the file in it.
	Dir, Name string
	// MaxBytes is how large the file may become before it is put aside, as NAME.TIME with
	// the seconds since 1970.
	MaxBytes int64
	// Keep is how many files put aside are kept; 0 keeps none.
	Keep int
}

// Set reports whether there is a log.
func (c Config) Set() bool { return c.Dir != "" }

// Path returns where the file is.
func (c Config) Path() string { return filepath.Join(c.Dir, c.Name) }

// File is an open log. Several may write to it; each write is kept in one piece, in one
// file.
type File struct {
	cfg Config
	now func() time.Time

	mu   sync.Mutex
	f    *os.File // nil while it cannot be opened
	size int64
	last int64 // the time in the last name that was given to a file put aside
}

// Open opens the log, and goes on where one that is there ends.
func Open(cfg Config) (*File, error) {
	f := &File{cfg: cfg, now: time.Now}
	if err := f.open(); err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return f, nil
}

func (f *File) open() error {
	file, err := os.OpenFile(f.cfg.Path(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.cfg.Path())
	}
	if err != nil {
		file.Close()
		return err
	}
	f.f, f.size = file, info.Size()
	return nil
}

// Write writes p behind what is there. What cannot be written, because the disk is full or
// the folder has gone, is lost: nobody who logs should stop for it. It never fails.
func (f *File) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.size > 0 && f.size+int64(len(p)) > f.cfg.MaxBytes {
		f.rotate()
	}
	if f.f == nil && f.open() != nil {
		return len(p), nil
	}
	n, err := f.f.Write(p)
	f.size += int64(n)
	if err != nil { // the next write tries it anew
		f.close()
	}
	return len(p), nil
}

// Reopen closes the file and opens it by its name, for those who have moved it.
func (f *File) Reopen() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.close()
	_ = f.open() // the next write tries it anew
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.close()
	return nil
}

func (f *File) close() {
	if f.f != nil {
		_ = f.f.Close()
		f.f = nil
	}
}

// rotate puts the file aside and begins a new one. If it cannot be put aside, it goes on
// growing: a log is worth more than its bound.
func (f *File) rotate() {
	aside := f.free()
	if err := os.Rename(f.cfg.Path(), aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return
	}
	f.close()
	f.size = 0
	f.clean()
}

// free returns a name that no file has and that is later than all before: two rotations
// within a second would share one.
func (f *File) free() string {
	for f.last = max(f.now().Unix(), f.last+1); ; f.last++ {
		name := f.cfg.Path() + "." + strconv.FormatInt(f.last, 10)
		if _, err := os.Lstat(name); err != nil {
			return name
		}
	}
}

// clean removes all but the newest files that were put aside.
func (f *File) clean() {
	entries, err := os.ReadDir(f.cfg.Dir)
	if err != nil {
		return
	}
	type old struct {
		name string
		time int64
	}
	var all []old
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e.Name(), f.cfg.Name+"."); ok {
			if t, err := strconv.ParseInt(rest, 10, 64); err == nil && e.Type().IsRegular() {
				all = append(all, old{e.Name(), t})
			}
		}
	}
	slices.SortFunc(all, func(a, b old) int { return cmp.Compare(b.time, a.time) })
	for _, o := range all[min(f.cfg.Keep, len(all)):] {
		_ = os.Remove(filepath.Join(f.cfg.Dir, o.name)) // it is tried again the next time
	}
}
