package federation

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

const (
	// askTime bounds a whole exchange with an issuer or with STS.
	askTime = 5 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 256 << 10
)

// newClient returns a client for hosts that accounts have named. It speaks to no host
// that only this one can reach (loopback, link-local addresses with their metadata
// services), whatever a name resolves to, follows no redirect and uses no proxy.
func newClient(roots *x509.CertPool, allowLoopback bool) *http.Client {
	dialer := &net.Dialer{
		Timeout: askTime,
		Control: func(_, address string, _ syscall.RawConn) error { return checkAddress(address, allowLoopback) },
	}
	return &http.Client{
		Timeout: askTime,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("redirects are not followed")
		},
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: askTime, ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			MaxIdleConns:    64, MaxIdleConnsPerHost: 2, MaxConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
			MaxResponseHeaderBytes: 32 << 10,
		},
	}
}

// checkAddress refuses to connect to where accounts must not reach. It is asked with the
// address that a name was resolved to.
func checkAddress(address string, allowLoopback bool) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q cannot be read", address)
	}
	ip := to.Addr().Unmap()
	if ip.IsLoopback() && allowLoopback {
		return nil
	}
	if ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() || metadata[ip.WithZone("")] {
		return fmt.Errorf("address %s is none that may be asked", ip)
	}
	return nil
}

// metadata are the addresses of clouds' metadata services that are not link-local.
var metadata = map[netip.Addr]bool{
	netip.MustParseAddr("fd00:ec2::254"):   true, // AWS
	netip.MustParseAddr("fd00:ec2::23"):    true, // AWS, pods
	netip.MustParseAddr("100.100.100.200"): true, // Alibaba Cloud
	netip.MustParseAddr("192.0.0.192"):     true, // Oracle Cloud
	netip.MustParseAddr("168.63.129.16"):   true, // Azure
}

// get fetches a document.
func get(ctx context.Context, c *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	status, body, err := send(c, req)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("fetching %s: the answer has status %d", url, status)
	}
	return body, nil
}

// send sends a request and reads the answer.
func send(c *http.Client, req *http.Request) (status int, body []byte, err error) {
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err // says the URL
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("reading the answer of %s: %w", req.URL, err)
	case len(body) > maxAnswer:
		return 0, nil, fmt.Errorf("reading the answer of %s: it is longer than %d bytes", req.URL, maxAnswer)
	}
	return resp.StatusCode, body, nil
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
