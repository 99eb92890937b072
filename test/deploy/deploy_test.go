// Package deploy checks the files in deploy: the steps of the container files are run in a
// folder, the units are verified by systemd, and the samples are read by what reads them.
package deploy

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/fairlead-mesh/fairlead/internal/agent"
	"github.com/fairlead-mesh/fairlead/internal/agent/ecs"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// checkout is the folder of the project.
func checkout(t *testing.T) string {
	t.Helper()
	root, err := meshtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func read(t *testing.T, name ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{checkout(t), "deploy"}, name...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const version = "1.2.3"

// buildImage builds an image as its file says, up to a stage.
func buildImage(t *testing.T, file, target string) (containerfile, *image) {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command")
	}
	if _, err := os.Stat(systemFiles[0]); err != nil {
		t.Skip(err)
	}
	root := checkout(t)
	c := parse(t, filepath.Join(root, "deploy", "containers", file))
	args := map[string]string{"VERSION": version, "TARGETARCH": runtime.GOARCH}
	build := c.build(t, "build", root, nil, args)
	return c, c.build(t, target, root, map[string]*image{"build": build}, args)
}

// runs fails the test unless the program is static and says its version: as root it runs
// with nothing but the image around it, as the image's user.
func (x *image) runs(program string, uid uint32) {
	t := x.t
	t.Helper()
	f, err := elf.Open(x.path(program))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Errorf("%s is not static", program)
		}
	}
	cmd := exec.Command(x.path(program), versionArgument(program))
	if os.Geteuid() == 0 {
		for dir := x.root; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
			x.must(os.Chmod(dir, 0o755))
		}
		cmd = &exec.Cmd{Path: program, Args: []string{program, versionArgument(program)}, Dir: "/", Env: []string{}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: x.root, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), version) {
		t.Errorf("%s says %q, %v, want %s", program, out, err, version)
	}
}

func versionArgument(program string) string {
	if strings.HasSuffix(program, "/fairlead") {
		return "--version"
	}
	return "version"
}

