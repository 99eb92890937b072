package envoy

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// What ARNs of ACM stand for. The part of the agent is the test's: it has certificates
// issued by the API, follows the trust bundle, and serves both to an Envoy on a socket.

const (
	acmCertificate = `{"acm":{"certificateArn":"arn:aws:acm:us-east-1:000000000001:certificate/1"}}`
	acmAuthority   = `{"acm":{"certificateAuthorityArns":["arn:aws:acm-pca:us-east-1:000000000001:certificate-authority/1"]}}`
)

// workload is the part of an agent that has to do with certificates.
type workload struct {
	t        *testing.T
	plane    *meshtest.Plane
	mesh     string
	resource string // virtualNode/NAME
	source   *secrets
	socket   string

	mu     sync.Mutex
	cert   tls.Certificate
	serial string
}

// workload plays the agent of a node or gateway of a mesh until the test ends.
func (s *stage) workload(mesh, resource string) *workload {
	s.t.Helper()
	w := &workload{t: s.t, plane: s.plane, mesh: mesh, resource: resource}
	w.source, w.socket = startSecrets(s.t)
	w.renew()
	var b *meshtest.Bundles
	meshtest.Eventually(s.t, "a trust bundle for "+resource, func() (err error) {
		if b, err = meshtest.OpenBundles(s.t.Context(), s.plane.Addrs.XDS, s.plane.Creds); err != nil {
			return err
		}
		b.Begin("mesh/"+mesh+"/"+resource, w.trust())
		<-b.Changed()
		_, _, err = b.Last()
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			changed := b.Changed()
			secrets, _, err := b.Last()
			if err != nil {
				return
			}
			for _, secret := range secrets {
				w.source.put(secret)
			}
			<-changed
		}
	}()
	s.t.Cleanup(func() { b.Close(); <-done })
	return w
}

// trust is the name of the trust bundle.
func (w *workload) trust() string { return "trust:" + meshtest.Account + "/" + w.mesh }

// spiffe is the workload's name.
func (w *workload) spiffe() string {
	return "spiffe://fairlead.internal/" + meshtest.Account + "/" + w.mesh + "/" + w.resource
}

// renew makes a key and has a certificate issued for it.
func (w *workload) renew() {
	w.t.Helper()
	key, csr := meshtest.NewWorkloadKey(w.t)
	body, err := json.Marshal(map[string]string{"resourceArn": "mesh/" + w.mesh + "/" + w.resource, "csr": csr})
	if err != nil {
		w.t.Fatal(err)
	}
	var out struct{ SerialNumber, CertificateChain, URI string }
	w.plane.Signed(w.t).Want(w.t, http.MethodPut, "/v1/meshes/"+w.mesh+"/certificates", string(body), &out)
	if out.URI != w.spiffe() {
		w.t.Errorf("issued for %s", out.URI)
	}
	cert, err := tls.X509KeyPair([]byte(out.CertificateChain), []byte(key))
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.cert, w.serial = cert, out.SerialNumber
	w.mu.Unlock()
	w.source.put(certificateSecret("workload", []byte(out.CertificateChain), []byte(key)))
}

func (w *workload) certificate() (tls.Certificate, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cert, w.serial
}

// bootstrap has an Envoy take its secrets from the workload.
func (w *workload) bootstrap(b map[string]any) {
	withSecretsAs("fairlead_workload_sds", w.socket)(b)
	nodeMetadata(b)["workloadCertificates"] = true
}

// anchors returns the roots of the mesh as the API shows them.
func (s *stage) anchors(mesh string) *x509.CertPool {
	s.t.Helper()
	var out struct{ TrustBundle struct{ Certificates string } }
	s.plane.Signed(s.t).Want(s.t, http.MethodGet, "/v1/meshes/"+mesh+"/trustBundle", "", &out)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(out.TrustBundle.Certificates)) {
		s.t.Fatalf("no certificates in %+v", out)
	}
	return pool
}

