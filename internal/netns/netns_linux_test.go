package netns

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// newNetwork returns a network that ends with the test.
func newNetwork(t *testing.T) *Network {
	t.Helper()
	w, err := NewNetwork(false)
	if lack := new(LackError); errors.As(err, &lack) {
		t.Skip(lack)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func add(t *testing.T, w *Network) *Host {
	t.Helper()
	h, err := w.Add()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// say has a listener answer every connection with a word, until the test ends.
func say(t *testing.T, l net.Listener, word string) {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, word)
			_ = c.Close()
		}
	}()
}

// hear returns what the other end of a connection says until it closes it.
func hear(c net.Conn, err error) string {
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// TestHostsReachEachOther has two networks with hosts at the same addresses.
func TestHostsReachEachOther(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"one", "two"} {
		w := newNetwork(t)
		a, b := add(t, w), add(t, w)
		at := net.JoinHostPort(a.V4.String(), "8080")
		l, err := a.Listen(at)
		if err != nil {
			t.Fatal(err)
		}
		say(t, l, word)
		if got := hear(b.Dial(t.Context(), "tcp", at)); got != word {
			t.Errorf("from a host of network %s: %q", word, got)
		}
		if got := hear(w.Dial(t.Context(), "tcp", at)); got != word {
			t.Errorf("from the bridge of network %s: %q", word, got)
		}
		if got := hear(a.Dial(t.Context(), "tcp", net.JoinHostPort(b.V4.String(), "8080"))); !strings.Contains(got, "connection refused") {
			t.Errorf("where nobody listens: %q", got)
		}
	}
}

// TestTheMachineIsLeftAlone compares its interfaces, mounts and name server with what they
// were before hosts were made.
func TestTheMachineIsLeftAlone(t *testing.T) {
	look := func() string {
		t.Helper()
		var all bytes.Buffer
		for _, file := range []string{"/proc/self/mountinfo", "/etc/resolv.conf", "/proc/net/route"} {
			b, err := os.ReadFile(file)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			all.Write(b)
		}
		links, err := net.Interfaces()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			all.WriteString(l.Name + "\n")
		}
		return all.String()
	}
	before := look()
	h := add(t, newNetwork(t))
	if err := h.Resolve(netip.MustParseAddr("192.0.2.53")); err != nil {
		t.Fatal(err)
	}
	out, err := h.Output(exec.Command("cat", "/etc/resolv.conf"))
	if err != nil || !strings.HasPrefix(out, "nameserver 192.0.2.53\n") {
		t.Errorf("the host's name server: %q, %v", out, err)
	}
	if after := look(); after != before {
		t.Errorf("the machine is not as before:\n%s\nnow:\n%s", before, after)
	}
}

// TestAnotherUser runs a program that only root can see, as somebody else.
func TestAnotherUser(t *testing.T) {
	t.Parallel()
	h := add(t, newNetwork(t))
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	path, err := h.Bind(shell, "shell")
	if err != nil {
		t.Fatal(err)
	}
	folder, err := h.Folder("own", 4242)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := h.Write("secret", "for 4242\n", 0o600, 4242)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", "id -u; cat "+secret+"; touch "+folder+"/x && echo made")
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4242, Gid: 4242}}
	if out, err := h.Output(cmd); err != nil || out != "4242\nfor 4242\nmade\n" {
		t.Errorf("it says %q, %v", out, err)
	}
	if _, err := os.Stat(secret); err == nil {
		t.Errorf("%s is seen outside", secret)
	}
	if _, err := h.Bind("/does/not/exist", "nothing"); err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("binding what is not there: %v", err)
	}
}

// TestCloseEndsWhatWasStarted closes a network in which a process runs and a relay is used.
func TestCloseEndsWhatWasStarted(t *testing.T) {
	t.Parallel()
	w, err := NewNetwork(false)
	if lack := new(LackError); errors.As(err, &lack) {
		t.Skip(lack)
	}
	if err != nil {
		t.Fatal(err)
	}
	h := add(t, w)
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the process ended with %v, want it killed", err)
	}
}

// TestRelay reaches a host from the machine, and breaks off when it is closed.
func TestRelay(t *testing.T) {
	t.Parallel()
	h := add(t, newNetwork(t))
	inside, err := h.Listen("127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	say(t, inside, "hello")
	silent, err := h.Listen("127.0.0.1:8081")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	to := func(port string) (*Relay, string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return NewRelay(l, func(ctx context.Context) (net.Conn, error) { return h.Dial(ctx, "tcp", "127.0.0.1:"+port) }), l.Addr().String()
	}
	for port, want := range map[string]string{"8080": "hello", "8082": ""} {
		r, at := to(port)
		if got := hear(net.Dial("tcp", at)); got != want {
			t.Errorf("port %s says %q, want %q", port, got, want)
		}
		r.Close()
	}
	r, at := to("8081")
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := silent.Accept(); err != nil { // it is through
		t.Fatal(err)
	}
	r.Close()
	if got := hear(c, nil); got != "" && !strings.Contains(got, "reset") {
		t.Errorf("a connection of a relay that is closed says %q", got)
	}
	if _, err := net.Dial("tcp", at); err == nil {
		t.Error("a relay that is closed accepts connections")
	}
}
