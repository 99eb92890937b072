package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/agent/status"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// pid returns the process id of the Envoy that runs.
func (r *running) pid() int {
	r.t.Helper()
	all := regexp.MustCompile(`msg="Envoy started[^"]*".* pid=(\d+)`).FindAllStringSubmatch(r.log.String(), -1)
	if len(all) == 0 {
		r.t.Fatalf("no Envoy was started: %s", r.log)
	}
	n, err := strconv.Atoi(all[len(all)-1][1])
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// served is an Envoy of a small control plane, with a listener that passes everything on.
func served(t *testing.T, more vars, change func(*RunConfig)) (r *running, ads *adsServer, url string) {
	t.Helper()
	envoy := envoyBinary(t)
	application, applicationPort := listen(t, "127.0.0.1:0")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })}
	go func() { _ = server.Serve(application) }()
	t.Cleanup(func() { server.Close() })
	ip := loopback(t)
	l, port := listen(t, "127.0.0.1:0")
	ads = newADS()
	ads.resources = proxyTo(t, ip, applicationPort)
	ads.serve(t, l, nil)
	return start(t, envoy, bound(ip, port).with(more), change), ads, "http://" + ip + ":15000/"
}

func answers(url string) bool {
	client := http.Client{Timeout: waitTime, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// An Envoy that is killed is back, and tells its agent's server so.
func TestEnvoyIsKilled(t *testing.T) {
	t.Parallel()
	r, ads, url := served(t, vars{"APPNET_ENVOY_RESTART_COUNT": "1", "APPNET_AGENT_ADMIN_MODE": "tcp"}, nil)
	probe := r.probe()
	if err := probe.Wait(t.Context(), 0, waitTime); err != nil {
		t.Fatal(err)
	}
	ads.next(t)
	first := r.pid()
	before := time.Now()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.waitLog("Envoy started again")
	if err := probe.Wait(t.Context(), 0, waitTime); err != nil {
		t.Fatal(err)
	}
	t.Logf("back after %v", time.Since(before))
	if !answers(url) {
		t.Error("the new Envoy does not serve")
	}
	ads.next(t)
	got, err := probe.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.EnvoyRestartCount != "1" || got.EnvoyPid != strconv.Itoa(r.pid()) || r.pid() == first || got.More.LastEnd == nil || got.More.LastEnd.Code != 137 {
		t.Errorf("status %+v", got)
	}
	eventually(t, "the status says connected", func() bool {
		got, err := probe.Status(t.Context())
		return err == nil && got.ConnectionStatus == status.Connected && got.More.Why == "" && got.Disconnected == nil
	})
	// The restarts are used up: the agent ends as Envoy does.
	if err := syscall.Kill(r.pid(), syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	r.wait(134)
}

// One that is killed again and again, each time when it serves, is started again without a
// pause each time.
func TestEnvoyIsKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	const kills = 6
	r, _, url := served(t, vars{"APPNET_ENVOY_RESTART_COUNT": strconv.Itoa(kills)}, nil)
	for i := range kills {
		eventually(t, "the agent knows that Envoy serves", func() bool { return strings.Count(r.log.String(), "Envoy serves") > i })
		if err := syscall.Kill(r.pid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "Envoy is started again", func() bool { return strings.Count(r.log.String(), "Envoy started again") > i })
	}
	eventually(t, "Envoy answers", func() bool { return answers(url) })
	if n := strings.Count(r.log.String(), "after=0s"); n != kills {
		t.Errorf("Envoy was started again without a pause %d times, want %d:\n%s", n, kills, r.log)
	}
	r.signals <- syscall.SIGINT
	<-r.ended
}

func (r *running) probe() Probe {
	r.t.Helper()
	return Probe{server: r.settings.Supervision.Server, admin: r.settings.Admin, own: r.settings.ConfigFile != ""}
}

// An Envoy that cannot start is tried as often as is said, and its code is passed on.
func TestRestartsAreUsedUp(t *testing.T) {
	t.Parallel()
	note := filepath.Join(t.TempDir(), "note")
	r := start(t, script(t, "echo started >>"+note+"; exit 7"), bound("127.0.0.2", "1").with(vars{"APPNET_ENVOY_RESTART_COUNT": "2"}), nil)
	r.wait(7)
	text, err := os.ReadFile(note)
	if err != nil || strings.Count(string(text), "started") != 3 {
		t.Errorf("Envoy noted %q, %v, want three starts", text, err)
	}
}

// A signal that comes while there is no Envoy ends the agent.
func TestEndBetweenTwoEnvoys(t *testing.T) {
	t.Parallel()
	r := start(t, script(t, "exit 3"), bound("127.0.0.2", "1").with(vars{"APPNET_ENVOY_RESTART_COUNT": "10"}), nil)
	r.waitLog("after=2s")
	r.signals <- syscall.SIGTERM
	r.wait(3)
	if n := strings.Count(r.log.String(), "Envoy started"); n != 5 {
		t.Errorf("Envoy was started %d times: %s", n, r.log)
	}
}

// An Envoy that was told to end by its own interface is not started again.
func TestEnvoyIsToldToQuit(t *testing.T) {
	t.Parallel()
	r, _, url := served(t, vars{"APPNET_ENVOY_RESTART_COUNT": "3"}, nil)
	eventually(t, "Envoy serves", func() bool { return answers(url) })
	body, err := newAdminClient(r.settings.Admin).do(t.Context(), http.MethodPost, "/quitquitquit")
	if err != nil {
		t.Fatal(err)
	}
	body.Close()
	r.wait(0)
}

// All output goes to a file that is kept from growing.
func TestEnvoyLogFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	more := vars{
		"APPNET_ENVOY_LOG_DESTINATION": dir, "APPNET_AGENT_MAX_LOG_FILE_SIZE": "0.01", "APPNET_AGENT_MAX_RETENTION_COUNT": "2",
		"ENVOY_LOG_LEVEL": "debug", "ENVOY_OUTLIER_DETECTION_EVENT_LOG_PATH": "/dev/stdout",
	}
	r, _, url := served(t, more, func(c *RunConfig) {
		var err error
		if c.LogFile, err = OpenLogFile(c.Settings); err != nil {
			t.Error(err)
		}
		t.Cleanup(func() { c.LogFile.Close() })
	})
	eventually(t, "Envoy serves", func() bool { return answers(url) })
	eventually(t, "the log is put aside", func() bool {
		files, err := filepath.Glob(filepath.Join(dir, "appnet_envoy.log.*"))
		return err == nil && len(files) == 2
	})
	r.signals <- syscall.SIGINT
	r.wait(0)
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Errorf("files %v, %v", files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Size() > 10486+4096 {
			t.Errorf("%s has %d bytes, %v", f.Name(), info.Size(), err)
		}
	}
}

// The command that asks: of an agent that is there, one whose server is off, and none.
func TestReady(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]vars{"server": {"APPNET_AGENT_ADMIN_MODE": "uds", "APPNET_AGENT_ADMIN_UDS_PATH": "SOCKET"}, "no server": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if more["APPNET_AGENT_ADMIN_UDS_PATH"] != "" {
				more["APPNET_AGENT_ADMIN_UDS_PATH"] = filepath.Join(t.TempDir(), "agent.sock")
			}
			r, ads, _ := served(t, more, nil)
			variables := vars{"FAIRLEAD_BIND_ADDRESS": r.settings.Placement.Bind.String()}.with(more)
			probe, err := ReadProbe(variables.lookup)
			if err != nil {
				t.Fatal(err)
			}
			if err := probe.Wait(t.Context(), 0, waitTime); err != nil {
				t.Fatal(err)
			}
			ads.next(t)
			r.signals <- syscall.SIGINT
			r.wait(0)
			if err := probe.Ready(t.Context()); err == nil || strings.Contains(err.Error(), "envoy-admin") || strings.Contains(err.Error(), "\n") {
				t.Errorf("without an agent: %v", err)
			}
		})
	}
}

