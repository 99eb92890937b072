package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "fairlead.yaml")
	if err := os.WriteFile(config, []byte("no-such-key: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"server", 2, "--data-dir is required"},
		{"server --data-dir x --etcd-endpoints y", 2, "exclude each other"},
		{"server --etcd-endpoints y", 2, "--seal-key is required"},
		{"server --data-dir x --account-id 1", 2, `--account-id "1" is not allowed: twelve digits`},
		{"server --data-dir x --region=", 2, "--region is empty"},
		{"server --data-dir x --log-level loud", 2, "--log-level \"loud\" is not allowed"},
		{"server --data-dir x --log-format xml", 2, "--log-format \"xml\" is not allowed"},
		{"server --data-dir x --etcd-ca-cert /nowhere", 2, "reading --etcd-ca-cert"},
		{"server --no-such-flag", 2, "no-such-flag"},
		{"server stray", 2, `unknown argument "stray"`},
		{"server --data-dir x --config " + config, 2, `unknown key "no-such-key"; allowed are account-id, api-listen`},
		{"server --data-dir x --config /nowhere", 1, "reading --config"},
		{"server --data-dir x --api-listen 0.0.0.0:0", 1, "is not a loopback address"},
		{"server --data-dir x --api-listen nonsense", 1, "allowed is host:port"},
		{"server --data-dir x --tls-cert a", 2, "--tls-cert needs --tls-key"},
		{"server --data-dir x --tls-key a", 2, "--tls-key needs --tls-cert"},
		{"server --data-dir x --xds-tls-cert a", 2, "--xds-tls-cert and --xds-tls-key are given together"},
		{"server --data-dir x --tls-client-ca a", 2, "--tls-client-ca needs TLS"},
		{"server --data-dir x --ops-tls-client-ca a", 2, "--ops-tls-client-ca and --ops-tls-client-auth need TLS"},
		{"server --data-dir x --tls-cert a --tls-key b --tls-client-auth maybe", 2, `--tls-client-auth "maybe" is not allowed: optional or required`},
		{"server --data-dir x --tls-cert a --tls-key b --ops-tls-client-auth required", 2, "--ops-tls-client-auth required needs --ops-tls-client-ca"},
		{"server --data-dir x --ops-tls-cert off --ops-tls-key b", 2, "--ops-tls-cert is off"},
		{"server --data-dir x --tls-cert /nowhere --tls-key b", 1, "loading the TLS files of --api-listen: open /nowhere"},
		{"server --data-dir x --max-connections -1", 2, "--max-connections -1 is not allowed"},
		{"server --data-dir x --xds-max-connections 2000000", 2, "--xds-max-connections 2000000 is not allowed: 1 to 1000000"},
		{"server --data-dir x --audit-max-size 12parsecs", 2, "--audit-max-size"},
		{"server --data-dir x --audit-max-size 10kB", 2, "--audit-max-size 10kB is not allowed: at least 1MB"},
		{"server --data-dir x --audit-max-files 0", 2, "--audit-max-files 0 is not allowed"},
		{"server --data-dir x --quota-set mine", 2, `--quota-set "mine" is not allowed: default or app-mesh`},
		{"server --data-dir x --shutdown-wait 0s", 2, "--shutdown-wait 0s is not allowed"},
		{"server --data-dir x --store-history 10ms", 2, "--store-history 10ms is not allowed: at least 1s"},
		{"server --data-dir x --drain-time 20s", 2, "--drain-time 20s is not allowed: more than 0 and less than --shutdown-wait, which is 20s"},
		{"server --data-dir x --drain-time -1s", 2, "--drain-time -1s is not allowed"},
		{"server --data-dir x --max-stream-age -1s", 2, "--max-stream-age -1s is not allowed"},
		{"server --data-dir x --trust-domain Shop", 2, `--trust-domain: "Shop" is not the name of a trust domain`},
		{"server --data-dir x --vault-address http://vault.example.com", 2, `--vault-address: "http://vault.example.com" is not allowed: https`},
		{"server --data-dir x --cloud-map 1", 2, `--cloud-map "1" is not allowed: twelve digits`},
		{"server --data-dir x --cloud-map 000000000001=admin", 2, `"admin" is not the ARN of a role`},
		{"server --data-dir x --cloud-map 000000000001,000000000001=arn:aws:iam::123456789012:role/r", 2, "--cloud-map has account 000000000001 twice"},
		{"server --data-dir x --cloud-map 000000000001 --cloud-map-interval 1ms", 2, "--cloud-map-interval 1ms is not allowed: 1s to 1h"},
		{"server --data-dir x --cloud-map 000000000001 --cloud-map-rate 0", 2, "--cloud-map-rate 0 is not allowed: 1 to 4000"},
		{"server --data-dir x --cloud-map-external-id x", 2, "--cloud-map is required with --cloud-map-endpoint"},
		{"server --data-dir x --cloud-map 000000000001 --cloud-map-endpoint here", 2, `--cloud-map-endpoint "here" is not allowed: a URL`},
		{"server --etcd-endpoints y --seal-key z", 2, "--audit-file is required with --etcd-endpoints"},
		{"server --data-dir x --peer-listen :9083", 2, "--peer-listen has no meaning with --data-dir"},
		{"server --data-dir x --peer-advertise a", 2, "--peer-advertise needs --peer-listen"},
		{"server --etcd-endpoints y --seal-key z --audit-file off --peer-advertise a/b", 2, `--peer-advertise "a/b" is not allowed: a host or host:port`},
		{"server --etcd-endpoints y --seal-key z --audit-file off --peer-listen nonsense --api-listen 127.0.0.1:0 --xds-listen 127.0.0.1:0 --ops-listen 127.0.0.1:0", 1, `--peer-listen "nonsense": allowed is host:port`},
		{"server --data-dir x --etcd-compaction 1m", 2, "--etcd-compaction \"1m\" is not allowed: auto, off, or 5m to 720h"},
		{"server --data-dir x --etcd-compaction never", 2, "--etcd-compaction \"never\" is not allowed"},
		{"server --data-dir x --store-quota 1MB", 2, "--store-quota 1MB is not allowed: 64MiB to 100GiB"},
		{"backup", 2, "FILE is required"},
		{"backup f --account-id 1", 2, `--account-id "1" is not allowed: twelve digits`},
		{"backup f --with-seal-key", 2, "--with-seal-key needs --direct"},
		{"backup f --direct", 2, "--data-dir is required"},
		{"backup f --direct --data-dir x", 1, "--data-dir x holds no store"},
		{"restore", 2, "FILE is required"},
		{"restore f", 2, "--data-dir is required"},
		{"restore f --data-dir x --account-id 1", 2, `--account-id "1" is not allowed: twelve digits`},
		{"restore nowhere --data-dir x", 1, "nowhere: no such file"},
		{"recover", 2, "--data-dir is required"},
		{"recover --data-dir x --account-id 1", 2, "--account-id"},
		{"recover --data-dir x --region=", 2, "--region is empty"},
		{"recover --etcd-endpoints y --seal-key z", 2, "--credentials-file is required"},
		{"recover --data-dir x", 1, "--data-dir x holds no store"},
		{"nonsense", 2, "nonsense"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(c.args), &out, &errs); code != c.code || !strings.Contains(errs.String(), c.says) {
			t.Errorf("fairlead %s: exit %d, %q; want %d and %q", c.args, code, errs.String(), c.code, c.says)
		}
		if n := strings.Count(errs.String(), "\n"); n != 1 {
			t.Errorf("fairlead %s: the error has %d lines", c.args, n)
		}
	}
	if _, err := os.Stat("x"); err == nil {
		t.Error("a refused command made its data directory")
	}
}

