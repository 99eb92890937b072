package mesh_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

const abort = `"action":{"fault":{"abort":{"percentage":1,"httpStatus":503}}}`

func TestPolicyRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, spec string
		want       []string
	}{
		{"mesh", `{"target":{"mesh":{}},` + abort + `}`, nil},
		{"node's port", `{"target":{"virtualNode":{"virtualNodeName":"a","port":80}},` + abort + `}`, nil},
		{"all faults", `{"target":{"virtualService":{"virtualServiceName":"a.local"}},"action":{"fault":{"abort":{"percentage":0.0001,"grpcStatus":"unavailable"},"delay":{"percentage":100,"duration":{"unit":"ms","value":1}},"responseRate":{"percentage":50,"kibibytesPerSecond":1}}}}`, nil},
		{"time", `{"target":{"mesh":{}},"notBefore":"2026-11-23T08:00:00Z","notAfter":"2026-11-23T08:00:00.5+00:00",` + abort + `}`, nil},
		{"clients by name", `{"target":{"route":{"virtualRouterName":"r","routeName":"a"}},"from":[{"virtualNode":"a"},{"account":"000000000001","headers":[{"name":"x"}]}],` + abort + `}`, nil},
		{"match", `{"target":{"gatewayRoute":{"virtualGatewayName":"g","gatewayRouteName":"r"}},"match":{"prefix":"/a","method":"GET","headers":[{"name":"x","match":{"exact":"1"}}]},` + abort + `}`, nil},

		{"unknown member", `{"target":{"mesh":{}},"notbefore":"x","match":{"methd":"GET"},` + abort + `}`, []string{
			`spec must not have a member "notbefore", allowed are action, from, match, notAfter, notBefore, target`,
			`spec.match must not have a member "methd", allowed are headers, method, path, prefix`,
		}},
		{"no target", `{"target":{},` + abort + `}`, []string{`spec.target must have exactly one of gatewayRoute, mesh, route, virtualGateway, virtualNode, virtualRouter, virtualService, 0 were given`}},
		{"two targets", `{"target":{"mesh":{},"virtualRouter":{"virtualRouterName":"r"}},` + abort + `}`, []string{`spec.target must have exactly one of gatewayRoute, mesh, route, virtualGateway, virtualNode, virtualRouter, virtualService, 2 were given`}},
		{"impossible name", `{"target":{"route":{"virtualRouterName":"r r","routeName":"a/b"}},` + abort + `}`, []string{
			`spec.target.route.virtualRouterName "r r" is not allowed: 1 to 255 letters, digits, dots, hyphens and underscores`,
			`spec.target.route.routeName "a/b" is not allowed: 1 to 255 letters, digits, dots, hyphens and underscores`,
		}},
		{"mirror", `{"target":{"virtualService":{"virtualServiceName":"s"}},"action":{"mirror":{"percentage":12.5,"to":{"virtualNode":{"virtualNodeName":"b","port":80}}}}}`, nil},
		{"mirror to a service", `{"target":{"virtualService":{"virtualServiceName":"s"}},"action":{"mirror":{"percentage":1,"to":{"virtualService":{"virtualServiceName":"b","port":80}}}}}`, nil},
		{"mirror to a host", `{"target":{"virtualService":{"virtualServiceName":"s"}},"action":{"mirror":{"percentage":1,"to":{"host":{"hostname":"::1","port":443,"protocol":"grpc","tls":{"validation":{"trust":{"sds":{"secretName":"ca"}}}}}}}}}`, nil},
		{"mirror to a bad host", `{"target":{"virtualService":{"virtualServiceName":"s"}},"action":{"mirror":{"percentage":1,"to":{"host":{"hostname":"a/b","port":0,"protocol":"tcp","tls":{"validation":{}}}}}}}`, []string{
			`spec.action.mirror.to.host.hostname must match ^[A-Za-z0-9:_.-]+$, "a/b" was given`,
			`spec.action.mirror.to.host.port must be a whole number from 1 to 65535, 0 was given`,
			`spec.action.mirror.to.host.protocol must be one of http, http2, grpc, "tcp" was given`,
			`spec.action.mirror.to.host.tls.validation.trust is required`,
		}},
		{"mirror of what comes in", `{"target":{"virtualNode":{"virtualNodeName":"a"}},"action":{"mirror":{"percentage":0.00001,"to":{"virtualNode":{"virtualNodeName":"b/c"}}}}}`, []string{
			`spec.action.mirror is not for what a virtual node is asked: allowed for a target route, virtualRouter, virtualService, gatewayRoute and virtualGateway`,
			`spec.action.mirror.percentage must have at most 4 digits behind the point, 1e-05 was given`,
			`spec.action.mirror.to.virtualNode.virtualNodeName "b/c" is not allowed: 1 to 255 letters, digits, dots, hyphens and underscores`,
		}},
		{"mirror to nowhere", `{"target":{"route":{"virtualRouterName":"r","routeName":"x"}},"action":{"mirror":{"percentage":1,"to":{}}}}`, []string{`spec.action.mirror.to must have exactly one of host, virtualNode, virtualService, 0 were given`}},
		{"no action", `{"target":{"mesh":{}},"action":{}}`, []string{`spec.action must have exactly one of access, fault, mirror, quota, rateLimit, 0 were given`}},
		{"access", `{"target":{"mesh":{}},"from":[{"virtualNode":"a","account":"000000000001"},{"spiffeId":"spiffe://a.example/b/*","ipRanges":["10.0.0.0/8","::1","192.0.2.7"]}],"match":{"prefix":"/a"},"action":{"access":{"rule":"deny","dryRun":true}}}`, nil},
		{"access of a gateway", `{"target":{"virtualGateway":{"virtualGatewayName":"a"}},"from":[{"virtualNode":"a"}],"action":{"access":{"rule":"allow"}}}`, nil},
		{"access going out", `{"target":{"virtualService":{"virtualServiceName":"a.local"}},"from":[{"virtualNode":"a"},{"spiffeId":"spiffe://a.example/b","ipRanges":["10.0.0.0/8"]}],"action":{"access":{"rule":"allow"}}}`, []string{
			`spec.from[1].ipRanges is not for requests that go out: the callers' proxies act, which are virtualNode, virtualGateway and account`,
			`spec.from[1].spiffeId is not for requests that go out: the callers' proxies act, which are virtualNode, virtualGateway and account`,
		}},
		{"neither rule nor default", `{"target":{"mesh":{}},"action":{"access":{"dryRun":true}}}`, []string{`spec.action.access must have exactly one of default, rule, 0 were given`}},
		{"tried allow", `{"target":{"mesh":{}},"action":{"access":{"rule":"allow","dryRun":false}}}`, []string{`spec.action.access.dryRun is for rule deny and default closed, which refuse something`}},
		{"default for some", `{"target":{"mesh":{}},"from":[{"account":"000000000001"}],"match":{"prefix":"/"},"action":{"access":{"default":"open"}}}`, []string{
			`spec.from is not allowed beside action.access.default, which is for all that no rule is for`,
			`spec.match is not allowed beside action.access.default, which is for all that no rule is for`,
		}},
		{"fault by addresses", `{"target":{"mesh":{}},"from":[{"ipRanges":["10.0.0.0/8"]},{"spiffeId":"spiffe://a/b"}],` + abort + `}`, []string{
			`spec.from[0].ipRanges is for access only`, `spec.from[1].spiffeId is for access only`,
		}},
		{"addresses", `{"target":{"mesh":{}},"from":[{"ipRanges":["10.0.0.1/8","1.2.3","::ffff:10.0.0.0/104","10.0.0.0/33"]},{"virtualNode":"a","spiffeId":"spiffe://a/b"}],"action":{"access":{"rule":"deny"}}}`, []string{
			`spec.from[0].ipRanges[0] must be zero behind the prefix, as in 10.0.0.0/8, "10.0.0.1/8" was given`,
			`spec.from[0].ipRanges[1] must be an address or a range such as 10.1.0.0/16, "1.2.3" was given`,
			`spec.from[0].ipRanges[2] must be an address or a range such as 10.1.0.0/16, "::ffff:10.0.0.0/104" was given`,
			`spec.from[0].ipRanges[3] must be an address or a range such as 10.1.0.0/16, "10.0.0.0/33" was given`,
			`spec.from[1] must have at most one of spiffeId, virtualGateway, virtualNode, 2 were given`,
		}},
		{"rate limit", `{"target":{"mesh":{}},"from":[{"headers":[{"name":"x"}]}],"action":{"rateLimit":{"requests":100,"per":"minute","burst":10,"dryRun":true,"by":{"header":"x-key","address":true,"client":true,"path":true}}}}`, nil},
		{"rate limit by nothing", `{"target":{"mesh":{}},"action":{"rateLimit":{"requests":0,"per":"week","by":{"path":false}}}}`, []string{
			`spec.action.rateLimit.per must be one of second, minute, hour, day, "week" was given`,
			`spec.action.rateLimit.requests must be a whole number from 1 to 1000000000, 0 was given`,
			`spec.action.rateLimit.by must have at least one of address, client, header, path`,
		}},
		{"rate limit going out", `{"target":{"virtualService":{"virtualServiceName":"s"}},"action":{"rateLimit":{"requests":1,"per":"day","by":{"address":true,"client":true,"path":true}}}}`, []string{
			`spec.action.rateLimit.by.address is not for requests that go out: each caller's proxy has a limit of its own`,
			`spec.action.rateLimit.by.client is not for requests that go out: each caller's proxy has a limit of its own`,
		}},
		{"quota", `{"target":{"mesh":{}},"match":{"prefix":"/a"},"action":{"quota":{"requests":100,"per":"hour","withoutAnswer":"deny","by":{"header":"x-key","address":true,"client":true,"path":true}}}}`, nil},
		{"quota by nothing", `{"target":{"mesh":{}},"action":{"quota":{"requests":0,"per":"week","withoutAnswer":"wait","by":{"client":false}}}}`, []string{
			`spec.action.quota.per must be one of second, minute, hour, day, "week" was given`,
			`spec.action.quota.requests must be a whole number from 1 to 1000000000, 0 was given`,
			`spec.action.quota.withoutAnswer must be one of last, allow, deny, "wait" was given`,
			`spec.action.quota.by must have at least one of address, client, header, path`,
		}},
		{"quota going out", `{"target":{"virtualService":{"virtualServiceName":"s"}},"action":{"quota":{"requests":1,"per":"day","by":{"address":true,"client":true}}}}`, []string{
			`spec.action.quota.by.address is not for requests that go out: they come from the proxy's own workload`,
		}},
		{"rate limit by who calls", `{"target":{"mesh":{}},"from":[{"virtualNode":"a"}],"action":{"rateLimit":{"requests":1,"per":"day"}}}`, []string{
			`spec.from[0].virtualNode cannot be known of requests that come in, without a proof: allowed for a target virtualService, virtualRouter or route, where it is the callers' proxies that act`,
		}},
		{"empty fault", `{"target":{"mesh":{}},"action":{"fault":{}}}`, []string{`spec.action.fault must have at least one of abort, delay, responseRate`}},
		{"two statuses", `{"target":{"mesh":{}},"action":{"fault":{"abort":{"percentage":1,"httpStatus":503,"grpcStatus":"internal"}}}}`, []string{`spec.action.fault.abort must have exactly one of grpcStatus, httpStatus, 2 were given`}},
		{"percentages", `{"target":{"mesh":{}},"action":{"fault":{"abort":{"percentage":100.5,"httpStatus":503},"delay":{"percentage":"1","duration":{"value":1}},"responseRate":{"percentage":0.00001,"kibibytesPerSecond":0}}}}`, []string{
			`spec.action.fault.abort.percentage must be a number from 0 to 100, 100.5 was given`,
			`spec.action.fault.delay.percentage must be a number, the string "1" was given`,
			`spec.action.fault.responseRate.kibibytesPerSecond must be a whole number from 1 to 1048576, 0 was given`,
			`spec.action.fault.responseRate.percentage must have at most 4 digits behind the point, 1e-05 was given`,
		}},
		{"no delay", `{"target":{"mesh":{}},"action":{"fault":{"delay":{"percentage":1,"duration":{"unit":"ms"}}}}}`, []string{`spec.action.fault.delay.duration must have a value above 0`}},
		{"times", `{"target":{"mesh":{}},"notBefore":"2026-11-23 08:00:00Z","notAfter":"2026-13-23T08:00:00Z",` + abort + `}`, []string{
			`spec.notBefore must be a time such as 2026-11-23T08:15:30Z, "2026-11-23 08:00:00Z" was given`,
			`spec.notAfter must be a time such as 2026-11-23T08:15:30Z, "2026-13-23T08:00:00Z" was given`,
		}},
		{"ends first", `{"target":{"mesh":{}},"notBefore":"2026-11-23T08:00:00Z","notAfter":"2026-11-23T09:00:00+01:00",` + abort + `}`, []string{
			`spec.notAfter must be after notBefore, 2026-11-23T08:00:00Z, "2026-11-23T09:00:00+01:00" was given`,
		}},
		{"nobody", `{"target":{"mesh":{}},"from":[{}],` + abort + `}`, []string{`spec.from[0] must have at least one of account, headers, ipRanges, spiffeId, virtualGateway, virtualNode`}},
		{"two in one", `{"target":{"virtualRouter":{"virtualRouterName":"r"}},"from":[{"virtualNode":"a","virtualGateway":"b"}],` + abort + `}`, []string{`spec.from[0] must have at most one of spiffeId, virtualGateway, virtualNode, 2 were given`}},
		{"unproven", `{"target":{"virtualNode":{"virtualNodeName":"a"}},"from":[{"virtualNode":"b"}],` + abort + `}`, []string{
			`spec.from[0].virtualNode cannot be known of requests that come in, without a proof: allowed for a target virtualService, virtualRouter or route, where it is the callers' proxies that act`,
		}},
		{"from outside", `{"target":{"virtualGateway":{"virtualGatewayName":"g"}},"from":[{"account":"000000000001"}],` + abort + `}`, []string{
			`spec.from[0].account cannot be known of a virtual gateway's clients: allowed are headers`,
		}},
		{"path and prefix", `{"target":{"mesh":{}},"match":{"prefix":"a","path":{"exact":"/a","regex":"["}},` + abort + `}`, []string{
			`spec.match.prefix must match ^/, "a" was given`,
			`spec.match must have at most one of path, prefix, 2 were given`,
			`spec.match.path must have exactly one of exact, regex, 2 were given`,
			"spec.match.path.regex must be a valid RE2 expression, \"[\" was given: error parsing regexp: missing closing ]: `[`",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			spec, _, bad := mesh.Decode(mesh.KindPolicy, "spec", []byte(c.spec))
			var got []string
			for _, v := range bad {
				got = append(got, v.String())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
			if (spec == nil) != (len(c.want) > 0) {
				t.Errorf("Decode gave %v", spec)
			}
		})
	}
}