// Without a configuration Envoy is live, and not ready.
func TestNotReady(t *testing.T) {
	t.Parallel()
	envoy := envoyBinary(t)
	l, port := listen(t, "127.0.0.1:0")
	l.Close()
	r := start(t, envoy, bound(loopback(t), port).with(vars{"APPNET_AGENT_ADMIN_MODE": "tcp", "ENVOY_INITIAL_FETCH_TIMEOUT": "1"}), nil)
	probe := r.probe()
	withoutServer := probe
	withoutServer.server = StatusServer{}
	eventually(t, "Envoy is live", func() bool {
		got, err := probe.Status(t.Context())
		return err == nil && got.EnvoyState == status.StateLive && strings.Contains(got.More.Why, "cannot be reached")
	})
	for _, p := range []Probe{probe, withoutServer} {
		if err := p.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "first configuration") {
			t.Errorf("ready says %v", err)
		}
	}
}

// Why the control plane refuses is in the status, in its own words.
func TestStatusOfARefusedEnvoy(t *testing.T) {
	t.Parallel()
	envoy := envoyBinary(t)
	l, port := listen(t, "127.0.0.1:0")
	ads := newADS()
	ads.refuse = grpcstatus.Error(codes.PermissionDenied, "not your resource")
	ads.serve(t, l, nil)
	r := start(t, envoy, bound(loopback(t), port).with(vars{"APPNET_AGENT_ADMIN_MODE": "tcp"}), nil)
	eventually(t, "the status has the reason", func() bool {
		got, err := r.probe().Status(t.Context())
		return err == nil && got.HealthStatus == status.Unhealthy && got.More.LastRefusal != nil && got.More.LastRefusal.Code == 7 &&
			strings.Contains(got.More.Why, "not your resource (code 7: this key may not serve this resource)") && got.ConnectionStatus == status.NotConnected
	})
	r.waitLog("not your resource")
}

