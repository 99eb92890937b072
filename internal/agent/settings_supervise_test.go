package agent

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/agent/logfile"
	"github.com/fairlead-mesh/fairlead/internal/agent/platform"
)

func TestReadSupervision(t *testing.T) {
	t.Parallel()
	tcp := func(address string) func(*Supervision) {
		return func(s *Supervision) { s.Server.Address = netip.MustParseAddrPort(address) }
	}
	cases := map[string]struct {
		set  vars
		want func(*Supervision)
	}{
		"no restart":            {vars{"APPNET_ENVOY_RESTART_COUNT": "0"}, func(s *Supervision) { s.Restarts = 0 }},
		"ten restarts":          {vars{"APPNET_ENVOY_RESTART_COUNT": "10"}, func(s *Supervision) { s.Restarts = 10 }},
		"health poll":           {vars{"HC_POLL_INTERVAL_MS": "2000"}, func(s *Supervision) { s.HealthPoll = 2 * time.Second }},
		"readiness poll":        {vars{readinessInterval: "20"}, func(s *Supervision) { s.HealthPoll = 20 * time.Second }},
		"readiness poll, often": {vars{readinessInterval: "0"}, func(s *Supervision) { s.HealthPoll = 2 * time.Second }},
		"both polls":            {vars{readinessInterval: "20", "HC_POLL_INTERVAL_MS": "3000"}, func(s *Supervision) { s.HealthPoll = 3 * time.Second }},
		"away":                  {vars{"HC_DISCONNECTED_TIMEOUT_S": "3600"}, func(s *Supervision) { s.Away = time.Hour }},
		"reset":                 {vars{"APPNET_AGENT_LOGGING_RESET_TIMEOUT": "1"}, func(s *Supervision) { s.LogReset = time.Second }},
		"snapshots":             {vars{"ENABLE_STATS_SNAPSHOT": "true"}, func(s *Supervision) { s.Snapshots = true }},
		"stop time":             {vars{"FAIRLEAD_APPLICATION_STOP_TIME_S": "60"}, func(s *Supervision) { s.StopTime = time.Minute }},
		"process poll":          {vars{"PID_POLL_INTERVAL_MS": "25"}, func(*Supervision) {}},
		"server":                {vars{"APPNET_AGENT_ADMIN_MODE": "tcp"}, tcp("[::]:9902")},
		"server elsewhere":      {vars{"APPNET_AGENT_ADMIN_MODE": "TCP", "APPNET_AGENT_HTTP_PORT": "1", "APPNET_AGENT_HTTP_BIND_ADDRESS": "127.0.0.1"}, tcp("127.0.0.1:1")},
		"server in brackets":    {vars{"APPNET_AGENT_ADMIN_MODE": "tcp", "APPNET_AGENT_HTTP_BIND_ADDRESS": "[::1]"}, tcp("[::1]:9902")},
		"bound server":          {vars{"APPNET_AGENT_ADMIN_MODE": "tcp", "FAIRLEAD_BIND_ADDRESS": "127.0.0.2"}, tcp("127.0.0.2:9902")},
		"no server":             {vars{"APPNET_AGENT_HTTP_PORT": "1"}, func(*Supervision) {}},
		"server by socket":      {vars{"APPNET_AGENT_ADMIN_MODE": "uds"}, func(s *Supervision) { s.Server.Socket = statusSocket }},
		"socket elsewhere":      {vars{"APPNET_AGENT_ADMIN_MODE": "uds", "APPNET_AGENT_ADMIN_UDS_PATH": "/tmp/agent.sock"}, func(s *Supervision) { s.Server.Socket = "/tmp/agent.sock" }},
		"log to stdout":         {vars{"APPNET_ENVOY_LOG_DESTINATION": "stdout"}, func(*Supervision) {}},
		"log": {vars{"APPNET_ENVOY_LOG_DESTINATION": "/var/log"}, func(s *Supervision) {
			s.LogFile = logfile.Config{Dir: "/var/log", Name: "appnet_envoy.log", MaxBytes: 1 << 20, Keep: 5}
		}},
		"log, in all": {vars{"APPNET_ENVOY_LOG_DESTINATION": "/l", "APPNET_ENVOY_LOG_NAME": "x", "APPNET_AGENT_MAX_LOG_FILE_SIZE": "0.5", "APPNET_AGENT_MAX_RETENTION_COUNT": "0"}, func(s *Supervision) {
			s.LogFile = logfile.Config{Dir: "/l", Name: "x", MaxBytes: 1 << 19}
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, _, err := ReadSettings(base().lookup)
			if err != nil {
				t.Fatal(err)
			}
			want := before.Supervision
			c.want(&want)
			got, warnings, err := ReadSettings(base().with(c.set).lookup)
			if err != nil || len(warnings) > 0 {
				t.Fatal(err, warnings)
			}
			if diff := cmp.Diff(want, got.Supervision, compareAddr); diff != "" {
				t.Errorf("settings differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadSupervisionRefuses(t *testing.T) {
	t.Parallel()
	tcp := vars{"APPNET_AGENT_ADMIN_MODE": "tcp"}
	for name, c := range map[string]struct {
		set  vars
		says []string
	}{
		"restarts":           {vars{"APPNET_ENVOY_RESTART_COUNT": "11"}, []string{`APPNET_ENVOY_RESTART_COUNT is "11"`, "0 to 10"}},
		"health poll":        {vars{"HC_POLL_INTERVAL_MS": "1999"}, []string{"HC_POLL_INTERVAL_MS", "2000 to 30000"}},
		"readiness poll":     {vars{readinessInterval: "5s"}, []string{readinessInterval, "whole numbers"}},
		"readiness timeout":  {vars{readinessTimeout: "-1"}, []string{readinessTimeout, "0 to 86400"}},
		"away":               {vars{"HC_DISCONNECTED_TIMEOUT_S": "604801"}, []string{"HC_DISCONNECTED_TIMEOUT_S", "3600 to 604800"}},
		"process poll":       {vars{"PID_POLL_INTERVAL_MS": "fast"}, []string{`PID_POLL_INTERVAL_MS is "fast"`}},
		"reset":              {vars{"APPNET_AGENT_LOGGING_RESET_TIMEOUT": "0"}, []string{"APPNET_AGENT_LOGGING_RESET_TIMEOUT"}},
		"snapshots":          {vars{"ENABLE_STATS_SNAPSHOT": "often"}, []string{`ENABLE_STATS_SNAPSHOT is "often"`}},
		"stop time":          {vars{"FAIRLEAD_APPLICATION_STOP_TIME_S": "0"}, []string{"FAIRLEAD_APPLICATION_STOP_TIME_S"}},
		"mode":               {vars{"APPNET_AGENT_ADMIN_MODE": "http"}, []string{`APPNET_AGENT_ADMIN_MODE is "http", allowed are tcp, uds`}},
		"port":               {tcp.with(vars{"APPNET_AGENT_HTTP_PORT": "65536"}), []string{"APPNET_AGENT_HTTP_PORT", "1 to 65535"}},
		"Envoy's port":       {tcp.with(vars{"APPNET_AGENT_HTTP_PORT": "9901"}), []string{`APPNET_AGENT_HTTP_PORT is "9901"`, "Envoy"}},
		"the listener's":     {tcp.with(vars{"APPNET_AGENT_HTTP_PORT": "15000"}), []string{`APPNET_AGENT_HTTP_PORT is "15000"`}},
		"address":            {tcp.with(vars{"APPNET_AGENT_HTTP_BIND_ADDRESS": "localhost"}), []string{`APPNET_AGENT_HTTP_BIND_ADDRESS is "localhost"`, "IP address"}},
		"socket":             {vars{"APPNET_AGENT_ADMIN_MODE": "uds", "APPNET_AGENT_ADMIN_UDS_PATH": "s"}, []string{"APPNET_AGENT_ADMIN_UDS_PATH", "absolute path"}},
		"Envoy's socket":     {vars{"APPNET_AGENT_ADMIN_MODE": "uds", "APPNET_AGENT_ADMIN_UDS_PATH": adminSocket, "ENVOY_ADMIN_MODE": "uds"}, []string{"APPNET_AGENT_ADMIN_UDS_PATH", adminSocket}},
		"log name":           {vars{"APPNET_ENVOY_LOG_NAME": "../x"}, []string{`APPNET_ENVOY_LOG_NAME is "../x"`}},
		"log size":           {vars{"APPNET_AGENT_MAX_LOG_FILE_SIZE": "NaN"}, []string{`APPNET_AGENT_MAX_LOG_FILE_SIZE is "NaN"`, "0.01 to 10240"}},
		"log count":          {vars{"APPNET_AGENT_MAX_RETENTION_COUNT": "-1"}, []string{"APPNET_AGENT_MAX_RETENTION_COUNT"}},
		"switched-off guard": {vars{"APPMESH_SET_TRACING_DECISION": "perhaps"}, []string{"APPMESH_SET_TRACING_DECISION"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := ReadSettings(base().with(c.set).lookup)
			checkRefusal(t, err, c.says...)
		})
	}
}

func TestOpenLogFileRefuses(t *testing.T) {
	t.Parallel()
	_, err := OpenLogFile(Settings{Supervision: Supervision{LogFile: logfile.Config{Dir: "/none", Name: "x"}}})
	checkRefusal(t, err, `APPNET_ENVOY_LOG_DESTINATION is "/none"`, "allowed is a folder")
}

func TestMisspelt(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"FAIRLEAD_XDS_ENDPIONT":         "FAIRLEAD_XDS_ENDPOINT",
		"APPMESH_RESOURCE_ANR":          "APPMESH_RESOURCE_ARN",
		"FAIRLEAD_RESOURCE_ARN":         "APPMESH_RESOURCE_ARN", // the wrong prefix
		"APPNET_AGENT_ADMIN_MODES":      "APPNET_AGENT_ADMIN_MODE",
		"APPMESH_EGRESS_IGNORED_IPS":    "APPMESH_EGRESS_IGNORED_IP",
		"APPNET_ENVOY_RESTARTS_COUNT":   "APPNET_ENVOY_RESTART_COUNT",
		"APPMESH_REGION":                "AWS_REGION",
		"FAIRLEAD_ENDPOINT":             "", // of another program
		"FAIRLEAD_SERVICE_HOST":         "", // Kubernetes sets such ones
		"FAIRLEAD_PORT_9081_TCP_ADDR":   "",
		"APPMESH_SOMETHING_ELSE":        "",
		"MY_RESOURCE_ARN":               "",
		"APPMESH_RESOURCE_ARN":          "",
		"FAIRLEAD_REGISTER_ATTRIBUTES":  "",
		"APPNET_MANAGEMENT_DOMAIN_NAME": "",
	} {
		got := Misspelt([]string{"PATH=/bin", name + "=x"})
		if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || got[0].Variable != name || !strings.Contains(got[0].Effect, want+" has")) {
			t.Errorf("%s: %v, want %q", name, got, want)
		}
	}
	// One that is set itself was not meant.
	if got := Misspelt([]string{"FAIRLEAD_XDS_ENDPIONT=x", "FAIRLEAD_XDS_ENDPOINT=y"}); len(got) > 0 {
		t.Errorf("%v, want none", got)
	}
}

// TestVariablesAreDocumented holds the list of variables against the page that tells of them,
// and against what is read.
func TestVariablesAreDocumented(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/reference/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for _, name := range variables {
		if !strings.Contains(page, "`"+name+"`") && !strings.Contains(page, "`"+name+"=") {
			t.Errorf("docs/reference/agent.md does not tell of %s", name)
		}
	}
	// In the first column of its tables.
	form := regexp.MustCompile("`((?:APPMESH|APPNET|FAIRLEAD)_[A-Z0-9_]+)`")
	for line := range strings.Lines(page) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, m := range form.FindAllStringSubmatch(cells[1], -1) {
			if !slices.Contains(variables, m[1]) {
				t.Errorf("docs/reference/agent.md tells of %s, which is not in the list variables", m[1])
			}
		}
	}
	for _, extra := range []vars{
		{},
		{"ENVOY_CONFIG_FILE": "/x"},
		{"APPNET_AGENT_ADMIN_MODE": "tcp"},
		{"APPNET_AGENT_ADMIN_MODE": "uds"},
		{"FAIRLEAD_REGISTER_SERVICE": "a/b", "FAIRLEAD_API_ENDPOINT": "http://127.0.0.1:1"},
		{"ENABLE_ENVOY_DOG_STATSD": "1"},
		{"ENABLE_ENVOY_XRAY_TRACING": "1"},
		{"FAIRLEAD_ACCESS_LOG_ENDPOINT": "https://x:1"},
	} {
		v := base().with(extra)
		noted := func(name string) (string, bool) {
			for _, p := range ourPrefixes {
				if strings.HasPrefix(name, p) && !slices.Contains(variables, name) {
					t.Errorf("%s is read and not in the list variables", name)
				}
			}
			return v.lookup(name)
		}
		if _, _, err := ReadSettings(noted); err != nil {
			t.Error(err)
		}
		platform.Find(t.Context(), noted)
		if _, err := ReadProbe(noted); err != nil {
			t.Error(err)
		}
	}
}

func TestRestarts(t *testing.T) {
	t.Parallel()
	const half, served = 500 * time.Millisecond, true
	type end struct {
		code   int
		ran    time.Duration
		served bool
		pause  time.Duration
		again  bool
	}
	cannot := func(pause time.Duration, again bool) end { return end{1, 0, false, pause, again} }
	killed := func(ran time.Duration, again bool) end { return end{137, ran, served, 0, again} }
	for name, c := range map[string]struct {
		most int
		ends []end
	}{
		"never":           {0, []end{killed(time.Hour, false)}},
		"told to end":     {3, []end{{0, time.Minute, served, 0, false}}},
		"cannot start":    {5, []end{cannot(0, true), cannot(0, true), cannot(half, true), cannot(2*half, true), cannot(4*half, true), cannot(0, false)}},
		"now and then":    {2, []end{killed(time.Minute, true), killed(time.Second, true), killed(time.Minute, false)}},
		"healthy again":   {1, []end{killed(time.Minute, true), killed(10*time.Minute, true), killed(time.Second, false)}},
		"bounded pauses":  {10, []end{cannot(0, true), cannot(0, true), cannot(half, true), cannot(2*half, true), cannot(4*half, true), cannot(8*half, true), cannot(10*half, true), cannot(10*half, true)}},
		"then it serves":  {10, []end{cannot(0, true), cannot(0, true), cannot(half, true), killed(time.Minute, true), cannot(0, true), cannot(0, true), cannot(half, true)}},
		"killed in a row": {10, []end{killed(half, true), {137, 0, false, 0, true}, {137, 0, false, 0, true}, {137, 0, false, 0, true}, cannot(0, true), cannot(0, true), cannot(half, true)}},
	} {
		r := restarts{most: c.most}
		for i, e := range c.ends {
			if pause, again := r.next(e.code, e.ran, e.served); pause != e.pause || again != e.again {
				t.Errorf("%s: end %d: %v %v, want %v %v", name, i, pause, again, e.pause, e.again)
			}
		}
	}
}

func TestTap(t *testing.T) {
	t.Parallel()
	const prefix = "[2026-11-23 10:30:51.973][6674][warning][config] [./source/x.h:189] DeltaAggregatedResources gRPC config stream to fairlead_xds closed"
	long := strings.Repeat("x", 2000)
	for line, want := range map[string]string{
		prefix + ": 7, not your resource{via_upstream}":                     "7 not your resource",
		prefix + " since 31s ago: 14, away":                                 "14 away",
		prefix + ": 16, no key (previously 14, away since 3s ago)":          "16 no key",
		prefix + ": 3, a\x1b[31mred\tword":                                  "3 a [31mred word",
		prefix + ": 3, " + long:                                             "3 " + long[:500] + "…",
		prefix + ": 3, " + strings.Repeat(long, 4):                          "3 " + long[:500] + "…",
		"GET /" + prefix + ": 7, made up":                                   "",
		strings.Replace(prefix, "fairlead_xds", "other", 1) + ": 7, theirs": "",
		"an odd line": "",
	} {
		for _, size := range []int{1, 7, 1 << 20} {
			var out strings.Builder
			got := ""
			x := &tap{to: &out, closed: func(code int, message string) { got = fmt.Sprint(code, " ", message) }}
			text := "before\n" + line + "\nafter\n"
			for rest := text; rest != ""; {
				n := min(size, len(rest))
				if wrote, err := x.Write([]byte(rest[:n])); wrote != n || err != nil {
					t.Fatal(wrote, err)
				}
				rest = rest[n:]
			}
			if got != want || out.String() != text {
				t.Errorf("%.200q in pieces of %d: %.600q, want %.600q", line, size, got, want)
			}
		}
	}
}
