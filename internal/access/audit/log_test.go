package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-mesh/fairlead/internal/meshtest/clock"
)

// openLog opens a log in a directory of its own until the test ends.
func openLog(t testing.TB, cfg Config) *Log {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "audit", "audit.log")
	}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// all returns what a query finds, page by page.
func all(t testing.TB, l *Log, q Query) []json.RawMessage {
	t.Helper()
	var out []json.RawMessage
	for {
		events, next, err := l.Query(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, events...)
		if next == "" {
			return out
		}
		q.Next = next
	}
}

// named returns an event of an account that is told by its name.
func named(account, name string) Event {
	return Event{Account: account, Name: name, Source: AppMesh, Principal: Identity{Type: "IAMUser", Account: account, User: "u" + account}}
}

// names returns the names of events.
func names(t testing.TB, events []json.RawMessage) string {
	t.Helper()
	var out []string
	for _, raw := range events {
		var r record
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		out = append(out, r.EventName)
	}
	return strings.Join(out, " ")
}

const (
	alice = "000000000001"
	bob   = "000000000002"
)

func TestModesAndRotation(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(dir, "audit.log")
	l := openLog(t, Config{Path: path, MaxBytes: 2000, MaxFiles: 3})
	for i := range 40 {
		l.Write(named(alice, fmt.Sprint(i)))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	var files int
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		if !strings.HasSuffix(e.Name(), ".lock") {
			files++
			total += info.Size()
		}
		if info.Size() > 2000 {
			t.Errorf("%s has %d bytes", e.Name(), info.Size())
		}
	}
	if files != 3 || total > 3*2000 {
		t.Errorf("%d files with %d bytes, want 3 with 6000 at most", files, total)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
	got := names(t, all(t, l, Query{Account: alice}))
	if !strings.HasPrefix(got, "39 38 37 36 ") || strings.Contains(got, " 0") {
		t.Errorf("found %s", got)
	}
}

func TestALineCutByACrashSpoilsNoOther(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	l := openLog(t, Config{Path: path})
	l.Write(named(alice, "first"))
	l.Write(named(alice, "cut"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b[:len(b)-20], 0o644); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, Config{Path: path})
	l.Write(named(alice, "after"))
	if got := names(t, all(t, l, Query{Account: alice})); got != "after first" {
		t.Errorf("found %s, want what is whole", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	l := openLog(t, Config{Path: path})
	if other, err := Open(Config{Path: path}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v, %v", other, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	openLog(t, Config{Path: path})
}

func TestBadConfigurations(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Config{
		{},
		{Path: file, MaxBytes: -1},
		{Path: file, MaxFiles: -1},
		{Path: t.TempDir()},
		{Path: filepath.Join(file, "below", "audit.log")},
	} {
		if l, err := Open(c); err == nil {
			t.Errorf("%+v was accepted", c)
			_ = l.Close()
		}
	}
}

func TestNilDropsEverything(t *testing.T) {
	t.Parallel()
	var l *Log
	l.Write(Event{})
	if events, next, err := l.Query(t.Context(), Query{All: true}); events != nil || next != "" || err != nil {
		t.Errorf("found %v %q %v", events, next, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// counter returns the value of one of the log's counters.
func counter(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "fairlead_audit_"+name+"_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no counter %s", name)
	return 0
}

// A file that cannot be written costs events, which are counted, and one line of the
// server's log a minute. Once it can be written again, it is.
func TestFailuresAreCountedAndToldOnceAMinute(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "audit")
	path := filepath.Join(dir, "audit.log")
	var told bytes.Buffer
	c := clock.New(time.Unix(1_800_000_000, 0))
	reg := prometheus.NewRegistry()
	l := openLog(t, Config{Path: path, Logger: slog.New(slog.NewTextHandler(&told, nil)), Metrics: reg, Now: c.Now})
	l.Write(named(alice, "before"))
	if err := os.RemoveAll(dir); err != nil { // where root, too, cannot write
		t.Fatal(err)
	}
	for range 3 {
		c.Advance(2 * time.Second)
		l.Write(named(alice, "lost"))
	}
	if n := strings.Count(told.String(), "cannot be written"); n != 1 {
		t.Errorf("told %d times: %s", n, told.String())
	}
	c.Advance(time.Minute)
	l.Write(named(alice, "lost"))
	if n := strings.Count(told.String(), "cannot be written"); n != 2 || !strings.Contains(told.String(), "failures=3") {
		t.Errorf("told %d times after a minute: %s", n, told.String())
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.Advance(2 * time.Second)
	l.Write(named(alice, "again"))
	if got := names(t, all(t, l, Query{Account: alice})); got != "again" {
		t.Errorf("found %s", got)
	}
	if lost, written := counter(t, reg, "lost_events"), counter(t, reg, "events"); lost != 4 || written != 2 {
		t.Errorf("counted %v lost and %v written events, want 4 and 2", lost, written)
	}
}

// A disk that is full in the middle of a line leaves no half of it.
func TestAFullDiskLeavesNoHalfLine(t *testing.T) {
	t.Parallel()
	l := openLog(t, Config{})
	l.Write(named(alice, "before"))
	// As a write that failed half way leaves it.
	l.mu.Lock()
	size := l.size
	if _, err := l.file.WriteString(`{"half":`); err != nil {
		t.Error(err)
	}
	l.mu.Unlock()
	if got := names(t, all(t, l, Query{Account: alice})); got != "before" {
		t.Errorf("found %s", got)
	}
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("this system has no /dev/full")
	}
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("this user may not write to /dev/full:", err)
	}
	l.mu.Lock()
	good := l.file
	l.file = full
	l.checked = l.cfg.Now()
	err = l.append([]byte("x\n"))
	l.file = good
	l.mu.Unlock()
	if full.Close(); err == nil || l.size != size {
		t.Errorf("a full disk was not noticed: %v, size %d, was %d", err, l.size, size)
	}
}

func TestAFileThatWasMovedAwayIsMadeAnew(t *testing.T) {
	t.Parallel()
	c := clock.New(time.Unix(1_800_000_000, 0))
	path := filepath.Join(t.TempDir(), "audit.log")
	l := openLog(t, Config{Path: path, Now: c.Now})
	l.Write(named(alice, "before"))
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, all(t, l, Query{Account: alice})); got != "" {
		t.Errorf("found %s", got)
	}
	c.Advance(2 * time.Second)
	l.Write(named(alice, "after"))
	if got := names(t, all(t, l, Query{Account: alice})); got != "after" {
		t.Errorf("found %s", got)
	}
}

// Many writers: no line is lost, split or mixed, whatever rotates.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 300
	l := openLog(t, Config{MaxBytes: 50_000, MaxFiles: 1000})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				l.Write(named(alice, fmt.Sprintf("%d-%d", w, i)))
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if _, _, err := l.Query(t.Context(), Query{All: true}); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	seen := map[string]int{}
	for name := range strings.FieldsSeq(names(t, all(t, l, Query{Account: alice}))) {
		seen[name]++
	}
	if len(seen) != writers*each {
		t.Errorf("%d different events, want %d", len(seen), writers*each)
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s was found %d times", name, n)
		}
	}
}

func TestAClosedLogCountsWhatItLoses(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	l := openLog(t, Config{Metrics: reg})
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	l.Write(named(alice, "late"))
	if lost := counter(t, reg, "lost_events"); lost != 1 {
		t.Errorf("counted %v, want 1", lost)
	}
	if _, _, err := l.Query(t.Context(), Query{All: true}); err == nil {
		t.Error("a closed log was read")
	}
}