func TestHelpNamesEverySetting(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"server", "--help"}, &out, &errs); code != 0 || !strings.Contains(out.String(), "--xds-listen") {
		t.Errorf("exit %d, %s %s", code, out.String(), errs.String())
	}
}

// Flags are stronger than variables, variables than the file, the file than defaults.
func TestSettingsInTheirOrder(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "fairlead.yaml")
	if err := os.WriteFile(config, []byte("a: file\nb: file\nc-d: file\nlist: [x, y]\nn: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.String("config", "", "")
	for _, name := range []string{"a", "b", "c-d", "e"} {
		flags.String(name, "default", "")
	}
	flags.StringSlice("list", nil, "")
	flags.Int("n", 0, "")
	if err := flags.Parse([]string{"--a", "flag", "--config", config}); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"FAIRLEAD_A": "env", "FAIRLEAD_B": "env"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	none := func(string) bool { return false }
	if err := settle(flags, none, lookup); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "flag", "b": "env", "c-d": "file", "e": "default", "list": "[x,y]", "n": "3"} {
		if got := flags.Lookup(name).Value.String(); got != want {
			t.Errorf("--%s is %q, want %q", name, got, want)
		}
	}
	env["FAIRLEAD_N"] = "many"
	flags = pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.Int("n", 0, "")
	if err := settle(flags, none, lookup); err == nil || !strings.Contains(err.Error(), "FAIRLEAD_N") {
		t.Errorf("a variable of the wrong type gives %v, want an error that names it", err)
	}
}
