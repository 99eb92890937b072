package intercept_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// squat has the test program take the name by which commands reach a watching process.
const squat = "FAIRLEAD_TEST_SQUAT"

func runSquatter(string) error {
	l, err := net.Listen("unix", "@fairlead-intercept")
	if err != nil {
		return err
	}
	meshtest.HandleConns(l, func(c net.Conn) { _, _ = c.Write([]byte("ok\n")) })
	return nil
}

// running is a process that ends with the test.
type running struct {
	*exec.Cmd
	log  *meshtest.Log
	done chan struct{}
}

func start(t *testing.T, h *meshtest.Host, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{cmd, &meshtest.Log{}, make(chan struct{})}
	cmd.Stdout, cmd.Stderr = r.log, r.log
	if err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(r.done) }()
	t.Cleanup(func() {
		r.end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(cmd.Args, " "), r.log)
		}
	})
	return r
}

// end sends a signal and waits for the end.
func (r *running) end(s syscall.Signal) int {
	_ = r.Process.Signal(s)
	<-r.done
	return r.ProcessState.ExitCode()
}

// eventually waits until interception on a host is on, or off.
func eventually(t *testing.T, h *meshtest.Host, on, watched bool, settings ...string) {
	t.Helper()
	meshtest.Eventually(t, fmt.Sprintf("interception on: %v, watched: %v", on, watched), func() error {
		if s := status(t, h, settings...); s.Enabled != on || s.Watched != watched {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

// What somebody removes is set again, at once where the kernel tells of it; it stays
// removed when it is disabled by command, and comes back when it is enabled.
func TestRunKeepsWatch(t *testing.T) {
	t.Parallel()
	nft := need(t, "nft", "nftables")
	eachKind(t, func(t *testing.T, kind string, env []string) {
		h := host(t)
		seconds := "3600"
		remove := []string{nft, "delete table ip fairlead"}
		switch kind {
		case "iptables-legacy": // of which the kernel tells nothing
			seconds = "1"
			remove = []string{need(t, "iptables-legacy", "iptables"), "-t", "nat", "-F", "FAIRLEAD_EGRESS"}
		case "iptables-nft":
			remove = []string{need(t, "iptables-nft", "iptables"), "-t", "nat", "-F", "OUTPUT"}
		}
		settings := append(append([]string{"FAIRLEAD_INTERCEPT_CHECK_SECONDS=" + seconds}, everything...), env...)
		run := start(t, h, h.Agent(settings, "intercept", "run"))
		eventually(t, h, true, true, settings...)
		for range 3 {
			if out, err := h.Output(h.Command(remove[0], remove[1:]...)); err != nil {
				t.Fatal(err, out)
			}
			eventually(t, h, true, true, settings...)
		}

		call(t, h, settings, "disable")
		// The process is told of this change, and has nothing to do.
		if out, err := h.Output(h.Command(nft, "add table ip other")); err != nil {
			t.Fatal(err, out)
		}
		call(t, h, settings, "disable")
		if s := status(t, h, settings...); s.Families[0].Installed || s.Families[1].Installed || !s.Watched {
			t.Errorf("disabled: %+v", s)
		}

		_, err := h.Output(h.Agent([]string{"APPMESH_APP_PORTS=1"}, "intercept", "enable"))
		if err == nil || !strings.Contains(err.Error(), "has other settings") {
			t.Errorf("enabling with other settings: %v", err)
		}
		call(t, h, settings, "enable")
		if s := status(t, h, settings...); !s.Enabled {
			t.Errorf("enabled: %+v", s)
		}
		_, err = h.Output(h.Agent(settings, "intercept", "run"))
		if err == nil || !strings.Contains(err.Error(), "another process watches") {
			t.Errorf("running a second time: %v", err)
		}
		_, err = h.Output(h.AgentAs(1000, settings, "intercept", "disable"))
		if err == nil || !strings.Contains(err.Error(), "only root and the user of this process") {
			t.Errorf("disabling as another user: %v", err)
		}
		if code := run.end(syscall.SIGTERM); code != 0 {
			t.Errorf("run ended with %d", code)
		}
		eventually(t, h, true, false, settings...)
	})
}

// Told to wait, run does so until the command; rules that it finds when it starts again it
// watches over, and at its end it removes them if it should.
func TestRunWaitsForTheCommand(t *testing.T) {
	t.Parallel()
	h := host(t)
	nft := need(t, "nft", "nftables")
	settings := append([]string{"APPMESH_START_ENABLED=0", "FAIRLEAD_INTERCEPT_KEEP=0"}, everything...)
	run := start(t, h, h.Agent(settings, "intercept", "run"))
	meshtest.Eventually(t, "run waits", func() error {
		if !strings.Contains(run.log.String(), "waits for the command") {
			return errors.New(run.log.String())
		}
		return nil
	})
	eventually(t, h, false, true, settings...)
	call(t, h, settings, "enable")
	eventually(t, h, true, true, settings...)

	run.end(syscall.SIGKILL)
	eventually(t, h, true, false, settings...)
	run = start(t, h, h.Agent(settings, "intercept", "run"))
	eventually(t, h, true, true, settings...)
	meshtest.Eventually(t, "run watches over what it found", func() error {
		if !strings.Contains(run.log.String(), "interception is on") {
			return errors.New(run.log.String())
		}
		return nil
	})
	if out, err := h.Output(h.Command(nft, "delete table ip6 fairlead")); err != nil {
		t.Fatal(err, out)
	}
	eventually(t, h, true, true, settings...)
	if code := run.end(syscall.SIGTERM); code != 0 {
		t.Errorf("run ended with %d", code)
	}
	eventually(t, h, false, false, settings...)
}

// Who takes the name of the control socket without being root stands in nobody's way, and
// is believed nothing.
func TestANameTakenByAnother(t *testing.T) {
	t.Parallel()
	h := host(t)
	other := h.AgentAs(1000, nil)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other.Path, other.Env = h.Program(self, "squatter"), []string{squat + "=1"}
	start(t, h, other)
	meshtest.Eventually(t, "the name is taken", func() error {
		text, err := h.Output(h.Command("cat", "/proc/net/unix"))
		if err == nil && !strings.Contains(text, "@fairlead-intercept") {
			err = errors.New("not yet")
		}
		return err
	})
	call(t, h, everything, "enable")
	eventually(t, h, true, false, everything...)
	call(t, h, everything, "disable")
	eventually(t, h, false, false, everything...)
	run := start(t, h, h.Agent(everything, "intercept", "run"))
	eventually(t, h, true, false, everything...)
	if !strings.Contains(run.log.String(), "cannot be switched by command") {
		t.Errorf("run says nothing of it:\n%s", run.log)
	}
}

// While rules are replaced by others again and again no connection goes round them: with
// nobody at Envoy's port each is refused, though a server is there.
func TestNoMomentWithoutRules(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, _ string, env []string) {
		hosts := meshtest.NewHosts(t)
		h, far := hosts.Add("host"), hosts.Add("far")
		far.Serve(80, http.NotFoundHandler())
		one, other := append([]string{"APPMESH_APP_PORTS=80"}, env...), append([]string{"FAIRLEAD_DNS_PORT=15053"}, env...)
		call(t, h, one, "enable")
		ctx, cancel := context.WithCancel(t.Context())
		var calls int
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				attempt, done := context.WithTimeout(context.Background(), 20*time.Second)
				c, err := h.Dial(attempt, "tcp4", "far:80")
				done()
				calls++
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("a connection was not refused: %v", err)
					if err == nil {
						_ = c.Close()
					}
				}
			}
		})
		for i := range 30 {
			call(t, h, [][]string{other, one}[i%2], "enable")
		}
		cancel()
		wg.Wait()
		t.Logf("%d connections while the rules were replaced 30 times", calls)
		if calls < 30 {
			t.Errorf("only %d connections were tried", calls)
		}
		call(t, h, nil, "disable")
		c, err := h.Dial(t.Context(), "tcp4", "far:80")
		if err != nil {
			t.Fatalf("without rules: %v", err)
		}
		_ = c.Close()
	})
}