// acmServer runs a node with a listener whose certificate is ACM's, behind an Envoy.
func (s *stage) acmServer(name, host, protocol, more string) (bind string) {
	s.t.Helper()
	bind = meshtest.Address(s.t)
	s.node(name, nodeSpec(host, protocol, `,"tls":{"mode":"STRICT","certificate":`+acmCertificate+more+`}`))
	w := s.workload("test", "virtualNode/"+name)
	c := meshtest.ProxyConfig{ARN: meshtest.ARN("test", name), Bind: bind, App: meshtest.Serve(s.t, port, named(name))}
	s.plane.Proxy(s.t, s.bootstrapped(c, w.bootstrap)).Ready(s.t)
	return bind
}

// TestACMBetweenNodes has nodes verify one another by what ARNs of ACM stand for, with
// policies of backends, defaults and none. A server with a certificate of another mesh's
// authority is refused, whatever names that has.
func TestACMBetweenNodes(t *testing.T) {
	t.Parallel()
	covers(t,
		"VirtualNode.listeners.tls.certificate.acm.certificateArn",
		"VirtualNode.backends.virtualService.clientPolicy.tls.validation.trust.acm.certificateAuthorityArns",
		"VirtualNode.backendDefaults.clientPolicy.tls.validation.trust.acm.certificateAuthorityArns",
	)
	s := newStage(t)
	s.plane.Put(t, "/meshes", `{"meshName":"other"}`)
	names := newZone(t, 0)
	for _, name := range []string{"policy", "default", "named", "wrong"} {
		names.set(name+".test", s.acmServer(name, name+".test", "http", ""))
		s.provided(name, name)
	}
	// The stranger has the right host name, from another mesh.
	s.plane.Put(t, "/meshes/other/virtualNodes", fmt.Sprintf(`{"virtualNodeName":"stranger","spec":%s}`, nodeSpec("stranger.test", "http", "")))
	stranger := s.workload("other", "virtualNode/stranger")
	cert, _ := stranger.certificate()
	names.set("stranger.test", serveWithTLS(t, cert))
	s.node("stranger", nodeSpec("stranger.test", "http", `,"tls":{"mode":"STRICT","certificate":`+acmCertificate+`}`))
	s.provided("stranger", "stranger")
	san := func(name string) string {
		return fmt.Sprintf(`,"subjectAlternativeNames":{"match":{"exact":[%q]}}`, name)
	}
	backend := func(name, more string) string {
		return fmt.Sprintf(`{"virtualService":{"virtualServiceName":%q,"clientPolicy":{"tls":{"validation":{"trust":%s%s}}}}}`, name, acmAuthority, more)
	}
	s.node("front", fmt.Sprintf(`{"backendDefaults":{"clientPolicy":{"tls":{"validation":{"trust":%s}}}},"backends":[%s]}`, acmAuthority, strings.Join([]string{
		backend("policy", ""), `{"virtualService":{"virtualServiceName":"default"}}`,
		backend("named", san("spiffe://fairlead.internal/000000000001/test/virtualNode/named")),
		backend("wrong", san("spiffe://fairlead.internal/000000000001/test/virtualNode/other")),
		backend("stranger", ""),
	}, ",")))
	w := s.workload("test", "virtualNode/front")
	s.startFrontWith(meshtest.ProxyConfig{ARN: meshtest.ARN("test", "front"), Bind: meshtest.Address(t), App: meshtest.Address(t)},
		func(b map[string]any) { names.resolver(b); w.bootstrap(b) })
	for name, want := range map[string]int{"policy": 200, "default": 200, "named": 200, "wrong": 503, "stranger": 503} {
		status, body, err := meshtest.Get(s.http, fmt.Sprintf("http://%s:%d/", name, port))
		if err != nil || status != want || status == http.StatusOK && body != name {
			t.Errorf("%s: %d %q %v, want %d", name, status, body, err, want)
		}
	}
	// Without any policy a certificate of ACM is verified too.
	s.updateNode("front", `{"backends":[{"virtualService":{"virtualServiceName":"policy"}},{"virtualService":{"virtualServiceName":"stranger"}}]}`)
	meshtest.Eventually(t, "the policies are gone", func() error {
		status, _, err := meshtest.Get(s.http, fmt.Sprintf("http://default:%d/", port))
		if err == nil && status == http.StatusOK {
			err = fmt.Errorf("default still answers")
		}
		return err
	})
	for name, want := range map[string]int{"policy": 200, "stranger": 503} {
		meshtest.Eventually(t, fmt.Sprintf("%s answers %d without a policy", name, want), func() error {
			status, _, err := meshtest.Get(s.http, fmt.Sprintf("http://%s:%d/", name, port))
			if err == nil && status != want {
				err = fmt.Errorf("answered %d", status)
			}
			return err
		})
	}
}

