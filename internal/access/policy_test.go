package access

import (
	"strings"
	"testing"
)

const (
	shop = "arn:aws:appmesh:us-east-1:000000000001:mesh/shop"
	cart = shop + "/virtualNode/cart"
)

func TestEvaluate(t *testing.T) {
	t.Parallel()
	type question struct {
		action, resource string
		want             Decision
	}
	for name, c := range map[string]struct {
		document  string
		questions []question
	}{
		"administrator": {administratorPolicy, []question{
			{"appmesh:CreateMesh", shop, Allowed},
			{"appmesh:ListMeshes", "*", Allowed},
			{"iam:CreateUser", "arn:aws:iam::000000000001:user/x", Allowed},
		}},
		"proxy": {`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"appmesh:StreamAggregatedResources","Resource":"` + cart + `"}}`, []question{
			{"appmesh:StreamAggregatedResources", cart, Allowed},
			{"APPMESH:streamaggregatedresources", cart, Allowed},
			{"appmesh:StreamAggregatedResources", cart + "2", NotMentioned},
			{"appmesh:StreamAggregatedResources", strings.ToUpper(cart), NotMentioned},
			{"appmesh:DescribeVirtualNode", cart, NotMentioned},
			{"appmesh:StreamAggregatedResources", "*", NotMentioned},
		}},
		"reader but for one mesh": {`{"Statement":[
			{"Sid":"read","Effect":"Allow","Action":["appmesh:Describe*","appmesh:List*"],"Resource":"*"},
			{"Effect":"Deny","Action":"*","Resource":["arn:aws:appmesh:*:*:mesh/secret","arn:aws:appmesh:*:*:mesh/secret/*"]}]}`, []question{
			{"appmesh:DescribeVirtualNode", cart, Allowed},
			{"appmesh:ListMeshes", "*", Allowed},
			{"appmesh:UpdateVirtualNode", cart, NotMentioned},
			{"appmesh:DescribeMesh", "arn:aws:appmesh:us-east-1:000000000001:mesh/secret", Denied},
			{"appmesh:DescribeRoute", "arn:aws:appmesh:us-east-1:000000000001:mesh/secret/virtualRouter/r/route/x", Denied},
			{"appmesh:DescribeMesh", "arn:aws:appmesh:us-east-1:000000000001:mesh/secrets", Allowed},
		}},
		"wildcards stay in their part": {`{"Statement":{"Effect":"Allow","Action":"appmesh:?reateMesh","Resource":"arn:aws:appmesh:us-*:00000000000?:mesh/s*p"}}`, []question{
			{"appmesh:CreateMesh", shop, Allowed},
			{"appmesh:CreateMesh", "arn:aws:appmesh:eu-west-1:000000000001:mesh/shop", NotMentioned},
			{"appmesh:CreateMesh", "arn:aws:appmesh:us-east-1:000000000012:mesh/shop", NotMentioned},
			{"appmesh:CreateMesh", "arn:aws:appmesh:us-east-1:1:000000000001:mesh/shop", NotMentioned},
			{"appmesh:CreateMesh", "arn:aws:appmesh:us-east-1:000000000001:mesh/sp", Allowed},
			{"appmesh:CreateMesh", "arn:aws:appmesh:us-east-1:000000000001:mesh/s:/p", Allowed},
			{"appmesh:reateMesh", shop, NotMentioned},
		}},
		"short ARN": {`{"Statement":{"Effect":"Allow","Action":"appmesh:*","Resource":"arn:aws:appmesh"}}`, []question{
			{"appmesh:CreateMesh", shop, Allowed},
			{"appmesh:CreateMesh", "arn:aws:iam::000000000001:user/x", NotMentioned},
			{"appmesh:CreateMesh", "arn:aws:appmesh", NotMentioned},
		}},
		"denial first": {`{"Statement":[{"Effect":"Deny","Action":"*","Resource":"` + shop + `"},{"Effect":"Allow","Action":"*","Resource":"*"}]}`, []question{
			{"appmesh:DeleteMesh", shop, Denied},
			{"appmesh:DeleteVirtualNode", cart, Allowed},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := ParsePolicy([]byte(c.document))
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range c.questions {
				if got := evaluate(p, q.action, q.resource); got != q.want {
					t.Errorf("%s on %s: got %d, want %d", q.action, q.resource, got, q.want)
				}
			}
		})
	}
}

// evaluate asks a policy about an action and a resource.
func evaluate(p *Policy, action, resource string) Decision {
	return p.decide(testFacts(func(f *facts) { f.Action, f.Resource = action, resource }))
}

