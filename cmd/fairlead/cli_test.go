package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// TestScripts runs the commands of testdata/cli against a server of their own, and compares
// what they print. In a file's part "script", a line "$ get mesh" is a command, and one that
// begins with "## " is for readers. A command's output follows it, error output behind "! "
// and an exit code that is not 0 behind "? ". "> FILE" at the end of a command keeps its
// output; "$ CONNECT NODE N" connects proxies of a virtual node of mesh shop, which refuse
// each listener if "refusing" follows; SERIAL stands for the last serial number, or other 32 hexadecimal digits, that a
// command has printed. The other parts are the files that commands read.
func TestScripts(t *testing.T) {
	t.Parallel()
	golden.Run(t, "testdata/cli/*.txtar", func(t *testing.T, c *golden.Case) {
		plane := meshtest.StartWith(t, meshtest.Options{Change: meshtest.Importing})
		if c.Name == "instances" {
			registerInstances(t, plane)
		}
		s := newScript(t, plane)
		for _, name := range c.Names() {
			s.write(name, c.Section(name))
		}
		if c.Name == "ca" {
			s.writeCertificates()
		}
		c.Equal(t, "script", s.run(c.Section("script")))
	})
}

// script runs commands in a folder with files.
type script struct {
	t        *testing.T
	dir      string
	endpoint string
	serial   string
	plane    *meshtest.Plane
}

func newScript(t *testing.T, p *meshtest.Plane) *script {
	s := &script{t: t, dir: t.TempDir(), endpoint: "http://" + p.Addrs.API, plane: p}
	s.write("credentials", "[default]\naws_access_key_id = "+p.Creds.AccessKeyID+"\naws_secret_access_key = "+p.Creds.SecretAccessKey+"\n")
	return s
}

func (s *script) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// run runs the commands of a script and returns it with what they print now.
func (s *script) run(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ ")
		switch {
		case ok:
			b.WriteString("$ " + command + "\n" + s.command(command))
		case strings.HasPrefix(line, "## "):
			b.WriteString("\n" + strings.TrimSpace(line) + "\n")
		}
	}
	return strings.TrimLeft(b.String(), "\n")
}

func (s *script) command(command string) string {
	command, keep, _ := strings.Cut(command, " > ")
	args := strings.Fields(strings.NewReplacer("DIR", s.dir, "SERIAL", s.serial).Replace(command))
	if args[0] == "CONNECT" {
		s.connect(args[1:])
		return ""
	}
	alone := args[0] == "validate" || args[0] == "completion" || args[0] == "nonsense"
	if !alone && !strings.Contains(command, "--credentials-file") {
		args = append(args, "--credentials-file", filepath.Join(s.dir, "credentials"))
	}
	if !alone && !strings.Contains(command, "--endpoint") {
		args = append(args, "--endpoint", s.endpoint)
	}
	var out, errs bytes.Buffer
	exit := run(s.t.Context(), args, &out, &errs)
	if all := longHex.FindAllString(out.String(), -1); len(all) > 0 {
		s.serial = all[len(all)-1]
	}
	if keep != "" {
		s.write(keep, out.String())
		out.Reset()
	}
	text := s.scrub(out.String())
	for line := range strings.Lines(s.scrub(errs.String())) {
		text += "! " + line
	}
	if exit != 0 {
		text += "? " + strconv.Itoa(exit) + "\n"
	}
	return text
}

// connect connects proxies of a virtual node of mesh shop.
func (s *script) connect(args []string) {
	s.t.Helper()
	n, err := strconv.Atoi(args[1])
	if err != nil {
		s.t.Fatal(err)
	}
	for range n {
		d, err := meshtest.OpenDelta(s.t.Context(), s.plane.Addrs.XDS, s.plane.Creds)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(d.Close)
		d.Refuse = func(typ envoy.Type, _ *discoveryv3.DeltaDiscoveryResponse) string {
			if typ == envoy.TypeListener && len(args) > 2 {
				return "cannot bind '0.0.0.0:8080': Address already in use"
			}
			return ""
		}
		if err := d.Begin(&corev3.Node{Id: meshtest.ARN("shop", args[0])}, nil); err != nil {
			s.t.Fatal(err)
		}
		d.Await(s.t, "an answer", func() bool { return len(d.Responses()) > 0 })
	}
}

