package server_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

func TestTLSOnEveryListener(t *testing.T) {
	t.Parallel()
	p := meshtest.StartWith(t, meshtest.Options{TLS: true})

	// A caller through the SDK, a proxy through gRPC, and an operator.
	p.Put(t, "/meshes", `{"meshName":"test"}`)
	p.Node(t, "test", "front", "10.0.0.1", 8080)
	if _, err := p.API.ListMeshes(t.Context(), &appmesh.ListMeshesInput{}); err != nil {
		t.Errorf("listing through the SDK: %v", err)
	}
	d := p.Delta(t, &corev3.Node{Id: meshtest.ARN("test", "front")})
	d.Await(t, "a first configuration", func() bool { return len(d.Resources(envoy.TypeListener)) > 0 })

	end := time.Now().Add(time.Hour)
	for name, addr := range map[string]string{"api": p.Addrs.API, "xds": p.Addrs.XDS, "ops": p.Addrs.Ops} {
		text, err := metric(p, `fairlead_tls_certificate_expiry_seconds{listener="`+name+`"}`)
		if err != nil {
			t.Error(err)
		}
		at, err := strconv.ParseFloat(text, 64)
		if err != nil || at < float64(end.Add(-time.Minute).Unix()) || at > float64(end.Unix()) {
			t.Errorf("%s: the certificate ends at %s, want %d", name, text, end.Unix())
		}
		for _, offer := range []string{"h2", "http/1.1"} {
			c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: p.CA.Pool, NextProtos: []string{offer}})
			if err != nil {
				t.Errorf("%s, %s: %v", name, offer, err)
				continue
			}
			want := offer
			if name == "xds" && offer != "h2" {
				want = "" // gRPC ends the connection then
			}
			if got := c.ConnectionState().NegotiatedProtocol; got != want {
				t.Errorf("%s: %q was agreed on, want %q", name, got, want)
			}
			_ = c.Close()
		}
		plain := dial(t, addr)
		send(t, plain, "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
		if answer, _ := io.ReadAll(plain); strings.Contains(string(answer), "200") {
			t.Errorf("%s answers without TLS: %q", name, answer)
		}
	}
}

func TestBothVersionsOfHTTP(t *testing.T) {
	t.Parallel()
	p := meshtest.StartWith(t, meshtest.Options{TLS: true})
	for _, want := range []string{"HTTP/1.1", "HTTP/2.0"} {
		client := p.HTTP()
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = want == "HTTP/2.0"
		resp, err := client.Do(signed(t, p, http.MethodGet, "/v20190125/meshes", ""))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Proto != want || resp.Header.Get("X-Amzn-Requestid") == "" {
			t.Errorf("%s %s, request id %q; want %s", resp.Proto, resp.Status, resp.Header.Get("X-Amzn-Requestid"), want)
		}
	}
}

// A certificate is renewed under a server that goes on serving what is connected.
func TestCertificateIsRenewedWhileServing(t *testing.T) {
	t.Parallel()
	var files server.TLSFiles
	p := meshtest.StartWith(t, meshtest.Options{TLS: true, Change: func(c *server.Config) {
		files, c.Timeouts.TLSFiles = c.APITLS, 5*time.Millisecond
	}})
	p.Put(t, "/meshes", `{"meshName":"test"}`)
	p.Node(t, "test", "front", "10.0.0.1", 8080)
	d := p.Delta(t, &corev3.Node{Id: meshtest.ARN("test", "front")})
	d.Await(t, "a first configuration", func() bool { return len(d.Resources(envoy.TypeListener)) > 0 })
	old := tls.Client(dial(t, p.Addrs.API), &tls.Config{RootCAs: p.CA.Pool, ServerName: "localhost"})
	request, _ := wire(t, signed(t, p, http.MethodGet, "/v20190125/meshes", ""))
	send(t, old, request)
	wantStatus(t, old, http.StatusOK)

	cert, key := p.CA.Issue(t, "renewed", time.Hour)
	meshtest.WriteFile(t, files.Cert, cert)
	meshtest.WriteFile(t, files.Key, key)
	for _, addr := range []string{p.Addrs.API, p.Addrs.XDS, p.Addrs.Ops} {
		meshtest.Eventually(t, "the new certificate is served", func() error {
			c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: p.CA.Pool, NextProtos: []string{"h2"}})
			if err != nil {
				return err
			}
			defer c.Close()
			if name := c.ConnectionState().PeerCertificates[0].Subject.CommonName; name != "renewed" {
				return fmt.Errorf("%q is", name)
			}
			return nil
		})
	}
	send(t, old, request)
	wantStatus(t, old, http.StatusOK)
	p.Node(t, "test", "back", "10.0.0.2", 8080)
	if err := d.Err(); err != nil {
		t.Errorf("the stream from before ended: %v", err)
	}
}

