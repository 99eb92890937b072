package restapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// TestContract does the request of each file in testdata/contract, on top of the
// base, and compares status, headers and body with the answer in the file. What
// differs from run to run (uids, times, request ids) is masked; tokens are not.
//
// A file holds requests and answers in turn: "request" and "response", then
// "request2" and "response2", and so on.
func TestContract(t *testing.T) {
	t.Parallel()
	srv, _ := newServer(t)
	var accounts atomic.Int64
	golden.Run(t, "testdata/contract/*.txtar", func(t *testing.T, c *golden.Case) {
		account := fmt.Sprintf("%012d", 100+accounts.Add(1))
		createBase(t, srv, account)
		exchanges(t, c, func(request string) string { return exchange(t, srv, account, request) })
	})
}

// exchanges does the requests of a file in their order and compares the answers with those in
// the file. A request may say behind a colon what it shows: "request2: once more".
func exchanges(t *testing.T, c *golden.Case, do func(request string) string) {
	t.Helper()
	for _, name := range c.Names() {
		if number, ok := strings.CutPrefix(name, "request"); ok {
			number, _, _ = strings.Cut(number, ":")
			c.Equal(t, "response"+number, do(c.Section(name)))
		}
	}
}

// exchange sends "METHOD PATH\nBODY" and returns the masked answer.
func exchange(t *testing.T, srv *httptest.Server, account, text string) string {
	t.Helper()
	line, body, _ := strings.Cut(text, "\n")
	method, path, ok := strings.Cut(line, " ")
	if !ok {
		t.Fatalf("request line %q is not METHOD PATH", line)
	}
	req := request(t, srv, method, strings.ReplaceAll(path, testAccount, account), strings.ReplaceAll(strings.TrimSpace(body), testAccount, account))
	req.Header.Set(accountHeader, account)
	a := send(t, srv, req)
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", a.Status)
	for _, h := range []string{"Content-Type", "X-Amzn-Errortype", "X-Amzn-Requestid", "X-Fairlead-Revision"} {
		if v := a.Header.Get(h); v != "" {
			fmt.Fprintf(&b, "%s: %s\n", strings.ToLower(h), v)
		}
	}
	b.WriteString("\n")
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(a.Body), "", "  "); err != nil {
		t.Errorf("the body is not JSON: %v\n%s", err, a.Body)
	}
	b.WriteString(pretty.String() + "\n")
	return mask(strings.ReplaceAll(b.String(), account, testAccount))
}

var (
	uuidPattern     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
	timePattern     = regexp.MustCompile(`: 1[0-9]{9}\.[0-9]{3}\b`)
	revisionPattern = regexp.MustCompile(`x-fairlead-revision: [1-9][0-9]*`)
	pagePattern     = regexp.MustCompile(`"nextToken": "[^"]+"`)
)

func mask(s string) string {
	s = uuidPattern.ReplaceAllString(s, "UUID")
	s = revisionPattern.ReplaceAllString(s, "x-fairlead-revision: REVISION")
	s = timePattern.ReplaceAllString(s, ": TIME")
	return pagePattern.ReplaceAllString(s, `"nextToken": "TOKEN"`)
}

// operationNames are the operations of the API. That each has a golden answer is
// checked here, and that it succeeds in TestStatus.
var operationNames = []string{
	"CreateGatewayRoute", "CreateMesh", "CreateRoute", "CreateVirtualGateway", "CreateVirtualNode", "CreateVirtualRouter", "CreateVirtualService",
	"DeleteGatewayRoute", "DeleteMesh", "DeleteRoute", "DeleteVirtualGateway", "DeleteVirtualNode", "DeleteVirtualRouter", "DeleteVirtualService",
	"DescribeGatewayRoute", "DescribeMesh", "DescribeRoute", "DescribeVirtualGateway", "DescribeVirtualNode", "DescribeVirtualRouter", "DescribeVirtualService",
	"ListGatewayRoutes", "ListMeshes", "ListRoutes", "ListTagsForResource", "ListVirtualGateways", "ListVirtualNodes", "ListVirtualRouters", "ListVirtualServices",
	"TagResource", "UntagResource",
	"UpdateGatewayRoute", "UpdateMesh", "UpdateRoute", "UpdateVirtualGateway", "UpdateVirtualNode", "UpdateVirtualRouter", "UpdateVirtualService",
}

func TestContractIsWhole(t *testing.T) {
	t.Parallel()
	for _, name := range operationNames {
		if _, err := os.Stat("testdata/contract/" + name + ".txtar"); err != nil {
			t.Errorf("%s has no golden answer: %v", name, err)
		}
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(operationNames)))); n != 38 {
		t.Errorf("%d operations are named, the API has 38", n)
	}
}

