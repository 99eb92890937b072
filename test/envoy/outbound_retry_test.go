package envoy

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// failingAs fails all but the last of the attempts that a caller asks for: with a status,
// or by closing the connection.
type failingAs struct {
	mu   sync.Mutex
	seen map[string]int
}

func (f *failingAs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("x-key")
	f.mu.Lock()
	f.seen[key]++
	attempt := f.seen[key]
	f.mu.Unlock()
	attempts, _ := strconv.Atoi(r.Header.Get("x-attempts"))
	if attempt >= attempts {
		fmt.Fprint(w, "attempt ", attempt)
		return
	}
	how := r.Header.Get("x-how")
	if how == "close" {
		panic(http.ErrAbortHandler)
	}
	status, err := strconv.Atoi(how)
	if err != nil {
		status = http.StatusTeapot
	}
	w.WriteHeader(status)
}

// TestRetryEvents tries each event of HTTP: what it is for is tried again, and what it
// is not for is not.
func TestRetryEvents(t *testing.T) {
	t.Parallel()
	covers(t, "Route.httpRoute.retryPolicy.{httpRetryEvents,maxRetries}")
	s := newStage(t)
	s.straight("blue", "http", "", &failingAs{seen: map[string]int{}})
	s.routed("http")
	cases := []struct {
		event    string
		yes, not []string
	}{
		{"server-error", []string{"500", "501", "502", "503", "504", "505", "506", "507", "508", "510", "511", "close"}, []string{"509", "409"}},
		{"gateway-error", []string{"502", "503", "504", "close"}, []string{"500", "409"}},
		{"client-error", []string{"409"}, []string{"503", "404", "close"}},
		{"stream-error", nil, []string{"503", "409", "close"}},
	}
	for _, c := range cases {
		s.addRoute(c.event, "httpRoute", fmt.Sprintf(`{"prefix":"/%s"}`, c.event),
			fmt.Sprintf(`,"retryPolicy":{"maxRetries":2,"perRetryTimeout":{"unit":"s","value":5},"httpRetryEvents":[%q]}`, c.event), "blue", 1)
	}
	s.addRoute("default", "httpRoute", `{"prefix":"/"}`, "", "blue", 1)
	s.caller()
	s.awaitAnswer("/", http.StatusOK)
	cases = append(cases, struct {
		event    string
		yes, not []string
	}{"default", []string{"503", "close"}, []string{"500", "502", "409"}})
	for _, c := range cases {
		for _, how := range c.yes {
			s.want(s.request("GET", "/"+c.event, "x-key", c.event+how, "x-how", how, "x-attempts", "3"), http.StatusOK, "attempt 3")
		}
		for _, how := range c.not {
			status, _ := strconv.Atoi(how)
			if how == "close" {
				status = http.StatusServiceUnavailable
			}
			s.want(s.request("GET", "/"+c.event, "x-key", c.event+how, "x-how", how, "x-attempts", "2"), status, "")
		}
	}
}

// refuser is a server of HTTP/2 that refuses the first stream of each connection.
func refuser(t *testing.T) (addr string) {
	t.Helper()
	addr = meshtest.Address(t)
	l := listen(t, addr, port)
	t.Cleanup(func() { _ = l.Close() })
	var mu sync.Mutex
	refused := false
	go meshtest.HandleConns(l, func(c net.Conn) {
		refuseOnce(c, func() bool {
			mu.Lock()
			defer mu.Unlock()
			first := !refused
			refused = true
			return first
		})
	})
	return addr
}

func refuseOnce(c net.Conn, refuse func() bool) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := c.Read(preface); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	if f.WriteSettings() != nil {
		return
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = f.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			if refuse() {
				_ = f.WriteRSTStream(frame.StreamID, http2.ErrCodeRefusedStream)
				continue
			}
			var b headerBlock
			e := hpack.NewEncoder(&b)
			_ = e.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: frame.StreamID, BlockFragment: b, EndHeaders: true, EndStream: true})
		}
	}
}

type headerBlock []byte

func (b *headerBlock) Write(p []byte) (int, error) { *b = append(*b, p...); return len(p), nil }

// A stream that the server refuses is tried again on stream-error, and else not.
func TestRetryOfRefusedStreams(t *testing.T) {
	t.Parallel()
	covers(t, "Route.http2Route.retryPolicy.{httpRetryEvents,maxRetries}")
	s := newStage(t)
	s.node("tried", nodeSpec(refuser(t), "http2", ""))
	s.node("told", nodeSpec(refuser(t), "http2", ""))
	s.straight("blue", "http2", "", named("blue"))
	s.routed("http2")
	s.addRoute("all", "http2Route", `{"prefix":"/"}`, "", "blue", 1)
	policy := `,"retryPolicy":{"maxRetries":1,"perRetryTimeout":{"unit":"s","value":5},"httpRetryEvents":[%q]}`
	s.addRoute("tried", "http2Route", `{"prefix":"/tried"}`, fmt.Sprintf(policy, "stream-error"), "tried", 1)
	s.addRoute("told", "http2Route", `{"prefix":"/told"}`, fmt.Sprintf(policy, "client-error"), "told", 1)
	s.caller()
	s.awaitAnswer("/", http.StatusOK)
	s.want(s.request("GET", "/tried"), http.StatusOK, "")
	s.want(s.request("GET", "/told"), http.StatusServiceUnavailable, "")
}

