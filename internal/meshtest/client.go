package meshtest

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// proxied returns an HTTP client that uses the explicit proxy at an Envoy's address.
func proxied(bind string) *http.Client {
	proxy := &url.URL{Scheme: "http", Host: bind + ":15001"}
	return &http.Client{
		Timeout:   wait,
		Transport: &http.Transport{Proxy: http.ProxyURL(proxy), MaxIdleConnsPerHost: 32},
	}
}

// Get makes a GET request and returns the status and the body; headers are names and
// values in turn.
func Get(c *http.Client, url string, headers ...string) (status int, body string, err error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return Do(c, req)
}

// Do makes a request and returns the status and the body.
func Do(c *http.Client, req *http.Request) (status int, body string, err error) {
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("calling %s: %w", req.URL, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}
