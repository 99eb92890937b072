package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/netns"
)

// fairlead returns the path of fairlead, with the agent beside it, as "make build" leaves them.
func fairlead(t *testing.T) string {
	t.Helper()
	path, err := meshtest.Program("cmd/fairlead")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := meshtest.Program("cmd/fairlead-agent"); err != nil {
		t.Fatal(err)
	}
	return path
}

// running is a demo as its user has it.
type running struct {
	*exec.Cmd
	t    *testing.T
	temp string // where its files are
	out  meshtest.Log
	over chan struct{}
	err  error // valid after over
}

// start starts "fairlead demo" with arguments. The environment is as whoever calls it has
// it, but for env.
func start(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	envoy := meshtest.EnvoyPath(t)
	r := &running{t: t, temp: t.TempDir(), over: make(chan struct{})}
	r.Cmd = exec.Command(fairlead(t), append([]string{"demo"}, args...)...)
	r.Env = append(append(os.Environ(), "ENVOY_PATH="+envoy, "TMPDIR="+r.temp), env...)
	r.Stdout, r.Stderr = &r.out, &r.out
	r.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.err = r.Wait(); close(r.over) }()
	t.Cleanup(func() {
		_ = r.Process.Kill()
		<-r.over
		if t.Failed() {
			t.Logf("the demo wrote:\n%s", r.out.String())
		}
	})
	return r
}

