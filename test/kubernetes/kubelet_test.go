//go:build linux

// Package kubernetes runs the pods of deploy/kubernetes: a stand-in for the kubelet starts
// their containers as processes, in the kubelet's order, with the agent as it is built and a
// real Envoy, in a network namespace of the pod's own.
package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

func TestMain(m *testing.M) {
	meshtest.Main(m, nil)
}

// deployment is what the stand-in knows of a Deployment. What it does not know it refuses.
type deployment struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Spec       struct {
		Selector struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     pod
		}
	}
}

type pod struct {
	TerminationGracePeriodSeconds int         `yaml:"terminationGracePeriodSeconds"`
	InitContainers                []container `yaml:"initContainers"`
	Containers                    []container
}

type container struct {
	Name, Image   string
	RestartPolicy string `yaml:"restartPolicy"`
	Env           []struct{ Name, Value string }
	EnvFrom       []struct {
		SecretRef struct{ Name string } `yaml:"secretRef"`
	} `yaml:"envFrom"`
	StartupProbe   *probe `yaml:"startupProbe"`
	ReadinessProbe *probe `yaml:"readinessProbe"`
	Lifecycle      struct {
		PostStart struct{ Exec command } `yaml:"postStart"`
	}
	SecurityContext securityContext `yaml:"securityContext"`
}

type command struct{ Command []string }

type probe struct {
	Exec             command
	PeriodSeconds    int `yaml:"periodSeconds"`
	TimeoutSeconds   int `yaml:"timeoutSeconds"`
	FailureThreshold int `yaml:"failureThreshold"`
}

type securityContext struct {
	RunAsUser                int   `yaml:"runAsUser"`
	RunAsGroup               int   `yaml:"runAsGroup"`
	AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
	Capabilities             struct{ Add, Drop []string }
}

// manifest reads a file of deploy/kubernetes.
func manifest(t *testing.T, name string) deployment {
	t.Helper()
	root, err := meshtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(root, "deploy", "kubernetes", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var d deployment
	dec := yaml.NewDecoder(f)
	dec.KnownFields(true)
	if err := dec.Decode(&d); err != nil {
		t.Fatal(err)
	}
	for key, value := range d.Spec.Selector.MatchLabels {
		if d.Spec.Template.Metadata.Labels[key] != value {
			t.Errorf("%s: the selector asks for %s: %s, which pods do not have", name, key, value)
		}
	}
	return d
}

// kubelet stands in for Kubernetes' own on one host, which is one pod.
type kubelet struct {
	t       *testing.T
	host    *meshtest.Host
	dir     string
	secrets map[string][]string // variables by the secret's name
	more    map[string][]string // variables of containers beside those of the manifest, by name
	app     []string            // what the application's image runs, with its variables in more

	installed map[string]string

	mu      sync.Mutex
	running map[string]*process
}

// of returns a container, nil before it was started.
func (k *kubelet) of(name string) *process {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.running[name]
}

// there is nil once a container was started.
func (k *kubelet) there(name string) error {
	if k.of(name) == nil {
		return errStill
	}
	return nil
}

// logOf returns what a container has written.
func (k *kubelet) logOf(name string) string {
	if x := k.of(name); x != nil {
		return x.log.String()
	}
	return ""
}

// process is a container that was started.
type process struct {
	cmd  *exec.Cmd
	env  []string
	uid  int
	log  *meshtest.Log
	done chan struct{}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// run starts a pod's containers as the kubelet does: init containers one after the other,
// each when the one before has ended well, or as a sidecar has started; then the others, each
// when the hook of the one before has ended. The error names the container.
func (k *kubelet) run(p pod) error {
	for _, c := range p.InitContainers {
		x, err := k.start(c)
		if err != nil {
			return err
		}
		if c.RestartPolicy == "Always" {
			if err := k.hook(c, x); err != nil {
				return err
			}
			if err := k.started(c, x); err != nil {
				return err
			}
			continue
		}
		<-x.done
		if code := x.cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("init container %s ended with %d: %s", c.Name, code, x.log.String())
		}
	}
	for _, c := range p.Containers {
		x, err := k.start(c)
		if err == nil {
			err = k.hook(c, x)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hook runs a container's postStart, and waits for its end.
func (k *kubelet) hook(c container, x *process) error {
	if argv := c.Lifecycle.PostStart.Exec.Command; len(argv) > 0 {
		if err := k.exec(context.Background(), x, argv); err != nil {
			return fmt.Errorf("postStart of %s: %w", c.Name, err)
		}
	}
	return nil
}

// started waits until a container's startupProbe succeeds.
func (k *kubelet) started(c container, x *process) error {
	if c.StartupProbe == nil {
		return nil
	}
	tick := time.NewTicker(time.Duration(max(1, c.StartupProbe.PeriodSeconds)) * time.Second)
	defer tick.Stop()
	var last error
	for range max(3, c.StartupProbe.FailureThreshold) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(max(1, c.StartupProbe.TimeoutSeconds))*time.Second)
		last = k.exec(ctx, x, c.StartupProbe.Exec.Command)
		cancel()
		if last == nil {
			return nil
		}
		if x.ended() {
			return fmt.Errorf("%s has ended: %s", c.Name, x.log.String())
		}
		<-tick.C
	}
	return fmt.Errorf("startupProbe of %s: %w", c.Name, last)
}

// exec runs a command in a container.
func (k *kubelet) exec(ctx context.Context, x *process, argv []string) error {
	if argv[0] != "fairlead-agent" {
		return fmt.Errorf("the image has no program %q", argv[0])
	}
	cmd := k.host.Command(x.cmd.Path, argv[1:]...)
	cmd.Env, cmd.Dir = x.env, "/"
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(x.uid), Gid: uint32(x.uid)}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := k.host.Start(cmd); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		err = errors.Join(ctx.Err(), <-ended)
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(out.String()))
	}
	return nil
}