// longHex is how serial numbers and the ids of roots look.
var longHex = regexp.MustCompile(`\b[0-9a-f]{32}\b`)

// scrubs are what differs from run to run.
var scrubs = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?`), "TIME"},
	{longHex, "THIRTY-TWO-HEXADECIMAL-DIGITS..."},
	{regexp.MustCompile(`(?s)-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----`), "CERTIFICATE"},
	{regexp.MustCompile(`(?s)-----BEGIN X509 CRL-----.*?-----END X509 CRL-----`), "LIST"},
	{regexp.MustCompile(`\bFLA[KS][A-Z0-9]{16}\b`), "ACCESS-KEY-ID-OF-20-C"},
	{regexp.MustCompile(`(?m)(aws_(?:secret_access_key|session_token) = ).*$`), "${1}SECRET"},
	{regexp.MustCompile(`("(?:SecretAccessKey|SessionToken|secretAccessKey|sessionToken)": ?)"[^"]*"`), `${1}"SECRET"`},
	{regexp.MustCompile(`(?m)( {2,})\d+s$`), "${1}AGE"},
	{regexp.MustCompile(`\d+s ago`), "AGE ago"},
	{regexp.MustCompile(`(?m)^(Id: +)\w+`), "${1}ID"},
	{regexp.MustCompile(`revision \d+, \d+\.\d\d s`), "revision R, N s"},
	{regexp.MustCompile(` at 127\.0\.0\.1:\d+`), " at ADDRESS"},
	{regexp.MustCompile(`("(?:userId|roleId|principalId)": )"\w+"`), `${1}"ID"`},
}

func (s *script) scrub(text string) string {
	text = strings.NewReplacer(s.dir, "DIR", s.endpoint, "ENDPOINT").Replace(text)
	for _, r := range scrubs {
		text = r.what.ReplaceAllString(text, r.by)
	}
	return text
}

// TestCompletion asks for what a shell would show.
func TestCompletion(t *testing.T) {
	t.Parallel()
	s := newScript(t, meshtest.Start(t))
	s.write("shop.json", `[{"kind": "Mesh", "name": "shop"}, {"kind": "VirtualNode", "mesh": "shop", "name": "cart", "spec": {}},
		{"kind": "VirtualNode", "mesh": "shop", "name": "front", "spec": {}}, {"kind": "VirtualService", "mesh": "shop", "name": "cart.local", "spec": {}}]`)
	if out := s.command("apply -f DIR/shop.json"); !strings.Contains(out, "4 created") {
		t.Fatal(out)
	}
	connect := []string{"--endpoint", s.endpoint, "--credentials-file", filepath.Join(s.dir, "credentials")}
	for line, want := range map[string]string{
		"get ":                              "mesh vn vr route vs vg gr policy",
		"get vn --mesh shop ":               "cart front",
		"get node cart --mesh shop ":        "front",
		"delete mesh ":                      "shop",
		"describe vs -m shop ":              "cart.local",
		"shift -m shop ":                    "cart.local",
		"shift cart.local -m shop ":         "cart= front=",
		"status --mesh ":                    "shop",
		"get vn -o ":                        "table wide json yaml name",
		"quota apply-set ":                  "default app-mesh",
		"get vn --endpoint http://[ -m x ":  "",
		"get vn --profile missing -m shop ": "",
	} {
		args := []string{"__complete"}
		words := strings.Split(line, " ")
		args = append(append(args, words[0]), connect...)
		args = append(args, words[1:]...)
		var out, errs bytes.Buffer
		run(t.Context(), args, &out, &errs)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if got := strings.Join(lines[:len(lines)-1], " "); got != want {
			t.Errorf("%q is completed by %q, want %q", line, got, want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out := s.command("completion " + shell); !strings.Contains(out, "__complete") || strings.Contains(out, "\n? ") {
			t.Errorf("the script for %s: %.200s", shell, out)
		}
	}
}