// config is a server's that may be opened or refused.
func config(t *testing.T) server.Config {
	t.Helper()
	dir := t.TempDir()
	return server.Config{
		Store:           store.Config{DataDir: filepath.Join(dir, "data"), Unsafe: true},
		CredentialsFile: filepath.Join(dir, "credentials"),
		AccountID:       meshtest.Account, Regions: []string{meshtest.Region}, Log: slog.New(slog.DiscardHandler),
		APIListen: "127.0.0.1:0", XDSListen: "127.0.0.1:0", OpsListen: "127.0.0.1:0",
	}
}

func TestListenersThatAreRefused(t *testing.T) {
	t.Parallel()
	ca := meshtest.NewAuthority(t)
	files := server.TLSFiles{Cert: filepath.Join(t.TempDir(), "tls.crt"), Key: filepath.Join(t.TempDir(), "tls.key")}
	cert, key := ca.Issue(t, "one", time.Hour)
	meshtest.WriteFile(t, files.Cert, cert)
	meshtest.WriteFile(t, files.Key, key)
	taken := dial(t, meshtest.Start(t).Addrs.Ops).RemoteAddr().String()
	for _, c := range []struct {
		what   string
		change func(*server.Config)
		says   string // "" for accepted
	}{
		{"off loopback", func(c *server.Config) { c.XDSListen = "0.0.0.0:0" }, `--xds-listen "0.0.0.0:0" is not a loopback address and has no TLS: give --xds-tls-cert`},
		{"every address", func(c *server.Config) { c.OpsListen = ":0" }, "--insecure-plaintext"},
		{"a name", func(c *server.Config) { c.APIListen = "example.com:0" }, "is not a loopback address"},
		{"TLS for another listener", func(c *server.Config) { c.APIListen, c.OpsTLS = "0.0.0.0:0", files }, `--api-listen "0.0.0.0:0"`},
		{"no certificate there", func(c *server.Config) { c.APITLS = server.TLSFiles{Cert: "/nowhere", Key: files.Key} }, "loading the TLS files of --api-listen: open /nowhere"},
		{"a taken port", func(c *server.Config) { c.OpsListen = taken }, "address already in use"},
		{"no port", func(c *server.Config) { c.OpsListen = "localhost" }, "allowed is host:port"},
		{"TLS off loopback", func(c *server.Config) { c.APIListen, c.APITLS = "0.0.0.0:0", files }, ""},
		{"said to be secure", func(c *server.Config) { c.APIListen, c.Plaintext = "0.0.0.0:0", true }, ""},
		{"localhost", func(c *server.Config) { c.APIListen = "localhost:0" }, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			c.change(&cfg)
			s, err := server.Open(context.Background(), cfg)
			if err == nil {
				if err := s.Close(); err != nil {
					t.Errorf("closing: %v", err)
				}
			}
			if c.says == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if c.says == "" {
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with %q", err, c.says)
			}
			if _, err := os.Stat(cfg.Store.DataDir); err == nil {
				t.Error("a refused server made its data directory")
			}
		})
	}
}
