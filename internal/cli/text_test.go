package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

func TestRefs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Ref{
		"mesh/shop":                                {Mesh: "shop", Key: mesh.Key{Kind: mesh.KindMesh, Name: "shop"}},
		"mesh/shop/virtualNode/cart":               {Mesh: "shop", Key: mesh.Key{Kind: mesh.KindVirtualNode, Name: "cart"}},
		"mesh/shop@123456789012/virtualRouter/r":   {Mesh: "shop", Owner: "123456789012", Key: mesh.Key{Kind: mesh.KindVirtualRouter, Name: "r"}},
		"mesh/shop/virtualRouter/r/route/x":        {Mesh: "shop", Key: mesh.Key{Kind: mesh.KindRoute, Parent: "r", Name: "x"}},
		"mesh/shop/virtualGateway/g/gatewayRoute/": {},
		"mesh/shop/virtualService/a/b c":           {Mesh: "shop", Key: mesh.Key{Kind: mesh.KindVirtualService, Name: "a/b c"}},
		"mesh/":                                    {},
		"arn:aws:s3:::bucket":                      {},
	} {
		got, err := ParseRef(in)
		if got != want || (err != nil) != (want == Ref{}) {
			t.Errorf("%s is read as %+v, %v; want %+v", in, got, err, want)
		}
		if err == nil && got.String() != in {
			t.Errorf("%s is written as %s", in, got)
		}
	}
	arn := "arn:aws:appmesh:us-east-1:123456789012:mesh/shop@000000000001/virtualNode/cart"
	if got, err := ParseRef(arn); err != nil || got.Owner != "000000000001" {
		t.Errorf("%s is read as %+v, %v", arn, got, err)
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]mesh.Kind{
		"vn": mesh.KindVirtualNode, "virtualNode": mesh.KindVirtualNode, "VirtualNodes": mesh.KindVirtualNode, "virtual-nodes": mesh.KindVirtualNode,
		"meshes": mesh.KindMesh, "gr": mesh.KindGatewayRoute, "gateway_route": mesh.KindGatewayRoute, "vg": mesh.KindVirtualGateway, "": 0, "pod": 0,
	} {
		if got, err := ParseKind(in); got != want || (err != nil) != (want == 0) {
			t.Errorf("%q is %v, %v; want %v", in, got, err, want)
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	for want, then := range map[string]time.Time{
		"0s": now.Add(time.Hour), "119s": now.Add(-119 * time.Second), "2m": now.Add(-2 * time.Minute), "3h": now.Add(-3*time.Hour - time.Minute), "9d": now.Add(-9 * 24 * time.Hour), "-": {},
	} {
		if got := age(now, then); got != want {
			t.Errorf("the age of %s is %s, want %s", then, got, want)
		}
	}
	for in, want := range map[string]string{"a\x1b[31mb": "a?[31mb", "a\nb\tc": "a b c", "ünï 日本 🌊": "ünï 日本 🌊", "\u202eabc": "?abc", "\u0085": "?"} {
		if got := printable(in); got != want {
			t.Errorf("%q is printed as %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]time.Time{"": {}, "30m": now.Add(-30 * time.Minute), "2026-01-02T03:04:05Z": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} {
		if got, err := moment(now, "since", in); err != nil || !got.Equal(want) {
			t.Errorf("%q is %s, %v; want %s", in, got, err, want)
		}
	}
	for in, want := range map[int]string{3600: "1h", 5400: "90m", 61: "61s"} {
		if got := span(in); got != want {
			t.Errorf("%d seconds are %s, want %s", in, got, want)
		}
	}
}

func TestColours(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if NewTerminal(nil, &out, &out).Colour {
		t.Error("there are colours where there is no terminal")
	}
	term := Terminal{Out: &out, Colour: true}
	table := &table{head: []string{"A", "", "B"}, rows: [][]string{{"日本", "", "x"}, {"a", "", "y"}}}
	table.write(term, " ")
	if want := "\x1b[1m A   B\x1b[0m\n 日本  x\n a   y\n"; out.String() != want {
		t.Errorf("the table is %q, want %q", out.String(), want)
	}
}

func TestCompareFields(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, a, b string
		want       []string
	}{
		{"same", `{"a":[1,{}]}`, `{"a":[1,{}]}`, nil},
		{"value", `{"a":{"b":1,"c":2}}`, `{"a":{"b":"1","c":2}}`, []string{`-a.b: 1`, `+a.b: "1"`}},
		{"shape", `{"a":{"b":{"c":1}}}`, `{"a":{"b":[1]}}`, []string{`-a.b.c: 1`, `+a.b[0]: 1`}},
		{"more in the middle", `{"a":["x","z"]}`, `{"a":["x","y","z"]}`, []string{`+a[1]: "y"`}},
		{"fewer in front", `{"a":["x","y","z"]}`, `{"a":["y","z"]}`, []string{`-a[0]: "x"`}},
		{"empty", `{"a":{}}`, `{}`, []string{`-a: {}`}},
		{"html", `{}`, `{"a":"<&>"}`, []string{`+a: "<&>"`}},
	} {
		var a, b any
		if err := json.Unmarshal([]byte(c.a), &a); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(c.b), &b); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range compareFields("", a, b) {
			got = append(got, fmt.Sprintf("%c%s: %s", l.sign, l.path, l.value))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// TestStatusFits checks that no line is wider than a screen.
func TestStatusFits(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long-", 30)
	m := meshStatus{Mesh: long, Objects: map[string]int{}, Proxies: &proxyCounts{Connected: 400000, InSync: 399998, NotInSync: 1, Rejected: 1}, Unknown: []string{long}}
	for _, k := range mesh.Kinds[1:] {
		m.Objects[k.String()] = 123456
	}
	r := statusReport{Endpoint: "http://" + long, Region: DefaultRegion, Account: meshtest.Account, Caller: long, Meshes: []meshStatus{m}}
	var out bytes.Buffer
	r.print(Terminal{Out: &out})
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > screen {
			t.Errorf("a line has %d characters: %s", n, line)
		}
	}
	for _, want := range []string{"123456 gateway routes", "1 rejected their configuration", "399998 in sync"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not told:\n%s", want, out.String())
		}
	}
}

// TestSecretsAreWrittenSafely checks who may read the file, and that no secret is lost.
func TestSecretsAreWrittenSafely(t *testing.T) {
	t.Parallel()
	u := newUser(t, meshtest.Start(t))
	path := filepath.Join(u.dir, "new")
	u.must("", func(term Terminal) error {
		return CreateKey(t.Context(), u.Session, term, "administrator", Keeping{File: path, Profile: "ci"})
	})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
	s, err := Connect(t.Context(), Options{Endpoint: u.Endpoint(), CredentialsFile: path, Profile: "ci"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.account(t.Context()); err != nil {
		t.Errorf("the new key is not good: %v", err)
	}
	for _, k := range []Keeping{{File: path}, {File: filepath.Join(u.dir, "no", "folder")}, {File: path, Overwrite: true, JSON: true}, {Profile: "a]"}} {
		if _, err := u.does("", func(term Terminal) error { return CreateUser(t.Context(), u.Session, term, "x", Policies{}) }); err != nil && !strings.Contains(err.Error(), "Conflict") {
			t.Fatal(err)
		}
		if _, err := u.does("", func(term Terminal) error { return CreateKey(t.Context(), u.Session, term, "x", k) }); err == nil {
			t.Errorf("%+v is accepted", k)
		}
	}
	if list, err := u.keys(t.Context(), "x"); err != nil || len(list) > 0 {
		t.Errorf("a key was made that nobody was told of: %v, %v", list, err)
	}
	if left, err := filepath.Glob(filepath.Join(u.dir, ".fairlead-*")); err != nil || len(left) > 0 {
		t.Errorf("files are left behind: %v, %v", left, err)
	}
}

// TestPages checks that lists are read to their end.
func TestPages(t *testing.T) {
	t.Parallel()
	u := newUser(t, meshtest.Start(t))
	docs := []doc{{"kind": "Mesh", "name": "big"}}
	for i := range 2*pageSize + 3 {
		docs = append(docs, doc{"kind": "VirtualNode", "mesh": "big", "name": fmt.Sprintf("n-%d", i), "spec": doc{}})
	}
	u.apply(file(docs), FilesConfig{Parallel: 16})
	out := u.must("", func(term Terminal) error {
		return Get(t.Context(), u.Session, term, Selection{Args: []string{"vn"}, Output: FormName})
	})
	if n := strings.Count(out, "\n"); n != len(docs)-1 {
		t.Errorf("%d nodes are listed, want %d", n, len(docs)-1)
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	u := newUser(t, meshtest.Start(t))
	u.apply(`[{"kind": "Mesh", "name": "shop"}, {"kind": "VirtualNode", "mesh": "shop", "name": "cart", "spec": {}}]`, FilesConfig{})
	o := Options{Endpoint: u.Endpoint(), CredentialsFile: filepath.Join(u.dir, "credentials")}
	for _, c := range []struct {
		kind string
		in   Scope
		want []string
	}{
		{"mesh", Scope{}, []string{"shop"}},
		{"vn", Scope{Mesh: "shop"}, []string{"cart"}},
		{"vn", Scope{}, nil},
		{"vn", Scope{Mesh: "missing"}, nil},
		{"nonsense", Scope{Mesh: "shop"}, nil},
	} {
		if diff := cmp.Diff(c.want, CompleteNames(t.Context(), o, c.kind, c.in)); diff != "" {
			t.Errorf("%s in %+v (-want +got):\n%s", c.kind, c.in, diff)
		}
	}
	o.Endpoint = "http://127.0.0.1:1"
	if got := CompleteNames(t.Context(), o, "mesh", Scope{}); got != nil {
		t.Errorf("without a server: %v", got)
	}
}

// TestProxies has a proxy connected to a node with something that is not served.
func TestProxies(t *testing.T) {
	t.Parallel()
	plane := meshtest.Start(t)
	u := newUser(t, plane)
	u.apply(`[{"kind": "Mesh", "name": "shop"},
		{"kind": "VirtualNode", "mesh": "shop", "name": "cart", "spec": {
			"listeners": [{"portMapping": {"port": 80, "protocol": "http"}, "tls": {"mode": "STRICT", "certificate": {"acm": {"certificateArn": "arn:aws:acm:us-east-1:000000000001:certificate/a"}}}}],
			"serviceDiscovery": {"dns": {"hostname": "cart"}}}}]`, FilesConfig{})
	const arn = "arn:aws:appmesh:us-east-1:000000000001:mesh/shop/virtualNode/cart"
	plane.Delta(t, &corev3.Node{Id: arn})
	meshtest.Eventually(t, "status tells of the proxy and the problem", func() error {
		status := u.must("", func(term Terminal) error { return Status(t.Context(), u.Session, term, Scope{}, FormTable) })
		for _, want := range []string{"1 connected, 1 in sync", "problems  1\n    virtualNode/cart listeners[0].tls"} {
			if !strings.Contains(status, want) {
				return fmt.Errorf("%q is missing in:\n%s", want, status)
			}
		}
		return nil
	})
	about := u.must("", func(term Terminal) error {
		return Describe(t.Context(), u.Session, term, Selection{Args: []string{arn}})
	})
	if !strings.Contains(about, "in sync") || !strings.Contains(about, "Problems:\n") {
		t.Errorf("the proxy or the problem is missing in:\n%s", about)
	}
	for what, list := range map[string]func(term Terminal) error{
		"in sync": func(term Terminal) error {
			return ListProxies(t.Context(), u.Session, term, Scope{Mesh: "shop"}, FormTable)
		},
		"mesh/shop/virtualNode/cart": func(term Terminal) error { return ListProblems(t.Context(), u.Session, term, Scope{}, FormTable) },
	} {
		if out := u.must("", list); strings.Count(out, "\n") != 2 || !strings.Contains(out, what) {
			t.Errorf("%q is missing in:\n%s", what, out)
		}
	}
}

// TestFold breaks long lines of an explanation at the terminal's width, and at spaces only.
func TestFold(t *testing.T) {
	t.Parallel()
	long := "    1. every request: to " + strings.Repeat("x", 60) + " and then to another one; timeout 15s; idle 5m0s   ← virtualRouter/cart/route/ünï"
	for _, c := range []struct {
		width int
		want  string
	}{
		{0, long},
		{30, long},
		{1000, long},
		{70, "    1. every request: to\n        " + strings.Repeat("x", 60) +
			"\n        and then to another one; timeout 15s; idle 5m0s   ←\n        virtualRouter/cart/route/ünï"},
	} {
		if diff := cmp.Diff(c.want, Terminal{Width: c.width}.fold(long)); diff != "" {
			t.Errorf("width %d (-want +got):\n%s", c.width, diff)
		}
	}
}
