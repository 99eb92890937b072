package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/backup"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/zipped"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

// stopped is an embedded store whose server has ended, with two accounts that have a mesh
// each.
type stopped struct {
	t        *testing.T
	dir, key string
	// file is a backup of it.
	file string
	want []string // its entries
}

func newStopped(t *testing.T) *stopped {
	t.Helper()
	var cfg server.Config
	p := meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) { cfg = *c }})
	s := newScript(t, p)
	s.write("shop.yaml", "kind: Mesh\nname: shop\nspec: {}\n")
	for _, command := range []string{"apply -f DIR/shop.yaml", "account create second --id 000000000002"} {
		if out := s.command(command); strings.Contains("\n"+out, "\n? ") {
			t.Fatalf("fairlead %s: %s", command, out)
		}
	}
	p.Stop(t)
	x := &stopped{t: t, dir: cfg.Store.DataDir, key: filepath.Join(cfg.Store.DataDir, "seal.key"), file: filepath.Join(t.TempDir(), "backup")}
	x.must("backup", x.file, "--direct", "--data-dir", x.dir)
	x.want = entriesOf(t, x.file)
	return x
}

// must runs a command that is to succeed.
func (x *stopped) must(args ...string) string {
	x.t.Helper()
	code, out, errs := fairlead(x.t, args...)
	if code != 0 {
		x.t.Fatalf("fairlead %s: exit %d, %s", strings.Join(args, " "), code, errs)
	}
	return out
}

// refused runs a command that is to fail with one line.
func (x *stopped) refused(says string, args ...string) {
	x.t.Helper()
	code, out, errs := fairlead(x.t, args...)
	if code != 1 || out != "" || !strings.Contains(errs, says) || strings.Count(errs, "\n") != 1 {
		x.t.Errorf("fairlead %s: exit %d, %q, %q, want one line with %q", strings.Join(args, " "), code, out, errs, says)
	}
}

// outside are the flags of a command that is about an external etcd.
func (x *stopped) outside(e *meshtest.Etcd) []string {
	return []string{"--etcd-endpoints", strings.Join(e.Endpoints, ","), "--seal-key", x.key, "--log-level", "error"}
}

// entries returns what a store holds, as a backup has it.
func (x *stopped) entries(place ...string) []string {
	x.t.Helper()
	file := filepath.Join(x.t.TempDir(), "again")
	x.must(append([]string{"backup", file, "--direct"}, place...)...)
	return entriesOf(x.t, file)
}

// entriesOf returns the lines of a backup between its first and its last.
func entriesOf(t *testing.T, file string) []string {
	t.Helper()
	all := backupLines(t, file)
	return all[1 : len(all)-1]
}

func (x *stopped) wantEntries(want []string, place ...string) {
	x.t.Helper()
	if d := cmp.Diff(want, x.entries(place...)); d != "" {
		x.t.Errorf("(-want +got)\n%s", d)
	}
}

// rewritten writes the backup with another header and n more entries.
func (x *stopped) rewritten(n int, change func(*backup.Header)) string {
	x.t.Helper()
	in, err := os.Open(x.file)
	if err != nil {
		x.t.Fatal(err)
	}
	defer in.Close()
	r, err := backup.NewReader(in)
	if err != nil {
		x.t.Fatal(err)
	}
	change(&r.Header)
	path := filepath.Join(x.t.TempDir(), "rewritten")
	err = backup.WriteFile(path, func(to io.Writer) error {
		w, err := backup.NewWriter(to, r.Header)
		if err != nil {
			return err
		}
		for {
			e, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = w.Write(e)
			}
			if err != nil {
				return err
			}
		}
		for i := range n {
			if err := w.Write(backup.NewEntry(fmt.Sprintf("fairlead/zz/%07d", i), bytes.Repeat([]byte("x"), 2000))); err != nil {
				return err
			}
		}
		_, err = w.Close()
		return err
	})
	if err != nil {
		x.t.Fatal(err)
	}
	return path
}

// killed runs a command in a process of its own, and kills it as soon as a condition holds.
func (x *stopped) killed(when func() bool, args ...string) {
	x.t.Helper()
	program, err := os.Executable()
	if err != nil {
		x.t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	var out bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), asCommand+"=1"), &out, &out
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	meshtest.Eventually(x.t, "the moment to kill the command", func() error {
		if when() {
			return nil
		}
		return fmt.Errorf("not yet")
	})
	if err := cmd.Process.Kill(); err != nil {
		x.t.Fatal(err)
	}
	<-ended
	if cmd.ProcessState.Exited() {
		x.t.Fatalf("fairlead %s ended before it was killed: %s", strings.Join(args, " "), out.String())
	}
}