// image returns a program and its arguments in the place of an image, and its user.
func (k *kubelet) image(c container) (argv []string, uid int, err error) {
	switch {
	case strings.Contains(c.Image, "/fairlead-envoy:"):
		return []string{k.install(meshtest.AgentPath(k.t), "fairlead-agent"), "run"}, meshtest.ProxyUser, nil
	case strings.Contains(c.Image, "/fairlead-intercept:"):
		return []string{k.install(meshtest.AgentPath(k.t), "fairlead-agent"), "intercept", "enable"}, 0, nil
	case strings.Contains(c.Image, "/cart:"):
		return append([]string{k.install(k.app[0], "cart")}, k.app[1:]...), 1000, nil
	}
	return nil, 0, fmt.Errorf("container %s: there is no image %s", c.Name, c.Image)
}

func (k *kubelet) install(file, name string) string {
	if k.installed[name] == "" {
		k.installed[name] = k.host.Install(file, name)
	}
	return k.installed[name]
}

func (k *kubelet) start(c container) (*process, error) {
	argv, uid, err := k.image(c)
	if err != nil {
		return nil, err
	}
	if s := c.SecurityContext; s.RunAsUser != 0 {
		uid = s.RunAsUser
	}
	tmp := filepath.Join(k.dir, c.Name)
	if err := errors.Join(os.MkdirAll(tmp, 0o700), os.Chown(tmp, uid, uid)); err != nil {
		return nil, err
	}
	x := &process{uid: uid, log: &meshtest.Log{}, done: make(chan struct{})}
	x.env = []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=" + tmp, "ENVOY_PATH=" + k.install(meshtest.EnvoyPath(k.t), "envoy")}
	for _, s := range c.EnvFrom {
		values, ok := k.secrets[s.SecretRef.Name]
		if !ok {
			return nil, fmt.Errorf("container %s: there is no secret %s", c.Name, s.SecretRef.Name)
		}
		x.env = append(x.env, values...)
	}
	for _, v := range c.Env {
		x.env = append(x.env, v.Name+"="+v.Value)
	}
	x.env = append(x.env, k.more[c.Name]...)
	x.cmd = k.host.Command(argv[0], argv[1:]...)
	x.cmd.Env, x.cmd.Dir = x.env, "/"
	// Root has what it has; the kubelet gives other users no capability, added or not.
	x.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	out, in := meshtest.Owned(k.t, uid)
	x.cmd.Stdout, x.cmd.Stderr = in, in
	err = k.host.Start(x.cmd)
	_ = in.Close()
	if err != nil {
		return nil, err
	}
	go func() {
		_, _ = io.Copy(x.log, out)
		_ = out.Close()
	}()
	go func() { _ = x.cmd.Wait(); close(x.done) }()
	k.mu.Lock()
	k.running[c.Name] = x
	k.mu.Unlock()
	k.t.Cleanup(func() {
		_ = syscall.Kill(-x.cmd.Process.Pid, syscall.SIGKILL)
		<-x.done
		if k.t.Failed() {
			text := x.log.String()
			k.t.Logf("container %s:\n%s", c.Name, text[max(0, len(text)-3000):])
		}
	})
	return x, nil
}

// stop ends a pod as the kubelet does: its containers together, and when they have ended its
// sidecars, the last first.
func (k *kubelet) stop(p pod) {
	k.t.Helper()
	limit := time.After(time.Duration(p.TerminationGracePeriodSeconds) * time.Second)
	end := func(names ...string) {
		for _, name := range names {
			_ = k.of(name).cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		}
		for _, name := range names {
			select {
			case <-k.of(name).done:
			case <-limit:
				k.t.Fatalf("container %s has not ended within %d s", name, p.TerminationGracePeriodSeconds)
			}
		}
	}
	var names []string
	for _, c := range p.Containers {
		names = append(names, c.Name)
	}
	end(names...)
	for i := len(p.InitContainers) - 1; i >= 0; i-- {
		if c := p.InitContainers[i]; c.RestartPolicy == "Always" {
			end(c.Name)
		}
	}
}
