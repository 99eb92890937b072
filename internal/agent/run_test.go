package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// bound is an environment for an Envoy with an address of its own, which is not started
// again. The port given is the control plane's, on 127.0.0.1.
func bound(ip, port string) vars {
	return base().with(vars{
		"FAIRLEAD_XDS_ENDPOINT": "127.0.0.1:" + port, "FAIRLEAD_XDS_PLAINTEXT": "1", "FAIRLEAD_BIND_ADDRESS": ip,
		"ENVOY_CONCURRENCY": "1", "LISTENER_DRAIN_WAIT_TIME_S": "5", "ENVOY_OUTLIER_DETECTION_EVENT_LOG_PATH": "/dev/null",
		"APPNET_ENVOY_RESTART_COUNT": "0",
	})
}

func TestRunExitCodes(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]int{
		"exit 0":         0,
		"exit 7":         7,
		"kill -KILL $$":  137,
		"kill -ABRT $$":  134,
		"exec /no/where": 127,
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			r := start(t, script(t, body), bound("127.0.0.2", "1"), nil)
			r.wait(want)
			if !strings.Contains(r.log.String(), "Envoy ended by itself") {
				t.Errorf("log %s", r.log)
			}
		})
	}
}

func TestRunCannotStart(t *testing.T) {
	t.Parallel()
	r := start(t, filepath.Join(t.TempDir(), "none"), bound("127.0.0.2", "1"), nil)
	<-r.ended
	if r.code != 1 || r.err == nil || !strings.Contains(r.err.Error(), "starting Envoy") {
		t.Errorf("code %d, error %v", r.code, r.err)
	}
}

// The bootstrap is private while Envoy runs, and gone afterwards.
func TestRunBootstrapFile(t *testing.T) {
	t.Parallel()
	note := filepath.Join(t.TempDir(), "note")
	r := start(t, script(t, `stat -c '%a %n' "$2" "$(dirname "$2")" >`+note+`; echo "$@" | sed 's/^-c [^ ]* //' >>`+note),
		bound("127.0.0.2", "1"), nil)
	r.wait(0)
	text, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 3 {
		t.Fatalf("note %q", text)
	}
	mode, file, _ := strings.Cut(lines[0], " ")
	folderMode, folder, _ := strings.Cut(lines[1], " ")
	if mode != "600" || folderMode != "700" || filepath.Ext(file) != ".json" {
		t.Errorf("bootstrap file %s %s in folder %s", mode, file, folderMode)
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", folder, err)
	}
	want := "-l info --drain-time-s 5 --disable-hot-restart --skip-deprecated-logs --concurrency 1"
	if diff := cmp.Diff(want, lines[2]); diff != "" {
		t.Errorf("arguments differ (-want +got):\n%s", diff)
	}
}

// A bootstrap of the user's own is given to Envoy as it is.
func TestRunOwnBootstrap(t *testing.T) {
	t.Parallel()
	own := filepath.Join(t.TempDir(), "own.yaml")
	if err := os.WriteFile(own, []byte("node: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, script(t, `test "$2" = `+own), vars{"ENVOY_CONFIG_FILE": own}, nil)
	r.wait(0)
	if _, err := os.Stat(own); err != nil {
		t.Error(err)
	}
}

func TestRunSignals(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		trap string
		send []os.Signal
		want int
		note string
	}{
		"TERM with nothing to drain": {"trap 'echo TERM >>NOTE; exit 0' TERM", []os.Signal{syscall.SIGTERM}, 0, "TERM\n"},
		"QUIT with nothing to drain": {"trap 'echo TERM >>NOTE; exit 0' TERM", []os.Signal{syscall.SIGQUIT}, 0, "TERM\n"},
		"INT":                        {"trap 'echo TERM >>NOTE; exit 5' TERM", []os.Signal{syscall.SIGINT}, 5, "TERM\n"},
		"HUP is passed on":           {"trap 'echo HUP >>NOTE; exit 3' HUP", []os.Signal{syscall.SIGHUP}, 3, "HUP\n"},
		"USR1 is passed on":          {"trap 'echo USR1 >>NOTE; exit 4' USR1", []os.Signal{syscall.SIGUSR1}, 4, "USR1\n"},
		"Envoy that does not end":    {"trap '' TERM", []os.Signal{syscall.SIGTERM}, 137, ""},
		"twice INT kills":            {"trap '' TERM", []os.Signal{syscall.SIGINT, syscall.SIGINT}, 137, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			note := filepath.Join(t.TempDir(), "note")
			ready := note + ".ready"
			r := start(t, script(t, strings.ReplaceAll(c.trap, "NOTE", note)+"\n: >"+ready+"\nwhile :; do sleep 0.05; done"),
				bound(loopback(t), "1"), nil)
			eventually(t, "the script is ready", func() bool { _, err := os.Stat(ready); return err == nil })
			for _, s := range c.send {
				r.signals <- s
			}
			r.wait(c.want)
			text, _ := os.ReadFile(note)
			if string(text) != c.note {
				t.Errorf("Envoy noted %q, want %q", text, c.note)
			}
		})
	}
}