// TestRestoreMovesToEtcd puts an embedded store into an etcd of three members, and brings
// one account back there while another's changes stay.
func TestRestoreMovesToEtcd(t *testing.T) {
	t.Parallel()
	x := newStopped(t)
	e := meshtest.StartEtcd(t, 3)
	outside := x.outside(e)
	c := etcdClient(t, e.Endpoints...)
	revision := func() int64 {
		t.Helper()
		r, err := c.Get(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		return r.Header.Revision
	}
	restore := append([]string{"restore", x.file}, outside...)
	before := revision()
	if out := x.must(append(restore, "--dry-run")...); !strings.Contains(out, "the backup can be restored") {
		t.Errorf("%q", out)
	}
	x.refused("holds no store that account 000000000002 could be put into", append(restore, "--account-id", "000000000002")...)
	if now := revision(); now != before {
		t.Errorf("a dry run and a refusal wrote: revision %d, before %d", now, before)
	}
	if _, err := c.Put(t.Context(), "others", "stays"); err != nil {
		t.Fatal(err)
	}
	x.must(restore...)
	x.wantEntries(x.want, outside...)
	x.refused("holds a store already: say --replace", restore...)

	put := func(key, value string) string {
		t.Helper()
		if _, err := c.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"key":%q,"text":%q}`, key, value)
	}
	put("fairlead/setting/quota/000000000002", `{"format":1}`)
	put("fairlead/record/iam/000000000002/user/new", "made later")
	later := put("fairlead/record/iam/000000000001/user/zz", "made later")
	one := append(restore, "--account-id", "000000000002")
	x.refused("the store has account 000000000002 already: say --replace", one...)
	changed := x.entries(outside...)
	at := revision()
	x.must(append(one, "--replace", "--dry-run")...)
	if now := revision(); now != at {
		t.Errorf("a dry run wrote: revision %d, before %d", now, at)
	}
	x.wantEntries(changed, outside...)
	x.must(append(one, "--replace")...)
	var kept []string
	for _, line := range x.entries(outside...) {
		if line != later {
			kept = append(kept, line)
		}
	}
	if d := cmp.Diff(x.want, kept); d != "" || len(kept)+1 != len(x.entries(outside...)) {
		t.Errorf("(-want +got, without what another account made later)\n%s", d)
	}
	if r, err := c.Get(t.Context(), "others"); err != nil || len(r.Kvs) != 1 {
		t.Errorf("what others have in etcd is gone: %v", err)
	}
	fresh := filepath.Join(t.TempDir(), "back")
	if err := os.MkdirAll(fresh, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "outside")
	x.must(append([]string{"backup", file, "--direct", "--with-seal-key"}, outside...)...)
	x.must("restore", file, "--data-dir", fresh)
	x.wantEntries(entriesOf(t, file), "--data-dir", fresh)
}

// TestRestoreRefusesFiles checks that a file that cannot be restored changes nothing, in
// either kind of store.
func TestRestoreRefusesFiles(t *testing.T) {
	t.Parallel()
	x := newStopped(t)
	outside := x.outside(meshtest.StartEtcd(t, 1))
	x.must(append([]string{"restore", x.file}, outside...)...)
	good, err := os.ReadFile(x.file)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(good)/2] ^= 1
	files := map[string]string{
		"its documents have formats up to 9":          x.rewritten(0, func(h *backup.Header) { h.StoreFormat = 9 }),
		"the backup's secrets are sealed under 00000": x.rewritten(0, func(h *backup.Header) { h.SealKeyID = "00000" }),
	}
	for says, raw := range map[string][]byte{
		"the file is damaged":                     good[:len(good)*2/3],
		"the file is damaged ":                    flipped,
		"it was cut off":                          good[:len(good)-9],
		"not a file that fairlead backup wrote":   []byte("hello"),
		"its format is 2, this build of Fairlead": zipped.Replace(t, good, `"format":1`, `"format":2`),
		"the checksum does not fit what is in it": zipped.Replace(t, good, "shop", "shoq"),
	} {
		file := filepath.Join(t.TempDir(), "bad")
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		files[says] = file
	}
	for says, file := range files {
		for _, place := range [][]string{outside, {"--data-dir", x.dir}} {
			for _, more := range [][]string{{"--replace"}, {"--replace", "--dry-run"}} {
				x.refused(strings.TrimSpace(says), append(append([]string{"restore", file}, place...), more...)...)
			}
		}
	}
	x.wantEntries(x.want, outside...)
	x.wantEntries(x.want, "--data-dir", x.dir)
}

// TestRestoreKilled kills a restore in the middle. An embedded store is what it was; on an
// external one nothing starts before it has been restored to the end.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	x := newStopped(t)
	large := x.rewritten(20_000, func(*backup.Header) {}) // restoring it takes a while

	t.Run("embedded", func(t *testing.T) {
		built := filepath.Join(x.dir, "restoring", "etcd", "member")
		x.killed(func() bool { _, err := os.Stat(built); return err == nil }, "restore", large, "--replace", "--data-dir", x.dir)
		if _, err := os.Stat(built); err != nil {
			t.Errorf("it was killed too late: %v", err)
		}
		x.wantEntries(x.want, "--data-dir", x.dir)
		x.must("restore", large, "--replace", "--data-dir", x.dir)
		x.wantEntries(entriesOf(t, large), "--data-dir", x.dir)
		if left, _ := filepath.Glob(filepath.Join(x.dir, "rest*")); len(left) > 0 {
			t.Errorf("it left %v", left)
		}
	})
	t.Run("external", func(t *testing.T) {
		e := meshtest.StartEtcd(t, 1)
		outside := x.outside(e)
		x.must(append([]string{"restore", x.file}, outside...)...)
		c := etcdClient(t, e.Endpoints...)
		some := func() bool {
			r, err := c.Get(t.Context(), "fairlead/zz/", clientv3.WithPrefix(), clientv3.WithCountOnly())
			return err == nil && r.Count > 0
		}
		restore := append([]string{"restore", large}, outside...)
		x.killed(some, append(restore, "--replace")...)
		says := "a restore of all accounts, begun at "
		x.refused(says, append([]string{"backup", filepath.Join(t.TempDir(), "half"), "--direct"}, outside...)...)
		x.refused(says, append([]string{"recover", "--credentials-file", filepath.Join(t.TempDir(), "c")}, outside...)...)
		x.refused(says, append([]string{"server", "--audit-file", "off", "--peer-listen", "off", "--api-listen", "127.0.0.1:0", "--xds-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"}, outside...)...)
		x.refused("another restore (of all accounts) was begun at", append(restore, "--account-id", "000000000002", "--replace")...)
		x.must(restore...)
		x.wantEntries(entriesOf(t, large), outside...)
	})
}
