package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// files are the files of a log. The current one has the log's own name; one that was
// put aside has a number behind it, which grows with each and is never used again: with
// an offset it is a place in the log that stays what it is while files rotate.
type files struct {
	path string
}

const numberDigits = 10

// name returns the name of a file that was put aside.
func (f files) name(seq uint64) string { return fmt.Sprintf("%s.%0*d", f.path, numberDigits, seq) }

// old lists the files that were put aside, the newest first.
func (f files) old() ([]uint64, error) {
	entries, err := os.ReadDir(filepath.Dir(f.path))
	if err != nil {
		return nil, fmt.Errorf("listing audit files: %w", err)
	}
	var all []uint64
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), filepath.Base(f.path)+".")
		if seq, err := strconv.ParseUint(number, 10, 64); ok && err == nil && len(number) == numberDigits {
			all = append(all, seq)
		}
	}
	slices.Sort(all)
	slices.Reverse(all)
	return all, nil
}

// current opens the current file to append to it. A line that was cut off by a crash
// is ended, so that it spoils no other.
func (f files) current() (file *os.File, size int64, err error) {
	file, err = os.OpenFile(f.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	if size, err = prepare(file); err != nil {
		return nil, 0, errors.Join(fmt.Errorf("preparing %s: %w", f.path, err), file.Close())
	}
	return file, size, nil
}

func prepare(file *os.File) (size int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, errors.New("it is not a regular file")
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := file.Chmod(0o600); err != nil {
			return 0, err
		}
	}
	if size = info.Size(); size == 0 {
		return 0, nil
	}
	var last [1]byte
	if _, err := file.ReadAt(last[:], size-1); err != nil {
		return 0, err
	}
	if last[0] != '\n' {
		if _, err := file.WriteString("\n"); err != nil {
			return 0, err
		}
		size++
	}
	return size, nil
}

// inPlace reports whether the current file's name still leads to the file.
func (f files) inPlace(file *os.File) bool {
	there, err := os.Stat(f.path)
	if err != nil {
		return false
	}
	open, err := file.Stat()
	return err == nil && os.SameFile(there, open)
}

// putAside gives the current file its number.
func (f files) putAside(seq uint64) error {
	if err := os.Rename(f.path, f.name(seq)); err != nil {
		return fmt.Errorf("putting the audit file aside: %w", err)
	}
	return nil
}

// span is the time from a file's first line to its last.
type span struct {
	first, last time.Time
}

// spanOf reads a file's first and last line. What cannot be read is zero.
func spanOf(file io.ReaderAt, size int64) span {
	var s span
	head := make([]byte, min(size, 128))
	if _, err := file.ReadAt(head, 0); err == nil {
		s.first, _ = timeOf(head)
	}
	r := backward{file: file, off: size, block: 16 << 10}
	if line, _, err := r.prev(); err == nil {
		s.last, _ = timeOf(line)
	}
	return s
}

// backward reads a file's lines from an end to its beginning.
type backward struct {
	file  io.ReaderAt
	off   int64  // where data lies in the file
	data  []byte // what was read and not returned yet; begins where buf does
	buf   []byte
	block int   // how much is read at once
	read  int64 // how much was read
}

const (
	readBlock = 256 << 10
	// maxLine bounds what is taken for a line; none that this package writes comes
	// near it.
	maxLine = 1 << 20
)

// prev returns the line before those it has returned, without its end, and where it
// begins. The line is good until the next call. It returns io.EOF at the file's
// beginning.
func (b *backward) prev() (line []byte, start int64, err error) {
	for {
		if n := len(b.data); n > 0 {
			i := bytes.LastIndexByte(b.data[:n-1], '\n')
			if i >= 0 || b.off == 0 {
				line = bytes.TrimSuffix(b.data[i+1:], []byte("\n"))
				b.data = b.data[:i+1]
				return line, b.off + int64(i+1), nil
			}
		} else if b.off == 0 {
			return nil, 0, io.EOF
		}
		if err := b.fill(); err != nil {
			return nil, 0, err
		}
	}
}

// fill reads the block before the data. A line that grows too long loses its end, and
// is no valid record then.
func (b *backward) fill() error {
	if len(b.data) > maxLine {
		b.data = b.data[:0]
	}
	n := int(min(int64(b.block), b.off))
	have := len(b.data)
	if need := n + have; cap(b.buf) < need {
		next := make([]byte, need+need/2)
		copy(next[n:], b.data)
		b.buf = next
	} else {
		b.buf = b.buf[:cap(b.buf)]
		copy(b.buf[n:], b.data)
	}
	if _, err := b.file.ReadAt(b.buf[:n], b.off-int64(n)); err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	b.off -= int64(n)
	b.read += int64(n)
	b.data = b.buf[:n+have]
	return nil
}