func TestEnvoyImage(t *testing.T) {
	t.Parallel()
	c, x := buildImage(t, "envoy.Dockerfile", "")
	const program = "/usr/local/bin/fairlead-agent"
	x.has(program, 0o755, "0:0")
	x.has("/etc/ssl/certs/ca-certificates.crt", 0o644, "0:0")
	x.has(ecs.CacheDir, 0o700, "1337:1337")
	x.runs(program, 1337)
	for name, want := range map[string][]string{
		"ENTRYPOINT": {program}, "CMD": {"run"}, "VOLUME": {ecs.CacheDir}, "HEALTHCHECK": {program, "ready"},
	} {
		if got := x.words(name); !slices.Equal(got, want) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if x.said["USER"] != "1337:1337" || x.said["STOPSIGNAL"] != "SIGTERM" {
		t.Errorf("USER is %q and STOPSIGNAL %q", x.said["USER"], x.said["STOPSIGNAL"])
	}
	x.label("version", version)
	x.label("licenses", "Apache-2.0")
	noShell(t, c.stage(t, ""))
	// The user's own Envoy can take the place of the one that is tested.
	if base := c.stage(t, "").base; base != "${ENVOY_IMAGE}" {
		t.Errorf("the image is made of %s", base)
	}
	pinned(t, c)
	// The binary is small, for it runs beside every workload.
	if info, err := os.Stat(x.path(program)); err != nil || info.Size() > 20<<20 {
		t.Errorf("the agent has %d bytes, %v; 20 MiB are allowed", info.Size(), err)
	}
}

func TestControlPlaneImage(t *testing.T) {
	t.Parallel()
	c, x := buildImage(t, "fairlead.Dockerfile", "")
	const program = "/usr/local/bin/fairlead"
	x.has(program, 0o755, "0:0")
	x.has("/var/lib/fairlead", 0o700, "65532:65532")
	x.runs(program, 65532)
	noShell(t, c.stage(t, ""))
	pinned(t, c)
	x.label("version", version)
	if x.said["USER"] != "65532:65532" {
		t.Errorf("USER is %q", x.said["USER"])
	}
	// Its command starts, and says that a certificate is missing: it never serves without.
	argv := append(x.words("ENTRYPOINT"), x.words("CMD")...)
	cmd := exec.Command(x.path(argv[0]), append(argv[1:len(argv)-1], filepath.Join(t.TempDir(), "data"))...)
	for key, value := range x.env {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/etc/fairlead/tls/tls.crt") || strings.Count(string(out), "\n") != 1 {
		t.Errorf("without a certificate it says %q, %v", out, err)
	}
}

func TestInterceptImages(t *testing.T) {
	t.Parallel()
	c, x := buildImage(t, "intercept.Dockerfile", "init")
	x.has("/usr/local/bin/fairlead-agent", 0o755, "0:0")
	x.runs("/usr/local/bin/fairlead-agent", 0)
	if got := append(x.words("ENTRYPOINT"), x.words("CMD")...); !slices.Equal(got, []string{"/usr/local/bin/fairlead-agent", "intercept", "enable"}) {
		t.Errorf("it runs %q", got)
	}
	noShell(t, c.stage(t, "init"))
	pinned(t, c)
	// The plugin's image has a shell, by which the plugin is put where the runtime looks.
	_, x = buildImage(t, "intercept.Dockerfile", "cni")
	host := t.TempDir()
	bin := filepath.Join(host, "opt", "cni", "bin")
	x.must(os.MkdirAll(bin, 0o755))
	script := strings.NewReplacer("/host/", host+"/", "/usr/local/bin/", x.path("/usr/local/bin")+"/").Replace(x.words("ENTRYPOINT")[2])
	if out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	entries, err := os.ReadDir(bin)
	if err != nil || len(entries) != 1 || entries[0].Name() != "fairlead-cni" {
		t.Errorf("in the host's folder are %v, %v", entries, err)
	}
}

// noShell fails the test if a stage needs a shell: its base has none.
func noShell(t *testing.T, s stage) {
	t.Helper()
	for _, x := range s.steps {
		if x.name == "RUN" || x.name == "SHELL" {
			t.Errorf("line %d: %s in an image without a shell", x.line, x.name)
		}
	}
}

// pinned compares the images that are built upon with versions.yaml.
func pinned(t *testing.T, c containerfile) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(checkout(t), "versions.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var versions struct {
		Go    struct{ Minimum string }
		Envoy struct{ Version string }
	}
	if err := yaml.Unmarshal(raw, &versions); err != nil {
		t.Fatal(err)
	}
	minor := versions.Go.Minimum[:strings.LastIndexByte(versions.Go.Minimum, '.')]
	want := map[string]string{"GO_IMAGE": "golang:" + minor + "-bookworm", "ENVOY_IMAGE": "envoyproxy/envoy:distroless-v" + versions.Envoy.Version}
	for _, a := range c.args {
		name, value, _ := strings.Cut(a.text, "=")
		if w, ok := want[name]; ok && value != w {
			t.Errorf("%s is %s, versions.yaml asks for %s", name, value, w)
		}
	}
}

var units = []string{"fairlead.service", "fairlead-agent@.service", "fairlead-intercept.service"}

// systemd itself has nothing to complain of in the units, and finds them well locked up.
func TestUnits(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze; Debian's package is systemd")
	}
	dir := t.TempDir()
	for _, program := range []string{"fairlead", "fairlead-agent"} {
		if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var paths []string
	for _, name := range units {
		text := strings.ReplaceAll(read(t, "systemd", name), "/usr/local/bin/", dir+"/")
		name = strings.Replace(name, "@.", "@cart.", 1)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	for _, path := range paths {
		if out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze verify: %v\n%s", err, out)
		}
		out, err := exec.Command(analyze, "security", "--offline=yes", "--no-pager", "--threshold=40", path).CombinedOutput()
		switch {
		case strings.Contains(string(out), "unrecognized option"):
			t.Log("this systemd-analyze judges no files")
		case err != nil:
			t.Errorf("systemd-analyze security: %v\n%s", err, out[max(0, len(out)-500):])
		}
	}
}

// The stop of a unit leaves an Envoy the longest time that it may drain.
func TestStopTime(t *testing.T) {
	t.Parallel()
	unit := read(t, "systemd", "fairlead-agent@.service")
	for _, want := range []string{"\nKillMode=mixed\n", "\nTimeoutStopSec=130\n", "\nUser=fairlead-agent\n"} {
		if !strings.Contains(unit, want) {
			t.Errorf("the agent's unit lacks %q", strings.TrimSpace(want))
		}
	}
	if !strings.Contains(read(t, "systemd", "fairlead.sysusers.conf"), fmt.Sprintf("\nu fairlead-agent %d ", meshtest.ProxyUser)) {
		t.Errorf("the agent's user is not %d", meshtest.ProxyUser)
	}
}

