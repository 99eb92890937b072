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
				if got := p.Evaluate(q.action, q.resource); got != q.want {
					t.Errorf("%s on %s: got %d, want %d", q.action, q.resource, got, q.want)
				}
			}
		})
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	t.Parallel()
	statement := func(s string) string { return `{"Version":"2012-10-17","Statement":[` + s + `]}` }
	for document, want := range map[string]string{
		``:                                "not a JSON object",
		`[]`:                              "not a JSON object",
		`{"Statement":`:                   "Statement",
		`{"Version":"2012-10-17"}`:        "needs Statement",
		`{"Statement":[]}`:                "needs Statement",
		`{"Statement":"x"}`:               "needs Statement",
		`{"Version":"2020-01-01"}`:        `Version "2020-01-01", allowed are 2012-10-17`,
		`{"version":"2012-10-17"}`:        `"version", allowed are Id, Statement, Version`,
		`{"Version":1}`:                   "wrong form in Version",
		administratorPolicy + `x`:         "behind its end",
		`{"Statement":[],"Statement":[]}`: "Statement twice",
		statement(`{}`):                   `Statement[0] has Effect "", allowed are Allow and Deny`,
		statement(`null`):                 "Statement[0] is not a JSON object",
		statement(`{"Effect":"allow"}`):   `Effect "allow"`,
		statement(`{"Effect":"Allow"}`):   "needs Action",
		statement(`{"Effect":"Allow","Action":[]}`):                                      "needs Action",
		statement(`{"Effect":"Allow","Action":"*"}`):                                     "needs Resource",
		statement(`{"Effect":"Allow","Action":"CreateMesh","Resource":"*"}`):             `Action "CreateMesh"`,
		statement(`{"Effect":"Allow","Action":"app*:CreateMesh","Resource":"*"}`):        `Action "app*:CreateMesh"`,
		statement(`{"Effect":"Allow","Action":"*","Resource":"mesh/shop"}`):              `Resource "mesh/shop"`,
		statement(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:appmesh:x:y:z"}`):  `account "y"`,
		statement(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${a}"}`):      "policy variables",
		statement(`{"Effect":"Allow","Action":"*","Resource":[null]}`):                   `Resource ""`,
		statement(`{"Effect":"Deny","NotAction":"*","Resource":"*"}`):                    "NotAction, which is not supported yet",
		statement(`{"Effect":"Deny","Action":"*","NotResource":"*"}`):                    "NotResource, which is not supported yet",
		statement(`{"Effect":"Deny","Action":"*","Resource":"*","Condition":{}}`):        "Condition, which is not supported yet",
		statement(`{"Effect":"Deny","Action":"*","Resource":"*","Principal":"*"}`):       "Principal, which a user's own policy cannot have",
		statement(`{"Effect":"Allow","Action":"*","Resource":"*"}`) + "\n{}":             "behind its end",
		`{"Id":"` + strings.Repeat("x", MaxPolicyBytes) + `"}`:                           "allowed are 20480",
		statement(`{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Perhaps"}`): "Statement[1]",
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
		if got := match(c.pattern, c.s); got != c.want {
			t.Errorf("match(%q, %q) is %v", c.pattern, c.s, got)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	p, err := ParsePolicy([]byte(`{"Statement":{"Effect":"Allow","Action":"appmesh:Describe*","Resource":"arn:aws:appmesh:*:*:mesh/shop/*"}}`))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if p.Evaluate("appmesh:DescribeVirtualNode", cart) != Allowed {
			b.Fatal("refused")
		}
	}
}
