package envoy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// explicit starts an explicit proxy for front, which has services as backends, and returns
// the file of its ports.
func (s *stage) explicit(env []string, services ...string) (ports string) {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualNodes", `{"virtualNodeName":"front","spec":`+meshtest.NodeSpec("", 0, services...)+`}`)
	ports = filepath.Join(s.t.TempDir(), "ports.json")
	s.startFront(meshtest.ProxyConfig{
		ARN: meshtest.ARN("test", "front"), Bind: meshtest.Address(s.t), App: meshtest.Address(s.t),
		Env: append([]string{"FAIRLEAD_EXPLICIT=1", "FAIRLEAD_PORTS_FILE=" + ports}, env...),
	})
	return ports
}

// curl runs curl with front's proxy in its environment, as a user sets it, and returns what
// it has been answered.
func (s *stage) curl(args ...string) (string, error) {
	s.t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		s.t.Skip("there is no curl; Debian's package is curl")
	}
	cmd := exec.Command(path, append([]string{"--silent", "--show-error", "--max-time", "20"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "http_proxy=http://" + s.front.Bind + ":15001"}
	out, err := cmd.Output()
	return string(out), err
}

func (s *stage) wantCurl(want string, args ...string) {
	s.t.Helper()
	if got, err := s.curl(args...); err != nil || !strings.Contains(got, want) {
		s.t.Errorf("curl %s: %q %v, want %q", strings.Join(args, " "), got, err, want)
	}
}

// connect opens a tunnel through front's proxy, and returns the status.
func (s *stage) connect(authority string) (net.Conn, *bufio.Reader, int) {
	s.t.Helper()
	c, err := net.DialTimeout("tcp", s.front.Bind+":15001", 5*time.Second)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", authority)
	r := bufio.NewReader(c)
	answer, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		s.t.Fatalf("CONNECT %s: %v", authority, err)
	}
	_ = answer.Body.Close() // which reads nothing of the tunnel
	return c, r, answer.StatusCode
}

// readPorts reads the file of ports.
func readPorts(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	return out, json.Unmarshal(text, &out)
}

// A program that is told of its proxy calls services by requests to it and through CONNECT,
// by the same routes; what is no backend is answered as the egress filter says.
func TestExplicitProxy(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.app("blue", named("blue")).Ready(t)
	s.app("green", named("green")).Ready(t)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("blue", 1))
	outside := meshtest.Serve(t, port, named("outside"))
	s.explicit(nil, service, "missing.test.local")
	s.awaitAnswer("/", http.StatusOK)
	ways := [][]string{{url("/")}, {"--proxytunnel", url("/")}, {"--proxytunnel", "--http2-prior-knowledge", url("/")}, {"--noproxy", "*", "-H", "Host: " + service + ":8080", "http://" + s.front.Bind + ":15001/"}}
	everyWay := func(want string) {
		t.Helper()
		for _, w := range ways {
			s.wantCurl(want, w...)
		}
	}
	everyWay("blue")
	s.route(meshtest.Weights("green", 1))
	meshtest.Eventually(t, "the route is in force", func() error {
		if _, body := s.get("/"); body != "green" {
			return fmt.Errorf("answered %q", body)
		}
		return nil
	})
	everyWay("green")

	far := fmt.Sprintf("%s:%d", outside, port)
	code := []string{"-o", "/dev/null", "-w", "%{http_code} %{http_connect}"}
	s.wantCurl("is not a backend of virtual node front", "http://"+far+"/")
	for _, c := range []struct{ authority, want string }{{far, "404"}, {"missing.test.local:8080", "404"}, {service + ":9999", "404"}} {
		if got, _ := s.curl(append(code, "--proxytunnel", "http://"+c.authority+"/")...); got != "000 "+c.want {
			t.Errorf("CONNECT %s: %q, want %s", c.authority, got, c.want)
		}
	}
	s.plane.Put(t, "/meshes/test", `{"spec":{"egressFilter":{"type":"ALLOW_ALL"}}}`)
	meshtest.Eventually(t, "all egress is allowed", func() error {
		if got, err := s.curl("http://" + far + "/"); err != nil || got != "outside" {
			return fmt.Errorf("%q %w", got, err)
		}
		return nil
	})
	s.wantCurl("outside", "--proxytunnel", "http://"+far+"/")
	everyWay("green")
	own := s.front.Bind + ":15001"
	s.wantCurl("is not a backend", "http://"+own+"/")
	if got, _ := s.curl(append(code, "--proxytunnel", "http://"+own+"/")...); got != "000 404" {
		t.Errorf("CONNECT to the proxy itself: %q", got)
	}
	// By a name: the proxy finds the address.
	l := listen(t, "127.0.0.1", 0)
	t.Cleanup(func() { _ = l.Close() })
	go func() { _ = http.Serve(l, named("by name")) }() //nolint:gosec // of a test
	byName := fmt.Sprintf("http://localhost:%d/", l.Addr().(*net.TCPAddr).Port)
	s.wantCurl("by name", byName)
	s.wantCurl("by name", "--proxytunnel", byName)
}

