package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func listen(t *testing.T, address string) (l net.Listener, port string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return l, port
}

// A real Envoy signs its stream with the key of the environment, and says who it is.
func TestEnvoySigns(t *testing.T) {
	t.Parallel()
	envoy := envoyBinary(t)
	l, port := listen(t, "127.0.0.1:0")
	ads := newADS()
	ads.serve(t, l, nil)
	ip := loopback(t)
	r := start(t, envoy, bound(ip, port).with(vars{"AWS_SESSION_TOKEN": "test-token-nobody-uses", "APPMESH_RESOURCE_CLUSTER": "carts", "FAIRLEAD_APPLICATION_ADDRESS": "127.0.0.7"}), nil)
	got := ads.next(t)
	checkSignature(t, got.header, "AKIDTEST", "test-secret-nobody-uses", "us-east-1")
	if token := strings.Join(got.header.Get("x-amz-security-token"), ","); token != "test-token-nobody-uses" {
		t.Errorf("session token %q", token)
	}
	node := got.request.GetNode()
	if node.GetId() != "mesh/shop/virtualNode/cart" || node.GetCluster() != "carts" {
		t.Errorf("node %s of cluster %s", node.GetId(), node.GetCluster())
	}
	placement := node.GetMetadata().GetFields()["fairlead"].GetStructValue().AsMap()
	if dir, _ := placement["reloadDirectory"].(string); !filepath.IsAbs(dir) {
		t.Errorf("the directory for reloads is %q", dir)
	}
	delete(placement, "reloadDirectory")
	if got := fmt.Sprint(placement["discovery"]); got != "map[authority:127.0.0.1:"+port+" cluster:fairlead_xds]" {
		t.Errorf("discovery %s", got)
	}
	delete(placement, "discovery")
	if fmt.Sprint(placement) != "map[applicationAddress:127.0.0.7 bindAddress:"+ip+" internalListeners:true placement:bound]" {
		t.Errorf("metadata %v", placement)
	}
	if authority := got.header.Get(":authority"); len(authority) != 1 || authority[0] != "127.0.0.1:"+port {
		t.Errorf("authority %v", authority)
	}
	r.waitLog("connected to the control plane")
	r.signals <- syscall.SIGTERM
	r.wait(0)
	if !strings.Contains(r.log.String(), "there is no listener to drain") {
		t.Errorf("log %s", r.log)
	}
}

// The key may be in a file, and is read again when the file is replaced.
func TestEnvoyCredentialsFile(t *testing.T) {
	t.Parallel()
	envoy := envoyBinary(t)
	l, port := listen(t, "127.0.0.1:0")
	ads := newADS()
	stop := ads.serve(t, l, nil)
	file := filepath.Join(t.TempDir(), "credentials")
	replace := func(key string) {
		text := "[default]\naws_access_key_id = AKIDWRONG\naws_secret_access_key = x\n[shop]\naws_access_key_id = " + key + "\naws_secret_access_key = test-secret-nobody-uses\n"
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	replace("AKIDONE")
	start(t, envoy, bound(loopback(t), port).with(vars{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": file, "AWS_PROFILE": "shop",
	}), nil)
	checkSignature(t, ads.next(t).header, "AKIDONE", "test-secret-nobody-uses", "us-east-1")

	replace("AKIDTWO")
	for deadline := time.Now().Add(waitTime); ; {
		stop()
		l, _ = listen(t, "127.0.0.1:"+port)
		stop = ads.serve(t, l, nil)
		got := ads.next(t)
		if strings.Contains(strings.Join(got.header.Get("authorization"), ""), "AKIDTWO") {
			checkSignature(t, got.header, "AKIDTWO", "test-secret-nobody-uses", "us-east-1")
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the new key is not used")
		}
	}
}

// When the file loses its key, Envoy sends its stream unsigned and says nothing; the
// agent does.
func TestEnvoyUnsigned(t *testing.T) {
	t.Parallel()
	envoy := envoyBinary(t)
	l, port := listen(t, "127.0.0.1:0")
	ads := newADS()
	ads.refuse = status.Error(codes.Unauthenticated, "the stream is not signed")
	ads.serve(t, l, nil)
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = A\naws_secret_access_key = B\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, envoy, bound(loopback(t), port).with(vars{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": file,
	}), func(c *RunConfig) {
		// After Resolve has looked at it and before Envoy does.
		if err := os.WriteFile(file, []byte("[default]\n"), 0o600); err != nil {
			t.Error(err)
		}
	})
	r.waitLog("unsigned")
}