// serveWithTLS runs an application that speaks TLS on an address of its own.
func serveWithTLS(t *testing.T, cert tls.Certificate) (addr string) {
	t.Helper()
	addr = meshtest.Address(t)
	l := tls.NewListener(listen(t, addr, port), &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	srv := &http.Server{Handler: named("stranger")}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return addr
}

// TestACMOfGateways is the same for a virtual gateway, both ways.
func TestACMOfGateways(t *testing.T) {
	t.Parallel()
	covers(t,
		"VirtualGateway.listeners.tls.certificate.acm.certificateArn",
		"VirtualGateway.backendDefaults.clientPolicy.tls.validation.trust.acm.certificateAuthorityArns",
	)
	s := newStage(t)
	s.plane.Put(t, "/meshes", `{"meshName":"other"}`)
	names := newZone(t, 0)
	names.set("blue.test", s.acmServer("blue", "blue.test", "http", ""))
	s.leadsTo("blue.local", "blue")
	s.plane.Put(t, "/meshes/other/virtualNodes", fmt.Sprintf(`{"virtualNodeName":"stranger","spec":%s}`, nodeSpec("stranger.test", "http", "")))
	cert, _ := s.workload("other", "virtualNode/stranger").certificate()
	names.set("stranger.test", serveWithTLS(t, cert))
	s.node("stranger", nodeSpec("stranger.test", "http", `,"tls":{"mode":"STRICT","certificate":{"file":{"certificateChain":"/c","privateKey":"/k"}}}`))
	s.leadsTo("stranger.local", "stranger")
	c := s.defineGateway(fmt.Sprintf(`{"listeners":[%s,%s],"backendDefaults":{"clientPolicy":{"tls":{"validation":{"trust":%s}}}}}`,
		listener(strictPort, "http", `,"tls":{"mode":"STRICT","certificate":`+acmCertificate+`}`), listener(httpPort, "http", ""), acmAuthority))
	s.gatewayRoute("safe", atPort(`{"prefix":"/"}`, strictPort), "blue.local", "")
	s.gatewayRoute("blue", atPort(`{"prefix":"/"}`, httpPort), "blue.local", "")
	s.gatewayRoute("stranger", atPort(`{"prefix":"/stranger"}`, httpPort), "stranger.local", "")
	w := s.workload("test", "virtualGateway/edge")
	d := s.startGateway(s.bootstrapped(c, func(b map[string]any) { names.resolver(b); w.bootstrap(b) }))
	d.await("GET a /", "blue")
	d.wants(map[string]any{"GET a /stranger": http.StatusServiceUnavailable})
	client := tlsClient(verifying(s.anchors("test"), w.spiffe()))
	if status, body, err := meshtest.Get(client, fmt.Sprintf("https://%s:%d/", d.proxy.Bind, strictPort)); err != nil || body != "blue" {
		t.Errorf("over TLS: %d %q %v", status, body, err)
	}
	if status, _, err := meshtest.Get(d.client, fmt.Sprintf("http://%s:%d/", d.proxy.Bind, strictPort)); err == nil {
		t.Errorf("in plain text: %d", status)
	}
}

// verifying has a client accept a server whose certificate is of a bundle and has a SPIFFE
// ID, and show certificates of its own.
func verifying(roots *x509.CertPool, spiffe string, own ...tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: own,
		InsecureSkipVerify: true, // what is verified instead is SPIFFE's name
		VerifyConnection: func(cs tls.ConnectionState) error {
			between := x509.NewCertPool()
			for _, c := range cs.PeerCertificates[1:] {
				between.AddCert(c)
			}
			leaf := cs.PeerCertificates[0]
			if len(leaf.URIs) != 1 || leaf.URIs[0].String() != spiffe {
				return fmt.Errorf("the server is %v", leaf.URIs)
			}
			_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
			return err
		},
	}
}