// A server that cannot listen is told before Envoy starts.
func TestStatusServerCannotListen(t *testing.T) {
	t.Parallel()
	l, port := listen(t, "127.0.0.1:0")
	defer l.Close()
	r := start(t, script(t, "exit 0"), bound("127.0.0.2", "1").with(vars{
		"APPNET_AGENT_ADMIN_MODE": "tcp", "APPNET_AGENT_HTTP_BIND_ADDRESS": "127.0.0.1", "APPNET_AGENT_HTTP_PORT": port,
	}), nil)
	<-r.ended
	checkRefusal(t, r.err, "APPNET_AGENT_HTTP_PORT", "127.0.0.1:"+port)
}

// shell is an application that is a script.
func shell(t *testing.T, body string) func(*RunConfig) {
	path := script(t, body)
	return func(c *RunConfig) {
		c.Application = &Application{Command: []string{path}, Stdout: c.Stdout, Stderr: c.Stderr}
	}
}

// exists waits for a file.
func exists(t *testing.T, file string) {
	t.Helper()
	eventually(t, file+" is there", func() bool { _, err := os.Stat(file); return err == nil })
}

func TestApplication(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		trap string
		send []os.Signal
		want int
		note string
	}{
		"ends by itself":   {"exit 5", nil, 5, ""},
		"told to end":      {"trap 'echo TERM >>NOTE; exit 9' TERM", []os.Signal{syscall.SIGTERM}, 9, "TERM\n"},
		"interrupted":      {"trap 'echo INT >>NOTE; exit 8' INT", []os.Signal{syscall.SIGINT}, 8, "INT\n"},
		"told other":       {"trap 'echo USR2 >>NOTE; exit 6' USR2", []os.Signal{syscall.SIGUSR2}, 6, "USR2\n"},
		"told twice":       {"trap '' TERM INT", []os.Signal{syscall.SIGINT, syscall.SIGINT}, 137, ""},
		"does not listen":  {"trap '' TERM", []os.Signal{syscall.SIGTERM}, 137, ""},
		"dies of a signal": {":", []os.Signal{syscall.SIGUSR2}, 128 + int(syscall.SIGUSR2), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			note := filepath.Join(t.TempDir(), "note")
			ready := note + ".ready"
			body := strings.ReplaceAll(c.trap, "NOTE", note) + "\n: >" + ready + "\nwhile :; do sleep 0.05; done"
			r, _, _ := served(t, vars{"FAIRLEAD_APPLICATION_STOP_TIME_S": "1"}, shell(t, body))
			if c.send != nil {
				exists(t, ready)
			}
			for _, s := range c.send {
				r.signals <- s
			}
			r.wait(c.want)
			if text, _ := os.ReadFile(note); string(text) != c.note {
				t.Errorf("the application noted %q, want %q", text, c.note)
			}
			log := r.log.String()
			if !strings.Contains(log, "Envoy serves, the application is started") || strings.Index(log, "the application ended") > strings.Index(log, `msg="Envoy ended`) {
				t.Errorf("log %s", log)
			}
		})
	}
}

