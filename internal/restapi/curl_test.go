package restapi_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestCurl makes the example of docs/reference/api-v1.md with curl, where there is one.
func TestCurl(t *testing.T) {
	t.Parallel()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("there is no curl here")
	}
	help, err := exec.CommandContext(t.Context(), curl, "-q", "--help", "all").Output()
	if err != nil || !strings.Contains(string(help), "--aws-sigv4") {
		t.Skip("curl is older than 7.75 and cannot sign")
	}
	p := newPlane(t, nil)
	do := func(args ...string) string {
		t.Helper()
		args = append([]string{"-q", "-sS", "--noproxy", "*", "--aws-sigv4", "aws:amz:us-east-1:appmesh", "--user", p.admin.AccessKeyID + ":" + p.admin.SecretAccessKey}, args...)
		out, err := exec.CommandContext(t.Context(), curl, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	got := do("-X", "PUT", p.srv.URL+"/v1/users", "-H", "Content-Type: application/json", "-d", `
{"userName": "ann", "policies": {"look": {"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Action": ["appmesh:Describe*", "appmesh:List*"], "Resource": "*"}]}}}`)
	if !strings.HasPrefix(got, `{"user":{"arn":"arn:aws:iam::000000000001:user/ann","createdAt":"20`) {
		t.Errorf("got %s", got)
	}
	if got := do(p.srv.URL + "/v1/users?limit=1"); !strings.Contains(got, `"userName":"administrator"`) || !strings.Contains(got, `"nextToken":"`) {
		t.Errorf("got %s", got)
	}
}
