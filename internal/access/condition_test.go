package access

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// testFacts returns the facts of a question of ann about the mesh shop, with changes.
func testFacts(change func(*facts)) *facts {
	f := &facts{
		Question: Question{
			Action: "appmesh:CreateRoute", Resource: shop,
			ResourceTags: []mesh.TagRef{{Key: "team", Value: "blue"}, {Key: "size", Value: "10"}, {Key: "Owner", Value: "ann"}, {Key: "since", Value: "2026-11-01"}, {Key: "void", Value: ""}},
		},
		who:    userPrincipal(testAccount, "ann", "UID1", testRegion),
		region: testRegion, sourceIP: netip.MustParseAddr("192.0.2.7"), secure: true, now: testNow,
	}
	if change != nil {
		change(f)
	}
	return f
}

// inSession makes the caller a session of a role.
func inSession(f *facts) {
	f.who = rolePrincipal(testAccount, "deployer", "UID2", "monday", testRegion)
	f.issued = testNow.Add(-time.Hour)
}

func tagged(keys ...string) func(*facts) {
	return func(f *facts) {
		for _, k := range keys {
			f.RequestTags = append(f.RequestTags, mesh.TagRef{Key: k, Value: "v-" + k})
		}
	}
}

// conditionCases are conditions with what they must give. The facts are testFacts,
// changed by the last member.
var conditionCases = []struct {
	condition string
	holds     bool
	change    func(*facts)
}{
	// Strings.
	{`{"StringEquals":{"aws:username":"ann"}}`, true, nil},
	{`{"StringEquals":{"AWS:UserName":"ann"}}`, true, nil},
	{`{"StringEquals":{"aws:username":["bob","ann"]}}`, true, nil},
	{`{"StringEquals":{"aws:username":"Ann"}}`, false, nil},
	{`{"StringEquals":{"aws:username":"a*"}}`, false, nil},
	{`{"StringEquals":{"aws:username":"ann"}}`, false, inSession},
	{`{"StringEqualsIfExists":{"aws:username":"bob"}}`, false, nil},
	{`{"StringEqualsIfExists":{"aws:username":"bob"}}`, true, inSession},
	{`{"StringNotEquals":{"aws:username":"ann"}}`, false, nil},
	{`{"StringNotEquals":{"aws:username":["bob","ann"]}}`, false, nil},
	{`{"StringNotEquals":{"aws:username":["bob","cid"]}}`, true, nil},
	{`{"StringNotEquals":{"aws:username":"ann"}}`, true, inSession},
	{`{"StringNotEqualsIfExists":{"aws:username":"ann"}}`, true, inSession},
	{`{"StringEqualsIgnoreCase":{"aws:username":"ANN"}}`, true, nil},
	{`{"StringEqualsIgnoreCase":{"aws:username":"ANNE"}}`, false, nil},
	{`{"StringEqualsIgnoreCase":{"aws:ResourceTag/team":"B*"}}`, false, nil},
	{`{"StringNotEqualsIgnoreCase":{"aws:username":"ANN"}}`, false, nil},
	{`{"StringNotEqualsIgnoreCase":{"aws:username":"BOB"}}`, true, nil},
	{`{"StringLike":{"aws:username":["x*","a?n"]}}`, true, nil},
	{`{"StringLike":{"aws:username":"A*"}}`, false, nil},
	{`{"StringLike":{"aws:ResourceTag/none":"*"}}`, false, nil},
	{`{"StringNotLike":{"aws:username":"a*"}}`, false, nil},
	{`{"StringNotLike":{"aws:username":"b*"}}`, true, nil},
	{`{"StringNotLike":{"aws:ResourceTag/none":"*"}}`, true, nil},

	// Numbers.
	{`{"NumericEquals":{"aws:ResourceTag/size":10}}`, true, nil},
	{`{"NumericEquals":{"aws:ResourceTag/size":["9","10.0"]}}`, true, nil},
	{`{"NumericEquals":{"aws:ResourceTag/team":10}}`, false, nil},
	{`{"NumericEquals":{"aws:ResourceTag/none":10}}`, false, nil},
	{`{"NumericNotEquals":{"aws:ResourceTag/size":10}}`, false, nil},
	{`{"NumericNotEquals":{"aws:ResourceTag/size":11}}`, true, nil},
	{`{"NumericNotEquals":{"aws:ResourceTag/none":10}}`, true, nil},
	{`{"NumericLessThan":{"aws:ResourceTag/size":10}}`, false, nil},
	{`{"NumericLessThan":{"aws:ResourceTag/size":10.5}}`, true, nil},
	{`{"NumericLessThan":{"aws:ResourceTag/none":10}}`, false, nil},
	{`{"NumericLessThanIfExists":{"aws:ResourceTag/none":10}}`, true, nil},
	{`{"NumericLessThanEquals":{"aws:ResourceTag/size":10}}`, true, nil},
	{`{"NumericLessThanEquals":{"aws:ResourceTag/size":9}}`, false, nil},
	{`{"NumericGreaterThan":{"aws:ResourceTag/size":"9"}}`, true, nil},
	{`{"NumericGreaterThan":{"aws:ResourceTag/size":10}}`, false, nil},
	{`{"NumericGreaterThanEquals":{"aws:ResourceTag/size":10}}`, true, nil},
	{`{"NumericGreaterThanEquals":{"aws:ResourceTag/size":11}}`, false, nil},
	{`{"NumericGreaterThan":{"aws:EpochTime":1}}`, true, nil},

	// Times: it is 2026-11-22T10:11:12Z.
	{`{"DateEquals":{"aws:CurrentTime":"2026-11-22T10:11:12Z"}}`, true, nil},
	{`{"DateEquals":{"aws:CurrentTime":"2026-11-22T11:11:12+01:00"}}`, true, nil},
	{`{"DateEquals":{"aws:CurrentTime":"1795342272"}}`, true, nil},
	{`{"DateEquals":{"aws:EpochTime":"2026-11-22T10:11:12Z"}}`, true, nil},
	{`{"DateNotEquals":{"aws:CurrentTime":"2026-11-22T10:11Z"}}`, true, nil},
	{`{"DateLessThan":{"aws:CurrentTime":"2026-11-23"}}`, true, nil},
	{`{"DateLessThan":{"aws:CurrentTime":"2026-11"}}`, false, nil},
	{`{"DateLessThanEquals":{"aws:CurrentTime":"2026-11-22T10:11:12Z"}}`, true, nil},
	{`{"DateGreaterThan":{"aws:CurrentTime":"2026-11-22T10:11:12Z"}}`, false, nil},
	{`{"DateGreaterThan":{"aws:CurrentTime":"2026-11-22T10:11:11.5Z"}}`, true, nil},
	{`{"DateGreaterThanEquals":{"aws:CurrentTime":"2026-11-22"}}`, true, nil},
	{`{"DateGreaterThan":{"aws:ResourceTag/since":"2026-10-31"}}`, true, nil},
	{`{"DateGreaterThan":{"aws:ResourceTag/team":"2026-10-31"}}`, false, nil},
	{`{"DateGreaterThan":{"aws:TokenIssueTime":"2026-11-22T09:00:00Z"}}`, false, nil},
	{`{"DateGreaterThan":{"aws:TokenIssueTime":"2026-11-22T09:00:00Z"}}`, true, inSession},
	{`{"DateLessThan":{"aws:TokenIssueTime":"2026-11-22T09:00:00Z"}}`, false, inSession},
	{`{"DateNotEquals":{"aws:TokenIssueTime":"2026-11-22T09:00:00Z"}}`, true, nil},

	// Truth, addresses, ARNs.
	{`{"Bool":{"aws:SecureTransport":"true"}}`, true, nil},
	{`{"Bool":{"aws:SecureTransport":true}}`, true, nil},
	{`{"Bool":{"aws:SecureTransport":"False"}}`, false, nil},
	{`{"Bool":{"aws:SecureTransport":"false"}}`, true, func(f *facts) { f.secure = false }},
	{`{"Bool":{"aws:username":"true"}}`, false, nil},
	{`{"Bool":{"aws:username":"true"}}`, false, inSession},
	{`{"BoolIfExists":{"aws:username":"true"}}`, true, inSession},
	{`{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, true, nil},
	{`{"IpAddress":{"aws:sourceip":["198.51.100.1","192.0.2.7"]}}`, true, nil},
	{`{"IpAddress":{"aws:SourceIp":"192.0.2.8/29"}}`, false, nil},
	{`{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, true, func(f *facts) { f.sourceIP = netip.MustParseAddr("::ffff:192.0.2.1") }},
	{`{"IpAddress":{"aws:SourceIp":"2001:db8::/32"}}`, true, func(f *facts) { f.sourceIP = netip.MustParseAddr("2001:db8::1%eth0") }},
	{`{"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}`, false, func(f *facts) { f.sourceIP = netip.Addr{} }},
	{`{"IpAddress":{"aws:username":"0.0.0.0/0"}}`, false, nil},
	{`{"NotIpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, false, nil},
	{`{"NotIpAddress":{"aws:SourceIp":["198.51.100.0/24","10.0.0.0/8"]}}`, true, nil},
	{`{"NotIpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, true, func(f *facts) { f.sourceIP = netip.Addr{} }},
	{`{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::000000000001:user/ann"}}`, true, nil},
	{`{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::*:user/a*"}}`, true, nil},
	{`{"ArnLike":{"aws:PrincipalArn":"arn:aws:*:000000000001:*:user/ann"}}`, false, nil},
	{`{"ArnLike":{"aws:PrincipalArn":"*"}}`, true, nil},
	{`{"ArnLike":{"aws:username":"arn:*:*:*:*:*"}}`, false, nil},
	{`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::000000000001:role/deployer"}}`, true, inSession},
	{`{"ArnNotEquals":{"aws:PrincipalArn":"arn:aws:iam::000000000001:user/ann"}}`, false, nil},
	{`{"ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::000000000001:user/b*"}}`, true, nil},
	{`{"ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/a*"}}`, false, nil},

	// Null.
	{`{"Null":{"aws:TokenIssueTime":"true"}}`, true, nil},
	{`{"Null":{"aws:TokenIssueTime":"true"}}`, false, inSession},
	{`{"Null":{"aws:TokenIssueTime":false}}`, true, inSession},
	{`{"Null":{"aws:ResourceTag/void":"false"}}`, true, nil},
	{`{"Null":{"aws:TagKeys":"true"}}`, true, nil},
	{`{"Null":{"aws:TagKeys":"true"}}`, false, tagged("a")},
	{`{"Null":{"aws:RequestTag/a":"false"}}`, true, tagged("a")},

	// Keys.
	{`{"StringEquals":{"aws:ResourceTag/team":"blue","appmesh:ResourceTag/owner":"ann"}}`, true, nil},
	{`{"StringEquals":{"aws:ResourceTag/team":"blue","appmesh:ResourceTag/owner":"bob"}}`, false, nil},
	{`{"StringEquals":{"aws:ResourceTag/team":"blue"},"StringNotEquals":{"aws:username":"ann"}}`, false, nil},
	{`{"StringEquals":{"aws:ResourceTag/void":""}}`, true, nil},
	{`{"StringEquals":{"aws:RequestTag/a":"v-a"}}`, true, tagged("a")},
	{`{"StringEquals":{"aws:RequestTag/a":"v-a"}}`, false, nil},
	{`{"StringEquals":{"aws:userid":"UID1","aws:PrincipalAccount":"000000000001","aws:PrincipalType":"User","aws:RequestedRegion":"us-east-1","aws:ResourceAccount":"000000000001"}}`, true, nil},
	{`{"StringEquals":{"aws:userid":"UID2:monday","aws:PrincipalType":"AssumedRole"}}`, true, inSession},
	{`{"StringEquals":{"aws:ResourceAccount":"000000000001"}}`, false, func(f *facts) { f.Resource = "*" }},
	{`{"StringEquals":{"sts:RoleSessionName":"ann"}}`, true, func(f *facts) { f.session = "ann" }},
	{`{"StringEquals":{"sts:RoleSessionName":"ann"}}`, false, nil},
	{`{}`, true, nil},

	// Many values.
	{`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`, true, tagged("a")},
	{`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`, true, tagged("a", "b")},
	{`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`, false, tagged("a", "c")},
	{`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`, false, tagged("c", "a")},
	{`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`, true, nil},
	{`{"ForAllValues:StringLike":{"aws:TagKeys":"a*"}}`, false, func(f *facts) { f.TagKeys = []string{"ab", "ba"} }},
	{`{"ForAllValues:StringLike":{"aws:TagKeys":"a*"}}`, false, func(f *facts) { f.TagKeys = []string{"ab"}; tagged("b")(f) }},
	{`{"ForAllValues:StringNotEquals":{"aws:TagKeys":["a","b"]}}`, true, tagged("c", "d")},
	{`{"ForAllValues:StringNotEquals":{"aws:TagKeys":["a","b"]}}`, false, tagged("c", "a")},
	{`{"ForAllValues:StringNotEquals":{"aws:TagKeys":["a","b"]}}`, true, nil},
	{`{"ForAnyValue:StringEquals":{"aws:TagKeys":["a","b"]}}`, true, tagged("c", "b")},
	{`{"ForAnyValue:StringEquals":{"aws:TagKeys":["a","b"]}}`, true, tagged("b", "c")},
	{`{"ForAnyValue:StringEquals":{"aws:TagKeys":["a","b"]}}`, false, tagged("c")},
	{`{"ForAnyValue:StringEquals":{"aws:TagKeys":["a","b"]}}`, false, nil},
	{`{"ForAnyValue:StringEqualsIfExists":{"aws:TagKeys":["a","b"]}}`, true, nil},
	{`{"ForAnyValue:StringNotEquals":{"aws:TagKeys":["a","b"]}}`, true, tagged("a", "c")},
	{`{"ForAnyValue:StringNotEquals":{"aws:TagKeys":["a","b"]}}`, false, tagged("a", "b")},
	{`{"ForAnyValue:StringNotEquals":{"aws:TagKeys":["a","b"]}}`, false, nil},
	{`{"ForAnyValue:StringEquals":{"aws:username":"ann"}}`, true, nil},
	{`{"ForAllValues:StringEquals":{"aws:username":"ann"}}`, true, inSession},

	// Variables.
	{`{"StringEquals":{"aws:ResourceTag/owner":"${aws:username}"}}`, true, nil},
	{`{"StringEquals":{"aws:ResourceTag/team":"${aws:username}"}}`, false, nil},
	{`{"StringEquals":{"aws:ResourceTag/owner":"${aws:username}"}}`, false, inSession},
	{`{"StringEquals":{"aws:ResourceTag/owner":"${aws:username, 'ann'}"}}`, true, inSession},
	{`{"StringEquals":{"aws:ResourceTag/void":"${aws:username,''}"}}`, true, inSession},
	{`{"StringEqualsIgnoreCase":{"aws:username":"${aws:ResourceTag/OWNER}"}}`, true, nil},
	{`{"StringLike":{"aws:username":"${aws:ResourceTag/owner}*"}}`, true, nil},
	{`{"StringLike":{"aws:username":"${*}nn"}}`, false, nil},
	{`{"StringLike":{"aws:RequestTag/a":"${*}${?}${$}*"}}`, true, func(f *facts) { f.RequestTags = []mesh.TagRef{{Key: "a", Value: "*?$x"}} }},
	{`{"StringLike":{"aws:username":"${aws:ResourceTag/team}"}}`, false, func(f *facts) { f.ResourceTags[0].Value = "*" }},
	{`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::${aws:PrincipalAccount}:user/${aws:username}"}}`, true, nil},
	{`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::${aws:PrincipalAccount}:role/*"}}`, true, inSession},
	{`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:*/${aws:ResourceTag/x, 'a}:b'}"}}`, false, nil},
}

func TestConditions(t *testing.T) {
	t.Parallel()
	for i, c := range conditionCases {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			for effect, want := range map[string]Decision{"Allow": Allowed, "Deny": Denied} {
				p, err := ParsePolicy([]byte(`{"Version":"2012-10-17","Statement":{"Effect":"` + effect + `","Action":"*","Resource":"*","Condition":` + c.condition + `}}`))
				if err != nil {
					t.Fatalf("%s: %v", c.condition, err)
				}
				if !c.holds {
					want = NotMentioned
				}
				if got := p.decide(testFacts(c.change)); got != want {
					t.Errorf("%s in %s: got %d, want %d", c.condition, effect, got, want)
				}
			}
		})
	}
}

// TestEveryOperator checks that each operator has a case above that holds and one
// that does not.
func TestEveryOperator(t *testing.T) {
	t.Parallel()
	seen := map[string][2]bool{}
	for _, c := range conditionCases {
		for name := range operators {
			if strings.Contains(c.condition, `"`+name+`":`) {
				s := seen[name]
				s[map[bool]int{true: 1, false: 0}[c.holds]] = true
				seen[name] = s
			}
		}
	}
	for name := range operators {
		if name == "DateEquals" || name == "DateNotEquals" || name == "DateLessThanEquals" || name == "DateGreaterThanEquals" || name == "ArnEquals" || name == "ArnNotEquals" {
			continue // as the others of their family, of which they differ by a flag
		}
		if seen[name] != [2]bool{true, true} {
			t.Errorf("%s has no case that holds and one that does not: %v", name, seen[name])
		}
	}
}

// TestUnresolvedVariables checks that a variable without a value makes no statement
// wider: not an Allow by what it excludes, and not less of a Deny.
func TestUnresolvedVariables(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		statement string
		user      Decision // ann, for whom the variable has a value
		session   Decision // a session, for which it has none
	}{
		{`{"Effect":"Allow","Action":"*","Resource":"arn:aws:appmesh:*:*:mesh/${aws:username}"}`, NotMentioned, NotMentioned},
		{`{"Effect":"Allow","Action":"*","Resource":["arn:aws:appmesh:*:*:mesh/${aws:username}","arn:aws:appmesh:*:*:mesh/shop"]}`, Allowed, Allowed},
		{`{"Effect":"Allow","Action":"*","NotResource":"arn:aws:appmesh:*:*:mesh/${aws:username}"}`, Allowed, NotMentioned},
		{`{"Effect":"Deny","Action":"*","NotResource":"arn:aws:appmesh:*:*:mesh/${aws:username}"}`, Denied, Denied},
		{`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:ResourceTag/team":"${aws:username}"}}}`, Allowed, NotMentioned},
		{`{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:ResourceTag/team":"${aws:username}"}}}`, Denied, Denied},
		{`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/${aws:username}"}}}`, Allowed, NotMentioned},
		{`{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}`, Allowed, Allowed},
		{`{"Effect":"Allow","NotAction":["iam:*","appmesh:Create*"],"Resource":"*"}`, NotMentioned, NotMentioned},
		{`{"Effect":"Allow","Action":"*","NotResource":["arn:aws:appmesh:*:*:mesh/other","arn:aws:appmesh:*:*:mesh/other/*"]}`, Allowed, Allowed},
		{`{"Effect":"Allow","Action":"*","NotResource":"*"}`, NotMentioned, NotMentioned},
	} {
		p, err := ParsePolicy([]byte(`{"Version":"2012-10-17","Statement":` + c.statement + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.decide(testFacts(nil)); got != c.user {
			t.Errorf("%s for a user: got %d, want %d", c.statement, got, c.user)
		}
		if got := p.decide(testFacts(inSession)); got != c.session {
			t.Errorf("%s for a session: got %d, want %d", c.statement, got, c.session)
		}
	}
}