// A script's output goes where it should when that cannot be opened by name.
func TestRunOutputToSocket(t *testing.T) {
	t.Parallel()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	r := start(t, script(t, "echo hello >/dev/stdout"), bound("127.0.0.2", "1"), func(c *RunConfig) { c.Stdout = theirs })
	r.wait(0)
	theirs.Close()
	var got [100]byte
	if n, err := ours.Read(got[:]); err != nil || string(got[:n]) != "hello\n" {
		t.Errorf("read %q, %v", got[:n], err)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	open := sample{connected: true}
	// stream is the n-th stream, with as many answers by it and before.
	stream := func(n, updates uint64, connected bool) sample {
		return sample{streams: n, updates: updates, connected: connected}
	}
	noAnswer := func(fails uint64) sample { return sample{streams: 1, updates: 2, connectFail: fails} }
	dialling := func(fails uint64) sample { s := noAnswer(fails); s.connected = true; return s }
	cases := map[string]struct {
		samples []sample
		want    standing // after the last
	}{
		"nothing yet":                 {[]sample{{}, open, open, open, open, open, open}, standingUnknown},
		"an answer came":              {[]sample{stream(1, 1, true)}, standingConnected},
		"no answer yet":               {[]sample{stream(1, 0, true), stream(1, 0, true)}, standingUnknown},
		"no answer, and it lasts":     {[]sample{stream(1, 0, true), stream(1, 0, true), stream(1, 0, true), stream(1, 0, true), stream(1, 0, true)}, standingConnected},
		"refused at once":             {[]sample{stream(1, 0, false), stream(2, 0, false)}, standingRefused},
		"refused after a thought":     {[]sample{stream(1, 0, true), stream(2, 0, true), stream(2, 0, true), stream(2, 0, false)}, standingRefused},
		"one stream ended":            {[]sample{stream(1, 2, true), stream(1, 2, false)}, standingConnected},
		"renewed":                     {[]sample{stream(1, 2, true), stream(2, 2, true), stream(2, 2, true)}, standingConnected},
		"refused later":               {[]sample{stream(1, 2, true), stream(1, 2, false), stream(3, 2, false)}, standingRefused},
		"refused, then taken in":      {[]sample{stream(1, 0, false), stream(2, 0, false), stream(3, 2, true)}, standingConnected},
		"unreachable from the start":  {[]sample{{connectFail: 1}}, standingUnreachable},
		"unreachable later":           {[]sample{stream(1, 2, true), noAnswer(1)}, standingUnreachable},
		"unreachable without a sound": {[]sample{stream(1, 2, true), dialling(1), dialling(1), dialling(1), dialling(1), dialling(1), dialling(1)}, standingUnreachable},
		"back":                        {[]sample{stream(1, 2, true), noAnswer(1), {streams: 2, updates: 4, connectFail: 1, connected: true}}, standingConnected},
		"no trust":                    {[]sample{{connectFail: 1, tlsFail: 1}}, standingUntrusted},
		"signer failed":               {[]sample{{signFail: 1}}, standingUnsigned},
	}
	for name, c := range cases {
		var j judge
		var got standing
		at := time.Unix(1000, 0)
		for _, s := range c.samples {
			at = at.Add(time.Second)
			got = j.next(s, at)
		}
		if got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestAdminHost(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string]string{"": "127.0.0.1", "ENVOY_ADMIN_ACCESS_ENABLE_IPV6": "::1"} {
		s, _, err := ReadSettings(base().with(vars{variable: "1"}).lookup)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(adminHost(s.Admin.Address)); got != want {
			t.Errorf("with %q: %s, want %s", variable, got, want)
		}
	}
}
