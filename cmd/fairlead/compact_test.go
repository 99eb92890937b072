package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

// fairlead runs a command in this process.
func fairlead(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

// litter writes and deletes some MiB in an etcd, outside of what is Fairlead's.
func litter(t *testing.T, c *clientv3.Client) {
	t.Helper()
	value := strings.Repeat("x", 256<<10)
	for i := range 48 {
		if _, err := c.Put(t.Context(), fmt.Sprint("litter/", i%3), value); err != nil {
			t.Fatal(err)
		}
	}
}

func etcdClient(t *testing.T, endpoints ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestCompactThreeMembers makes the three members of an etcd smaller while they are written
// to, the leader last.
func TestCompactThreeMembers(t *testing.T) {
	t.Parallel()
	e := meshtest.StartEtcd(t, 3)
	c := etcdClient(t, e.Endpoints...)
	litter(t, c)
	old, err := c.Get(t.Context(), "litter/0")
	if err != nil {
		t.Fatal(err)
	}
	at := "--etcd-endpoints=" + strings.Join(e.Endpoints, ",")
	if code, _, errs := fairlead(t, "compact", "--etcd-endpoints", e.Endpoints[0]); code != 1 || !strings.Contains(errs, "does not answer") || !strings.Contains(errs, "Nothing was changed; name all members in --etcd-endpoints") {
		t.Errorf("with two that cannot be found: exit %d, %q", code, errs)
	}
	code, out, errs := fairlead(t, "compact", "--no-defragment", at)
	if code != 0 || !regexp.MustCompile(`^what was there before revision \d+ is forgotten\n$`).MatchString(out) {
		t.Fatalf("exit %d, %q, %q", code, out, errs)
	}
	if _, err := c.Get(t.Context(), "litter/0", clientv3.WithRev(old.Kvs[0].ModRevision-10)); err == nil {
		t.Error("the history is still there")
	}
	before := statuses(t, c, e)
	code, out, errs = fairlead(t, "compact", "--keep-history", at)
	if code != 0 || errs != "" {
		t.Fatalf("exit %d, %q, %q", code, out, errs)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	form := regexp.MustCompile(`^member m\d( \(the leader\))?: (\d+\.\d) MiB before, \d\.\d MiB now, stood still for [0-9.]+m?s$`)
	for i, l := range lines {
		if m := form.FindStringSubmatch(l); m == nil || (m[1] != "") != (i == 2) {
			t.Errorf("line %d: %q", i, l)
		}
	}
	for i, after := range statuses(t, c, e) {
		if len(lines) != 3 || after.DbSize > before[i].DbSize/4 {
			t.Errorf("%s: %d bytes before, %d now", e.Endpoints[i], before[i].DbSize, after.DbSize)
		}
	}
	if now, err := c.Get(t.Context(), "litter/0"); err != nil || !bytes.Equal(now.Kvs[0].Value, old.Kvs[0].Value) {
		t.Errorf("what is not old has changed: %v", err)
	}
}

func statuses(t *testing.T, c *clientv3.Client, e *meshtest.Etcd) (all []*clientv3.StatusResponse) {
	t.Helper()
	for _, at := range e.Endpoints {
		s, err := c.Status(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// TestCompactEndsAlarm gets an etcd out of its alarm.
func TestCompactEndsAlarm(t *testing.T) {
	t.Parallel()
	e := meshtest.StartEtcd(t, 3)
	c := etcdClient(t, e.Endpoints...)
	litter(t, c)
	s := statuses(t, c, e)
	if _, err := c.Do(t.Context(), clientv3.OpPut("x", "x")); err != nil {
		t.Fatal(err)
	}
	e.RaiseAlarm(t, s[0].Header.MemberId)
	if _, err := c.Put(t.Context(), "x", "x"); err == nil {
		t.Fatal("there is no alarm")
	}
	code, out, errs := fairlead(t, "compact", "--etcd-endpoints", strings.Join(e.Endpoints, ","))
	if code != 0 || !strings.Contains(out, "etcd was full: its alarm was ended") {
		t.Fatalf("exit %d, %q, %q", code, out, errs)
	}
	if _, err := c.Put(t.Context(), "x", "x"); err != nil {
		t.Error(err)
	}
}

func TestCompactRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{nil, 2, "--data-dir is required (or --etcd-endpoints"},
		{[]string{"--data-dir", "x", "--keep-history", "--no-defragment"}, 2, "leave nothing to do"},
		{[]string{"--data-dir", filepath.Join(t.TempDir(), "none")}, 1, "holds no store"},
	} {
		code, _, errs := fairlead(t, append([]string{"compact"}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.says) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: exit %d, %q", c.args, code, errs)
		}
	}
}

// TestCompactEmbedded makes an embedded store smaller while its server is stopped.
func TestCompactEmbedded(t *testing.T) {
	t.Parallel()
	var cfg server.Config
	p := meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) { cfg = *c }})
	dir := cfg.Store.DataDir
	if code, _, errs := fairlead(t, "compact", "--data-dir", dir); code != 1 || !strings.Contains(errs, "in use by another server") {
		t.Errorf("while the server runs: exit %d, %q", code, errs)
	}
	p.Stop(t)
	code, out, errs := fairlead(t, "compact", "--data-dir", dir)
	if code != 0 || !strings.Contains(out, "member fairlead (the leader): ") || !strings.Contains(out, "is forgotten") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	p.Run(t)
}
