package backup

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var entries = []Entry{
	NewEntry("fairlead/object/1/r/mesh/m", []byte(`{"spec":{"a":"<ä>\u2028"}}`)),
	NewEntry("fairlead/record/iam/1/key/k", []byte{0, 0xff, 0x80}),
	{Key: "fairlead/record/registry/own/1/beat", Text: "x", Lease: "7587876543212345678", LeaseSeconds: 60},
	NewEntry("fairlead/ref/a", nil),
}

// written returns a backup of entries.
func written(t *testing.T) ([]byte, Totals) {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, Header{Revision: 7, StoreFormat: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	totals, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), totals
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	file, totals := written(t)
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var got []Entry
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if d := cmp.Diff(entries, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	h, checked, err := Check(bytes.NewReader(file))
	if err != nil || h.Revision != 7 || h.Format != Format {
		t.Errorf("%+v, %v", h, err)
	}
	if d := cmp.Diff(totals, checked); d != "" {
		t.Errorf("(-written +read)\n%s", d)
	}
	if totals.Families["record/iam"] != 1 || totals.Families["object"] != 1 || totals.Entries != 4 {
		t.Errorf("%+v", totals)
	}
}

// TestDamage cuts a file at each byte, and changes each: nothing of it may pass. gzip's own
// header has a few bytes that say nothing of the content.
func TestDamage(t *testing.T) {
	t.Parallel()
	file, totals := written(t)
	for i := range file {
		if _, _, err := Check(bytes.NewReader(file[:i])); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("cut off at byte %d: %v", i, err)
		}
		bad := bytes.Clone(file)
		bad[i] ^= 0x55
		h, got, err := Check(bytes.NewReader(bad))
		if err == nil && (got.SHA256 != totals.SHA256 || h.Revision != 7) {
			t.Errorf("changed at byte %d, and read all the same", i)
		}
		if err == nil && i >= 10 {
			t.Errorf("changed at byte %d, and not noticed", i)
		}
	}
	if _, _, err := Check(bytes.NewReader(append(bytes.Clone(file), file...))); !errors.Is(err, ErrDamaged) {
		t.Errorf("two files in one: %v", err)
	}
}

func TestWriterRefusesDisorder(t *testing.T) {
	t.Parallel()
	w, err := NewWriter(io.Discard, Header{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(entries[1]); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(entries[0]); err == nil {
		t.Error("a key came before the last one")
	}
}

// TestWriteFile checks that a file that could not be written whole is not there, and that
// the one before stays.
func TestWriteFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "backup")
	if err := WriteFile(path, func(w io.Writer) error { _, err := io.WriteString(w, "one"); return err }); err != nil {
		t.Fatal(err)
	}
	failure := errors.New("no more")
	err := WriteFile(path, func(w io.Writer) error { _, err := io.WriteString(w, "two"); return errors.Join(err, failure) })
	if !errors.Is(err, failure) {
		t.Errorf("%v", err)
	}
	raw, err := os.ReadFile(path)
	if err != nil || string(raw) != "one" {
		t.Errorf("%q, %v", raw, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}
