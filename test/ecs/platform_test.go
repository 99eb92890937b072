//go:build linux

package ecs

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// platform stands in for ECS.
type platform struct {
	t *testing.T
	// metadata is where containers find the metadata endpoint; credentials is the variable by
	// which they find that of credentials, up to its path.
	metadata, credentials string
	secrets               map[string]string // ARN of a secret or parameter -> its value
}

// place is where a task runs: in a network of its own, or on addresses of its own.
type place interface {
	// start starts a process of the task as a user.
	start(cmd *exec.Cmd, uid int) error
	// install makes a program executable there.
	install(file, name string) string
	// redirect does what proxyConfiguration says.
	redirect(definition)
	// environment is what containers are given beside what ECS gives them, by their images.
	environment(image string) []string
	// admin is a client and the address of Envoy's admin interface.
	admin() (*http.Client, string)
}

// task is one that runs.
type task struct {
	*platform
	definition
	place
	dir        string
	containers map[string]*running
	order      []string // in which they were started
}

// running is a container that was started.
type running struct {
	def  containerDefinition
	cmd  *exec.Cmd
	env  []string
	log  *meshtest.Log
	done chan struct{}
}

func (r *running) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// run starts a task's containers, each when what it depends on is so far, until the test
// ends. It waits until all have been started.
func (p *platform) run(d definition, at place) *task {
	p.t.Helper()
	dir, err := os.MkdirTemp("", "ecs-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // users of containers look into it
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	x := &task{platform: p, definition: d, place: at, dir: dir, containers: map[string]*running{}}
	p.t.Cleanup(x.kill)
	if d.ProxyConfiguration != nil {
		at.redirect(d)
	}
	meshtest.Eventually(p.t, "all containers of "+d.Family+" run", func() error {
		var last error
		for _, c := range d.ContainerDefinitions {
			if x.containers[c.Name] != nil {
				continue
			}
			if why := x.waits(c); why != nil {
				last = fmt.Errorf("container %s: %w", c.Name, why)
				continue
			}
			x.start1(c)
		}
		for _, r := range x.containers {
			if r.ended() && (r.def.Essential == nil || *r.def.Essential) {
				p.t.Fatalf("container %s of %s has ended: %v", r.def.Name, d.Family, r.cmd.ProcessState)
			}
		}
		return last
	})
	return x
}

// waits says what a container waits for.
func (x *task) waits(c containerDefinition) error {
	for _, on := range c.DependsOn {
		r := x.containers[on.ContainerName]
		if r == nil {
			return fmt.Errorf("%s is not started", on.ContainerName)
		}
		switch on.Condition {
		case "START":
		case "COMPLETE":
			if !r.ended() {
				return fmt.Errorf("%s runs", on.ContainerName)
			}
		case "SUCCESS":
			if !r.ended() {
				return fmt.Errorf("%s runs", on.ContainerName)
			}
			if code := r.cmd.ProcessState.ExitCode(); code != 0 {
				x.t.Fatalf("container %s of %s ended with %d", on.ContainerName, x.Family, code)
			}
		case "HEALTHY":
			if err := x.healthy(r); err != nil {
				return fmt.Errorf("%s is not healthy: %w", on.ContainerName, err)
			}
		default:
			x.t.Fatalf("container %s of %s: condition %q", c.Name, x.Family, on.Condition)
		}
	}
	return nil
}

// healthy runs a container's health check in the container.
func (x *task) healthy(r *running) error {
	check := r.def.HealthCheck
	if check == nil || len(check.Command) < 2 || check.Command[0] != "CMD" || check.Command[1] != "fairlead-agent" {
		x.t.Fatalf("container %s of %s: a health check that the image cannot run: %v", r.def.Name, x.Family, check)
	}
	cmd := exec.Command(r.cmd.Path, check.Command[2:]...)
	cmd.Env, cmd.Dir = r.env, r.cmd.Dir
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := x.place.start(cmd, x.uid(r.def)); err != nil {
		return err
	}
	err := cmd.Wait()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out.String())
	}
	return err
}

// uid is a container's user: that of the task definition, or that of its image.
func (x *task) uid(c containerDefinition) int {
	name, _, _ := strings.Cut(c.User, ":")
	if name == "" && c.Image == agentImage {
		name = strconv.Itoa(meshtest.ProxyUser)
	}
	if name == "" {
		name = "1000"
	}
	n, err := strconv.Atoi(name)
	if err != nil {
		x.t.Fatalf("container %s of %s: user %q", c.Name, x.Family, c.User)
	}
	return n
}

// image returns a program and its arguments, in the place of an image.
func (x *task) image(c containerDefinition) (path string, args, env []string) {
	x.t.Helper()
	if c.Image == agentImage {
		path, args = x.install(meshtest.AgentPath(x.t), "fairlead-agent"), []string{"run"}
		return path, args, []string{"ENVOY_PATH=" + x.install(meshtest.EnvoyPath(x.t), "envoy")}
	}
	self, err := os.Executable()
	if err != nil {
		x.t.Fatal(err)
	}
	for _, name := range []string{"storefront", "colour", "xray-daemon", "cloudwatch-agent"} {
		if strings.Contains(c.Image, name) {
			return x.install(self, "program"), nil, []string{programVariable + "=" + name}
		}
	}
	x.t.Fatalf("container %s of %s: there is no image %s", c.Name, x.Family, c.Image)
	return "", nil, nil
}