// The samples are what the converter would make: it finds nothing to change. And the agent
// takes their variables.
func TestECSSamples(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"virtual-node.json", "virtual-gateway.json"} {
		text := read(t, "ecs", name)
		var sample struct {
			ContainerDefinitions []struct{ Name, Image string }
		}
		if err := json.Unmarshal([]byte(text), &sample); err != nil {
			t.Fatal(err)
		}
		o := ecs.Options{Identity: ecs.IdentityKeep, XDSEndpoint: "fairlead.shop.local:9081", CacheVolume: "fairlead"}
		for _, c := range sample.ContainerDefinitions {
			if strings.Contains(c.Image, "fairlead-envoy") {
				o.Image, o.Container = c.Image, c.Name
			}
		}
		r, err := ecs.Convert([]byte(text), o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r.JSON != text || len(r.Notes) > 0 {
			t.Errorf("%s is not as the converter writes it: %v\n%s", name, r.Notes, r.Diff)
		}
		wantAgent(t, name, r.Environment)
	}
}

// wantAgent fails the test unless the agent takes the variables.
func wantAgent(t *testing.T, name string, env map[string]string) {
	t.Helper()
	_, warnings, err := agent.ReadSettings(func(key string) (string, bool) { v, ok := env[key]; return v, ok })
	if err != nil || len(warnings) > 0 {
		t.Errorf("%s: the agent says %v, %v", name, err, warnings)
	}
}

// The user data is what cloud-init reads, its units are those of this folder, and the agent
// takes its variables.
func TestUserData(t *testing.T) {
	t.Parallel()
	text := read(t, "ec2", "user-data.yaml")
	if !strings.HasPrefix(text, "#cloud-config\n") || len(text) > 16<<10 {
		t.Errorf("user data of %d bytes that begins %.20q; EC2 takes 16 KiB, and cloud-init wants #cloud-config", len(text), text)
	}
	var data struct {
		WriteFiles []struct{ Path, Permissions, Content string } `yaml:"write_files"`
		Runcmd     [][]string
	}
	dec := yaml.NewDecoder(strings.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&data); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range data.WriteFiles {
		files[f.Path] = f.Content
	}
	for path, name := range map[string]string{
		"/etc/systemd/system/fairlead-agent@.service":    "fairlead-agent@.service",
		"/etc/systemd/system/fairlead-intercept.service": "fairlead-intercept.service",
		"/usr/lib/sysusers.d/fairlead.conf":              "fairlead.sysusers.conf",
	} {
		if files[path] != read(t, "systemd", name) {
			t.Errorf("%s is not deploy/systemd/%s", path, name)
		}
	}
	for _, line := range data.Runcmd {
		if program := line[0]; strings.HasPrefix(program, "/usr/local/sbin/") && files[program] == "" {
			t.Errorf("%s is run and not written", program)
		}
	}
	env := map[string]string{}
	for line := range strings.SplitSeq(strings.TrimSpace(files["/etc/fairlead/agents/cart.env"]), "\n") {
		key, value, _ := strings.Cut(line, "=")
		env[key] = value
	}
	wantAgent(t, "user-data.yaml", env)
	fetches(t, files["/usr/local/sbin/fairlead-fetch"])
}

// fetches runs the script that fetches programs: what is not as its sum says never gets there.
func fetches(t *testing.T, script string) {
	t.Helper()
	for _, program := range []string{"curl", "sha256sum"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	fetch, from, to := filepath.Join(dir, "fetch"), filepath.Join(dir, "from"), filepath.Join(dir, "to")
	meshtest.WriteFile(t, from, []byte("hello\n"))
	meshtest.WriteFile(t, fetch, []byte(script))
	const sum = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
	for given, ok := range map[string]bool{sum: true, strings.Repeat("0", 64): false} {
		_ = os.Remove(to)
		out, err := exec.Command("/bin/sh", fetch, "file://"+from, given, to).CombinedOutput()
		info, there := os.Stat(to)
		if (err == nil) != ok || (there == nil) != ok || ok && info.Mode().Perm() != 0o755 {
			t.Errorf("with the sum %s: %v %s, and the program is there: %v", given, err, out, there)
		}
	}
	if left, _ := filepath.Glob(to + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
