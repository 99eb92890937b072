package restapi_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/access"
	v1 "github.com/fairlead-mesh/fairlead/internal/restapi/v1"
)

const (
	administrator = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	trustUs       = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000001:root"},"Action":"sts:AssumeRole"}]}`
)

// ownPermissions says for each operation of /v1 what it needs: the action, the resource,
// and a request that succeeds on what preparePermissions makes. %s stands for an access
// key of the user victim.
var ownPermissions = map[string]struct{ action, resource, method, path, body string }{
	"GetCallerIdentity":         {"", "", "GET", "/v1/caller", ""},
	"CreateAccount":             {"fairlead:CreateAccount", "arn:aws:fairlead::000000000001:account/000000000007", "PUT", "/v1/accounts", `{"accountId":"000000000007","accountName":"seven"}`},
	"ListAccounts":              {"fairlead:ListAccounts", "*", "GET", "/v1/accounts", ""},
	"DescribeAccount":           {"fairlead:DescribeAccount", "arn:aws:fairlead::000000000001:account/000000000002", "GET", "/v1/accounts/000000000002", ""},
	"UpdateAccount":             {"fairlead:UpdateAccount", "arn:aws:fairlead::000000000001:account/000000000002", "PUT", "/v1/accounts/000000000002", `{"accountName":"x"}`},
	"DeleteAccount":             {"fairlead:DeleteAccount", "arn:aws:fairlead::000000000001:account/000000000003", "DELETE", "/v1/accounts/000000000003", ""},
	"CreateUser":                {"iam:CreateUser", "arn:aws:iam::000000000001:user/new", "PUT", "/v1/users", `{"userName":"new"}`},
	"ListUsers":                 {"iam:ListUsers", "arn:aws:iam::000000000001:user/*", "GET", "/v1/users", ""},
	"DescribeUser":              {"iam:GetUser", "arn:aws:iam::000000000001:user/victim", "GET", "/v1/users/victim", ""},
	"UpdateUser":                {"iam:PutUserPolicy", "arn:aws:iam::000000000001:user/victim", "PUT", "/v1/users/victim", `{"policies":{}}`},
	"DeleteUser":                {"iam:DeleteUser", "arn:aws:iam::000000000001:user/gone", "DELETE", "/v1/users/gone", ""},
	"CreateAccessKey":           {"iam:CreateAccessKey", "arn:aws:iam::000000000001:user/victim", "PUT", "/v1/users/victim/accessKeys", ""},
	"ListAccessKeys":            {"iam:ListAccessKeys", "arn:aws:iam::000000000001:user/victim", "GET", "/v1/users/victim/accessKeys", ""},
	"UpdateAccessKey":           {"iam:UpdateAccessKey", "arn:aws:iam::000000000001:user/victim", "PUT", "/v1/users/victim/accessKeys/%s", `{"status":"INACTIVE"}`},
	"DeleteAccessKey":           {"iam:DeleteAccessKey", "arn:aws:iam::000000000001:user/victim", "DELETE", "/v1/users/victim/accessKeys/%s", ""},
	"CreateRole":                {"iam:CreateRole", "arn:aws:iam::000000000001:role/new", "PUT", "/v1/roles", `{"roleName":"new","trustPolicy":` + trustUs + `}`},
	"ListRoles":                 {"iam:ListRoles", "arn:aws:iam::000000000001:role/*", "GET", "/v1/roles", ""},
	"DescribeRole":              {"iam:GetRole", "arn:aws:iam::000000000001:role/victim", "GET", "/v1/roles/victim", ""},
	"UpdateRole":                {"iam:PutRolePolicy", "arn:aws:iam::000000000001:role/victim", "PUT", "/v1/roles/victim", `{"policies":{}}`},
	"DeleteRole":                {"iam:DeleteRole", "arn:aws:iam::000000000001:role/gone", "DELETE", "/v1/roles/gone", ""},
	"RevokeRoleSessions":        {"iam:PutRolePolicy", "arn:aws:iam::000000000001:role/victim", "PUT", "/v1/roles/victim/revocation", ""},
	"AssumeRole":                {"sts:AssumeRole", "arn:aws:iam::000000000001:role/victim", "PUT", "/v1/assumedRoles", `{"roleArn":"arn:aws:iam::000000000001:role/victim","sessionName":"me"}`},
	"AssumeRoleWithWebIdentity": {"", "", "PUT", "/v1/assumedRoles/webIdentity", `{"roleArn":"arn:aws:iam::000000000001:role/vouched","webIdentityToken":"{token}"}`},
	"AssumeRoleWithCertificate": {"", "", "PUT", "/v1/assumedRoles/certificate", `{"roleArn":"arn:aws:iam::000000000001:role/vouched"}`},
	"AssumeRoleWithAWSIdentity": {"", "", "PUT", "/v1/assumedRoles/awsIdentity", `{"roleArn":"arn:aws:iam::000000000001:role/vouched","request":{signed}}`},
	"CreateIdentityProvider":    {"iam:CreateIdentityProvider", "arn:aws:iam::000000000001:identity-provider/new", "PUT", "/v1/identityProviders", `{"providerName":"new","aws":{"accountIds":["111122223333"]}}`},
	"ListIdentityProviders":     {"iam:ListIdentityProviders", "arn:aws:iam::000000000001:identity-provider/*", "GET", "/v1/identityProviders", ""},
	"DescribeIdentityProvider":  {"iam:GetIdentityProvider", "arn:aws:iam::000000000001:identity-provider/amazon", "GET", "/v1/identityProviders/amazon", ""},
	"UpdateIdentityProvider":    {"iam:UpdateIdentityProvider", "arn:aws:iam::000000000001:identity-provider/other", "PUT", "/v1/identityProviders/other", `{"aws":{"accountIds":["444455556666"]}}`},
	"DeleteIdentityProvider":    {"iam:DeleteIdentityProvider", "arn:aws:iam::000000000001:identity-provider/gone", "DELETE", "/v1/identityProviders/gone", ""},
	"CreateSession":             {"", "", "PUT", "/v1/sessions", ""},
	"ListQuotas":                {"fairlead:ListQuotas", "arn:aws:fairlead::000000000001:quota/*", "GET", "/v1/quotas", ""},
	"UpdateQuota":               {"fairlead:UpdateQuota", "arn:aws:fairlead::000000000002:quota/routes", "PUT", "/v1/quotas/routes?accountId=000000000002", `{"value":7}`},
	"ResetQuota":                {"fairlead:UpdateQuota", "arn:aws:fairlead::000000000002:quota/routes", "DELETE", "/v1/quotas/routes?accountId=000000000002", ""},
	"ApplyQuotaSet":             {"fairlead:UpdateQuota", "arn:aws:fairlead::000000000002:quota/*", "PUT", "/v1/quotaSets?accountId=000000000002", `{"set":"app-mesh"}`},
	"CreateShare":               {"appmesh:PutMeshPolicy", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "PUT", "/v1/meshes/shop/shares", `{"accountId":"000000000002"}`},
	"ListShares":                {"appmesh:GetMeshPolicy", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "GET", "/v1/meshes/shop/shares", ""},
	"DeleteShare":               {"appmesh:DeleteMeshPolicy", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "DELETE", "/v1/meshes/shop/shares/000000000002", ""},
	"ListEvents":                {"fairlead:ListEvents", "*", "GET", "/v1/events", ""},
	"ReadBackup":                {"fairlead:ReadBackup", "*", "GET", "/v1/backup", ""},
	"ListProxies":               {"fairlead:ListProxies", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "GET", "/v1/meshes/shop/proxies", ""},
	"DescribeConfiguration":     {"fairlead:DescribeConfiguration", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "GET", "/v1/meshes/shop/configuration?resource=virtualNode/cart", ""},
	"DescribeQuotaUsage":        {"fairlead:DescribeQuotaUsage", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop/policy/quota", "GET", "/v1/meshes/shop/policies/quota/usage", ""},
	"DescribePropagation":       {"fairlead:DescribePropagation", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "GET", "/v1/meshes/shop/propagation", ""},
	"ListProblems":              {"fairlead:ListProblems", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "GET", "/v1/meshes/shop/problems", ""},

	"AddRoot":             {"fairlead:RotateAuthority", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "PUT", "/v1/meshes/shop/authority/rotation", ""},
	"CancelRotation":      {"fairlead:RotateAuthority", "arn:aws:appmesh:us-east-1:000000000001:mesh/given-up", "DELETE", "/v1/meshes/given-up/authority/rotation", ""},
	"DescribeAuthority":   {"fairlead:DescribeAuthority", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "GET", "/v1/meshes/shop/authority", ""},
	"DescribeTrustBundle": {"fairlead:DescribeTrustBundle", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "GET", "/v1/meshes/shop/trustBundle", ""},
	"ImportAuthority":     {"fairlead:ImportAuthority", "arn:aws:appmesh:us-east-1:000000000001:mesh/empty", "PUT", "/v1/meshes/empty/authority/root", `{"certificate":"{certificate}","privateKey":"{privateKey}"}`},
	"IssueCertificate":    {"appmesh:StreamAggregatedResources", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop/virtualNode/cart", "PUT", "/v1/meshes/shop/certificates", `{"resourceArn":"mesh/shop/virtualNode/cart","csr":"{csr}"}`},
	"ListCertificates":    {"fairlead:ListCertificates", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "GET", "/v1/meshes/shop/certificates", ""},
	"ListRevocations":     {"fairlead:ListRevocations", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "GET", "/v1/meshes/shop/revocations", ""},
	"RestoreWorkload":     {"fairlead:RevokeWorkload", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "DELETE", "/v1/meshes/shop/revokedWorkloads?resource=virtualNode/gone", ""},
	"RetireRoot":          {"fairlead:RotateAuthority", "arn:aws:appmesh:us-east-1:000000000001:mesh/switched", "PUT", "/v1/meshes/switched/authority/rotation/retire", `{"force":true}`},
	"RevokeCertificate":   {"fairlead:RevokeCertificate", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "PUT", "/v1/meshes/shop/revokedCertificates/{serial}", ""},
	"RevokeWorkload":      {"fairlead:RevokeWorkload", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "PUT", "/v1/meshes/shop/revokedWorkloads", `{"resource":"virtualNode/other"}`},
	"RotateIntermediate":  {"fairlead:RotateAuthority", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "PUT", "/v1/meshes/shop/authority/intermediate", ""},
	"SwitchRoot":          {"fairlead:RotateAuthority", "arn:aws:appmesh:us-east-1:000000000001:mesh/added", "PUT", "/v1/meshes/added/authority/rotation/switch", `{"force":true}`},
	"UpdateAuthority":     {"fairlead:UpdateAuthority", "arn:aws:appmesh:us-east-1:000000000001:mesh/shop", "PUT", "/v1/meshes/shop/authority", `{"certificateSeconds":600}`},
}

// TestOwnPermissions tries each operation of /v1 as a user without a policy, with the
// permission on another resource, with an explicit denial beside everything, and with
// the permission and nothing else.
func TestOwnPermissions(t *testing.T) {
	t.Parallel()
	if len(ownPermissions) != len(v1.Operations) {
		t.Errorf("%d operations are tried, there are %d", len(ownPermissions), len(v1.Operations))
	}
	p := newPlane(t, knownProxies)
	victim := preparePermissions(t, p)
	proofs := vouch(t, p)
	serial := prepareCertificates(t, p)
	admin := p.client(t, p.admin)
	tester := p.user(t, p.admin, "tester", "")
	// Deletes last: the others need what they delete.
	table := slices.Clone(v1.Operations)
	last := func(op v1.Operation) int { return strings.Index(op.Method, "DELETE") } // -1 for the others
	slices.SortStableFunc(table, func(a, b v1.Operation) int { return cmp.Compare(last(a), last(b)) })
	for _, op := range table {
		c, ok := ownPermissions[op.Name]
		if !ok {
			t.Errorf("%s is not tried", op.Name)
			continue
		}
		c.path, c.body = strings.ReplaceAll(c.path, "{serial}", serial), certificateTexts(t).Replace(c.body)
		if strings.Contains(c.path, "%s") {
			c.path = fmt.Sprintf(c.path, victim.AccessKeyID)
		}
		c.body = proofs.fill(c.body)
		as := func(statements ...string) answer {
			policy := `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
			policies := map[string]client.Document{}
			if len(statements) > 0 {
				policies["p"] = client.Document(policy)
			}
			if _, err := admin.UpdateUser(t.Context(), &client.UpdateUserInput{UserName: "tester", Policies: policies}); err != nil {
				t.Fatalf("%s: %v", op.Name, err)
			}
			return p.do(t, tester, c.method, c.path, c.body)
		}
		if c.action == "" {
			if a := as(); a.Status != 200 {
				t.Errorf("%s needs no permission, got %d %s", op.Name, a.Status, a.Body)
			}
			continue
		}
		allow := func(action, resource string) string {
			return fmt.Sprintf(`{"Effect":"Allow","Action":%q,"Resource":%q}`, action, resource)
		}
		refused := map[string]answer{
			"without a policy":      as(),
			"with others":           as(fmt.Sprintf(`{"Effect":"Allow","NotAction":%q,"Resource":"*"}`, c.action)),
			"with a denial":         as(allow("*", "*"), fmt.Sprintf(`{"Effect":"Deny","Action":%q,"Resource":%q}`, c.action, c.resource)),
			"with a denial of all":  as(allow("*", "*"), fmt.Sprintf(`{"Effect":"Deny","Action":%q,"Resource":"*"}`, c.action)),
			"for another resource":  as(allow(c.action, "arn:aws:iam::000000000009:user/other")),
			"for the wrong service": as(allow("s3:*", "*")),
		}
		for how, a := range refused {
			if a.Status != 403 || a.code() != "ForbiddenException" && a.code() != "AccessDeniedException" {
				t.Errorf("%s %s: %d %s", op.Name, how, a.Status, a.Body)
			}
		}
		if a := as(allow(c.action, c.resource)); a.Status != 200 {
			t.Errorf("%s with %s on %s: %d %s", op.Name, c.action, c.resource, a.Status, a.Body)
		}
	}
}

// preparePermissions makes what the requests of ownPermissions are about, and returns
// the access key of the user victim.
func preparePermissions(t *testing.T, p *plane) access.Credentials {
	t.Helper()
	p.account(t, "000000000002")
	p.account(t, "000000000003")
	for _, r := range [][2]string{
		{"/v20190125/meshes", `{"meshName":"shop"}`},
		{"/v1/meshes/shop/policies", `{"policyName":"quota","spec":{"target":{"mesh":{}},"action":{"quota":{"requests":1,"per":"day"}}}}`},
		{"/v1/users", `{"userName":"gone"}`},
		{"/v1/roles", `{"roleName":"victim","trustPolicy":` + trustUs + `}`},
		{"/v1/roles", `{"roleName":"gone","trustPolicy":` + trustUs + `}`},
		{"/v1/meshes/shop/shares", `{"accountId":"000000000002"}`},
		{"/v1/identityProviders", `{"providerName":"gone","aws":{"accountIds":["111122223333"]}}`},
		{"/v1/identityProviders", `{"providerName":"other","aws":{"accountIds":["111122223333"]}}`},
	} {
		p.must(t, p.admin, "PUT", r[0], r[1])
	}
	return p.user(t, p.admin, "victim", "")
}

// TestManagementOnly tries what only the management account may, as the administrator of
// another account, who may do everything in it.
func TestManagementOnly(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	second := p.account(t, "000000000002")
	for _, c := range [][3]string{
		{"PUT", "/v1/accounts", `{"accountName":"x"}`},
		{"GET", "/v1/accounts", ""},
		{"GET", "/v1/accounts/000000000001", ""},
		{"GET", "/v1/accounts/000000000009", ""},
		{"PUT", "/v1/accounts/000000000002", `{"accountName":"x"}`},
		{"DELETE", "/v1/accounts/000000000002", ""},
		{"DELETE", "/v1/accounts/000000000009", ""},
		{"GET", "/v1/quotas?accountId=000000000001", ""},
		{"GET", "/v1/quotas?accountId=000000000009", ""},
		{"PUT", "/v1/quotas/meshes", `{"value":1}`},
		{"PUT", "/v1/quotas/meshes?accountId=000000000009", `{"value":1}`},
		{"DELETE", "/v1/quotas/meshes", ""},
		{"PUT", "/v1/quotaSets", `{"set":"default"}`},
		{"GET", "/v1/events?accountId=000000000001", ""},
		{"GET", "/v1/events?accountId=000000000009", ""},
		{"GET", "/v1/events?accountId=all", ""},
		{"GET", "/v1/meshes/shop/proxies?meshOwner=000000000001", ""},
		{"GET", "/v1/meshes/shop/problems?meshOwner=000000000001", ""},
		{"GET", "/v1/meshes/shop/propagation?meshOwner=000000000001", ""},
		{"PUT", "/v1/assumedRoles", `{"roleArn":"arn:aws:iam::000000000001:role/r","sessionName":"me"}`},
	} {
		wantRefusal(t, p.do(t, second, c[0], c[1], c[2]), 403, "ForbiddenException", "not authorized")
	}
	// Its own it may look at.
	for _, path := range []string{"/v1/accounts/000000000002", "/v1/quotas", "/v1/quotas?accountId=000000000002", "/v1/events?accountId=000000000002"} {
		p.must(t, second, "GET", path, "")
	}
}

// TestPolicyPermissions tries the operations on policies, which go the way of App Mesh's, with
// what each needs and without.
func TestPolicyPermissions(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	p.must(t, p.admin, "PUT", "/v20190125/meshes", `{"meshName":"shop"}`)
	admin := p.client(t, p.admin)
	tester := p.user(t, p.admin, "tester", "")
	const arn = "arn:aws:appmesh:us-east-1:000000000001:mesh/shop"
	spec := `"spec":{"target":{"mesh":{}},"action":{"fault":{"abort":{"percentage":1,"httpStatus":503}}}}`
	for _, c := range []struct{ action, resource, method, path, body string }{
		{"CreatePolicy", arn + "/policy/p", "PUT", "/v1/meshes/shop/policies", `{"policyName":"p",` + spec + `}`},
		{"DescribePolicy", arn + "/policy/p", "GET", "/v1/meshes/shop/policies/p", ""},
		{"UpdatePolicy", arn + "/policy/p", "PUT", "/v1/meshes/shop/policies/p", `{` + spec + `}`},
		{"ListPolicies", arn, "GET", "/v1/meshes/shop/policies", ""},
		{"DeletePolicy", arn + "/policy/p", "DELETE", "/v1/meshes/shop/policies/p", ""},
	} {
		as := func(action, resource string) answer {
			policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":%q,"Resource":%q}]}`, action, resource)
			if _, err := admin.UpdateUser(t.Context(), &client.UpdateUserInput{UserName: "tester", Policies: map[string]client.Document{"p": client.Document(policy)}}); err != nil {
				t.Fatal(err)
			}
			return p.do(t, tester, c.method, c.path, c.body)
		}
		for _, other := range [][2]string{{"appmesh:*", "*"}, {"fairlead:" + c.action, arn + "/policy/other"}} {
			if a := as(other[0], other[1]); a.Status != 403 {
				t.Errorf("%s with %s on %s: %d %s", c.action, other[0], other[1], a.Status, a.Body)
			}
		}
		if a := as("fairlead:"+c.action, c.resource); a.Status != 200 {
			t.Errorf("%s: %d %s", c.action, a.Status, a.Body)
		}
	}
}
