package access

import (
	"fmt"
	"strings"
	"testing"
)

// TestAllowAnywhere holds that only what is allowed without any bound counts.
func TestAllowAnywhere(t *testing.T) {
	t.Parallel()
	const all = `{"Effect":"Allow","Action":"appmesh:*","Resource":"*"}`
	for _, c := range []struct {
		want       bool
		statements string
	}{
		{true, all},
		{true, `{"Effect":"Allow","NotAction":"iam:*","Resource":["arn:aws:appmesh:*:*:mesh/a","*"]}`},
		{true, all + `,{"Effect":"Deny","Action":"appmesh:Delete*","Resource":"*"}`},
		{false, ``},
		{false, `{"Effect":"Allow","Action":"appmesh:Delete*","Resource":"*"}`},
		{false, `{"Effect":"Allow","Action":"appmesh:*","Resource":"arn:aws:appmesh:*:*:*"}`},
		{false, `{"Effect":"Allow","Action":"appmesh:*","NotResource":"*"}`},
		{false, `{"Effect":"Allow","Action":"appmesh:*","NotResource":"arn:aws:appmesh:*:*:mesh/a"}`},
		{false, `{"Effect":"Allow","Action":"appmesh:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}`},
		{false, all + `,{"Effect":"Deny","Action":"appmesh:Create*","Resource":"arn:aws:appmesh:*:*:mesh/a"}`},
		{false, all + `,{"Effect":"Deny","NotAction":"appmesh:Describe*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/a":"b"}}}`},
	} {
		var policies []*Policy
		if c.statements != "" {
			p, err := ParsePolicy(fmt.Appendf(nil, `{"Version":"2012-10-17","Statement":[%s]}`, c.statements))
			if err != nil {
				t.Fatal(err)
			}
			policies = append(policies, p)
		}
		for _, action := range []string{"appmesh:CreateRoute", strings.ToUpper("appmesh:CreateRoute")} {
			if got := allowAnywhere(policies, action); got != c.want {
				t.Errorf("%s on %s: %t", action, c.statements, got)
			}
		}
	}
}
