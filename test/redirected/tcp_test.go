//go:build linux

package redirected

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

const redisService = "redis.test.local"

// A real Redis on two nodes behind a TCP service: connections are shared by weight, a
// target of weight 0 gets none, and what is open stays with its server.
func TestRedis(t *testing.T) {
	t.Parallel()
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("there is no redis-server; Debian's package is redis-server")
	}
	s := newStage(t, `{}`)
	s.serviceName(redisService)
	for _, name := range []string{"one", "two"} {
		s.redis(redis, name)
	}
	s.plane.Put(t, "/meshes/test/virtualRouters", `{"virtualRouterName":"redis","spec":{"listeners":[{"portMapping":{"port":6379,"protocol":"tcp"}}]}}`)
	s.plane.Put(t, "/meshes/test/virtualRouter/redis/routes", `{"routeName":"all","spec":`+tcpWeights("one", 1, "two", 1)+`}`)
	s.plane.Put(t, "/meshes/test/virtualServices", `{"virtualServiceName":"`+redisService+`","spec":{"provider":{"virtualRouter":{"virtualRouterName":"redis"}}}}`)
	s.caller(redisService)
	meshtest.Eventually(t, "Redis answers", func() error { _, err := s.who(); return err })

	// 200 draws at 0.5 have a standard deviation of 3.5 points.
	if got := s.shareOf(t, "two", 200); got < 0.34 || got > 0.66 {
		t.Errorf("two got a share of %.2f of the connections, want 0.50", got)
	}
	open, err := s.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	mine, err := open.ask("GET who")
	if err != nil {
		t.Fatal(err)
	}
	great := strings.Repeat("0123456789abcdef", 8<<20/16)
	if got, err := open.ask("SET great " + great); err != nil || got != "+OK" {
		t.Fatalf("SET of 8 MiB: %.40q %v", got, err)
	}
	if got, err := open.ask("GET great"); err != nil || got != great {
		t.Errorf("GET of 8 MiB: %d bytes %v", len(got), err)
	}

	other := map[string]string{"one": "two", "two": "one"}[mine]
	s.plane.Put(t, "/meshes/test/virtualRouter/redis/routes/all", `{"spec":`+tcpWeights(mine, 0, other, 1)+`}`)
	meshtest.Eventually(t, "new connections go to "+other, func() error {
		if got := s.shareOf(t, other, 20); got < 1 {
			return fmt.Errorf("a share of %.2f", got)
		}
		return nil
	})
	if got, err := open.ask("GET who"); err != nil || got != mine {
		t.Errorf("the connection that was open: %q %v, want still %q", got, err, mine)
	}
	// What the service has no route for on another port is no way out.
	wantClosed(t, s.front, redisService+":6380")
}

// tcpWeights returns the spec of a TCP route.
func tcpWeights(namesAndWeights ...any) string {
	var targets []string
	for i := 0; i+1 < len(namesAndWeights); i += 2 {
		targets = append(targets, fmt.Sprintf(`{"virtualNode":%q,"weight":%d}`, namesAndWeights[i], namesAndWeights[i+1]))
	}
	return `{"tcpRoute":{"action":{"weightedTargets":[` + strings.Join(targets, ",") + `]}}}`
}

