package envoy

import (
	"net/netip"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
)

func TestParseProfile(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	for metadata, want := range map[string]Profile{
		`{}`:                                     {},
		`{"aws.appmesh.platformInfo": {"x": 1}}`: {},
		`{"fairlead": {}}`:                       {},
		`{"fairlead": {"placement": "redirected"}}`:                                   {},
		`{"fairlead": {"placement": "redirected", "applicationAddress": "10.0.0.1"}}`: {App: addr("10.0.0.1")},
		`{"fairlead": {"placement": "bound", "bindAddress": "127.0.0.2"}}`:            {Bound: true, Bind: addr("127.0.0.2")},
		`{"fairlead": {"placement": "bound", "bindAddress": "::ffff:127.0.0.2", "applicationAddress": ""}}`: {
			Bound: true, Bind: addr("127.0.0.2"),
		},
		`{"fairlead": {"placement": "bound", "bindAddress": "fd00::1", "applicationAddress": "::1"}}`: {
			Bound: true, Bind: addr("fd00::1"), App: addr("::1"),
		},
		`{"fairlead": {"placement": "bound", "bindAddress": "127.0.0.1", "applicationAddress": "127.0.0.2"}}`: {
			Bound: true, Bind: addr("127.0.0.1"), App: addr("127.0.0.2"),
		},
		`{"fairlead": {"secretSource": false}}`: {NoSecretSource: true},
		`{"fairlead": {"secretSource": true}}`:  {},
	} {
		got, err := ParseProfile(nodeWith(t, metadata))
		if err != nil || got != want {
			t.Errorf("ParseProfile(%s) = %+v, %v, want %+v", metadata, got, err, want)
		}
	}
	if got, err := ParseProfile(nil); err != nil || got != (Profile{}) {
		t.Errorf("ParseProfile(nil) = %+v, %v", got, err)
	}
}

func TestParseProfileRefuses(t *testing.T) {
	t.Parallel()
	for metadata, want := range map[string]string{
		`{"fairlead": true}`:                                                                                  "must be an object",
		`{"fairlead": {"placement": 1}}`:                                                                      "placement must be a string",
		`{"fairlead": {"placement": "beside"}}`:                                                               `"beside", allowed are "redirected" and "bound"`,
		`{"fairlead": {"placement": "bound"}}`:                                                                "bindAddress is required",
		`{"fairlead": {"placement": "bound", "bindAddress": ["127.0.0.2"]}}`:                                  "bindAddress must be a string",
		`{"fairlead": {"placement": "bound", "bindAddress": "localhost"}}`:                                    `bindAddress is "localhost", allowed is`,
		`{"fairlead": {"placement": "bound", "bindAddress": "0.0.0.0"}}`:                                      "allowed is",
		`{"fairlead": {"placement": "bound", "bindAddress": "fe80::1%eth0"}}`:                                 "allowed is",
		`{"fairlead": {"placement": "bound", "bindAddress": "127.0.0.1"}}`:                                    "must differ",
		`{"fairlead": {"placement": "bound", "bindAddress": "127.0.0.2", "applicationAddress": "127.0.0.2"}}`: "must differ",
		`{"fairlead": {"secretSource": "no"}}`:                                                                "secretSource must be true or false",
		`{"fairlead": {"applicationAddress": "224.0.0.1"}}`:                                                   "applicationAddress is",
	} {
		if got, err := ParseProfile(nodeWith(t, metadata)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseProfile(%s) = %+v, %v, want an error with %q", metadata, got, err, want)
		}
	}
}

func nodeWith(t *testing.T, metadata string) *corev3.Node {
	t.Helper()
	var n corev3.Node
	if err := protojson.Unmarshal([]byte(`{"metadata":`+metadata+`}`), &n); err != nil {
		t.Fatal(err)
	}
	return &n
}

func TestTypes(t *testing.T) {
	t.Parallel()
	for typ := range NumTypes {
		if got, ok := ParseType(typ.URL()); !ok || got != typ || !strings.HasSuffix(typ.URL(), "."+typ.String()) {
			t.Errorf("type %d has URL %q and name %q, which is of type %d", typ, typ.URL(), typ, got)
		}
	}
	if got, ok := ParseType("type.googleapis.com/google.protobuf.Any"); ok || got.URL() != "" || got.String() != "unknown" {
		t.Errorf("an unknown URL is of type %d", got)
	}
}

func TestProfileForPeople(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]Profile{
		"redirected": {},
		"bound to 127.0.0.2, application on 127.0.1.2": {
			Bound: true, Bind: netip.MustParseAddr("127.0.0.2"), App: netip.MustParseAddr("127.0.1.2"),
		},
	} {
		if got := p.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
