package envoy

import (
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

func TestCheckFormat(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"":                                     "",
		"no commands, 100%%\n":                 "",
		"%REQ(a)%%REQ(b)%":                     "",
		"%REQ(:PATH?X-PATH):20%":               "",
		"%START_TIME(%s)%":                     "",
		"%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%": "",
		"%DYNAMIC_METADATA(a.b:c:d*):7%":       "",
		"%FILTER_STATE(a:FIELD:b)%":            "",
		"%RESPONSE_CODE_DETAILS()%":            "",
		"%":                                    "begins no command",
		"100%":                                 "begins no command",
		"%%REQ(a)%":                            "begins no command",
		"%request%":                            "begins no command",
		"%REQ(a):x%":                           "begins no command",
		"%REQ(a\nb)%":                          "begins no command",
		"%NOTHING%":                            "not every supported Envoy knows",
		"%UPSTREAM_HOSTS_ATTEMPTED%":           "not every supported Envoy knows",
		"%CEL(request.path)%":                  "not every supported Envoy knows",
		"%PROTOCOL(x)%":                        "does not take",
		"%PROTOCOL:3%":                         "does not take",
		"%REQ%":                                "does not take",
		"%REQ(a?b?c)%":                         "does not take",
		"%REQ(a b)%":                           "does not take",
		"%GRPC_STATUS(WORD)%":                  "does not take",
		"%METADATA(NOWHERE:a)%":                "does not take",
		"%FILTER_STATE(a:WHOLE)%":              "does not take",
	} {
		err := checkFormat(format)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("checkFormat(%q) = %v, want %q", format, err, want)
		}
	}
}

// TestFormatCommands has an Envoy check that it knows every command that checkFormat
// lets through.
func TestFormatCommands(t *testing.T) {
	t.Parallel()
	examples := map[*regexp.Regexp][]string{
		takesNothing.pattern:  {""},
		takesTime.pattern:     {"", "(%s.%3f)", "(%E3S %d/%b)"},
		takesHeader.pattern:   {"(:PATH)", "(X-A?x_b):10"},
		takesMetadata.pattern: {"(a)", "(a.b:c_d:e-f*):3"},
		takesCluster.pattern:  {"(a)", "(a.b:c_d:e-f*)"},
		takesState.pattern:    {"(a)", "(a.b:PLAIN)", "(a:TYPED):3", "(a:FIELD:b)"},
		takesName.pattern:     {"(a)", "(A_b-c):3"},
		takesStatus.pattern:   {"", "(CAMEL_STRING)", "(SNAKE_STRING)", "(NUMBER)"},
		takesSpaces.pattern:   {"", "(ALLOW_WHITESPACES)"},
		takesPath.pattern:     {"", "(WQ)", "(NQ):9"},
		takesAnyOf.pattern:    {"(DYNAMIC:a:b)", "(CLUSTER:a)", "(ROUTE:a)", "(UPSTREAM_HOST:a)", "(LISTENER:a)", "(VIRTUAL_HOST:a:b):5"},
		takesPoints.pattern:   {"(DS_RX_BEG:US_TX_END:ms)", "(A:B:ns)"},
	}
	var format strings.Builder
	for name, arg := range commands {
		for _, e := range examples[arg.pattern] {
			format.WriteString("%" + name + e + "% ")
		}
	}
	text := format.String()
	if err := checkFormat(text); err != nil {
		t.Fatal(err)
	}
	v := testView("front", &mesh.VirtualNodeSpec{
		Listeners: []mesh.Listener{
			{PortMapping: &mesh.PortMapping{Port: 80, Protocol: "http"}},
			{PortMapping: &mesh.PortMapping{Port: 81, Protocol: "tcp"}},
		},
		Logging: &mesh.Logging{AccessLog: &mesh.AccessLog{File: &mesh.FileAccessLog{
			Path: "/dev/stdout", Format: &mesh.LoggingFormat{Text: &text},
		}}},
	})
	resources, problems := Translate(v, Profile{})
	if len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	validateWithEnvoy(t, resources)
}

// testView returns the view of a node without backends.
func testView(name string, spec *mesh.VirtualNodeSpec) *mesh.View {
	return &mesh.View{
		Mesh:     mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "shop"},
		MeshSpec: &mesh.MeshSpec{},
		Key:      nodeKey(name),
		Node:     spec,
	}
}

