package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// helperVariable makes the test binary play the part of a server of its own.
const helperVariable = "FAIRLEAD_STORE_TEST_HELPER"

func TestMain(m *testing.M) {
	part, dir, _ := strings.Cut(os.Getenv(helperVariable), ":")
	switch part {
	case "":
		os.Exit(m.Run())
	case "listeners":
		helpListeners(dir)
	case "create":
		helpCreate(dir)
	}
}

// helper returns a command that runs a part of TestMain.
func helper(t *testing.T, part, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), helperVariable+"="+part+":"+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "helper:", err)
		os.Exit(1)
	}
}

// logs is a log to look into.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// openDir opens an embedded store for a test.
func openDir(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{DataDir: dir, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	return s
}

func openTemp(t testing.TB) *Store {
	t.Helper()
	return openDir(t, t.TempDir())
}

// eventually waits until f returns true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline, tick := time.After(time.Minute), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s did not happen", what)
		}
	}
}

func TestOpenRefusesConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		cfg        Config
	}{
		{"neither", "neither a data directory (--data-dir) nor", Config{}},
		{"both", "choose one", Config{DataDir: "x", Endpoints: []string{"y"}}},
		{"no seal key", "needs a seal key file (--seal-key)", Config{Endpoints: []string{"y"}}},
		{"seal key missing", "openssl rand", Config{DataDir: t.TempDir(), SealKeyFile: filepath.Join(t.TempDir(), "absent"), Unsafe: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := Open(t.Context(), c.cfg)
			wantError(t, err, c.want)
		})
	}
}

func TestOpenLocksDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openDir(t, dir)
	_, err := Open(t.Context(), Config{DataDir: dir, Unsafe: true})
	wantError(t, err, "in use by another server", fmt.Sprint(os.Getpid()))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openDir(t, dir)
}

func TestOpenIsQuietAndClosedStoreAnswers(t *testing.T) {
	t.Parallel()
	var l logs
	s, err := Open(t.Context(), Config{DataDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&l, nil)), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Healthy(t.Context()); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := l.String(); got != "" {
		t.Errorf("opening and closing logs:\n%s", got)
	}
	wantCode(t, s.Healthy(t.Context()), mesh.ErrServiceUnavailable, "cannot be reached")
	if err := s.Follow(t.Context(), System("test"), func(Batch) {}); !errors.Is(err, ErrClosed) {
		t.Errorf("Follow on a closed store: %v", err)
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openDir(t, dir)
	w := world{t: t, s: s, c: caller("000000000001")}
	made := w.makeAll("m")
	sealed, err := s.Seal([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	w.s = openDir(t, dir)
	for _, o := range made {
		diff(t, o, w.get(o.ID))
	}
	if got, err := w.s.Unseal(sealed); err != nil || string(got) != "secret" {
		t.Errorf("after reopening: %q, %v", got, err)
	}
}

func TestEmbeddedListensNowhere(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/net/tcp"); err != nil {
		t.Skip("needs Linux's /proc:", err)
	}
	out, err := helper(t, "listeners", t.TempDir()).Output()
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "none", strings.TrimSpace(string(out)))
}

// helpListeners opens a store and prints the sockets of this process that listen.
func helpListeners(dir string) {
	s, err := Open(noContext, Config{DataDir: dir, Unsafe: true})
	fatal(err)
	fds, err := os.ReadDir("/proc/self/fd")
	fatal(err)
	var own []string
	for _, fd := range fds {
		if link, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(link, "socket:[") {
			own = append(own, strings.Trim(link, "socket:[]"))
		}
	}
	found := "none"
	// The columns of the state and of the inode, and the state of a listener.
	for file, c := range map[string]struct {
		state, inode int
		listens      string
	}{"tcp": {3, 9, "0A"}, "tcp6": {3, 9, "0A"}, "udp": {3, 9, "07"}, "unix": {3, 6, "00010000"}} {
		b, err := os.ReadFile("/proc/self/net/" + file)
		fatal(err)
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > c.inode && f[c.state] == c.listens && slices.Contains(own, f[c.inode]) {
				found = file + ": " + line
			}
		}
	}
	fatal(s.Close())
	fmt.Fprintln(os.Stdout, found)
}

// TestKill kills a server while it creates objects: each that was answered is there
// afterwards.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := helper(t, "create", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var answered []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		answered = append(answered, lines.Text())
		if len(answered) == 100 {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	if len(answered) < 100 {
		t.Fatalf("the server answered %d creates only", len(answered))
	}
	w := world{t: t, s: openDir(t, dir), c: System("test")}
	for _, name := range answered {
		w.get(w.mesh("m").Object(mesh.KindVirtualNode, "", name))
	}
}

// helpCreate creates virtual nodes and prints the names of those that were answered.
func helpCreate(dir string) {
	s, err := Open(noContext, Config{DataDir: dir})
	fatal(err)
	create := func(id mesh.ID) {
		spec, stored, bad := mesh.Decode(id.Kind, "spec", []byte(`{}`))
		if bad != nil {
			fatal(bad)
		}
		_, err := s.Create(noContext, System("test"), NewObject{ID: id, Spec: spec, Stored: stored})
		fatal(err)
	}
	m := mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "m"}
	create(m.MeshObject())
	for i := 0; ; i++ {
		name := fmt.Sprintf("node-%d", i)
		create(m.Object(mesh.KindVirtualNode, "", name))
		fmt.Fprintln(os.Stdout, name)
	}
}
