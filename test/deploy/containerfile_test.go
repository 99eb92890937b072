package deploy

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// step is one instruction of a container file.
type step struct {
	line    int
	name    string   // in capitals
	options []string // --from=build
	text    string   // what follows them
}

// stage is what stands from one FROM to the next.
type stage struct {
	base, name string
	steps      []step
}

// containerfile is a container file in its parts.
type containerfile struct {
	args   []step // before the first stage
	stages []stage
}

var option = regexp.MustCompile(`^--[a-z-]+=\S+`)

// parse reads a container file.
func parse(t *testing.T, path string) containerfile {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c containerfile
	lines := strings.Split(string(raw), "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s := step{line: i + 1}
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			line = strings.TrimSuffix(line, `\`) + " " + strings.TrimSpace(lines[i])
		}
		s.name, s.text, _ = strings.Cut(line, " ")
		s.text = strings.TrimSpace(s.text)
		for o := option.FindString(s.text); o != "" && s.name != "HEALTHCHECK"; o = option.FindString(s.text) {
			s.options, s.text = append(s.options, o), strings.TrimSpace(s.text[len(o):])
		}
		switch {
		case s.name == "FROM":
			base, name, _ := strings.Cut(s.text, " AS ")
			c.stages = append(c.stages, stage{base: base, name: name})
		case len(c.stages) == 0:
			if s.name != "ARG" {
				t.Fatalf("%s:%d: %s before the first FROM", path, s.line, s.name)
			}
			c.args = append(c.args, s)
		default:
			last := &c.stages[len(c.stages)-1]
			last.steps = append(last.steps, s)
		}
	}
	return c
}

// stage returns the stage of a name, the last one without.
func (c containerfile) stage(t *testing.T, name string) stage {
	t.Helper()
	if name == "" {
		return c.stages[len(c.stages)-1]
	}
	i := slices.IndexFunc(c.stages, func(s stage) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("there is no stage %q", name)
	}
	return c.stages[i]
}

// image is a folder that has been built as an image, with what is said about it.
type image struct {
	t       *testing.T
	root    string
	args    map[string]string
	env     map[string]string
	workdir string
	said    map[string]string // USER, ENTRYPOINT, … -> their text
	owners  map[string]string // path -> UID:GID, of what was copied with --chown
	labels  string
}

// build runs the steps of a stage in a folder. Stages that it copies from are built before,
// the context is the checkout, and base is what stands for the folder of the base image.
func (c containerfile) build(t *testing.T, name, context string, built map[string]*image, args map[string]string) *image {
	t.Helper()
	x := &image{t: t, root: t.TempDir(), args: map[string]string{}, env: map[string]string{}, workdir: "/", said: map[string]string{}, owners: map[string]string{}}
	for _, s := range c.stage(t, name).steps {
		switch s.name {
		case "ARG":
			key, value, _ := strings.Cut(s.text, "=")
			x.args[key] = value
			if v, ok := args[key]; ok {
				x.args[key] = v
			}
		case "ENV":
			for _, m := range pair.FindAllStringSubmatch(s.text, -1) {
				x.env[m[1]] = m[2]
			}
		case "WORKDIR":
			x.workdir = s.text
			x.must(os.MkdirAll(x.path(s.text), 0o755))
		case "COPY":
			x.copy(s, context, built)
		case "RUN":
			x.run(s)
		case "LABEL":
			x.labels += s.text
		case "USER", "ENTRYPOINT", "CMD", "VOLUME", "HEALTHCHECK", "STOPSIGNAL", "EXPOSE":
			x.said[s.name] = s.text
		default:
			t.Fatalf("line %d: this test does not know %s", s.line, s.name)
		}
	}
	return x
}

var pair = regexp.MustCompile(`([A-Za-z_]+)=(\S+)`)

func (x *image) must(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

// path is where a path of the image is.
func (x *image) path(p string) string {
	if !filepath.IsAbs(p) {
		p = filepath.Join(x.workdir, p)
	}
	return filepath.Join(x.root, p)
}

// systemFiles are of the image that Go comes in; here they are this machine's.
var systemFiles = []string{"/etc/ssl/certs/ca-certificates.crt"}

func (x *image) copy(s step, context string, built map[string]*image) {
	x.t.Helper()
	words := strings.Fields(s.text)
	from, to := words[:len(words)-1], words[len(words)-1]
	var source *image
	var owner string
	mode := os.FileMode(0)
	for _, o := range s.options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "--from":
			if source = built[value]; source == nil {
				x.t.Fatalf("line %d: there is no stage %q", s.line, value)
			}
		case "--chown":
			owner = value
		case "--chmod":
			n, err := strconv.ParseUint(value, 8, 32)
			x.must(err)
			mode = os.FileMode(n)
		default:
			x.t.Fatalf("line %d: this test does not know %s", s.line, o)
		}
	}
	for _, f := range from {
		if source == nil {
			// The context is looked into, not copied: the build reads and writes nothing of it.
			x.must(os.RemoveAll(x.path(".")))
			x.must(os.MkdirAll(filepath.Dir(x.path(".")), 0o755))
			x.must(os.Symlink(context, x.path(".")))
			continue
		}
		at := source.path(f)
		if slices.Contains(systemFiles, f) {
			at = f
		}
		target := to
		x.must(copyTree(at, x.path(target), mode))
		x.note(at, target, owner)
	}
}

// note writes down to whom belongs what was copied.
func (x *image) note(at, target, owner string) {
	if info, err := os.Stat(at); err == nil && info.IsDir() {
		entries, err := os.ReadDir(at)
		x.must(err)
		for _, e := range entries {
			x.owners[filepath.Join(target, e.Name())] = owner
		}
		return
	}
	x.owners[target] = owner
}

// copyTree copies a file, or what is in a folder, with its modes.
func copyTree(from, to string, mode os.FileMode) error {
	return filepath.Walk(from, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if info.IsDir() {
			if err := os.MkdirAll(target, 0o755); err != nil || rel == "." {
				return err
			}
			return os.Chmod(target, info.Mode().Perm())
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if mode == 0 {
			mode = info.Mode().Perm()
		}
		if err := os.WriteFile(target, text, mode); err != nil {
			return err
		}
		return os.Chmod(target, mode)
	})
}

// run runs a command of a stage: its folder is the stage's working directory, and paths
// below /out, where the stages put what they make, are in the stage's folder.
func (x *image) run(s step) {
	x.t.Helper()
	if strings.Contains(s.text, "go mod download") {
		return // what a go build needs is there: this test has been built of it
	}
	cmd := exec.Command("/bin/sh", "-e", "-c", strings.ReplaceAll(s.text, " /out/", " "+x.root+"/out/"))
	cmd.Dir = x.path(".")
	if target, err := os.Readlink(cmd.Dir); err == nil {
		cmd.Dir = target
	}
	cmd.Env = os.Environ()
	for _, set := range []map[string]string{x.env, x.args} {
		for key, value := range set {
			cmd.Env = append(cmd.Env, key+"="+value)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		x.t.Fatalf("line %d: %s: %v\n%s", s.line, s.text, err, out)
	}
}

// words reads the list form of ENTRYPOINT, CMD and others.
func (x *image) words(name string) []string {
	x.t.Helper()
	var out []string
	text := x.said[name]
	if name == "HEALTHCHECK" {
		_, text, _ = strings.Cut(text, "CMD ")
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		x.t.Fatalf("%s %s is not a list, so it would need a shell: %v", name, text, err)
	}
	return out
}

// has fails the test unless a path is there with a mode and an owner.
func (x *image) has(path string, mode os.FileMode, owner string) {
	x.t.Helper()
	info, err := os.Stat(x.path(path))
	switch {
	case err != nil:
		x.t.Error(err)
	case info.Mode().Perm() != mode || x.owners[path] != owner:
		x.t.Errorf("%s has mode %s and belongs to %s, want %s and %s", path, info.Mode().Perm(), x.owners[path], mode, owner)
	}
}

// label fails the test unless there is a label with a text.
func (x *image) label(name, value string) {
	x.t.Helper()
	if text := strings.ReplaceAll(x.labels, "${VERSION}", x.args["VERSION"]); !strings.Contains(text, fmt.Sprintf("org.opencontainers.image.%s=%q", name, value)) {
		x.t.Errorf("there is no label %s=%q in %s", name, value, text)
	}
}