func decodePolicy(t *testing.T, spec string) *mesh.PolicySpec {
	t.Helper()
	typed, _, bad := mesh.Decode(mesh.KindPolicy, "spec", []byte(spec))
	if bad != nil {
		t.Fatalf("%s: %v", spec, bad)
	}
	return typed.(*mesh.PolicySpec)
}

// TestContradict holds which two policies are refused together, each pair both ways round.
func TestContradict(t *testing.T) {
	t.Parallel()
	policy := func(rest string) string {
		return `{"target":{"virtualRouter":{"virtualRouterName":"r"}},` + rest + abort + `}`
	}
	access := func(action string) string {
		return `{"target":{"mesh":{}},"action":{"access":{` + action + `}}}`
	}
	in := func(target string) string { return `{"target":` + target + `,` + abort + `}` }
	for _, c := range []struct {
		name, a, b string
		want       bool
	}{
		{"the same", policy(""), policy(""), true},
		{"another router", policy(""), in(`{"virtualRouter":{"virtualRouterName":"s"}}`), false},
		{"a route of it", policy(""), in(`{"route":{"virtualRouterName":"r","routeName":"a"}}`), false},
		{"a node and its port", in(`{"virtualNode":{"virtualNodeName":"a"}}`), in(`{"virtualNode":{"virtualNodeName":"a","port":80}}`), false},
		{"some clients", policy(""), policy(`"from":[{"virtualNode":"a"}],`), false},
		{"some requests", policy(""), policy(`"match":{"method":"GET"},`), false},
		{"other nodes", policy(`"from":[{"virtualNode":"a"}],`), policy(`"from":[{"virtualNode":"b"},{"virtualGateway":"a"}],`), false},
		{"one node in both", policy(`"from":[{"virtualNode":"a"},{"virtualNode":"b"}],`), policy(`"from":[{"virtualNode":"b"}],`), true},
		{"a node, an account", policy(`"from":[{"virtualNode":"a"}],`), policy(`"from":[{"account":"000000000001"}],`), true},
		{"other values of a header", policy(`"from":[{"headers":[{"name":"x","match":{"exact":"1"}}]}],`), policy(`"from":[{"headers":[{"name":"X","match":{"exact":"2"}}]}],`), false},
		{"not a value", policy(`"from":[{"headers":[{"name":"x","match":{"exact":"1"}}]}],`), policy(`"from":[{"headers":[{"name":"x","invert":true,"match":{"exact":"2"}}]}],`), true},
		{"other methods", policy(`"match":{"method":"GET"},`), policy(`"match":{"method":"PUT"},`), false},
		{"other paths", policy(`"match":{"path":{"exact":"/a"}},`), policy(`"match":{"path":{"exact":"/b"}},`), false},
		{"a path below", policy(`"match":{"prefix":"/a"},`), policy(`"match":{"path":{"exact":"/a/b"}},`), true},
		{"a path beside", policy(`"match":{"prefix":"/a"},`), policy(`"match":{"path":{"exact":"/b"}},`), false},
		{"prefixes, one in the other", policy(`"match":{"prefix":"/a"},`), policy(`"match":{"prefix":"/a/b"},`), true},
		{"prefixes", policy(`"match":{"prefix":"/a"},`), policy(`"match":{"prefix":"/b"},`), false},
		{"an expression", policy(`"match":{"prefix":"/a"},`), policy(`"match":{"path":{"regex":"/b"}},`), true},
		{"defaults", access(`"default":"open"`), access(`"default":"closed"`), true},
		{"a default and one that is tried", access(`"default":"open"`), access(`"default":"closed","dryRun":true`), false},
		{"a default and a rule", access(`"default":"closed"`), access(`"rule":"deny"`), false},
		{"rules", access(`"rule":"allow"`), access(`"rule":"deny"`), false},
		{"a default and a fault", access(`"default":"closed"`), in(`{"mesh":{}}`), false},
		{"one after the other", policy(`"notAfter":"2026-11-23T08:00:00Z",`), policy(`"notBefore":"2026-11-23T08:00:00Z",`), false},
		{"one within the other", policy(`"notAfter":"2026-11-23T08:00:00Z",`), policy(`"notBefore":"2026-11-23T07:00:00Z","notAfter":"2026-11-23T07:30:00Z",`), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := mesh.MeshID{Account: "000000000001", Region: "us-east-1", Name: "m"}
			a, b := decodePolicy(t, c.a), decodePolicy(t, c.b)
			if a.Contradict(m, b) != c.want || b.Contradict(m, a) != c.want {
				t.Errorf("%t and %t, want %t", a.Contradict(m, b), b.Contradict(m, a), c.want)
			}
		})
	}
}

// TestInForce holds when a policy begins and ends, to the moment.
func TestInForce(t *testing.T) {
	t.Parallel()
	s := decodePolicy(t, `{"target":{"mesh":{}},"notBefore":"2026-11-23T08:00:00Z","notAfter":"2026-11-23T09:00:00Z",`+abort+`}`)
	begin, end := s.Window()
	for _, c := range []struct {
		at    time.Time
		holds bool
		next  time.Time
	}{
		{begin.Add(-1), false, begin},
		{begin, true, end},
		{end.Add(-1), true, end},
		{end, false, time.Time{}},
	} {
		if holds, next := s.InForce(c.at); holds != c.holds || !next.Equal(c.next) {
			t.Errorf("at %s: %t until %s, want %t until %s", c.at, holds, next, c.holds, c.next)
		}
	}
	if holds, next := decodePolicy(t, `{"target":{"mesh":{}},`+abort+`}`).InForce(begin); !holds || !next.IsZero() {
		t.Errorf("without bounds: %t until %s", holds, next)
	}
}