// Services for TCP have ports of their own, which the agent writes down and which stay; and
// CONNECT leads to them, in a real Redis's own words.
func TestExplicitTCP(t *testing.T) {
	t.Parallel()
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("there is no redis-server; Debian's package is redis-server")
	}
	s := newStage(t)
	for _, name := range []string{"one", "two"} {
		s.redisService(redis, name)
	}
	const one, two = "one.test.local:6379", "two.test.local:6379"
	file := s.explicit([]string{"FAIRLEAD_TCP_PORTS=" + two + "=26000"}, "one.test.local")
	var at string
	portsAre := func(names ...string) map[string]string {
		t.Helper()
		var ports map[string]string
		meshtest.Eventually(t, fmt.Sprintf("the file has %v", names), func() (err error) {
			if ports, err = readPorts(file); err != nil {
				return err
			}
			for _, n := range names {
				if ports[n] == "" {
					return fmt.Errorf("%v", ports)
				}
			}
			if len(ports) != len(names) {
				return fmt.Errorf("%v", ports)
			}
			return nil
		})
		return ports
	}
	at = portsAre(one)[one]
	if got := askRedis(t, dial(t, at), "GET who"); got != "one" {
		t.Errorf("at %s is %q", at, got)
	}
	open := dial(t, at)
	s.plane.Put(t, "/meshes/test/virtualNodes/front", `{"spec":`+meshtest.NodeSpec("", 0, "one.test.local", "two.test.local")+`}`)
	ports := portsAre(one, two)
	if want := s.front.Bind + ":26000"; ports[one] != at || ports[two] != want {
		t.Errorf("ports %v, want %s where it was, at %s, and %s at %s", ports, one, at, two, want)
	}
	if got := askRedis(t, dial(t, ports[two]), "GET who"); got != "two" {
		t.Errorf("at %s is %q", ports[two], got)
	}
	for authority, want := range map[string]string{one: "one", two: "two"} {
		c, r, status := s.connect(authority)
		if status != http.StatusOK {
			t.Errorf("CONNECT %s: %d", authority, status)
			continue
		}
		if got := askRedis(t, &tunnel{c, r}, "GET who"); got != want {
			t.Errorf("through CONNECT %s is %q", authority, got)
		}
	}
	s.plane.Put(t, "/meshes/test/virtualNodes/front", `{"spec":`+meshtest.NodeSpec("", 0, "one.test.local")+`}`)
	if ports := portsAre(one); ports[one] != at {
		t.Errorf("ports %v, want %s where it was, at %s", ports, one, at)
	}
	if got := askRedis(t, open, "GET who"); got != "one" {
		t.Errorf("the connection that was open is answered %q", got)
	}
	if log := s.front.Log.String(); !strings.Contains(log, "service="+one+" address="+at) {
		t.Errorf("the agent has not printed where %s is", one)
	}
	s.front.Drain()
	<-s.front.Ended()
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the file is there when its ports are not: %v", err)
	}
}

// tunnel is a connection of which some may have been read.
type tunnel struct {
	net.Conn
	r io.Reader
}

func (c *tunnel) Read(b []byte) (int, error) { return c.r.Read(b) }

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// askRedis sends Redis a command in its plain form, and returns the answer's last line.
func askRedis(t *testing.T, c net.Conn, command string) string {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "%s\r\n", command)
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err == nil && strings.HasPrefix(line, "$") {
		line, err = r.ReadString('\n')
	}
	if err != nil {
		t.Errorf("%s: %v", command, err)
	}
	return strings.TrimSpace(line)
}

// redisService runs a Redis that knows its name, and defines its virtual node and service.
func (s *stage) redisService(binary, name string) {
	s.t.Helper()
	at := meshtest.Address(s.t)
	cmd := exec.Command(binary, "--port", "6379", "--bind", at, "--save", "", "--appendonly", "no", "--protected-mode", "no")
	cmd.Dir = s.t.TempDir()
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("starting Redis: %v", err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	meshtest.Eventually(s.t, "Redis is up", func() error {
		c, err := net.Dial("tcp", at+":6379")
		if err != nil {
			return err
		}
		defer c.Close()
		if got := askRedis(s.t, c, "SET who "+name); got != "+OK" {
			return fmt.Errorf("answered %q", got)
		}
		return nil
	})
	s.plane.Put(s.t, "/meshes/test/virtualNodes", fmt.Sprintf(
		`{"virtualNodeName":%q,"spec":{"listeners":[{"portMapping":{"port":6379,"protocol":"tcp"}}],"serviceDiscovery":{"dns":{"hostname":%q}}}}`, name, at))
	s.plane.Put(s.t, "/meshes/test/virtualServices", fmt.Sprintf(
		`{"virtualServiceName":"%s.test.local","spec":{"provider":{"virtualNode":{"virtualNodeName":%[1]q}}}}`, name))
}
