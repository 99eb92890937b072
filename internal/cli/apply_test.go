package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

var meshes = flag.Int("meshes", 6, "how many random meshes TestRandomMeshes takes through apply")

// user is somebody with a terminal and a server.
type user struct {
	*Session
	t   *testing.T
	dir string
}

func newUser(t *testing.T, p *meshtest.Plane) *user {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", p.Creds.AccessKeyID, p.Creds.SecretAccessKey)
	if err := os.WriteFile(filepath.Join(dir, "credentials"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Connect(t.Context(), Options{Endpoint: "http://" + p.Addrs.API, Region: meshtest.Region, CredentialsFile: filepath.Join(dir, "credentials")})
	if err != nil {
		t.Fatal(err)
	}
	return &user{s, t, dir}
}

// does calls a command with some input, and returns its output and error.
func (u *user) does(input string, f func(Terminal) error) (string, error) {
	var out, errs bytes.Buffer
	err := f(Terminal{In: strings.NewReader(input), Out: &out, Err: &errs})
	if err != nil && errs.Len() > 0 {
		err = fmt.Errorf("%s%w", errs.String(), err)
	}
	return out.String(), err
}

// must calls a command that has to succeed.
func (u *user) must(input string, f func(Terminal) error) string {
	u.t.Helper()
	out, err := u.does(input, f)
	if err != nil {
		u.t.Fatalf("%v\ninput:\n%s", err, input)
	}
	return out
}

func (u *user) apply(input string, cfg FilesConfig) string {
	u.t.Helper()
	cfg.Paths = []string{"-"}
	return u.must(input, func(t Terminal) error { return Apply(u.t.Context(), u.Session, t, cfg) })
}

// differs returns what Diff prints.
func (u *user) differs(input string, prune bool) string {
	u.t.Helper()
	out, err := u.does(input, func(t Terminal) error {
		return Diff(u.t.Context(), u.Session, t, FilesConfig{Paths: []string{"-"}, Prune: prune})
	})
	if (err == nil) != (out == "") || err != nil && !errors.Is(err, ErrDifferent) {
		u.t.Fatalf("diff prints %q and returns %v", out, err)
	}
	return out
}

func (u *user) get(meshName, form string) string {
	u.t.Helper()
	return u.must("", func(t Terminal) error {
		return Get(u.t.Context(), u.Session, t, Selection{Scope: Scope{Mesh: meshName}, All: true, Output: form})
	})
}

// TestRandomMeshes makes random meshes out of one another, with all their kinds, ports and
// protocols. Apply, diff and get must agree at each step, and no step of apply may be one that
// the server refuses.
func TestRandomMeshes(t *testing.T) {
	t.Parallel()
	plane := meshtest.Start(t)
	t.Run("meshes", func(t *testing.T) {
		for seed := range *meshes {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				roundTrip(newUser(t, plane), uint64(seed))
			})
		}
	})
	newUser(t, plane).noneRefused()
}

// noneRefused fails the test if the server has refused anything.
func (u *user) noneRefused() {
	u.t.Helper()
	refused := 0
	for raw, err := range u.own.AllEvents(u.t.Context(), &client.ListEventsInput{}) {
		if err != nil {
			u.t.Fatal(err)
		}
		var e event
		if err := json.Unmarshal(raw, &e); err != nil {
			u.t.Fatal(err)
		}
		if e.ErrorCode != "" && e.ErrorCode != codeNotFound {
			refused++
			u.t.Errorf("refused: %s", raw)
		}
		if refused > 5 {
			break
		}
	}
}

func roundTrip(u *user, seed uint64) {
	name := fmt.Sprintf("mesh-%d", seed)
	first := newGenerator(seed, name).documents()
	u.apply(file(first), FilesConfig{})
	u.holds(name, first)
	text := u.get(name, FormYAML)
	if out := u.differs(text, true); out != "" {
		u.t.Errorf("what get prints differs from what is there:\n%s", out)
	}
	for step := range uint64(3) {
		docs := newGenerator(seed*1000+step, name).documents()
		before := u.get(name, FormJSON)
		planned := u.apply(file(docs), FilesConfig{Prune: true, Replace: true, DryRun: true})
		if diff := cmp.Diff(before, u.get(name, FormJSON)); diff != "" {
			u.t.Errorf("a dry run has changed something:\n%s", diff)
		}
		done := u.apply(file(docs), FilesConfig{Prune: true, Replace: true, Parallel: 3})
		planned = strings.ReplaceAll(strings.ReplaceAll(planned, " (dry run)", ""), "; dry run: nothing was changed", "")
		if diff := cmp.Diff(planned, done); diff != "" {
			u.t.Errorf("what was done is not what the dry run told (-told +done):\n%s", diff)
		}
		if out := u.differs(file(docs), true); out != "" {
			u.t.Errorf("after apply, diff shows:\n%s", out)
		}
		u.holds(name, docs)
	}
	u.clear(name, text)
	u.apply(text, FilesConfig{})
	if diff := cmp.Diff(text, u.get(name, FormYAML)); diff != "" {
		u.t.Errorf("get prints something else for the same mesh (-first +now):\n%s", diff)
	}
	u.clear(name, text)
}

// clear deletes a mesh with all that text, a file, and the server have of it.
func (u *user) clear(name, text string) {
	u.t.Helper()
	for _, input := range []string{u.get(name, FormYAML), text} {
		u.must(input, func(t Terminal) error {
			return Delete(u.t.Context(), u.Session, t, Removal{FilesConfig: FilesConfig{Paths: []string{"-"}}})
		})
	}
	m, err := Scope{Mesh: name}.within()
	if err != nil {
		u.t.Fatal(err)
	}
	if _, err := u.describe(u.t.Context(), m); !isNotFound(err) {
		u.t.Errorf("after delete, the mesh is described: %v", err)
	}
}

// holds checks that a mesh has exactly the objects and specs of documents.
func (u *user) holds(name string, docs []doc) {
	u.t.Helper()
	expected, err := want(docs)
	if err != nil {
		u.t.Fatal(err)
	}
	inv := newInventory(u.Session, 0)
	objects, err := inv.everything(u.t.Context(), Selection{Scope: Scope{Mesh: name}})
	if err != nil {
		u.t.Fatal(err)
	}
	if objects, err = inv.filled(u.t.Context(), objects, false); err != nil {
		u.t.Fatal(err)
	}
	got := map[string]any{}
	for _, o := range objects {
		var v any
		if err := json.Unmarshal(o.Spec, &v); err != nil {
			u.t.Fatal(err)
		}
		got[o.Key.String()] = v
	}
	// A list without members is no change: what was there stays.
	for _, side := range []map[string]any{expected, got} {
		for k, v := range side {
			side[k] = withoutEmpty(v)
		}
	}
	if diff := cmp.Diff(expected, got); diff != "" {
		u.t.Errorf("specs (-wanted +got):\n%s", diff)
	}
}
