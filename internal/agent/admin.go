package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/agent/status"
)

// adminClient asks Envoy's admin interface.
type adminClient struct {
	base string // http://HOST:PORT
	http *http.Client
}

// adminTimeout bounds one question to the admin interface, in case Envoy hangs.
const adminTimeout = 5 * time.Second

func newAdminClient(a Admin) *adminClient {
	network, address := "unix", a.Socket
	if a.Socket == "" {
		network, address = "tcp", net.JoinHostPort(adminHost(a.Address).String(), strconv.Itoa(a.Port))
	}
	return &adminClient{
		base: "http://envoy-admin",
		http: &http.Client{
			Timeout: adminTimeout,
			Transport: &http.Transport{
				DisableKeepAlives: true,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					var d net.Dialer
					return d.DialContext(ctx, network, address)
				},
			},
		},
	}
}

// adminHost is where to reach an interface that listens at a.
func adminHost(a netip.Addr) netip.Addr {
	switch a {
	case netip.IPv4Unspecified():
		return loopback4
	case netip.IPv6Unspecified():
		return netip.IPv6Loopback()
	}
	return a
}

// errNothingToDrain says that Envoy has no listener.
var errNothingToDrain = errors.New("there is no listener to drain")

// drain asks Envoy to drain its listeners and to close them when the drain time is
// over: all, or those that traffic comes in by.
func (c *adminClient) drain(ctx context.Context, inboundOnly bool) error {
	path := "/drain_listeners?graceful"
	if inboundOnly {
		path += "&inboundonly"
	}
	const listeners = "listener_manager.total_listeners_active"
	stats, err := c.stats(ctx, "^"+regexp.QuoteMeta(listeners)+"$")
	if err != nil {
		return err
	}
	if n, ok := stats[listeners]; ok && n == 0 {
		return errNothingToDrain
	}
	if inboundOnly {
		if some, err := c.inbound(ctx); err == nil && !some {
			return errNothingToDrain
		}
	}
	body, err := c.do(ctx, http.MethodPost, path)
	if err != nil {
		return fmt.Errorf("asking Envoy to drain: %w", err)
	}
	return body.Close()
}

// inbound reports whether Envoy has a listener that traffic comes in by. The names of
// listeners are a contract of the control plane.
func (c *adminClient) inbound(ctx context.Context) (bool, error) {
	body, err := c.do(ctx, http.MethodGet, "/listeners")
	if err != nil {
		return false, fmt.Errorf("reading the names of Envoy's listeners: %w", err)
	}
	defer body.Close()
	for lines := bufio.NewScanner(io.LimitReader(body, 1<<20)); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "lds_ingress_") {
			return true, nil
		}
	}
	return false, nil
}

// ready says whether Envoy is live and serves: the first configuration has come and is in
// place. Once it was, first is false, and a listener that is being replaced is no matter.
func (c *adminClient) ready(ctx context.Context, first bool) (bool, error) {
	state, err := c.state(ctx)
	if err != nil || state != status.StateLive {
		return false, err
	}
	const manager = "listener_manager."
	stats, err := c.stats(ctx, "^"+regexp.QuoteMeta(manager)+"(lds.update_success|total_listeners_(active|warming))$")
	if err != nil {
		return false, err
	}
	serves := stats[manager+"total_listeners_active"] > 0
	if first {
		serves = serves && stats[manager+"lds.update_success"] > 0 && stats[manager+"total_listeners_warming"] == 0
	}
	return serves, nil
}

// state returns Envoy's own word for how it is: LIVE, or why it is not.
func (c *adminClient) state(ctx context.Context) (string, error) {
	res, err := c.send(ctx, http.MethodGet, "/ready")
	if err != nil {
		return "", fmt.Errorf("asking Envoy whether it is ready: %w", err)
	}
	defer res.Body.Close()
	word, err := io.ReadAll(io.LimitReader(res.Body, 64))
	if err != nil {
		return "", fmt.Errorf("asking Envoy whether it is ready: %w", err)
	}
	return strings.TrimSpace(string(word)), nil
}

// adminError is an answer of the admin interface with another status than 200.
type adminError struct{ status string }

func (e *adminError) Error() string { return "status " + e.status }

// stats returns the statistics whose names match the regular expression.
func (c *adminClient) stats(ctx context.Context, filter string) (map[string]uint64, error) {
	body, err := c.do(ctx, http.MethodGet, "/stats?filter="+url.QueryEscape(filter))
	if err != nil {
		return nil, fmt.Errorf("reading Envoy's statistics: %w", err)
	}
	defer body.Close()
	out := map[string]uint64{}
	scan := bufio.NewScanner(io.LimitReader(body, 1<<20))
	for scan.Scan() {
		name, value, _ := strings.Cut(scan.Text(), ": ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			out[name] = n
		}
	}
	return out, scan.Err()
}

// do sends a request. An answer with another status than 200 is an *adminError.
func (c *adminClient) do(ctx context.Context, method, path string) (io.ReadCloser, error) {
	res, err := c.send(ctx, method, path)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return nil, &adminError{res.Status}
	}
	return res.Body, nil
}

func (c *adminClient) send(ctx context.Context, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	return c.http.Do(req)
}
