package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// How long the parts may take on a slow machine.
const (
	startLimit  = 30 * time.Second
	stopLimit   = 5 * time.Second
	oneQuestion = 2 * time.Second
)

// stack is what runs: the control plane, the application, the Envoys.
type stack struct {
	programs programs
	plan     *plan  // once the ground is laid
	ground   ground // the same
	dir      string // of all files
	family   *family
	client   *http.Client

	server *child
	apps   []*child
	agents []*child
}

// openStack makes the folder. lay and in the end close must follow. died is told of
// processes that end by themselves.
func openStack(p programs, died func(*child)) (*stack, error) {
	dir, err := os.MkdirTemp("", "fairlead-demo-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the demo (TMPDIR says where): %w", err)
	}
	s := &stack{programs: p, dir: dir, client: newClient(nil, nil)}
	s.family = newFamily(s.logs(), died)
	for _, d := range []string{s.logs(), s.temp()} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("making a folder for the demo: %w", err), s.close(false))
		}
	}
	return s, nil
}

func (s *stack) logs() string        { return filepath.Join(s.dir, "logs") }
func (s *stack) temp() string        { return filepath.Join(s.dir, "tmp") }
func (s *stack) credentials() string { return filepath.Join(s.dir, "data", "credentials") }

// close ends all processes and removes the folder unless it is to be kept.
func (s *stack) close(keep bool) error {
	// The Envoys go first: the control plane waits for its streams to end.
	endAll(s.agents, stopLimit)
	s.family.close(stopLimit)
	s.client.CloseIdleConnections()
	if s.ground != nil {
		s.ground.close()
	}
	if s.plan != nil {
		s.plan.release()
	}
	if keep {
		return nil
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("removing the demo's files: %w", err)
	}
	return nil
}

// environ is this process's environment without what would configure the children, and
// with the variables given.
func (s *stack) environ(more ...string) []string {
	var out []string
	for _, v := range os.Environ() {
		if !foreign(v) {
			out = append(out, v)
		}
	}
	return append(append(out, "TMPDIR="+s.temp()), more...)
}

// foreign reports whether a variable is meant for another Fairlead, agent or AWS client.
func foreign(variable string) bool {
	for _, prefix := range []string{"FAIRLEAD_", "APPMESH_", "APPNET_", "AWS_", "ENVOY_", "LISTENER_DRAIN", "TMPDIR="} {
		if strings.HasPrefix(variable, prefix) {
			return true
		}
	}
	return false
}

// startServer starts the control plane. Started again it has the same addresses and data.
func (s *stack) startServer() (err error) {
	s.server, err = s.family.start(command{
		name: "server", path: s.programs.fairlead, stop: syscall.SIGTERM, env: s.environ(),
		args: []string{
			"server", "--data-dir", filepath.Join(s.dir, "data"), "--region", region,
			"--api-listen", s.plan.api(), "--xds-listen", s.plan.xds(), "--ops-listen", s.plan.ops(),
		},
	})
	return err
}

// serverReady asks the control plane whether it can serve.
func (s *stack) serverReady(ctx context.Context) error {
	_, err := s.get(ctx, "http://"+s.plan.ops()+"/readyz")
	return err
}

// instance is one instance of the application, the virtual node that it is, and where.
type instance struct {
	node    string
	version string // of colour; "" is front
	at      spot
}

// instances lists them in the order of apps and agents: who is called before who calls.
func (s *stack) instances() []instance {
	return []instance{{blueNode, blue, s.plan.blue}, {greenNode, green, s.plan.green}, {frontNode, "", s.plan.front}}
}

// startApps starts both versions of colour, and front.
func (s *stack) startApps() error {
	for _, i := range s.instances() {
		c := command{
			name: "app-" + i.node, path: s.programs.fairlead, stop: syscall.SIGTERM, env: s.environ(),
			args: []string{"demo", "app", "--colour", i.version},
		}
		if i.node == frontNode {
			c.args = []string{"demo", "app", "--colour-url", s.plan.colourURL()}
		}
		s.ground.app(i, &c)
		app, err := s.family.start(c)
		if err != nil {
			return err
		}
		s.apps = append(s.apps, app)
	}
	return nil
}

// startAgents starts an agent, and with it an Envoy, beside each application process.
// arns has the virtual node of each.
func (s *stack) startAgents(arns map[string]string) error {
	for _, i := range s.instances() {
		c := command{
			name: "envoy-" + i.node, path: s.programs.agent, args: []string{"run"},
			stop: syscall.SIGINT, // ends Envoy without draining it first
			env:  s.environ("APPMESH_RESOURCE_ARN="+arns[i.node], "AWS_REGION="+region, "ENVOY_CONCURRENCY=1"),
		}
		if err := s.ground.agent(i, &c); err != nil {
			return err
		}
		agent, err := s.family.start(c)
		if err != nil {
			return err
		}
		s.agents = append(s.agents, agent)
	}
	return nil
}

// startLoad sends requests to front, as one who comes from another machine.
func (s *stack) startLoad(rate int) *load {
	url, dial := s.ground.way()
	return startLoad(url, dial, rate)
}

// appReady asks an application process, past its Envoy.
func (s *stack) appReady(ctx context.Context, at spot) error {
	_, err := s.get(ctx, "http://"+s.plan.app(at)+"/healthz")
	return err
}

// envoyReady asks an Envoy whether it has been told what to serve.
func (s *stack) envoyReady(ctx context.Context, at spot) error {
	_, err := s.get(ctx, "http://"+s.plan.admin(at)+"/ready")
	return err
}

// envoyConnected asks an Envoy whether it has a stream to the control plane.
func (s *stack) envoyConnected(ctx context.Context, at spot) error {
	body, err := s.get(ctx, "http://"+s.plan.admin(at)+"/stats?filter=%5Econtrol_plane.connected_state%24")
	if err == nil && strings.TrimSpace(body) != "control_plane.connected_state: 1" {
		err = errors.New("it is not connected")
	}
	return err
}

// answers sends one request to an application through its Envoy.
func (s *stack) answers(ctx context.Context, at spot) error {
	ctx, cancel := context.WithTimeout(ctx, oneQuestion)
	defer cancel()
	_, err := ask(ctx, s.client, s.url(at))
	return err
}

func (s *stack) url(at spot) string { return "http://" + s.plan.ingress(at) + "/" }

// get returns the body of an answer 200.
func (s *stack) get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, oneQuestion)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("it answers %d %s", res.StatusCode, firstLine(body))
	}
	return string(body), err
}
