package main

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

// filled returns the configuration that arguments and a settings file make.
func filled(t *testing.T, args, config string) server.Config {
	t.Helper()
	if config != "" {
		file := filepath.Join(t.TempDir(), "fairlead.yaml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		args += " --config " + file
	}
	var f serverFlags
	cmd := f.command()
	cmd.Flags().String("config", "", "")
	if err := cmd.ParseFlags(strings.Fields(args)); err != nil {
		t.Fatal(err)
	}
	none := func(string) (string, bool) { return "", false }
	if err := settle(cmd.Flags(), commandFlags(newRoot()), none); err != nil {
		t.Fatal(err)
	}
	if err := f.fill(); err != nil {
		t.Fatal(err)
	}
	return f.cfg
}

func TestTLSFlags(t *testing.T) {
	t.Parallel()
	type files = server.TLSFiles
	all := files{Cert: "c", Key: "k"}
	for _, c := range []struct {
		args          string
		api, xds, ops files
	}{
		{"", files{}, files{}, files{}},
		{"--tls-cert c --tls-key k", all, all, all},
		{"--tls-cert c --tls-key k --ops-tls-cert off", all, all, files{}},
		{"--xds-tls-cert c --xds-tls-key k", files{}, all, files{}},
		{"--tls-cert c --tls-key k --api-tls-cert c2 --api-tls-key k2", files{Cert: "c2", Key: "k2"}, all, all},
		{
			"--tls-cert c --tls-key k --tls-client-ca a --api-tls-client-ca off --ops-tls-client-auth required",
			all,
			files{Cert: "c", Key: "k", ClientCA: "a"},
			files{Cert: "c", Key: "k", ClientCA: "a", RequireClientCert: true},
		},
		{
			"--tls-cert c --tls-key k --xds-tls-client-ca a --tls-client-auth optional --xds-tls-client-auth required",
			all,
			files{Cert: "c", Key: "k", ClientCA: "a", RequireClientCert: true},
			all,
		},
		{
			"--tls-cert c --tls-key k --tls-client-ca a --tls-client-auth required --api-tls-client-auth optional --xds-tls-cert off --ops-tls-cert off",
			files{Cert: "c", Key: "k", ClientCA: "a"},
			files{},
			files{},
		},
	} {
		got := filled(t, "--data-dir x "+c.args, "")
		want := [3]files{c.api, c.xds, c.ops}
		if diff := cmp.Diff(want, [3]files{got.APITLS, got.XDSTLS, got.OpsTLS}); diff != "" {
			t.Errorf("%s:\n%s", c.args, diff)
		}
	}
}

func TestServerFlags(t *testing.T) {
	t.Parallel()
	c := filled(t, "--data-dir dir", "")
	if c.Audit.Path != filepath.Join("dir", "audit", "audit.log") || c.Audit.MaxBytes != 100e6 || c.Audit.MaxFiles != 10 {
		t.Errorf("the audit is %+v", c.Audit)
	}
	if c.Store.Quotas != mesh.DefaultQuotas() || c.CredentialsFile != filepath.Join("dir", "credentials") || c.Timeouts.Shutdown != 20*time.Second || c.Timeouts.Drain != 0 {
		t.Errorf("the defaults are %+v", c)
	}
	c = filled(t, "--data-dir dir --audit-file off --quota-set app-mesh --max-connections 7 --xds-max-connections 9", "")
	if c.Audit.Path != "" || c.Store.Quotas != mesh.AppMeshQuotas() {
		t.Errorf("without an audit, with App Mesh's quotas: %+v", c)
	}
	if c.APIConnections != 7 || c.XDSConnections != 9 || c.OpsConnections != 7 {
		t.Errorf("connections: %d, %d, %d", c.APIConnections, c.XDSConnections, c.OpsConnections)
	}
	c = filled(t, "--seal-key s --etcd-endpoints a,b --audit-file there --credentials-file creds", "")
	if c.Audit.Path != "there" || c.CredentialsFile != "creds" || len(c.Store.Endpoints) != 2 || c.Timeouts.Drain != 10*time.Second {
		t.Errorf("with an external store: %+v", c)
	}
	if c.PeerListen != ":9083" || c.PeerAdvertise != "" || c.Version == "" {
		t.Errorf("with an external store others ask at %q, are told %q, of version %q", c.PeerListen, c.PeerAdvertise, c.Version)
	}
	c = filled(t, "--seal-key s --etcd-endpoints a,b --audit-file there --peer-listen off", "")
	if c.PeerListen != "" {
		t.Errorf("--peer-listen off is %q", c.PeerListen)
	}
	c = filled(t, "--data-dir dir", "peer-listen: off\n")
	if c.PeerListen != "" {
		t.Errorf("others over an embedded store ask at %q", c.PeerListen)
	}
	// A file for several commands, whose values are taken as they are written.
	c = filled(t, "--audit-max-files 3", "data-dir: dir\naccount-id: 000000000012\nregion: [us-east-1, eu-west-1]\nendpoint: https://mesh\n"+
		"audit-file: off\naudit-max-size: 2GiB\naudit-max-files: 4\npprof: true\nmax-stream-age: 5m\nops-tls-cert: off\n"+
		"trust-domain: shop.example\nvault-address: [https://a, https://b]\n")
	if c.AccountID != "000000000012" || len(c.Regions) != 2 || c.Audit.Path != "" || c.Audit.MaxBytes != 2<<30 ||
		c.Audit.MaxFiles != 3 || !c.Pprof || c.MaxStreamAge != 5*time.Minute ||
		c.TrustDomain != "shop.example" || len(c.VaultAddresses) != 2 {
		t.Errorf("from a file: %+v", c)
	}
}

func TestSettingsFileThatIsWrong(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"- a\n":                       "is not a YAML map",
		"pprof: perhaps\n":            `key "pprof"`,
		"account-id: {a: b}\n":        "allowed is a single value",
		"region: [[a]]\n":             "allowed is a list of single values",
		"help: true\n":                `unknown key "help"`,
		"data-dir: a\ndata-dir: b\n":  "already defined",
		"api-listen: 127.0.0.1:1\nx:": `unknown key "x"`,
	} {
		file := filepath.Join(t.TempDir(), "fairlead.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		code := run(t.Context(), []string{"server", "--config", file}, &out, &errs)
		if code != 2 || !strings.Contains(errs.String(), says) || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%q: exit %d, %q; want 2 and one line with %q", text, code, errs.String(), says)
		}
	}
}

func TestByteSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "12B": 12, "100MB": 100e6, "100 MB": 100e6, "1kB": 1000, "1KB": 1000, "1KiB": 1024,
		"3MiB": 3 << 20, "2GiB": 2 << 30, "1TB": 1e12, "9223372036854775807": math.MaxInt64,
		"": -1, "MB": -1, "-1MB": -1, "1.5MB": -1, "1mb": -1, "1 000": -1, "9223372036854775808": -1, "9007199254740992KiB": -1,
	} {
		var b byteSize
		switch err := b.Set(text); {
		case want < 0 && err == nil:
			t.Errorf("%q is accepted as %d", text, b)
		case want >= 0 && (err != nil || int64(b) != want):
			t.Errorf("%q is %d, %v; want %d", text, b, err, want)
		case want >= 0:
			var again byteSize
			if err := again.Set(b.String()); err != nil || again != b {
				t.Errorf("%q is written as %q, which is read as %d, %v", text, b.String(), again, err)
			}
		}
	}
}

// A server is started, ended and let recover, as on a host.
func TestRecover(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		var out, errs bytes.Buffer
		code := run(ctx, []string{
			"server", "--data-dir", dir, "--log-level", "error",
			"--api-listen", "127.0.0.1:0", "--xds-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0",
		}, &out, &errs)
		var err error
		if code != 0 || errs.Len() > 0 {
			err = errors.New(errs.String())
		}
		ended <- err
	}()
	credentials := filepath.Join(dir, "credentials")
	first := awaitFile(t, credentials, ended)
	again := func() (int, string, string) {
		var out, errs bytes.Buffer
		return run(t.Context(), []string{"recover", "--data-dir", dir}, &out, &errs), out.String(), errs.String()
	}
	if code, _, errs := again(); code != 1 || !strings.Contains(errs, "in use by another server") || strings.Count(errs, "\n") != 1 {
		t.Errorf("while the server runs: exit %d, %q", code, errs)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatalf("the server ended with %v", err)
	}
	code, out, errs := again()
	if code != 0 || errs != "" || !strings.Contains(out, credentials) {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	second, err := os.ReadFile(credentials)
	if err != nil || string(second) == first {
		t.Errorf("the credentials have not changed, %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "audit", "audit.log")); err != nil {
		t.Errorf("the audit: %v", err)
	}
}

// awaitFile waits until a file is there and returns what it holds.
func awaitFile(t *testing.T, name string, failed <-chan error) string {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if raw, err := os.ReadFile(name); err == nil {
			return string(raw)
		}
		select {
		case err := <-failed:
			t.Fatalf("the server ended: %v", err)
		case <-tick.C:
		}
	}
	t.Fatalf("%s does not come", name)
	return ""
}

// The reference has a row for each flag, with its variable and its default.
func TestEveryFlagIsDocumented(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/reference/server.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\|(.*)$").FindAllStringSubmatch(string(raw), -1) {
		rows[m[1]] = m[2]
	}
	flags := newServer().Flags()
	newRecover().Flags().VisitAll(func(f *pflag.Flag) {
		if flags.Lookup(f.Name) == nil {
			t.Errorf("recover has a flag --%s that server has not: document it", f.Name)
		}
	})
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden { // of tests
			return
		}
		row, ok := rows[f.Name]
		if f.Name == "clock-offset" && f.Hidden {
			return // for tests of ours, and nobody else
		}
		if !ok {
			t.Errorf("--%s is not documented", f.Name)
			return
		}
		delete(rows, f.Name)
		if name := "FAIRLEAD_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")); !strings.Contains(row, "`"+name+"`") {
			t.Errorf("the row of --%s does not name %s", f.Name, name)
		}
		switch byDefault := strings.Trim(f.DefValue, "[]"); byDefault {
		case "", "0", "0s", "false":
		default:
			if !strings.Contains(row, "`"+byDefault+"`") {
				t.Errorf("the row of --%s does not say that its default is %s", f.Name, byDefault)
			}
		}
	})
	delete(rows, "config")
	for name := range rows {
		t.Errorf("--%s is documented and does not exist", name)
	}
}
