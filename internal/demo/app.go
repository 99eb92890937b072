package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// AppConfig says which part of the demo's application a process is.
type AppConfig struct {
	// Listen is the address to serve on, host:port.
	Listen string
	// Colour makes it an instance of colour: the version's name, which it answers.
	Colour string
	// ColourURL makes it front: whom to ask.
	ColourURL string
	// Proxy is what front asks through, an Envoy's egress listener. Without one it asks
	// whom it is told to.
	Proxy string
}

// versionHeader is where an answer says which version of colour it came from.
const versionHeader = "Colour"

// RunApp serves as a part of the demo's application until ctx ends.
func RunApp(ctx context.Context, cfg AppConfig) error {
	handler := colourHandler(cfg.Colour)
	if cfg.Colour == "" {
		var proxy *url.URL
		if cfg.Proxy != "" {
			var err error
			if proxy, err = url.Parse(cfg.Proxy); err != nil {
				return fmt.Errorf("reading the proxy's URL: %w", err)
			}
		}
		handler = frontHandler(cfg.ColourURL, proxy)
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// colourHandler answers with the version's name.
func colourHandler(version string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(versionHeader, version)
		fmt.Fprintln(w, version)
	})
}

// frontHandler asks colour, once for each request, and passes on what it was told. It
// answers 502 and the reason when it was told nothing.
func frontHandler(colour string, proxy *url.URL) http.Handler {
	client := newClient(proxy, nil)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		version, err := askAs(r.Context(), client, colour, r.Header.Get(callerHeader))
		if err != nil {
			http.Error(w, "asking colour: "+err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set(versionHeader, version)
		fmt.Fprintf(w, "colour says %s\n", version)
	})
	return mux
}

// newClient returns a client that keeps its connections, and asks through a proxy and
// connects by dial where they are not nil. Nothing of the environment bears on it.
func newClient(proxy *url.URL, dial dialer) *http.Client {
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			Proxy:               http.ProxyURL(proxy),
			DialContext:         dial,
			MaxIdleConnsPerHost: 256,
			DisableCompression:  true,
		},
	}
}

// ask sends one GET and returns the version that answered. Everything but an answer 200
// to the first try is an error: Go's client sends a GET a second time when a connection
// broke, which would hide a failure.
func ask(ctx context.Context, client *http.Client, target string) (version string, err error) {
	return askAs(ctx, client, target, "")
}

// askAs is ask by a caller who says who he is, unless that is "".
func askAs(ctx context.Context, client *http.Client, target, caller string) (version string, err error) {
	var tries atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { tries.Add(1) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return "", err
	}
	if caller != "" {
		req.Header.Set(callerHeader, caller)
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	switch {
	case err != nil:
		return "", fmt.Errorf("reading the answer: %w", err)
	case res.StatusCode != http.StatusOK:
		return "", fmt.Errorf("status %d: %s", res.StatusCode, strings.TrimSpace(string(body)))
	case tries.Load() > 1:
		return "", fmt.Errorf("answered at try %d only", tries.Load())
	}
	return res.Header.Get(versionHeader), nil
}