// start1 starts one container.
func (x *task) start1(c containerDefinition) {
	x.t.Helper()
	uid := x.uid(c)
	tmp := filepath.Join(x.dir, c.Name)
	x.folder(tmp, uid)
	path, args, env := x.image(c)
	if len(c.EntryPoint) > 0 {
		x.t.Fatalf("container %s of %s: an entry point that the image has not: %v", c.Name, x.Family, c.EntryPoint)
	}
	if c.Command != nil {
		args = c.Command
	}
	env = append(env, "PATH=/usr/local/bin:/usr/bin:/bin", "TMPDIR="+tmp, "ECS_CONTAINER_METADATA_URI_V4="+x.metadata+"/v4/"+x.Family+"-"+c.Name)
	if x.TaskRoleArn != "" {
		env = append(env, x.credentials+"/v2/credentials/"+x.Family)
	}
	env = append(env, x.variables(c, uid)...)
	env = append(env, x.environment(c.Image)...)
	r := &running{def: c, env: env, log: &meshtest.Log{}, done: make(chan struct{})}
	r.cmd = exec.Command(path, args...)
	r.cmd.Env, r.cmd.Dir = env, "/"
	out, in := meshtest.Owned(x.t, uid)
	r.cmd.Stdout, r.cmd.Stderr = in, in
	err := x.place.start(r.cmd, uid)
	_ = in.Close()
	if err != nil {
		x.t.Fatalf("starting container %s of %s: %v", c.Name, x.Family, err)
	}
	go func() {
		_, _ = io.Copy(r.log, out)
		_ = out.Close()
	}()
	go func() { _ = r.cmd.Wait(); close(r.done) }()
	x.containers[c.Name], x.order = r, append(x.order, c.Name)
}

// variables are those of the task definition, with secrets put in. What names a volume's
// place in the container names its folder.
func (x *task) variables(c containerDefinition, uid int) []string {
	values := map[string]string{}
	for _, v := range c.Environment {
		values[v.Name] = v.Value
		for _, m := range c.MountPoints {
			if rest, ok := strings.CutPrefix(v.Value, m.ContainerPath); ok {
				folder := filepath.Join(x.dir, "volume-"+m.SourceVolume)
				x.folder(folder, uid)
				values[v.Name] = folder + rest
			}
		}
	}
	for _, s := range c.Secrets {
		if _, ok := values[s.Name]; ok {
			x.t.Fatalf("container %s of %s: ECS refuses %s, which is in environment and in secrets", c.Name, x.Family, s.Name)
		}
		values[s.Name] = x.secret(s.ValueFrom)
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		out = append(out, name+"="+values[name])
	}
	return out
}

// secret reads a secret: whole, or one member where the reference names one.
func (p *platform) secret(from string) string {
	p.t.Helper()
	if v, ok := p.secrets[from]; ok {
		return v
	}
	parts := strings.Split(from, ":")
	if len(parts) == 10 { // arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME:MEMBER:STAGE:VERSION
		var members map[string]string
		if err := json.Unmarshal([]byte(p.secrets[strings.Join(parts[:7], ":")]), &members); err == nil && members[parts[7]] != "" {
			return members[parts[7]]
		}
	}
	p.t.Fatalf("there is no secret %s", from)
	return ""
}

func (x *task) folder(path string, uid int) {
	x.t.Helper()
	err := os.MkdirAll(path, 0o700)
	if err == nil && os.Geteuid() == 0 {
		err = os.Chown(path, uid, uid)
	}
	if err != nil {
		x.t.Fatal(err)
	}
}

// defaultStop is how long ECS waits for a container to end unless told otherwise.
const defaultStop = 30 * time.Second

// stop ends the task as ECS does: each container when those that depend on it have ended,
// by SIGTERM. It returns the order in which they ended.
func (x *task) stop() []string {
	x.t.Helper()
	var out []string
	for _, name := range slices.Backward(x.order) {
		r := x.containers[name]
		if r.ended() {
			continue
		}
		_ = syscall.Kill(r.cmd.Process.Pid, syscall.SIGTERM)
		limit := defaultStop
		if s := r.def.StopTimeout; s != 0 {
			limit = time.Duration(s) * time.Second
		}
		select {
		case <-r.done:
		case <-time.After(limit):
			x.t.Errorf("container %s of %s did not end within %s", name, x.Family, limit)
		}
		out = append(out, name)
	}
	return out
}

// kill ends what still runs at a test's end.
func (x *task) kill() {
	for _, name := range x.order {
		r := x.containers[name]
		if !r.ended() {
			_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
			<-r.done
		}
		if x.t.Failed() {
			text := r.log.String()
			x.t.Logf("container %s of %s:\n%s", name, x.Family, text[max(0, len(text)-3000):])
		}
	}
}