// A connection that cannot be made is tried again on connection-error, with another
// instance; without the event requests fail.
func TestRetryOfConnections(t *testing.T) {
	t.Parallel()
	covers(t, "Route.{httpRoute,http2Route,grpcRoute}.retryPolicy.tcpRetryEvents")
	s := newStage(t)
	names := newZone(t, 0)
	names.set(poolName, serveCleartext(t, named("good")), meshtest.Address(t))
	protocols := []string{"http", "http2", "grpc"}
	services := map[string]string{}
	policy := `,"retryPolicy":{"maxRetries":1,"perRetryTimeout":{"unit":"s","value":5},%s}`
	for i, protocol := range protocols {
		s.node("pool-"+protocol, poolSpec(protocol, ""))
		services[protocol] = s.router(protocol, protocol, 1000+i)
		with, without := `{"prefix":"/with"}`, `{"prefix":"/without"}`
		if protocol == "grpc" {
			with, without = `{"serviceName":"with"}`, `{"serviceName":"without"}`
		}
		s.routeOf(protocol, "with", routeSpec(protocol+"Route", with, fmt.Sprintf(policy, `"tcpRetryEvents":["connection-error"]`), "pool-"+protocol, 1))
		s.routeOf(protocol, "without", routeSpec(protocol+"Route", without, fmt.Sprintf(policy, `"httpRetryEvents":["client-error"]`), "pool-"+protocol, 1))
	}
	s.startFrontWith(s.defineCaller("", services["http"], services["http2"], services["grpc"]), names.resolver)
	s.http = priorKnowledge(s.front)
	for _, protocol := range protocols {
		// Of gRPC the status is 200 whatever became of the call, and a failed one has no body.
		meshtest.Eventually(t, protocol+": a request without the event fails", func() error {
			if status, body := s.getGRPC(services[protocol], "/without/x"); body == "good" {
				return fmt.Errorf("answered %d %q", status, body)
			}
			return nil
		})
		for range 40 {
			if status, body := s.getGRPC(services[protocol], "/with/x"); status != http.StatusOK || body != "good" {
				t.Fatalf("%s: a request with the event is answered %d %q", protocol, status, body)
			}
		}
	}
}

// hanging answers the calls with one key from the n-th on; those before hang.
func hanging(n int) http.Handler {
	var mu sync.Mutex
	seen := map[string]int{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.URL.Path]++
		attempt := seen[r.URL.Path]
		mu.Unlock()
		if r.URL.Path != "/" && attempt < n {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, "attempt ", attempt)
	})
}

// An attempt that takes longer than the policy allows is given up, and another made.
// Without a policy the route's time-outs end the request: that of the whole, and that of
// a stream on which nothing moves.
func TestTimeoutsOfRoutes(t *testing.T) {
	t.Parallel()
	covers(t, "Route.{httpRoute,http2Route}.{retryPolicy.maxRetries,retryPolicy.perRetryTimeout,timeout.perRequest,timeout.idle}")
	for _, protocol := range []string{"http", "http2"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.straight("second", protocol, "", hanging(2))
			s.straight("never", protocol, "", hanging(1000))
			s.routed(protocol)
			kind := protocol + "Route"
			s.addRoute("all", kind, `{"prefix":"/"}`, "", "second", 1)
			s.addRoute("try", kind, `{"prefix":"/try"}`, `,"retryPolicy":{"maxRetries":1,"perRetryTimeout":{"unit":"ms","value":300},"httpRetryEvents":["gateway-error"]}`, "second", 1)
			s.addRoute("whole", kind, `{"prefix":"/whole"}`, `,"timeout":{"perRequest":{"unit":"ms","value":300}}`+noRetries, "never", 1)
			s.addRoute("idle", kind, `{"prefix":"/idle"}`, `,"timeout":{"perRequest":{"unit":"s","value":0},"idle":{"unit":"ms","value":300}}`+noRetries, "never", 1)
			s.caller()
			s.awaitAnswer("/", http.StatusOK)
			s.http.Timeout = 14 * time.Second // the 15 s that a route has by default are over it
			s.want(s.request("GET", "/try"), http.StatusOK, "attempt 2")
			s.want(s.request("GET", "/whole"), http.StatusGatewayTimeout, "")
			s.want(s.request("GET", "/idle"), http.StatusGatewayTimeout, "")
		})
	}
}
