package spire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// binariesVariable names the folder with spire-server and spire-agent.
const binariesVariable = "FAIRLEAD_TEST_SPIRE"

// serverPort is where SPIRE's servers listen; each has an address of its own.
const serverPort = "8081"

// svidTTL is how long the certificates of workloads are valid, in seconds: SPIRE's agent
// renews them when half of it is over.
const svidTTL = 20

func program(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv(binariesVariable)
	if dir == "" {
		t.Skip(`there is no SPIRE here; "make test-spire" builds one`)
	}
	return filepath.Join(dir, name)
}

// shortDir returns a folder whose name is short enough for sockets in it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "spire-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// start runs a program until the test ends, and returns what it writes.
func start(t *testing.T, path string, args ...string) *meshtest.Log {
	t.Helper()
	log := new(meshtest.Log)
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(path), log)
		}
	})
	return log
}

// fill writes a file from a template.
func fill(t *testing.T, path, text string, data any) string {
	t.Helper()
	var b bytes.Buffer
	if err := template.Must(template.New("").Parse(text)).Execute(&b, data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// domain is a SPIRE server, the authority of a trust domain.
type domain struct {
	Name    string // for example example.org
	Address string // its server's
	Dir     string
	// Bundle is a file with the domain's roots, in PEM.
	Bundle string
}

const serverConfig = `
server {
  bind_address = "{{.Address}}"
  bind_port = "` + serverPort + `"
  socket_path = "{{.Dir}}/server.sock"
  data_dir = "{{.Dir}}"
  trust_domain = "{{.Name}}"
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3", connection_string = "{{.Dir}}/db" } }
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
}
`

// startDomain runs the server of a trust domain.
func startDomain(t *testing.T, name string) *domain {
	t.Helper()
	d := &domain{Name: name, Address: meshtest.Address(t), Dir: shortDir(t)}
	server := program(t, "spire-server")
	start(t, server, "run", "-config", fill(t, filepath.Join(d.Dir, "server.conf"), serverConfig, d))
	meshtest.Eventually(t, "SPIRE's server answers", func() error {
		_, err := d.ask("healthcheck")
		return err
	})
	roots, err := d.ask("bundle", "show", "-format", "pem")
	if err != nil {
		t.Fatal(err)
	}
	d.Bundle = filepath.Join(d.Dir, "bundle.pem")
	meshtest.WriteFile(t, d.Bundle, roots)
	return d
}

// ask runs a command of SPIRE's server.
func (d *domain) ask(args ...string) ([]byte, error) {
	args = append(args, "-socketPath", filepath.Join(d.Dir, "server.sock"))
	out, err := exec.Command(filepath.Join(os.Getenv(binariesVariable), "spire-server"), args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("spire-server %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return out, nil
}

func (d *domain) mustAsk(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := d.ask(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// id returns the SPIFFE ID of a workload, "" for the trust domain's own.
func (d *domain) id(workload string) string {
	return strings.TrimSuffix("spiffe://"+d.Name+"/"+workload, "/")
}

const agentConfig = `
agent {
  server_address = "{{.Address}}"
  server_port = "` + serverPort + `"
  socket_path = "{{.Socket}}"
  data_dir = "{{.AgentDir}}"
  trust_bundle_path = "{{.Bundle}}"
  trust_domain = "{{.Name}}"
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
  WorkloadAttestor "unix" { plugin_data {} }
}
`

// host runs SPIRE's agent of a host of its own, on which this user's processes are one
// workload, and returns the agent's socket.
func (d *domain) host(t *testing.T, workload string) string {
	t.Helper()
	var token struct {
		Value string `json:"value"`
	}
	host := d.id("host/" + workload)
	if err := json.Unmarshal(d.mustAsk(t, "token", "generate", "-spiffeID", host, "-output", "json"), &token); err != nil || token.Value == "" {
		t.Fatalf("generating a join token: %v", err)
	}
	d.mustAsk(t, "entry", "create", "-parentID", host, "-spiffeID", d.id(workload),
		"-selector", fmt.Sprintf("unix:uid:%d", os.Getuid()), "-x509SVIDTTL", fmt.Sprint(svidTTL))
	dir := shortDir(t)
	socket := filepath.Join(dir, "agent.sock")
	config := fill(t, filepath.Join(dir, "agent.conf"), agentConfig, struct {
		*domain
		Socket, AgentDir string
	}{d, socket, dir})
	start(t, program(t, "spire-agent"), "run", "-config", config, "-joinToken", token.Value)
	meshtest.Eventually(t, "SPIRE's agent listens", func() error {
		c, err := net.DialTimeout("unix", socket, time.Second)
		return errors.Join(err, closed(c))
	})
	return socket
}

func closed(c net.Conn) error {
	if c == nil {
		return nil
	}
	return c.Close()
}
