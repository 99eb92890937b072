package identity

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Requests are signed as AWS's own signer signs them.
func TestSign(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, url := range []string{"https://fairlead.example.com:9080/", "http://127.0.0.1:9080/", "https://[fd00::1]/"} {
		for _, token := range []string{"", "token-nobody-uses"} {
			for _, body := range []string{"", `{"ServiceId":"srv-1"}`} {
				signed := func(sign func(*http.Request)) http.Header {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader([]byte(body)))
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Content-Type", "application/x-amz-json-1.1")
					req.Header.Set("X-Amz-Target", "Route53AutoNaming_v20170314.RegisterInstance")
					req.ContentLength = -1 // AWS's signer signs it otherwise
					sign(req)
					return req.Header
				}
				got := signed(func(req *http.Request) {
					Key{"AKIDTEST", "test-secret-nobody-uses", token}.Sign(req, []byte(body), "servicediscovery", "us-east-1", at)
				})
				want := signed(func(req *http.Request) {
					key := aws.Credentials{AccessKeyID: "AKIDTEST", SecretAccessKey: "test-secret-nobody-uses", SessionToken: token}
					if err := v4.NewSigner().SignHTTP(t.Context(), key, req, digest([]byte(body)), "servicediscovery", "us-east-1", at); err != nil {
						t.Fatal(err)
					}
				})
				if g, w := got.Get("Authorization"), want.Get("Authorization"); g != w {
					t.Errorf("%s with token %q and body %q:\ngot  %s\nwant %s", url, token, body, g, w)
				}
			}
		}
	}
}