func TestRegexSize(t *testing.T) {
	t.Parallel()
	// The sizes that Envoys report, 1.37 in UTF-8 and 1.40 in bytes. Ours may be larger,
	// and must not be smaller: Envoy refuses what is above the limit.
	for expr, envoys := range map[string][2]int{
		"a": {5, 5}, "abc": {7, 7}, ".": {12, 6}, "(?s:.){10}": {74, 14}, "[^/]{10}": {84, 24}, "é": {6, 6}, "[à-ü]": {6, 5}, "[^é]": {21, 7},
		"(?i)k": {8, 5}, "(?i:[a-z]){10}": {64, 14}, `\p{Greek}`: {66, 0}, `\p{Han}`: {84, 0}, `\W`: {15, 9}, "[🌊-🌟]": {8, 5},
		"(?i:ß){10}": {54, 24}, "a{0,5}": {14, 14}, "(a*)*": {11, 11}, "(|a)": {8, 8}, "x*y*z*": {9, 9}, "a{700}": {704, 704},
		"/api/v[0-9]+/users/[^/]+": {22, 22}, `.*\.(png|jpg|css)`: {18, 18},
	} {
		size, err := regexSize(expr, utf8Insts)
		if err != nil || size < envoys[0] {
			t.Errorf("the size of %q in UTF-8 is %d, %v, Envoy's is %d", expr, size, err, envoys[0])
		}
		size, err = regexSize(latin1(expr), byteInsts)
		if err != nil || size < envoys[1] {
			t.Errorf("the size of %q in bytes is %d, %v, Envoy's is %d", expr, size, err, envoys[1])
		}
		if m, err := regex(expr); err != nil || m.Regex != expr {
			t.Errorf("regex(%q) = %v, %v", expr, m, err)
		}
	}
	for _, expr := range []string{"", "(", `\x{100}`, `\x{zz}`, `\x{`, `\777`, `\1`, "a**", "(?=a)", "[z-a]", `\`, "x{2,1}", "a{1000}", `\pL`, "[^/]{110}"} {
		if m, err := regex(expr); err == nil {
			t.Errorf("regex(%q) = %v, want an error", expr, m)
		}
	}
	for _, expr := range []string{`\x{ff}`, `\\x{100}`, `\377`, `\\777`, `\101`, `[\x{80}-\x{ff}]`, `\d{3}-\w+`} {
		if _, err := regex(expr); err != nil {
			t.Errorf("regex(%q): %v", expr, err)
		}
	}
}

func TestValidHost(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"a", "a.b", "a.b.", "A_b-c.1", "127.1", "10.0.0.1", "::1", "2001:db8::1", "::ffff:1.2.3.4", "-a", strings.Repeat("a", 63), strings.Repeat("abcdefg.", 31) + "abcde"} {
		if !validHost(host) {
			t.Errorf("validHost(%q) = false", host)
		}
	}
	for _, host := range []string{"", ".", "a..b", ".a", "a b", "a:80", "[::1]", "fe80::1%eth0", "ü", "a/b", "*", "a\n", strings.Repeat("a", 64), strings.Repeat("abcdefg.", 32)} {
		if validHost(host) {
			t.Errorf("validHost(%q) = true", host)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	ptr := func(n int64) *int64 { return &n }
	ms, s := "ms", "s"
	for _, c := range []struct {
		in   *mesh.Duration
		want time.Duration
	}{
		{nil, 0},
		{&mesh.Duration{}, 0},
		{&mesh.Duration{Unit: &s}, 0},
		{&mesh.Duration{Value: ptr(3)}, 3 * time.Second},
		{&mesh.Duration{Unit: &s, Value: ptr(3)}, 3 * time.Second},
		{&mesh.Duration{Unit: &ms, Value: ptr(1500)}, 1500 * time.Millisecond},
		{&mesh.Duration{Unit: &ms, Value: ptr(-1)}, 0},
		{&mesh.Duration{Unit: &s, Value: ptr(math.MaxInt64)}, longest},
		{&mesh.Duration{Unit: &ms, Value: ptr(math.MaxInt64)}, longest},
		{&mesh.Duration{Unit: &ms, Value: ptr(int64(longest / time.Millisecond))}, longest},
	} {
		if got := duration(c.in); got != c.want {
			t.Errorf("duration(%+v) = %v, want %v", c.in, got, c.want)
		}
	}
}

func TestLower(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "abc": "abc", "aBcÜ": "abcÜ", "Z:80": "z:80"} {
		if got := lower(in); got != want {
			t.Errorf("lower(%q) = %q, want %q", in, got, want)
		}
	}
}
