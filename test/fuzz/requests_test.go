// Package fuzz sends requests that nobody would write to a whole server.
package fuzz

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// FuzzRequests signs and sends requests of any method, path, query and body, to both
// APIs, and forms to STS's. Whatever is sent, the server answers, in the API's form, and not with a fault of
// its own: no panic, no status 500.
func FuzzRequests(f *testing.F) {
	for _, s := range seeds {
		f.Add(s[0], s[1], s[2], []byte(s[3]))
	}
	p := meshtest.Start(f)
	for _, quota := range []string{"read-rate", "write-rate"} {
		p.SetQuota(f, meshtest.Account, quota, 1_000_000)
	}
	fill(f, p)
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	var signing sync.Mutex
	signer := v4.NewSigner()
	f.Fuzz(func(t *testing.T, method, path, query string, body []byte) {
		req, ok := request(p, method, path, query, body)
		if !ok {
			t.Skip("not a request that HTTP can carry")
		}
		sum, service := sha256.Sum256(body), "appmesh"
		if bytes.HasPrefix(body, []byte("Action=")) { // STS
			service = "sts"
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		signing.Lock()
		err := signer.SignHTTP(req.Context(), p.Creds, req, hex.EncodeToString(sum[:]), service, meshtest.Region, time.Now())
		signing.Unlock()
		if err != nil {
			t.Skip("not a request that can be signed")
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%q %q: no answer: %v", method, req.URL, err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%q %q: %v", method, req.URL, err)
		}
		if resp.StatusCode == http.StatusInternalServerError || strings.Contains(p.Log.String(), "panicked") {
			t.Fatalf("%q %q %q: %s %s", method, req.URL, body, resp.Status, answer)
		}
		p.Log.Reset()
	})
}

// request makes a request; ok is false for what Go's client cannot send.
func request(p *meshtest.Plane, method, path, query string, body []byte) (req *http.Request, ok bool) {
	u, err := url.Parse("http://" + p.Addrs.API + "/" + path)
	if err != nil || u.Host != p.Addrs.API {
		return nil, false
	}
	u.RawQuery = query
	req, err = http.NewRequestWithContext(context.Background(), method, u.String(), bytes.NewReader(body))
	if err != nil || req.URL.Host != p.Addrs.API || strings.EqualFold(method, http.MethodConnect) {
		return nil, false
	}
	return req, true
}

// fill makes one object of every kind, so that there is something to be found.
func fill(f *testing.F, p *meshtest.Plane) {
	admin := p.Signed(f)
	for _, s := range seeds[:filled] {
		admin.Want(f, s[0], "/"+s[1], s[3], nil)
	}
}

const (
	api  = "v20190125/meshes"
	port = `{"portMapping":{"port":8080,"protocol":"http"}}`
	// filled is how many of the seeds make an object that the others are about.
	filled = 9
)

