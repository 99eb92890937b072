package demo

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// TestFrontAsksThroughTheProxy has a proxy, as Envoy's egress listener is one, between
// front and colour.
func TestFrontAsksThroughTheProxy(t *testing.T) {
	t.Parallel()
	colour := colourHandler("green")
	var asked atomic.Value
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Method + " " + r.RequestURI + " for " + r.Host)
		colour.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	front := httptest.NewServer(frontHandler("http://colour.demo.local:8080/", mustParse(t, proxy.URL)))
	defer front.Close()

	client := newClient(nil, nil)
	defer client.CloseIdleConnections()
	version, err := ask(t.Context(), client, front.URL)
	if err != nil || version != "green" {
		t.Errorf("front answers %q, %v; want green", version, err)
	}
	if got, want := asked.Load(), "GET http://colour.demo.local:8080/ for colour.demo.local:8080"; got != want {
		t.Errorf("the proxy was asked %q, want %q", got, want)
	}
	res, err := client.Get(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); string(body) != "colour says green\n" {
		t.Errorf("front writes %q", body)
	}
}

// TestFrontPassesFailuresOn has a colour that fails: front asks once, and says so.
func TestFrontPassesFailuresOn(t *testing.T) {
	t.Parallel()
	var times atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		times.Add(1)
		http.Error(w, "no healthy upstream", http.StatusServiceUnavailable)
	}))
	defer proxy.Close()
	front := httptest.NewServer(frontHandler("http://colour.demo.local/", mustParse(t, proxy.URL)))
	defer front.Close()
	client := newClient(nil, nil)
	defer client.CloseIdleConnections()
	_, err := ask(t.Context(), client, front.URL)
	if want := "status 502: asking colour: status 503: no healthy upstream"; err == nil || err.Error() != want {
		t.Errorf("front's failure is %v, want %q", err, want)
	}
	if times.Load() != 1 {
		t.Errorf("colour was asked %d times, want once", times.Load())
	}
}

// TestHiddenRetryIsAFailure breaks a kept connection under a request. Go's client then
// sends the request again, and gets an answer.
func TestHiddenRetryIsAFailure(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 2 {
			if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
				conn.Close()
			}
			return
		}
		fmt.Fprint(w, "ok")
	}))
	defer srv.Close()
	client := newClient(nil, nil)
	defer client.CloseIdleConnections()
	if _, err := ask(t.Context(), client, srv.URL); err != nil {
		t.Fatalf("first request: %v", err)
	}
	if _, err := ask(t.Context(), client, srv.URL); err == nil || !strings.Contains(err.Error(), "try 2") {
		t.Errorf("a request that was sent twice: %v, want an error that says so", err)
	}
	if requests.Load() != 3 {
		t.Errorf("the server saw %d requests, want 3", requests.Load())
	}
}

func mustParse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