func TestParsePolicyRefuses(t *testing.T) {
	t.Parallel()
	statement := func(s string) string { return `{"Version":"2012-10-17","Statement":[` + s + `]}` }
	condition := func(s string) string {
		return statement(`{"Effect":"Deny","Action":"*","Resource":"*","Condition":` + s + `}`)
	}
	for document, want := range map[string]string{
		``:                                "not a JSON object",
		`[]`:                              "not a JSON object",
		`{"Statement":`:                   "not valid JSON",
		`{"Version":"2012-10-17"}`:        "needs Statement",
		`{"Statement":[]}`:                "needs Statement",
		`{"Statement":"x"}`:               "needs Statement",
		`{"Version":"2020-01-01"}`:        `Version "2020-01-01", allowed are 2012-10-17`,
		`{"version":"2012-10-17"}`:        `"version", allowed are Id, Statement, Version`,
		`{"Version":1}`:                   "wrong form in Version",
		administratorPolicy + `x`:         "behind its end",
		`{"Statement":[],"Statement":[]}`: `"Statement" twice`,
		statement(`{}`):                   `Statement[0] has Effect "", allowed are Allow and Deny`,
		statement(`null`):                 "Statement[0] is not a JSON object",
		statement(`{"Effect":"allow"}`):   `Effect "allow"`,
		statement(`{"Effect":"Allow"}`):   "needs Action",
		statement(`{"Effect":"Allow","Action":[]}`):                                                     "needs Action",
		statement(`{"Effect":"Allow","Action":"*"}`):                                                    "needs Resource",
		statement(`{"Effect":"Allow","Action":"CreateMesh","Resource":"*"}`):                            `Action "CreateMesh"`,
		statement(`{"Effect":"Allow","Action":"app*:CreateMesh","Resource":"*"}`):                       `Action "app*:CreateMesh"`,
		statement(`{"Effect":"Allow","Action":"*","Resource":"mesh/shop"}`):                             `Resource "mesh/shop"`,
		statement(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:appmesh:x:y:z"}`):                 `account "y"`,
		statement(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${a}"}`):                     `the policy variable "a" is not known`,
		statement(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username"}`):           "that no } ends",
		statement(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:TagKeys}"}`):           "many values",
		statement(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username, x}"}`):       "not between single quotes",
		statement(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username, 'x''}"}`):    "that no } ends",
		statement(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username, 'x' 'y'}"}`): "not between single quotes",
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username}"}}`:       "need Version 2012-10-17",
		statement(`{"Effect":"Allow","Action":"*","Resource":[null]}`):                                  "needs Resource",
		statement(`{"Effect":"Deny","NotAction":[],"Resource":"*"}`):                                    "needs NotAction",
		statement(`{"Effect":"Deny","Action":"*","NotAction":"*","Resource":"*"}`):                      "Action and NotAction, allowed is one",
		statement(`{"Effect":"Deny","Action":"*","Resource":"*","NotResource":"*"}`):                    "Resource and NotResource, allowed is one",
		statement(`{"Effect":"Deny","Action":[null],"Resource":"*"}`):                                   "needs Action",
		statement(`{"Effect":"Deny","Action":"*","Resource":"*","Condition":[]}`):                       "a Condition that is not a JSON object",
		statement(`{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":"x"}}`):             "with Bool that is not a JSON object",
		statement(`{"Effect":"Deny","Action":"*","Resource":"*","Condition":null}`):                     "a Condition that is not a JSON object",
		statement(`{"Effect":"Deny","Action":"*","Resource":"*","NotPrincipal":"*"}`):                   "NotPrincipal, which is not supported",
		condition(`{"StringEqual":{"aws:username":"x"}}`):                                               `the operator "StringEqual", allowed are StringEquals`,
		condition(`{"stringequals":{"aws:username":"x"}}`):                                              `the operator "stringequals"`,
		condition(`{"BinaryEquals":{"aws:username":"x"}}`):                                              `the operator "BinaryEquals"`,
		condition(`{"NullIfExists":{"aws:username":true}}`):                                             `the operator "NullIfExists"`,
		condition(`{"ForAnyValue:Null":{"aws:username":true}}`):                                         `the operator "ForAnyValue:Null"`,
		condition(`{"ForSomeValues:StringEquals":{"aws:username":"x"}}`):                                `the operator "ForSomeValues:StringEquals"`,
		condition(`{"StringEquals":{"aws:Username2":"x"}}`):                                             `"aws:Username2" is not known, allowed are aws:CurrentTime`,
		condition(`{"StringEquals":{"aws:ResourceTag":"x"}}`):                                           `"aws:ResourceTag" is not known`,
		condition(`{"StringEquals":{"aws:ResourceTag/":"x"}}`):                                          `"aws:ResourceTag/" is not known`,
		condition(`{"StringEquals":{"aws:username/x":"x"}}`):                                            `"aws:username/x" is not known`,
		condition(`{"StringEquals":{"aws:TagKeys":"x"}}`):                                               "put ForAllValues: or ForAnyValue: before",
		condition(`{"StringEquals":{"aws:username":[]}}`):                                               "needs a value",
		condition(`{"StringEquals":{"aws:username":{}}}`):                                               "value of the wrong form",
		condition(`{"StringEquals":{"aws:username":[["x"]]}}`):                                          "value of the wrong form",
		condition(`{"StringEquals":{"aws:username":null}}`):                                             "value of the wrong form",
		condition(`{"StringEquals":{"aws:username":"x","AWS:UserName":"y"}}`):                           `"AWS:UserName" twice`,
		condition(`{"StringEquals":{"aws:username":"x","aws:username":"y"}}`):                           `"aws:username" twice`,
		condition(`{"StringEquals":{},"StringEquals":{}}`):                                              `"StringEquals" twice`,
		condition(`{"StringLike":{"aws:username":"${nobody}"}}`):                                        `the policy variable "nobody" is not known`,
		condition(`{"NumericEquals":{"aws:ResourceTag/n":"ten"}}`):                                      `the value "ten", allowed is a number`,
		condition(`{"NumericEquals":{"aws:ResourceTag/n":"Inf"}}`):                                      `the value "Inf", allowed is a number`,
		condition(`{"NumericEquals":{"aws:ResourceTag/n":"0x10"}}`):                                     `the value "0x10", allowed is a number`,
		condition(`{"NumericEquals":{"aws:ResourceTag/n":"1e999"}}`):                                    `the value "1e999", allowed is a number`,
		condition(`{"DateLessThan":{"aws:CurrentTime":"tomorrow"}}`):                                    `the value "tomorrow", allowed is a time`,
		condition(`{"Bool":{"aws:SecureTransport":"yes"}}`):                                             `the value "yes", allowed is true or false`,
		condition(`{"Null":{"aws:username":"maybe"}}`):                                                  `the value "maybe", allowed is true or false`,
		condition(`{"IpAddress":{"aws:SourceIp":"192.0.2.0/33"}}`):                                      `the value "192.0.2.0/33", allowed is an address`,
		condition(`{"IpAddress":{"aws:SourceIp":"::ffff:192.0.2.0/120"}}`):                              "allowed is an address",
		condition(`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam"}}`):                                     "allowed are * and an ARN",
		condition(`{"ArnLike":{"aws:PrincipalArn":"ann"}}`):                                             "allowed are * and an ARN",
		statement(`{"Effect":"Deny","Action":"*","Resource":"*","Principal":"*"}`):                      "Principal, which only the trust policy",
		statement(`{"Effect":"Allow","Action":"*","Resource":"*"}`) + "\n{}":                            "behind its end",
		`{"Id":"` + strings.Repeat("x", MaxPolicyBytes) + `"}`:                                          "allowed are 20480",
		statement(`{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Perhaps"}`):                "Statement[1]",
	} {
		_, err := ParsePolicy([]byte(document))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.80s: got %v, want one line with %q", document, err, want)
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "a/b", true},
		{"?", "", false},
		{"?", "ä", true},
		{"??", "ä", false},
		{"a*", "a", true},
		{"*a", "ba", true},
		{"*a", "ab", false},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "a-c-b", false},
		{"**a**", "a", true},
		{"*?", "", false},
		{"a?c*", "abc", true},
		{"[a]", "a", false},
		{"a", "A", false},
		{strings.Repeat("*a", 50), strings.Repeat("a", 500) + "b", false},
	} {
		if got := wildcards(c.pattern).matches(c.s); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.s, got)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	p, err := ParsePolicy([]byte(`{"Statement":{"Effect":"Allow","Action":"appmesh:Describe*","Resource":"arn:aws:appmesh:*:*:mesh/shop/*"}}`))
	if err != nil {
		b.Fatal(err)
	}
	f := testFacts(func(f *facts) { f.Action, f.Resource = "appmesh:DescribeVirtualNode", cart })
	b.ReportAllocs()
	for b.Loop() {
		if p.decide(f) != Allowed {
			b.Fatal("refused")
		}
	}
}