func TestEnvoyRefused(t *testing.T) {
	t.Parallel()
	envoy := envoyBinary(t)
	l, port := listen(t, "127.0.0.1:0")
	ads := newADS()
	ads.refuse, ads.think = status.Error(codes.PermissionDenied, "not your resource"), time.Second
	ads.serve(t, l, nil)
	r := start(t, envoy, bound(loopback(t), port), nil)
	r.waitLog("refuses the stream")
	if log := r.log.String(); strings.Contains(log, "connected to the control plane") {
		t.Errorf("log %s", log)
	}
}

// The server goes away for a while and comes back at the same address.
func TestEnvoyRejoins(t *testing.T) {
	t.Parallel()
	envoy := envoyBinary(t)
	l, port := listen(t, "127.0.0.1:0")
	ads := newADS()
	stop := ads.serve(t, l, nil)
	r := start(t, envoy, bound(loopback(t), port), nil)
	ads.next(t)
	stop()

	// Away, but counting who knocks: enough tries to reach the longest pause.
	l, _ = listen(t, "127.0.0.1:"+port)
	for range 6 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	back := time.Now()
	ads.serve(t, l, nil)
	got := ads.next(t)
	t.Logf("rejoined after %v", time.Since(back))
	checkSignature(t, got.header, "AKIDTEST", "test-secret-nobody-uses", "us-east-1")
	r.waitLog("connected to the control plane")
}

func TestEnvoyUnreachable(t *testing.T) {
	t.Parallel()
	envoy := envoyBinary(t)
	l, port := listen(t, "127.0.0.1:0")
	l.Close()
	r := start(t, envoy, bound(loopback(t), port), nil)
	r.waitLog("cannot be reached")
}

func TestEnvoyTLS(t *testing.T) {
	t.Parallel()
	envoy := envoyBinary(t)
	cases := map[string]struct {
		host  string // as the agent is told it
		names x509.Certificate
		log   string
	}{
		"name":           {"localhost", x509.Certificate{DNSNames: []string{"localhost"}}, "connected to the control plane"},
		"address":        {"127.0.0.1", x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, "connected to the control plane"},
		"another name":   {"localhost", x509.Certificate{DNSNames: []string{"example.com"}}, "TLS with the control plane fails"},
		"name for an IP": {"127.0.0.1", x509.Certificate{DNSNames: []string{"127.0.0.1"}}, "TLS with the control plane fails"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secure, roots := certificate(t, c.names)
			var sni string
			secure.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) { sni = h.ServerName; return nil, nil }
			l, port := listen(t, "127.0.0.1:0")
			ads := newADS()
			ads.serve(t, l, secure)
			r := start(t, envoy, bound(loopback(t), port).with(vars{
				"FAIRLEAD_XDS_ENDPOINT": c.host + ":" + port, "FAIRLEAD_XDS_PLAINTEXT": "", "FAIRLEAD_XDS_CA_FILE": roots,
			}), nil)
			r.waitLog(c.log)
			if !strings.Contains(c.log, "connected") {
				return
			}
			checkSignature(t, ads.next(t).header, "AKIDTEST", "test-secret-nobody-uses", "us-east-1")
			if want := strings.Trim(c.host, "0123456789."); sni != want {
				t.Errorf("SNI %q, want %q", sni, want)
			}
		})
	}
	t.Run("another root", func(t *testing.T) {
		t.Parallel()
		secure, _ := certificate(t, x509.Certificate{DNSNames: []string{"localhost"}})
		l, port := listen(t, "127.0.0.1:0")
		newADS().serve(t, l, secure)
		r := start(t, envoy, bound(loopback(t), port).with(vars{
			"FAIRLEAD_XDS_ENDPOINT": "localhost:" + port, "FAIRLEAD_XDS_PLAINTEXT": "", "FAIRLEAD_XDS_CA_FILE": "testdata/ca.pem",
		}), nil)
		r.waitLog("TLS with the control plane fails")
	})
}