// seeds are requests to begin with: method, path, query, body.
var seeds = [][4]string{
	{"PUT", api, "", `{"meshName":"m","spec":{"egressFilter":{"type":"ALLOW_ALL"}},"tags":[{"key":"a","value":"b"}]}`},
	{"PUT", api + "/m/virtualNodes", "", `{"virtualNodeName":"n","spec":{"listeners":[` + port + `],"serviceDiscovery":{"dns":{"hostname":"h"}},"backends":[{"virtualService":{"virtualServiceName":"s"}}]}}`},
	{"PUT", api + "/m/virtualRouters", "", `{"virtualRouterName":"r","spec":{"listeners":[` + port + `]}}`},
	{"PUT", api + "/m/virtualRouter/r/routes", "", `{"routeName":"x","spec":{"priority":1,"httpRoute":{"match":{"prefix":"/","headers":[{"name":"h","match":{"range":{"start":1,"end":2}}}]},"action":{"weightedTargets":[{"virtualNode":"n","weight":1}]},"retryPolicy":{"maxRetries":1,"perRetryTimeout":{"unit":"s","value":1},"httpRetryEvents":["server-error"]}}}}`},
	{"PUT", api + "/m/virtualServices", "", `{"virtualServiceName":"s","spec":{"provider":{"virtualRouter":{"virtualRouterName":"r"}}}}`},
	{"PUT", api + "/m/virtualGateways", "", `{"virtualGatewayName":"g","spec":{"listeners":[` + port + `]}}`},
	{"PUT", api + "/m/virtualGateway/g/gatewayRoutes", "", `{"gatewayRouteName":"y","spec":{"httpRoute":{"match":{"prefix":"/a/"},"action":{"target":{"virtualService":{"virtualServiceName":"s"}},"rewrite":{"prefix":{"value":"/"}}}}}}`},
	{"PUT", "v1/users", "", `{"userName":"u","policies":{"p":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"appmesh:*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/a":"b"}}}]}}}`},
	{"PUT", "v1/roles", "", `{"roleName":"o","trustPolicy":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]},"policies":{}}`},

	{"GET", api, "limit=1&nextToken=x", ""},
	{"GET", api + "/m", "meshOwner=000000000001", ""},
	{"PUT", api + "/m", "", `{"spec":{"serviceDiscovery":{"ipPreference":"IPv4_ONLY"}},"clientToken":"t"}`},
	{"DELETE", api + "/m/virtualNodes/n", "", ""},
	{"PUT", api + "/m/virtualNodes/n", "", `{"spec":{"listeners":[{"portMapping":{"port":1,"protocol":"grpc"},"tls":{"mode":"STRICT","certificate":{"file":{"certificateChain":"/a","privateKey":"/b"}}},"healthCheck":{"protocol":"http","healthyThreshold":2,"unhealthyThreshold":2,"intervalMillis":5000,"timeoutMillis":2000}}],"serviceDiscovery":{"awsCloudMap":{"namespaceName":"a","serviceName":"b","attributes":[{"key":"k","value":"v"}]}},"logging":{"accessLog":{"file":{"path":"/dev/stdout","format":{"text":"%REQ(X)%"}}}}}}`},
	{"PUT", api + "/m/virtualServices", "", `{"virtualServiceName":"a/b c","spec":{}}`},
	{"GET", api + "/m/virtualServices/a%2Fb%20c", "", ""},
	{"PUT", "v20190125/tag", "resourceArn=arn%3Aaws%3Aappmesh%3Aus-east-1%3A000000000001%3Amesh%2Fm", `{"tags":[{"key":"k","value":"v"}]}`},
	{"PUT", "v20190125/untag", "resourceArn=arn:aws:appmesh:us-east-1:000000000001:mesh/m", `{"tagKeys":["k"]}`},
	{"GET", "v20190125/tags", "resourceArn=arn:aws:appmesh:us-east-1:000000000001:mesh/m/virtualService/s&limit=1", ""},
	{"GET", "v1/openapi.json", "", ""},
	{"GET", "v1/caller", "", ""},
	{"GET", "v1/accounts", "limit=1", ""},
	{"PUT", "v1/accounts/000000000001", "", `{"accountName":"n"}`},
	{"PUT", "v1/users/u/accessKeys", "", `{}`},
	{"GET", "v1/users/u/accessKeys", "", ""},
	{"PUT", "v1/users/u", "", `{"policies":{}}`},
	{"PUT", "v1/assumedRoles", "", `{"roleArn":"arn:aws:iam::000000000001:role/o","sessionName":"s","durationSeconds":900,"policy":{"Version":"2012-10-17","Statement":[]}}`},
	{"PUT", "v1/sessions", "", `{"durationSeconds":900}`},
	{"PUT", "v1/roles/o/revocation", "", `{}`},
	{"GET", "v1/quotas", "accountId=000000000001", ""},
	{"DELETE", "v1/quotas/meshes", "", ""},
	{"PUT", "v1/meshes/m/shares", "", `{"accountId":"000000000002"}`},
	{"GET", "v1/events", "limit=2&eventName=CreateMesh&startTime=2026-01-01T00:00:00Z", ""},
	{"GET", "v1/meshes/m/proxies", "", ""},
	{"GET", "v1/meshes/m/problems", "meshOwner=000000000001", ""},
	{"POST", "", "", "Action=GetCallerIdentity&Version=2011-06-15"},
	{"POST", "", "", "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A000000000001%3Arole%2Fo&RoleSessionName=s&DurationSeconds=900&Policy=%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%5D%7D"},
	{"POST", "", "", "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A000000000001%3Arole%2Fo&RoleSessionName=s&WebIdentityToken=e30.eyJpc3MiOiJodHRwczovL3gifQ.e30"},
}
