package logfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// files returns the content of each file in a folder, by name.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(text)
	}
	return out
}

func open(t *testing.T, cfg Config) *File {
	t.Helper()
	f, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	f.now = func() time.Time { return time.Unix(1000, 0) }
	return f
}

func TestRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"x.log": "before\n", "x.log.notes": "mine", "x.log.7": "oldest\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := open(t, Config{Dir: dir, Name: "x.log", MaxBytes: 16, Keep: 2})
	for i := range 8 {
		fmt.Fprintf(f, "line %d\n", i)
	}
	fmt.Fprintf(f, "%s\n", strings.Repeat("y", 20))
	want := map[string]string{
		"x.log.1003":  "line 5\nline 6\n",
		"x.log.1004":  "line 7\n",
		"x.log":       strings.Repeat("y", 20) + "\n", // a line is never cut
		"x.log.notes": "mine",
	}
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Errorf("files differ (-want +got):\n%s", diff)
	}
}

func TestKeepNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, Config{Dir: dir, Name: "x.log", MaxBytes: 5})
	fmt.Fprint(f, "one\n")
	fmt.Fprint(f, "two\n")
	if diff := cmp.Diff(map[string]string{"x.log": "two\n"}, files(t, dir)); diff != "" {
		t.Errorf("files differ (-want +got):\n%s", diff)
	}
}

// Another program may move the file, and say so.
func TestReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, Config{Dir: dir, Name: "x.log", MaxBytes: 1000})
	fmt.Fprint(f, "one\n")
	if err := os.Rename(filepath.Join(dir, "x.log"), filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	f.Reopen()
	fmt.Fprint(f, "two\n")
	if diff := cmp.Diff(map[string]string{"moved": "one\n", "x.log": "two\n"}, files(t, dir)); diff != "" {
		t.Errorf("files differ (-want +got):\n%s", diff)
	}
}

// A folder that goes away, or a full disk, stops nobody; when it is back, so is the log.
func TestLoss(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := open(t, Config{Dir: dir, Name: "x.log", MaxBytes: 10})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n, err := fmt.Fprint(f, "lost line\n"); n != 10 || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, "kept line\n")
	if diff := cmp.Diff(map[string]string{"x.log": "kept line\n"}, files(t, dir)); diff != "" {
		t.Errorf("files differ (-want +got):\n%s", diff)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []Config{{Dir: filepath.Join(dir, "none"), Name: "x"}, {Dir: dir, Name: "folder"}} {
		if f, err := Open(cfg); err == nil {
			_ = f.Close()
			t.Errorf("%+v is opened", cfg)
		}
	}
}

// No line of many writers is lost, cut or doubled by a rotation.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(t, Config{Dir: dir, Name: "x.log", MaxBytes: 300, Keep: 1000})
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 100 {
				fmt.Fprintf(f, "%d-%d\n", w, i)
			}
		})
	}
	writers.Wait()
	seen := map[string]int{}
	all := files(t, dir)
	for name, text := range all {
		if len(text) > 300 {
			t.Errorf("%s has %d bytes", name, len(text))
		}
		for line := range strings.Lines(text) {
			seen[strings.TrimSpace(line)]++
		}
	}
	for w := range 8 {
		for i := range 100 {
			if n := seen[fmt.Sprintf("%d-%d", w, i)]; n != 1 {
				t.Errorf("line %d-%d is there %d times", w, i, n)
			}
		}
	}
	if len(seen) != 800 || len(all) < 10 {
		t.Errorf("%d lines in %d files", len(seen), len(all))
	}
}