// tlsClient makes a connection for each request.
func tlsClient(c *tls.Config) *http.Client {
	return &http.Client{Timeout: deadline, Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
}

// mutualStage is a caller and a server that know each other by their workload
// certificates. What goes between is TCP, so that each call is a handshake of the two
// Envoys.
type mutualStage struct {
	*stage
	cart, front *workload
	bind        string // the server's
	http        *http.Client
}

func newMutualStage(t *testing.T) *mutualStage {
	t.Helper()
	return newMutualStageWith(t, func(*stage) {})
}

// newMutualStageWith is newMutualStage with something done before there are workloads.
func newMutualStageWith(t *testing.T, before func(*stage)) *mutualStage {
	t.Helper()
	s := &mutualStage{stage: newStage(t), bind: meshtest.Address(t)}
	before(s.stage)
	frontID := "spiffe://fairlead.internal/000000000001/test/virtualNode/front"
	s.node("cart", nodeSpec(s.bind, "tcp", fmt.Sprintf(`,"tls":{"mode":"STRICT","certificate":%s,`+
		`"validation":{"trust":{"sds":{"secretName":"fairlead:trust"}},"subjectAlternativeNames":{"match":{"exact":[%q]}}}}`, acmCertificate, frontID)))
	s.provided("cart.local", "cart")
	s.stage.node("front", `{"backends":[{"virtualService":{"virtualServiceName":"cart.local","clientPolicy":{"tls":{`+
		`"certificate":{"sds":{"secretName":"fairlead:workload"}},"validation":{"trust":`+acmAuthority+`}}}}}]}`)
	s.cart, s.front = s.workload("test", "virtualNode/cart"), s.workload("test", "virtualNode/front")
	app := meshtest.Serve(t, port, named("cart"))
	s.plane.Proxy(t, s.bootstrapped(meshtest.ProxyConfig{ARN: meshtest.ARN("test", "cart"), Bind: s.bind, App: app}, s.cart.bootstrap)).Ready(t)
	s.startFrontWith(meshtest.ProxyConfig{ARN: meshtest.ARN("test", "front"), Bind: meshtest.Address(t), App: meshtest.Address(t)}, s.front.bootstrap)
	s.http = &http.Client{Timeout: deadline, Transport: &http.Transport{DisableKeepAlives: true}}
	return s
}

// call goes from the caller's application to the server's.
func (s *mutualStage) call() (status int, body string, err error) {
	return meshtest.Get(s.http, fmt.Sprintf("http://%s:%d/", s.stage.front.Bind, port))
}

// as calls the server with a certificate, past the caller's Envoy.
func (s *mutualStage) as(cert ...tls.Certificate) error {
	c := verifying(s.anchors("test"), s.cart.spiffe(), cert...)
	_, _, err := meshtest.Get(tlsClient(c), fmt.Sprintf("https://%s/", net.JoinHostPort(s.bind, fmt.Sprint(port))))
	return err
}

// rotate makes a step of the replacement of the root and waits until every agent has the
// bundle of it.
func (s *mutualStage) rotate(step string) {
	s.t.Helper()
	client := s.plane.Signed(s.t)
	client.Want(s.t, http.MethodPut, "/v1/meshes/test/authority/"+step, map[bool]string{true: "", false: `{"force":true}`}[step == "rotation" || step == "intermediate"], nil)
	s.agentsHave(client)
}

// TestMutualTLSOfWorkloads: who is let in, and who is not.
func TestMutualTLSOfWorkloads(t *testing.T) {
	t.Parallel()
	s := newMutualStage(t)
	if status, body, err := s.call(); err != nil || body != "cart" {
		t.Fatalf("the caller: %d %q %v", status, body, err)
	}
	front, _ := s.front.certificate()
	if err := s.as(front); err != nil {
		t.Errorf("with the caller's certificate: %v", err)
	}
	s.plane.Put(t, "/meshes", `{"meshName":"other"}`)
	s.plane.Put(t, "/meshes/other/virtualNodes", `{"virtualNodeName":"front","spec":{}}`)
	s.stage.node("stranger", `{}`)
	stranger, _ := s.workload("test", "virtualNode/stranger").certificate()
	foreign, _ := s.workload("other", "virtualNode/front").certificate()
	for who, certs := range map[string][]tls.Certificate{"nobody": nil, "another node": {stranger}, "another mesh's": {foreign}} {
		if s.as(certs...) == nil {
			t.Errorf("%s is let in", who)
		}
	}
}

// TestWorkloadRotation renews the certificates of both sides, the intermediate and the
// root while they talk, each call with a new handshake: none fails.
func TestWorkloadRotation(t *testing.T) {
	t.Parallel()
	s := newMutualStage(t)
	l := startLoad(t, func(int) (int, string, error) { return s.call() })
	more := func(n int) {
		t.Helper()
		had := l.answers("cart")
		meshtest.Eventually(t, "more calls", func() error {
			if got := l.answers("cart") - had; got < n {
				return fmt.Errorf("%d came", got)
			}
			return nil
		})
	}
	both := func() {
		t.Helper()
		s.cart.renew()
		s.front.renew()
		more(20)
	}
	more(20)
	for range 5 {
		both()
	}
	s.rotate("intermediate")
	both()
	old := s.anchors("test")
	s.rotate("rotation")
	both()
	s.rotate("rotation/switch")
	both()
	// Only once all that it stands for is gone, which in life is an hour later.
	s.awaitIssuer()
	s.rotate("rotation/retire")
	both()
	l.end(t)
	c, _ := s.front.certificate()
	if s.as(c) != nil {
		t.Error("after it all the caller is refused")
	}
	if _, _, err := meshtest.Get(tlsClient(verifying(old, s.cart.spiffe(), c)), fmt.Sprintf("https://%s:%d/", s.bind, port)); err == nil {
		t.Error("the server still shows a certificate of the old root")
	}
}

// awaitIssuer waits until the server's Envoy shows the certificate that it was given last.
func (s *mutualStage) awaitIssuer() {
	s.t.Helper()
	meshtest.Eventually(s.t, "the server shows its last certificate", func() error {
		front, _ := s.front.certificate()
		c := verifying(s.anchors("test"), s.cart.spiffe(), front)
		inner := c.VerifyConnection
		_, serial := s.cart.certificate()
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			if got := fmt.Sprintf("%x", cs.PeerCertificates[0].SerialNumber); strings.TrimLeft(serial, "0") != got {
				return fmt.Errorf("it is %s, wanted is %s", got, serial)
			}
			return inner(cs)
		}
		_, _, err := meshtest.Get(tlsClient(c), fmt.Sprintf("https://%s:%d/", s.bind, port))
		return err
	})
}

