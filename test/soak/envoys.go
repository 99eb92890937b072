package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fairlead-mesh/fairlead/test/process"
)

// realProxies is how many Envoys with agents there are.
const realProxies = 2

// realProxy is an Envoy under its agent, with a workload certificate and a registration.
type realProxy struct {
	cmd     *exec.Cmd
	address string
}

// startEnvoys starts the Envoys, if there is one to start.
func (s *soak) startEnvoys(ctx context.Context) error {
	if s.envoy == "" {
		s.say("ENVOY_PATH does not say where Envoy is: none runs")
		return nil
	}
	for i := range realProxies {
		p, err := s.startEnvoy(ctx, i)
		if err != nil {
			return err
		}
		s.envoys = append(s.envoys, p)
	}
	return nil
}

func (s *soak) startEnvoy(ctx context.Context, i int) (*realProxy, error) {
	// Addresses that other processes of this kind do not have: they begin with their own id.
	p := &realProxy{address: fmt.Sprintf("127.%d.%d.%d", 100+i, os.Getpid()>>8&0xff, 1+os.Getpid()&0x7f)}
	t := s.tenants[i%len(s.tenants)]
	tmp, err := os.MkdirTemp(s.dir, "agent-")
	if err != nil {
		return nil, err
	}
	logs, err := os.Create(filepath.Join(tmp, "log"))
	if err != nil {
		return nil, err
	}
	defer logs.Close() // the agent has it open itself
	p.cmd = exec.Command(s.agent, "run")
	p.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + tmp, "ENVOY_PATH=" + s.envoy, "APPMESH_RESOURCE_ARN=" + t.arn("front"),
		"FAIRLEAD_XDS_ENDPOINT=" + s.server.XDS, "FAIRLEAD_XDS_PLAINTEXT=1", "FAIRLEAD_BIND_ADDRESS=" + p.address,
		"FAIRLEAD_APPLICATION_ADDRESS=127.0.0.1", "FAIRLEAD_API_ENDPOINT=" + t.Endpoint, "FAIRLEAD_REGISTER_SERVICE=soak.local/s-0",
		"FAIRLEAD_REGISTER_PORT=8080", "AWS_REGION=" + process.Region, "AWS_ACCESS_KEY_ID=" + t.Creds.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + t.Creds.SecretAccessKey, "AWS_EC2_METADATA_DISABLED=true", "ENVOY_CONCURRENCY=1",
	}
	p.cmd.Stdout, p.cmd.Stderr = logs, logs
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	err = process.Poll(ctx, patience, 50*time.Millisecond, func() error { return live(ctx, p.address) })
	if err != nil {
		p.kill()
		wrote, _ := os.ReadFile(logs.Name()) // to say more, if there is more
		return nil, fmt.Errorf("an Envoy at %s: %w\n%s", p.address, err, wrote[max(0, len(wrote)-2000):])
	}
	s.did.add("Envoys started", 1)
	return p, nil
}

// live reports whether an Envoy has all its configuration.
func live(ctx context.Context, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+":9901/ready", nil)
	if err != nil {
		return err
	}
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it is not live: %s", resp.Status)
	}
	return nil
}

// replaceEnvoy kills an Envoy with its agent, and starts another in its place.
func (s *soak) replaceEnvoy(ctx context.Context, n int) error {
	if len(s.envoys) == 0 {
		return nil
	}
	i := n % len(s.envoys)
	s.envoys[i].kill()
	p, err := s.startEnvoy(ctx, i)
	if err != nil {
		return err
	}
	s.envoys[i] = p
	return nil
}

// kill ends agent and Envoy at once, and waits for them. Killing twice does no harm.
func (p *realProxy) kill() {
	if p.cmd.ProcessState != nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // the group: agent and Envoy
	_ = p.cmd.Wait()                                      // how does not matter
}