// certificate makes a self-signed server certificate, and a file to trust it by.
func certificate(t *testing.T, template x509.Certificate) (secure *tls.Config, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	template.IsCA, template.BasicConstraintsValid = true, true
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2"}}, file
}

// The admin interface on a Unix socket, and an output that cannot be opened by name,
// as under systemd: Envoy starts all the same.
func TestEnvoyOutputToSocket(t *testing.T) {
	t.Parallel()
	envoy := envoyBinary(t)
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	l, port := listen(t, "127.0.0.1:0")
	newADS().serve(t, l, nil)
	r := start(t, envoy, bound(loopback(t), port).with(vars{"ENVOY_OUTLIER_DETECTION_EVENT_LOG_PATH": ""}),
		func(c *RunConfig) { c.Stdout = theirs })
	r.waitLog("connected to the control plane")
}

// SIGTERM drains: a request under way is finished, and a new one is still served.
func TestEnvoyDrains(t *testing.T) {
	t.Parallel()
	envoy := envoyBinary(t)
	began, finish := make(chan struct{}), make(chan struct{})
	application, applicationPort := listen(t, "127.0.0.1:0")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(began)
			<-finish
		}
		fmt.Fprint(w, "hello")
	})}
	go func() { _ = server.Serve(application) }()
	t.Cleanup(func() { server.Close() })

	ip := loopback(t)
	l, port := listen(t, "127.0.0.1:0")
	ads := newADS()
	ads.resources = proxyTo(t, ip, applicationPort)
	ads.serve(t, l, nil)
	r := start(t, envoy, bound(ip, port), nil)
	url := "http://" + ip + ":15000"
	get := func(path string) (closes bool, err error) {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: false}, Timeout: waitTime}
		defer client.CloseIdleConnections()
		res, err := client.Get(url + path)
		if err != nil {
			return false, err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return false, fmt.Errorf("status %s", res.Status)
		}
		return res.Close, nil
	}
	eventually(t, "the listener serves", func() bool { _, err := get("/"); return err == nil })

	slow := make(chan error, 1)
	go func() { _, err := get("/slow"); slow <- err }()
	<-began
	r.signals <- syscall.SIGTERM
	eventually(t, "clients are told to go away", func() bool {
		gone, err := get("/")
		if err != nil {
			t.Errorf("while draining: %v", err)
		}
		return gone || err != nil
	})
	close(finish)
	if err := <-slow; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	r.wait(0)
}

// A second signal does not wait for the drain time, which here is longer than the
// test waits.
func TestEnvoySecondSignal(t *testing.T) {
	t.Parallel()
	envoy := envoyBinary(t)
	ip := loopback(t)
	l, port := listen(t, "127.0.0.1:0")
	ads := newADS()
	ads.resources = proxyTo(t, ip, "1")
	ads.serve(t, l, nil)
	r := start(t, envoy, bound(ip, port).with(vars{"LISTENER_DRAIN_WAIT_TIME_S": "110"}), nil)
	eventually(t, "the listener is there", func() bool {
		c, err := net.Dial("tcp", ip+":15000")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	r.signals <- syscall.SIGTERM
	r.waitLog("draining Envoy")
	r.signals <- syscall.SIGTERM
	r.wait(0)
}

// The end of the context ends Envoy at once.
func TestEnvoyContextEnds(t *testing.T) {
	t.Parallel()
	envoy := envoyBinary(t)
	l, port := listen(t, "127.0.0.1:0")
	ads := newADS()
	ads.serve(t, l, nil)
	r := start(t, envoy, bound(loopback(t), port), nil)
	ads.next(t)
	r.cancel()
	r.wait(0)
}