// awaitRefused waits until the server refuses a certificate.
func (s *mutualStage) awaitRefused(cert tls.Certificate) {
	s.t.Helper()
	meshtest.Eventually(s.t, "the revoked certificate is refused", func() error {
		if s.as(cert) == nil {
			return errors.New("it is let in")
		}
		return nil
	})
}

// awaitCall waits until the caller is let in.
func (s *mutualStage) awaitCall() {
	s.t.Helper()
	meshtest.Eventually(s.t, "the caller is let in", func() error {
		_, _, err := s.call()
		return err
	})
}

// TestRevokedCertificate puts the caller's certificate on the list: the server's Envoy
// refuses it at once, and nobody else, and takes the next one.
func TestRevokedCertificate(t *testing.T) {
	t.Parallel()
	s := newMutualStage(t)
	s.front.renew()
	lost, serial := s.front.certificate()
	if err := s.as(lost); err != nil {
		t.Fatal(err)
	}
	s.plane.Signed(t).Want(t, http.MethodPut, "/v1/meshes/test/revokedCertificates/"+serial, `{"reason":"lost"}`, nil)
	s.awaitRefused(lost)
	meshtest.Eventually(t, "the caller is refused", func() error {
		if _, _, err := s.call(); err == nil {
			return errors.New("it is let in")
		}
		return nil
	})
	s.front.renew()
	s.awaitCall()
	if s.as(lost) == nil {
		t.Error("the revoked certificate is let in again")
	}
	// Another intermediate, below another root: each has a list of its own.
	s.rotate("rotation")
	s.rotate("rotation/switch")
	s.front.renew()
	s.cart.renew()
	s.awaitIssuer()
	if _, _, err := s.call(); err != nil {
		t.Errorf("below the new root: %v", err)
	}
	if s.as(lost) == nil {
		t.Error("the revoked certificate is let in below the new root")
	}
}
