// Package linear checks what many writers are told against what the store did: every
// answer must be true of one moment between its call and its return, and every change
// must be one that somebody asked for. The server runs in a process of its own, so that
// it can be killed.
package linear

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// howLong is how long the writers of each test write.
var howLong = flag.Duration("linear.time", 4*time.Second, "how long the writers write")

// dataVariable tells a process of this test's program that it is a server, and where its
// data is.
const dataVariable = "FAIRLEAD_LINEAR_DATA"

func TestMain(m *testing.M) {
	meshtest.Main(m, map[string]func(string) error{dataVariable: serve})
}

// serve runs a server as users run it, and writes where it listens to DIR/addrs.
func serve(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := server.Open(ctx, server.Config{
		Store: store.Config{DataDir: dir, Logger: log, Quotas: meshtest.MostQuotas()}, CredentialsFile: filepath.Join(dir, "credentials"),
		AccountID: meshtest.Account, Regions: []string{meshtest.Region}, Log: log,
		APIListen: "127.0.0.1:0", XDSListen: "127.0.0.1:0", OpsListen: "127.0.0.1:0",
	})
	if err != nil {
		return err
	}
	raw, err := json.Marshal(s.Addrs())
	if err != nil {
		return err
	}
	next := filepath.Join(dir, "addrs.next")
	if err := os.WriteFile(next, raw, 0o600); err != nil {
		return err
	}
	if err := os.Rename(next, filepath.Join(dir, "addrs")); err != nil {
		return err
	}
	return s.Run(ctx)
}

// process is a server that can be killed.
type process struct {
	t     *testing.T
	dir   string
	cmd   *exec.Cmd
	addrs server.Addrs
	creds aws.Credentials
}

func startProcess(t *testing.T, dir string) *process {
	t.Helper()
	p := &process{t: t, dir: dir}
	p.start()
	p.creds = meshtest.ReadCredentials(t, filepath.Join(dir, "credentials"))
	t.Cleanup(func() { p.end(syscall.SIGKILL) })
	return p
}

// start starts the server and waits until it is ready.
func (p *process) start() {
	p.t.Helper()
	path := filepath.Join(p.dir, "addrs")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), dataVariable+"="+p.dir)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	meshtest.Eventually(p.t, "the server listens", func() error {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &p.addrs)
	})
	client := &http.Client{Timeout: time.Second}
	meshtest.Eventually(p.t, "the server is ready", func() error {
		resp, err := client.Get("http://" + p.addrs.Ops + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

// end sends the server a signal and waits until it has ended.
func (p *process) end(s syscall.Signal) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(s) // it may have ended
	_ = p.cmd.Wait()            // how it ended does not matter
	p.cmd = nil
}
