package cli

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

var pruned = flag.Int("pruned", 12, "how many random meshes TestPruneRandom makes of one another")

// TestPruneRandom makes a mesh on a server into one random mesh after the other, with all
// fields and protocols. Each must come about, though one may have to be asked for with
// Replace; then nothing has been changed before. No step may be one that the server refuses,
// and doing it again changes nothing.
func TestPruneRandom(t *testing.T) {
	t.Parallel()
	plane := meshtest.StartWith(t, meshtest.Options{Quotas: meshtest.MostQuotas()})
	u := newUser(t, plane)
	asked := 0
	for seed := range uint64(*pruned) {
		text := oddMesh(t, seed)
		if seed >= uint64(*pruned)/2 {
			text = denseMesh(t, seed)
		}
		cfg := FilesConfig{Paths: []string{"-"}, Prune: true}
		var before string
		if seed > 0 {
			before = u.get("test", FormJSON)
		}
		_, err := u.does(text, func(term Terminal) error { return Apply(t.Context(), u.Session, term, cfg) })
		var replace *ReplaceError
		if errors.As(err, &replace) {
			asked++
			if diff := cmp.Diff(before, u.get("test", FormJSON)); diff != "" {
				t.Errorf("mesh %d: what was refused changes something:\n%s", seed, diff)
			}
			if u.differs(text, true) == "" {
				t.Fatalf("mesh %d: %v, but it is there", seed, err)
			}
			cfg.Replace = true
			err = nil
			u.apply(text, cfg)
		}
		if err != nil {
			t.Fatalf("mesh %d: %v", seed, err)
		}
		if out := u.differs(text, true); out != "" {
			t.Errorf("mesh %d: after apply, diff shows:\n%s", seed, out)
		}
		before = u.get("test", FormJSON)
		want := plural(len(documentsOf(t, text)), "unchanged", "unchanged") + "\n"
		if out := u.apply(text, FilesConfig{Prune: true}); !strings.HasSuffix(out, "\n"+want) || strings.Count(out, " unchanged\n") != strings.Count(out, "\n") {
			t.Errorf("mesh %d: the second apply prints\n%s", seed, out)
		}
		if diff := cmp.Diff(before, u.get("test", FormJSON)); diff != "" {
			t.Errorf("mesh %d: the second apply changes something:\n%s", seed, diff)
		}
	}
	u.noneRefused()
	t.Logf("%d of %d wanted Replace", asked, *pruned)
}

// turned is a mesh whose route and router have a protocol.
func turned(protocol, match string) string {
	return fmt.Sprintf(`[
		{"kind": "Mesh", "name": "m", "spec": {}},
		{"kind": "VirtualNode", "mesh": "m", "name": "n", "spec": {}},
		{"kind": "VirtualRouter", "mesh": "m", "name": "r", "spec": {"listeners": [{"portMapping": {"port": 80, "protocol": %[1]q}}]}},
		{"kind": "Route", "mesh": "m", "virtualRouter": "r", "name": "x", "tags": {"team": "t"},
		 "spec": {"%[1]sRoute": {"match": %[2]s, "action": {"weightedTargets": [{"virtualNode": "n", "weight": 1}]}}}}]`, protocol, match)
}

// TestReplaceRefused has a route and its router change their protocol on the same port. That
// is refused before anything is changed, unless it is allowed.
func TestReplaceRefused(t *testing.T) {
	t.Parallel()
	u := newUser(t, meshtest.Start(t))
	one, two := turned("http", `{"prefix": "/"}`), turned("grpc", "{}")
	u.apply(one, FilesConfig{})
	before := u.get("m", FormJSON)
	for _, dry := range []bool{true, false} {
		_, err := u.does(two, func(term Terminal) error {
			return Apply(t.Context(), u.Session, term, FilesConfig{Paths: []string{"-"}, DryRun: dry})
		})
		var e *ReplaceError
		if !errors.As(err, &e) || len(e.refs) != 1 || !strings.Contains(err.Error(), "mesh/m/virtualRouter/r/route/x") || !strings.Contains(err.Error(), "--replace") {
			t.Errorf("without consent: %v", err)
		}
	}
	if diff := cmp.Diff(before, u.get("m", FormJSON)); diff != "" {
		t.Errorf("what was refused has changed something:\n%s", diff)
	}
	if out := u.apply(two, FilesConfig{Replace: true}); !strings.Contains(out, "route/x replaced: deleted and made anew\n") {
		t.Errorf("apply prints\n%s", out)
	}
	if out := u.differs(two, true); out != "" {
		t.Errorf("after apply, diff shows:\n%s", out)
	}
}

