package backup

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
)

// Writer writes one backup. It holds one line in memory.
type Writer struct {
	zip    *gzip.Writer
	sum    hash.Hash
	lines  *json.Encoder
	totals Totals
	last   string // key
}

// NewWriter begins a backup with its header, of which it fills in Fairlead and Format.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	// The fastest level: values are small documents that look alike.
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("writing a backup: %w", err)
	}
	out := &Writer{zip: zip, sum: sha256.New()}
	out.lines = json.NewEncoder(io.MultiWriter(zip, out.sum))
	out.lines.SetEscapeHTML(false)
	h.Fairlead, h.Format = kind, Format
	return out, out.line(h)
}

// Write adds an entry. Keys must come in order.
func (w *Writer) Write(e Entry) error {
	if e.Key <= w.last {
		return fmt.Errorf("writing a backup: key %q comes after %q", e.Key, w.last)
	}
	w.last = e.Key
	w.totals.count(e)
	return w.line(e)
}

// Close ends the backup and returns what it holds. The writer below stays open.
func (w *Writer) Close() (Totals, error) {
	w.totals.SHA256 = hex.EncodeToString(w.sum.Sum(nil))
	if err := w.line(Trailer{End: &w.totals}); err != nil {
		return Totals{}, err
	}
	if err := w.zip.Close(); err != nil {
		return Totals{}, fmt.Errorf("writing a backup: %w", err)
	}
	return w.totals, nil
}

func (w *Writer) line(v any) error {
	if err := w.lines.Encode(v); err != nil {
		return fmt.Errorf("writing a backup: %w", err)
	}
	return nil
}

// WriteFile makes a file of what write writes, readable by its owner only. It is there
// whole or not at all: it has another name until it is on the disk. One that is there is
// replaced.
func WriteFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("writing a backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	b := bufio.NewWriterSize(f, 1<<20)
	if err := write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(b.Flush(), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing a backup: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("writing a backup: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("writing a backup: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("writing a backup: %w", err)
	}
	return nil
}