// The application goes on while Envoy is started again, and is told to end when it cannot be.
func TestApplicationOutlivesEnvoy(t *testing.T) {
	t.Parallel()
	note := filepath.Join(t.TempDir(), "note")
	r, _, url := served(t, vars{"APPNET_ENVOY_RESTART_COUNT": "1"}, shell(t, "trap 'echo TERM >>"+note+"; exit 4' TERM\necho started >>"+note+"\nwhile :; do sleep 0.05; done"))
	exists(t, note)
	if err := syscall.Kill(r.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.waitLog("Envoy started again")
	eventually(t, "Envoy serves again", func() bool { return answers(url) })
	if err := syscall.Kill(r.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.wait(137)
	if text, _ := os.ReadFile(note); string(text) != "started\nTERM\n" {
		t.Errorf("the application noted %q", text)
	}
}

// An application is not started when the end comes first, nor when it is not there.
func TestApplicationIsNotStarted(t *testing.T) {
	t.Parallel()
	note := filepath.Join(t.TempDir(), "note")
	ready := note + ".ready"
	never := script(t, "trap 'exit 0' TERM\n: >"+ready+"\nwhile :; do sleep 0.05; done")
	r := start(t, never, bound(loopback(t), "1"), shell(t, "echo started >"+note))
	exists(t, ready)
	r.signals <- syscall.SIGTERM
	r.wait(0)
	if _, err := os.Stat(note); err == nil {
		t.Error("the application was started")
	}
	r, _, _ = served(t, vars{}, func(c *RunConfig) {
		c.Application = &Application{Command: []string{"/none"}, Stdout: c.Stdout, Stderr: c.Stderr}
	})
	r.wait(126)
}

// TestStatusGolden shows the status in each situation.
func TestStatusGolden(t *testing.T) {
	t.Parallel()
	live := sample{state: "LIVE", connected: true, streams: 1, updates: 2, configured: true, accepted: 1}
	change := func(f func(*sample)) sample { s := live; f(&s); return s }
	for name, play := range map[string]func(m *monitor, tick func(time.Duration)){
		"starting": func(m *monitor, _ func(time.Duration)) {
			m.take(sample{}, net.ErrClosed)
			m.sample.state = status.StateUnreachable
		},
		"initializing": func(m *monitor, _ func(time.Duration)) {
			m.take(sample{state: "INITIALIZING", connected: true, streams: 1}, nil)
		},
		"serving": func(m *monitor, _ func(time.Duration)) { m.take(live, nil) },
		"rejected": func(m *monitor, _ func(time.Duration)) {
			m.take(sample{state: "LIVE", connected: true, streams: 1, updates: 2, rejected: 1}, nil)
		},
		"listener-failed": func(m *monitor, _ func(time.Duration)) { m.take(change(func(s *sample) { s.failures = 1 }), nil) },
		"unreachable": func(m *monitor, tick func(time.Duration)) {
			m.take(live, nil)
			tick(time.Minute)
			m.take(change(func(s *sample) { s.connected, s.connectFail = false, 1 }), nil)
			tick(time.Hour)
		},
		"away-too-long": func(m *monitor, tick func(time.Duration)) {
			m.take(live, nil)
			tick(time.Minute)
			m.take(change(func(s *sample) { s.connected, s.connectFail = false, 1 }), nil)
			tick(7 * 24 * time.Hour)
		},
		"refused": func(m *monitor, tick func(time.Duration)) {
			m.take(live, nil)
			tick(time.Minute)
			m.closed(16, "credentials have expired")
			m.closed(0, "a matter of course")
			m.take(change(func(s *sample) { s.connected, s.streams = false, 4 }), nil)
		},
		"restarting": func(m *monitor, tick func(time.Duration)) {
			m.take(live, nil)
			tick(time.Minute)
			m.ended(137)
		},
		"restarted": func(m *monitor, tick func(time.Duration)) {
			m.take(live, nil)
			m.ended(137)
			tick(time.Second)
			m.started(18)
			m.take(live, nil)
		},
		"draining": func(m *monitor, _ func(time.Duration)) { m.take(live, nil); m.enter(status.PhaseDraining) },
		"own-bootstrap": func(m *monitor, _ func(time.Duration)) {
			m.settings.ConfigFile = "/own.yaml"
			m.take(sample{state: "LIVE"}, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _, err := ReadSettings(base().with(vars{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": "testdata/credentials", "AWS_PROFILE": "shop"}).lookup)
			if err != nil {
				t.Fatal(err)
			}
			m := newMonitor(RunConfig{Settings: s, Version: "1.0.0", Logger: slog.New(slog.DiscardHandler)}, newAdminClient(s.Admin))
			now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
			m.now = func() time.Time { return now }
			m.began, m.lost = now, now
			now = now.Add(1500 * time.Millisecond)
			m.started(17)
			play(m, func(d time.Duration) { now = now.Add(d) })
			m.looked = now // so that nobody is asked
			got, err := json.MarshalIndent(m.report(context.Background()), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			golden.File(t, filepath.Join("testdata", "status", name+".json"), string(got))
		})
	}
}