// says waits until the demo has written a text. The whole story takes half a minute, with
// smaller shares a third of that.
func (r *running) says(text string) {
	r.t.Helper()
	err := await(r.t.Context(), strconv.Quote(text), 3*time.Minute, func(context.Context) error {
		select {
		case <-r.over:
			r.t.Fatalf("the demo has ended, without %q: %v", text, r.err)
		default:
		}
		if !strings.Contains(r.out.String(), text) {
			return errors.New("the demo has not said it")
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// end waits for the demo's end and compares its exit code.
func (r *running) end(code int) {
	r.t.Helper()
	<-r.over
	if got := r.ProcessState.ExitCode(); got != code {
		r.t.Errorf("the demo ended with %d, want %d", got, code)
	}
}

// descendants returns the ids of the processes that a process has started, and that these
// have.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]int{}
	for _, file := range stats {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it is gone
		}
		var id, parent int
		behind := string(raw[strings.LastIndexByte(string(raw), ')')+1:])
		_, _ = fmt.Sscan(string(raw), &id)
		if _, err := fmt.Sscan(behind, new(string), &parent); err != nil {
			t.Fatalf("reading %s: %v", file, err)
		}
		children[parent] = append(children[parent], id)
	}
	all := slices.Clone(children[pid])
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// front returns the arguments of the process that is front.
func (r *running) front() []string {
	r.t.Helper()
	for _, pid := range descendants(r.t, r.Process.Pid) {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if args := strings.Split(string(raw), "\x00"); err == nil && slices.Contains(args, "--colour-url") {
			return args
		}
	}
	r.t.Fatal("there is no front")
	return nil
}

// probes puts one end of a link into each network namespace of the demo that is not the
// machine's, and returns a function that says which of them are left: the kernel removes
// both ends of a link with the namespace of one of them.
func (r *running) probes() (left func() []string) {
	r.t.Helper()
	w, err := netns.NewNetwork(false)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(w.Close)
	var why []error
	seen := map[string]bool{}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		r.t.Fatal(err)
	}
	seen[own] = true
	for _, pid := range append(descendants(r.t, r.Process.Pid), r.Process.Pid) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/ns/net", pid))
		if err != nil {
			r.t.Fatal(err)
		}
		for _, file := range threads {
			space, err := os.Readlink(file)
			if err != nil || seen[space] {
				continue // a thread that is gone, or one more
			}
			name := fmt.Sprintf("probe%d", len(seen))
			tid := strings.Split(file, "/")[4]
			if _, err := w.Output(exec.Command("ip", "link", "add", name, "type", "veth", "peer", "name", name, "netns", tid)); err != nil {
				why = append(why, err) // a thread that is gone; another one is in the same
				continue
			}
			seen[space] = true
		}
	}
	left = func() (out []string) {
		var links []net.Interface
		err := w.Do(func() (err error) { links, err = net.Interfaces(); return err })
		if err != nil {
			r.t.Fatal(err)
		}
		for _, l := range links {
			if strings.HasPrefix(l.Name, "probe") {
				out = append(out, l.Name)
			}
		}
		return out
	}
	if n := len(left()); n != 4 {
		r.t.Errorf("the demo has %d network namespaces, want three hosts and what is between them: %v", n, errors.Join(why...))
	}
	return left
}

// machine is what a demo must leave as it is: links, mounts and files of this machine.
func machine(t *testing.T) []string {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range links {
		out = append(out, l.Name)
	}
	for _, file := range []string{"/proc/self/mounts", "/proc/self/net/route", "/etc/resolv.conf", "/etc/hosts"} {
		b, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		out = append(out, strings.Split(string(b), "\n")...)
	}
	named, _ := filepath.Glob("/run/netns/*")
	return append(out, named...)
}

// needNamespaces skips where this machine has none.
func needNamespaces(t *testing.T) {
	t.Helper()
	w, err := netns.NewNetwork(false)
	if lack := new(netns.LackError); errors.As(err, &lack) {
		t.Skip(lack)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
}

const configured = "configured; the first request came through"

// TestStory has the whole story told in each network, one after the other: shares are
// measured.
func TestStory(t *testing.T) {
	needLoopbacks(t)
	for network, proxied := range map[Network]bool{Namespaces: false, Loopback: true} {
		t.Run(string(network), func(t *testing.T) {
			if network == Namespaces {
				needNamespaces(t)
			}
			before := machine(t)
			r := start(t, nil, "--network", string(network), "--stay", "--share", "600")
			r.says(configured)
			args := r.front()
			if got := slices.Contains(args, "--proxy"); got != proxied {
				t.Errorf("front is told of a proxy: %v; its arguments are %q", got, args)
			}
			if network == Namespaces && !slices.Contains(args, "http://colour:8080") {
				t.Errorf("front does not call http://colour:8080; its arguments are %q", args)
			}
			r.says("Yours now")
			r.says("; done | sort | uniq -c\n")
			r.answers()
			if network == Namespaces {
				r.answersAsFront()
			}
			if err := r.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			r.end(0)
			for _, want := range []string{"no request fails: 0 of ", "the next edit is obeyed", "new weights after "} {
				if !strings.Contains(r.out.String(), want) {
					t.Errorf("the demo does not say %q", want)
				}
			}
			if got := strings.Contains(r.out.String(), "front knows of no proxy"); got == proxied {
				t.Errorf("the demo says that front knows of no proxy: %v", got)
			}
			r.left(before)
		})
	}
}

// answers calls what the demo has printed, as a browser on this machine does.
func (r *running) answers() {
	r.t.Helper()
	urls := regexp.MustCompile(`http://127\.[0-9.]+:[0-9]+/?`).FindAllString(r.out.String(), -1)
	client := newClient(nil, nil)
	defer client.CloseIdleConnections()
	for _, url := range urls {
		res, err := client.Get(url)
		if err != nil {
			r.t.Errorf("an address that the demo has printed: %v", err)
			continue
		}
		_ = res.Body.Close()
		if front := strings.HasSuffix(url, "/"); front && res.StatusCode != http.StatusOK {
			r.t.Errorf("front answers %s", res.Status)
		}
	}
	if len(urls) < 3 {
		r.t.Errorf("the demo has printed the addresses %q, want the API's and front's", urls)
	}
}

// answersAsFront runs the line that the demo has printed for whoever wants to call as front
// does.
func (r *running) answersAsFront() {
	r.t.Helper()
	r.says("/colour:8080\n")
	line := regexp.MustCompile(`(?m)^nsenter .*$`).FindString(r.out.String())
	for _, program := range []string{"nsenter", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			r.t.Logf("not tried, because there is no %s: %s", program, line)
			return
		}
	}
	if out, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil || string(out) != green+"\n" {
		r.t.Errorf("%s: %q, %v; want green, which has all weight in the end", line, out, err)
	}
}

// left fails the test for what a demo that ended by itself has left.
func (r *running) left(before []string) {
	r.t.Helper()
	if files, _ := os.ReadDir(r.temp); len(files) > 0 {
		r.t.Errorf("the demo has left the file %s", files[0].Name())
	}
	if diff := cmp.Diff(before, machine(r.t)); diff != "" {
		r.t.Errorf("the machine is not as before (-before +now):\n%s", diff)
	}
}

// TestEnds ends a demo while it runs, by Ctrl-C and by SIGKILL, which it cannot answer.
func TestEnds(t *testing.T) {
	t.Parallel()
	needLoopbacks(t)
	for _, network := range []Network{Namespaces, Loopback} {
		for name, signal := range map[string]syscall.Signal{"interrupted": syscall.SIGINT, "killed": syscall.SIGKILL} {
			t.Run(string(network)+" "+name, func(t *testing.T) {
				t.Parallel()
				left := func() []string { return nil }
				if network == Namespaces {
					needNamespaces(t)
				}
				before := machine(t)
				r := start(t, nil, "--network", string(network))
				r.says(configured)
				if network == Namespaces {
					left = r.probes()
				}
				all := descendants(t, r.Process.Pid)
				if len(all) < 10 {
					t.Errorf("the demo has %d processes, want a server, three of the application, three agents and three Envoys", len(all))
				}
				if err := r.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				if signal == syscall.SIGKILL {
					r.end(-1)
					// Files stay: the kernel knows nothing of them.
					if err := os.RemoveAll(r.temp); err != nil {
						t.Error(err)
					}
				} else {
					r.end(1)
					if !strings.HasSuffix(r.out.String(), "fairlead: interrupted\n") {
						t.Error("the demo does not say last that it was interrupted")
					}
				}
				for _, pid := range all {
					awaitGone(t, pid)
				}
				// The kernel takes namespaces away one after the other, those of all tests.
				err := await(t.Context(), "the end of the namespaces", 3*time.Minute, func(context.Context) error {
					if l := left(); len(l) > 0 {
						return fmt.Errorf("%d of them are there", len(l))
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if err := os.MkdirAll(r.temp, 0o700); err != nil {
					t.Error(err)
				}
				r.left(before)
			})
		}
	}
}

// TestWithoutNamespaces has a machine, one without the program ip, that cannot have them.
func TestWithoutNamespaces(t *testing.T) {
	t.Parallel()
	needLoopbacks(t)
	path := "PATH=" + t.TempDir()
	why := "there is no program ip"
	if os.Geteuid() != 0 {
		why = "only root can make network namespaces"
	}
	r := start(t, []string{path}, "--network", string(Namespaces))
	r.end(1)
	if got, want := lastLine(r.out.String()), "fairlead: --network is namespaces, which cannot be had here: "+why; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, needs) {
		t.Errorf("it says %q, want %q and what is needed", got, want)
	}
	r = start(t, []string{path})
	r.says("no interception: " + why)
	r.says("; it needs " + needs + "\n")
	r.says(configured)
	if args := r.front(); !slices.Contains(args, "--proxy") {
		t.Errorf("front is told of no proxy; its arguments are %q", args)
	}
	if err := r.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	r.end(1)
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
