package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
	"github.com/fairlead-mesh/fairlead/test/process"
)

// Where the real Envoy and the application are. The addresses are unlikely to be taken.
const (
	envoyAddress = "127.77.0.1"
	appAddress   = "127.77.0.2"
	egressPort   = ":15001"
	adminPort    = ":9901"
)

// realEnvoy measures how long it takes until a real Envoy that has many routes answers by
// a new one.
func (b *bench) realEnvoy(ctx context.Context) error {
	path := os.Getenv("ENVOY_PATH") // make sets it
	if path == "" {
		return errors.New("ENVOY_PATH does not say where Envoy is")
	}
	stop, err := application(fmt.Sprintf("%s:%d", appAddress, port))
	if err != nil {
		return err
	}
	defer stop()
	// Routes match what nobody asks for, until there are new ones.
	w := &world{mesh: "real", services: b.routes, backends: none, prefix: "/old", host: appAddress, extra: []string{"front"}}
	s, err := b.mesh(ctx, w)
	if err != nil {
		return err
	}
	err = b.askEnvoy(ctx, s, w, path)
	return errors.Join(err, b.discard(s))
}

// application answers every request.
func application(addr string) (stop func(), err error) {
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })}
	go func() { _ = srv.Serve(lis) }() // ends with stop
	return func() { _ = srv.Close() }, nil
}

func (b *bench) askEnvoy(ctx context.Context, s *process.Server, w *world, envoy string) error {
	logs, err := os.Create(filepath.Join(b.dir, "agent.log"))
	if err != nil {
		return err
	}
	defer logs.Close()
	agent := exec.CommandContext(ctx, b.agent, "run")
	agent.Env = []string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + b.dir, "ENVOY_PATH=" + envoy, "APPMESH_RESOURCE_ARN=" + w.arn("front"),
		"FAIRLEAD_XDS_ENDPOINT=" + s.XDS, "FAIRLEAD_XDS_PLAINTEXT=1", "FAIRLEAD_BIND_ADDRESS=" + envoyAddress,
		"FAIRLEAD_APPLICATION_ADDRESS=" + appAddress, "AWS_REGION=" + process.Region, "AWS_ACCESS_KEY_ID=" + s.Creds.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + s.Creds.SecretAccessKey, "AWS_EC2_METADATA_DISABLED=true", "ENVOY_CONCURRENCY=1",
	}
	agent.Stdout, agent.Stderr = logs, logs
	agent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := agent.Start(); err != nil {
		return err
	}
	defer func() {
		_ = syscall.Kill(-agent.Process.Pid, syscall.SIGKILL) // the group: agent and Envoy
		_ = agent.Wait()                                      // how does not matter
	}()
	admin := &http.Client{Timeout: 5 * time.Second}
	if err := process.Poll(ctx, 2*time.Minute, 50*time.Millisecond, func() error { return expect(ctx, admin, "http://"+envoyAddress+adminPort+"/ready", http.StatusOK) }); err != nil {
		return fmt.Errorf("envoy: %w", err)
	}
	through := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: envoyAddress + egressPort})}}
	defer through.CloseIdleConnections()
	for range b.rounds {
		var took []float64
		for i := range b.edits {
			one, err := b.newRoute(ctx, w, through, i)
			if err != nil {
				return err
			}
			took = append(took, one)
			if _, err := process.Settled(ctx, s.Pid()); err != nil {
				return err
			}
		}
		what := fmt.Sprintf("real Envoy with %d routes: a new route answers, ", b.routes)
		b.table.add(what+"p50", milliseconds, 20, ours, median(took))
		b.table.add(what+"p99", milliseconds, 50, ours, percentile(took, 99))
	}
	return b.profiling(ctx, s, "envoy", func() error { _, err := b.newRoute(ctx, w, through, int(b.mark)); return err })
}

// newRoute creates a route and asks by it until it answers.
func (b *bench) newRoute(ctx context.Context, w *world, through *http.Client, service int) (float64, error) {
	mark := b.marks(1)
	service %= w.services
	target := fmt.Sprintf("http://%s:%d%s", w.service(service), port, load.RouteMark(mark))
	if err := expect(ctx, through, target, http.StatusNotFound); err != nil {
		return 0, err
	}
	began := load.Now()
	err := w.api.Call(ctx, http.MethodPut, w.path("/virtualRouter/r-", fmt.Sprint(service), "/routes"),
		fmt.Sprintf(`{"routeName":"new-%d","spec":%s}`, mark, w.route(service, load.RouteMark(mark))), nil)
	if err != nil {
		return 0, err
	}
	err = process.Poll(ctx, b.patience, time.Millisecond, func() error { return expect(ctx, through, target, http.StatusOK) })
	return ms(load.Now() - began), err
}

// expect makes a request that must be answered with a status.
func expect(ctx context.Context, c *http.Client, target string, status int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != status {
		return fmt.Errorf("%s was answered with %s, not %d", target, resp.Status, status)
	}
	return nil
}