// redis adds a host with a Redis, which listens on loopback only and knows the host's
// name, behind an Envoy.
func (s *stage) redis(binary, name string) {
	s.t.Helper()
	s.node(name, fmt.Sprintf(`{"listeners":[{"portMapping":{"port":6379,"protocol":"tcp"}}],"serviceDiscovery":{"dns":{"hostname":%q}}}`, name))
	h, proxy := s.start(name, 6379)
	cmd := h.Command(binary, "--port", "6379", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--protected-mode", "no")
	cmd.Dir = "/"
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	log := &meshtest.Log{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := h.Start(cmd); err != nil {
		s.t.Fatalf("starting Redis: %v", err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("Redis on %s:\n%s", name, log)
		}
	})
	meshtest.Eventually(s.t, "Redis is up", func() error {
		c, err := dialRedis(h, "127.0.0.1:6379")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.ask("SET who " + name)
		return err
	})
	proxy.Ready(s.t)
}

// redisConn is a connection that speaks Redis's protocol.
type redisConn struct {
	net.Conn
	r *bufio.Reader
}

func dialRedis(from *meshtest.Host, address string) (*redisConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &redisConn{c, bufio.NewReader(c)}, nil
}

// ask sends a command whose words hold no spaces, and returns the answer: a bulk string's
// content, or else the answer's line.
func (c *redisConn) ask(command string) (string, error) {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	words := strings.Fields(command)
	fmt.Fprintf(c, "*%d\r\n", len(words))
	for _, w := range words {
		if _, err := fmt.Fprintf(c, "$%d\r\n%s\r\n", len(w), w); err != nil {
			return "", err
		}
	}
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	var n int
	switch {
	case strings.HasPrefix(line, "-"):
		return "", fmt.Errorf("redis answers %s", line)
	case !strings.HasPrefix(line, "$"):
		return line, nil
	}
	if _, err := fmt.Sscan(line[1:], &n); err != nil || n < 0 {
		return "", fmt.Errorf("redis answers %s %w", line, err)
	}
	b := make([]byte, n+2)
	_, err = io.ReadFull(c.r, b)
	return string(b[:n]), err
}

func (s *stage) connect() (*redisConn, error) { return dialRedis(s.front, redisService+":6379") }

// who returns which Redis a new connection comes to.
func (s *stage) who() (string, error) {
	c, err := s.connect()
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.ask("GET who")
}

// shareOf returns the share that a Redis gets of n new connections.
func (s *stage) shareOf(t *testing.T, name string, n int) float64 {
	t.Helper()
	got := 0
	for range n {
		who, err := s.who()
		if err != nil {
			t.Fatal(err)
		}
		if who == name {
			got++
		}
	}
	return float64(got) / float64(n)
}

// A protocol in which the server speaks first, on a service that a virtual node provides.
func TestServerSpeaksFirst(t *testing.T) {
	t.Parallel()
	s := newStage(t, `{"egressFilter":{"type":"ALLOW_ALL"}}`)
	s.serviceName("mail.test.local")
	s.node("mail", `{"listeners":[{"portMapping":{"port":2525,"protocol":"tcp"}}],"serviceDiscovery":{"dns":{"hostname":"mail"}}}`)
	h, proxy := s.start("mail", 2525)
	greet(h, 2525)
	s.plane.Put(t, "/meshes/test/virtualServices", `{"virtualServiceName":"mail.test.local","spec":{"provider":{"virtualNode":{"virtualNodeName":"mail"}}}}`)
	s.caller("mail.test.local")
	proxy.Ready(t)
	meshtest.Eventually(t, "the server greets", func() error {
		got, err := greeted(s.front, "mail.test.local:2525")
		if err == nil && got != "hello from mail" {
			err = fmt.Errorf("got %q", got)
		}
		return err
	})
}

// A connection that is open outlives edits of what it does not use: it is still there
// when all that the edits have replaced is drained and gone.
func TestAnOpenConnectionOutlivesEdits(t *testing.T) {
	t.Parallel()
	const mail = "mail.test.local"
	s := newStage(t, `{}`)
	s.serviceName(mail)
	s.node("mail", `{"listeners":[{"portMapping":{"port":2525,"protocol":"tcp"}}],"serviceDiscovery":{"dns":{"hostname":"mail"}}}`)
	h, proxy := s.start("mail", 2525)
	greet(h, 2525)
	s.plane.Put(t, "/meshes/test/virtualRouters", `{"virtualRouterName":"mail","spec":{"listeners":[{"portMapping":{"port":2525,"protocol":"tcp"}}]}}`)
	s.plane.Put(t, "/meshes/test/virtualRouter/mail/routes", `{"routeName":"all","spec":`+tcpWeights("mail", 1)+`}`)
	s.plane.Put(t, "/meshes/test/virtualServices", `{"virtualServiceName":"`+mail+`","spec":{"provider":{"virtualRouter":{"virtualRouterName":"mail"}}}}`)
	s.node("blue", meshtest.NodeSpec("blue", port))
	s.plane.Put(t, "/meshes/test/virtualServices", `{"virtualServiceName":"`+service+`","spec":{"provider":{"virtualNode":{"virtualNodeName":"blue"}}}}`)
	s.caller(mail)
	proxy.Ready(t)
	meshtest.Eventually(t, "the server greets", func() error { _, err := greeted(s.front, mail+":2525"); return err })
	open, err := s.front.Dial(t.Context(), "tcp", mail+":2525")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	lines := bufio.NewReader(open)
	if hello, err := lines.ReadString('\n'); err != nil {
		t.Fatal(hello, err)
	}
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"a backend more", func() { s.edit("front", frontSpec(mail, service)) }},
		{"all egress allowed", func() { s.editMesh(`{"egressFilter":{"type":"ALLOW_ALL"}}`) }},
		{"a backend less", func() { s.edit("front", frontSpec(mail)) }},
	} {
		given := listenersGiven(t, s.proxy)
		c.do()
		meshtest.Eventually(t, c.name+" has come to Envoy", func() error {
			if listenersGiven(t, s.proxy) == given {
				return errStill
			}
			return nil
		})
		settle(t, s.proxy)
		_ = open.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := fmt.Fprintln(open, c.name); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if line, err := lines.ReadString('\n'); err != nil || line != c.name+"\n" {
			t.Fatalf("%s: the open connection echoes %q %v", c.name, line, err)
		}
	}
}