// TestStuck takes all listeners from a router that has a route which no document has. The
// server would refuse that, whatever the order: nothing is begun.
func TestStuck(t *testing.T) {
	t.Parallel()
	u := newUser(t, meshtest.Start(t))
	u.apply(turned("http", `{"prefix": "/"}`), FilesConfig{})
	before := u.get("m", FormJSON)
	_, err := u.does(`[{"kind": "VirtualRouter", "mesh": "m", "name": "r", "spec": {}}, {"kind": "VirtualNode", "mesh": "m", "name": "new", "spec": {}}]`,
		func(term Terminal) error {
			return Apply(t.Context(), u.Session, term, FilesConfig{Paths: []string{"-"}, Replace: true})
		})
	const want = "mesh/m/virtualRouter/r cannot be changed step by step, as mesh/m/virtualRouter/r/route/x would not fit in between " +
		"and no document has it, so that it is not touched; nothing was changed"
	var stuck *StuckError
	if !errors.As(err, &stuck) || err.Error() != want {
		t.Errorf("apply returns %v", err)
	}
	if diff := cmp.Diff(before, u.get("m", FormJSON)); diff != "" {
		t.Errorf("what was refused has changed something:\n%s", diff)
	}
}

// TestPutBack lets the step fail that a route was deleted for: a user who may not update
// routers. The route is put back, with its tags.
func TestPutBack(t *testing.T) {
	t.Parallel()
	plane := meshtest.Start(t)
	root := newUser(t, plane)
	one, two := turned("http", `{"prefix": "/"}`), turned("grpc", "{}")
	root.apply(one, FilesConfig{})
	before := root.get("m", FormYAML)
	policy := `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": "appmesh:*", "Resource": "*"},
		{"Effect": "Deny", "Action": "appmesh:UpdateVirtualRouter", "Resource": "*"}]}`
	plane.Creds = plane.Signed(t).User(t, "half", policy)
	half := newUser(t, plane)
	_, err := half.does(two, func(term Terminal) error {
		return Apply(t.Context(), half.Session, term, FilesConfig{Paths: []string{"-"}, Replace: true})
	})
	var failed *FailedError
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "virtualRouter/r/route/x not tried: it needs mesh/m/virtualRouter/r (it was deleted to be made anew, and is put back as it was)\n") {
		t.Errorf("apply returns %v", err)
	}
	if diff := cmp.Diff(before, root.get("m", FormYAML)); diff != "" {
		t.Errorf("what failed has changed something:\n%s", diff)
	}
}

// TestPruneFull makes other routes of a router for which the quota leaves no room: what is
// to go goes all the same, so that the second apply has room.
func TestPruneFull(t *testing.T) {
	t.Parallel()
	plane := meshtest.Start(t)
	plane.SetQuota(t, meshtest.Account, "routes", 2)
	u := newUser(t, plane)
	text := func(routes ...string) string {
		docs := `{"kind": "Mesh", "name": "m"}, {"kind": "VirtualNode", "mesh": "m", "name": "n", "spec": {}}, {"kind": "VirtualRouter", "mesh": "m", "name": "r", "spec": {}}`
		for _, r := range routes {
			docs += fmt.Sprintf(`, {"kind": "Route", "mesh": "m", "virtualRouter": "r", "name": %q, "spec": {"tcpRoute": {"action": {"weightedTargets": [{"virtualNode": "n", "weight": 1}]}}}}`, r)
		}
		return "[" + docs + "]"
	}
	u.apply(text("a", "b"), FilesConfig{})
	_, err := u.does(text("c", "d"), func(term Terminal) error {
		return Apply(t.Context(), u.Session, term, FilesConfig{Paths: []string{"-"}, Prune: true})
	})
	if err == nil || !strings.Contains(err.Error(), codeLimit) {
		t.Fatalf("four routes where there is room for two: %v", err)
	}
	u.apply(text("c", "d"), FilesConfig{Prune: true})
}