// TestStatus pins the statuses of the API apart from the goldens, which are easily
// written anew: 200 for each operation, and the status of each kind of refusal.
func TestStatus(t *testing.T) {
	t.Parallel()
	srv, _ := newServer(t)
	const (
		m     = api + "/meshes"
		cart  = m + "/shop/virtualNodes/cart"
		route = `{"spec":{"httpRoute":{"match":{"prefix":"/"},"action":{"weightedTargets":[{"virtualNode":"cart","weight":2}]}}}}`
		gr    = `{"spec":{"httpRoute":{"match":{"prefix":"/c"},"action":{"target":{"virtualService":{"virtualServiceName":"cart.local/v1"}}}}}}`
		tag   = "?resourceArn=arn%3Aaws%3Aappmesh%3Aus-east-1%3A000000000001%3Amesh%2Fshop"
	)
	createBase(t, srv, testAccount) // the seven creates
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", m, "", 200, ""},
		{"GET", m + "/shop", "", 200, ""},
		{"PUT", m + "/shop", `{"spec":{}}`, 200, ""},
		{"GET", m + "/shop/virtualNodes", "", 200, ""},
		{"GET", cart, "", 200, ""},
		{"PUT", cart, `{"spec":{}}`, 200, ""},
		{"GET", m + "/shop/virtualRouters", "", 200, ""},
		{"GET", m + "/shop/virtualRouters/cart", "", 200, ""},
		{"PUT", m + "/shop/virtualRouters/cart", `{"spec":{"listeners":[{"portMapping":{"port":8080,"protocol":"http"}}]}}`, 200, ""},
		{"GET", m + "/shop/virtualRouter/cart/routes", "", 200, ""},
		{"GET", m + "/shop/virtualRouter/cart/routes/all", "", 200, ""},
		{"PUT", m + "/shop/virtualRouter/cart/routes/all", route, 200, ""},
		{"GET", m + "/shop/virtualServices", "", 200, ""},
		{"GET", m + "/shop/virtualServices/cart.local%2Fv1", "", 200, ""},
		{"PUT", m + "/shop/virtualServices/cart.local%2Fv1", `{"spec":{}}`, 200, ""},
		{"GET", m + "/shop/virtualGateways", "", 200, ""},
		{"GET", m + "/shop/virtualGateways/edge", "", 200, ""},
		{"PUT", m + "/shop/virtualGateways/edge", `{"spec":{"listeners":[{"portMapping":{"port":80,"protocol":"http"}}]}}`, 200, ""},
		{"GET", m + "/shop/virtualGateway/edge/gatewayRoutes", "", 200, ""},
		{"GET", m + "/shop/virtualGateway/edge/gatewayRoutes/cart", "", 200, ""},
		{"PUT", m + "/shop/virtualGateway/edge/gatewayRoutes/cart", gr, 200, ""},
		{"PUT", api + "/tag" + tag, `{"tags":[{"key":"a","value":""}]}`, 200, ""},
		{"PUT", api + "/untag" + tag, `{"tagKeys":["a","b"]}`, 200, ""},
		{"GET", api + "/tags" + tag, "", 200, ""},

		{"PUT", m, `{"meshName":""}`, 400, "BadRequestException"},
		{"PUT", m, `{"meshName":"shop"}`, 409, "ConflictException"},
		{"GET", m + "/other", "", 404, "NotFoundException"},
		{"GET", m + "/other/virtualNodes", "", 404, "NotFoundException"},
		{"GET", m + "/shop/virtualRouter/other/routes", "", 404, "NotFoundException"},
		{"DELETE", m + "/shop", "", 409, "ResourceInUseException"},
		{"GET", m + "/shop?meshOwner=000000000009", "", 403, "ForbiddenException"},
		{"PUT", api + "/tag" + tag, tags(49), 400, "TooManyTagsException"},
		{"PUT", api + "/tag" + tag, tags(51), 400, "BadRequestException"},

		{"DELETE", m + "/shop/virtualGateway/edge/gatewayRoutes/cart", "", 200, ""},
		{"DELETE", m + "/shop/virtualGateways/edge", "", 200, ""},
		{"DELETE", m + "/shop/virtualServices/cart.local%2Fv1", "", 200, ""},
		{"DELETE", m + "/shop/virtualRouter/cart/routes/all", "", 200, ""},
		{"DELETE", m + "/shop/virtualRouters/cart", "", 200, ""},
		{"DELETE", cart, "", 200, ""},
		{"DELETE", m + "/shop", "", 200, ""},
		{"DELETE", m + "/shop", "", 404, "NotFoundException"},
	} {
		a := do(t, srv, c.method, c.path, c.body)
		if a.Status != c.status || a.code() != c.code {
			t.Errorf("%s %s %s: %d %s %s, want %d %s", c.method, c.path, c.body, a.Status, a.code(), a.Body, c.status, c.code)
		}
		if a.Header.Get("Content-Type") != "application/json" || !uuidPattern.MatchString(a.Header.Get("X-Amzn-Requestid")) {
			t.Errorf("%s %s: headers %v", c.method, c.path, a.Header)
		}
	}
	if a := do(t, srv, http.MethodGet, m, ""); a.Body != `{"meshes":[]}` {
		t.Errorf("an empty list is %s", a.Body)
	}
}

// tags returns a body with n tags.
func tags(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{"key":"k%d","value":"v"}`, i)
	}
	return `{"tags":[` + strings.Join(list, ",") + `]}`
}
