//go:build linux

package redirected

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

const (
	amazon   = "s3.us-east-1.amazonaws.com"
	stranger = "www.example.org"
)

// The cloud's own endpoints are open in every mesh, by the name that TLS asks for, and on
// port 443 only; the Envoys see nothing of what passes.
func TestAmazonIsOpen(t *testing.T) {
	t.Parallel()
	// A preference of either family has Envoy listen on both.
	s := newStage(t, mesh("DROP_ALL"))
	s.secure()
	s.caller()
	for _, network := range []string{"tcp4", "tcp6"} {
		meshtest.Eventually(t, "Amazon is reached over "+network, func() error { return s.handshake(network, amazon, ":443") })
		s.wantShut(network, stranger, ":443")
		s.wantShut(network, amazon, ":8443")
	}
	s.plane.Put(t, "/meshes/test", `{"spec":`+mesh("ALLOW_ALL")+`}`)
	for _, network := range []string{"tcp4", "tcp6"} {
		for _, name := range []string{stranger, amazon} {
			for _, port := range []string{":443", ":8443"} {
				meshtest.Eventually(t, name+port+" is reached over "+network, func() error { return s.handshake(network, name, port) })
			}
		}
	}
}

// Envoy chooses by the port before it looks at the name: a service on port 443 must not
// shut the way to everything else there.
func TestAServiceOnPort443LeavesAmazonOpen(t *testing.T) {
	t.Parallel()
	s := newStage(t, mesh("DROP_ALL"))
	s.secure()
	s.node("blue", meshtest.NodeSpec("blue", 443))
	blue, _ := s.start("blue", 443)
	blue.Serve(443, echo("blue"))
	s.plane.Put(t, "/meshes/test/virtualServices", `{"virtualServiceName":"`+service+`","spec":{"provider":{"virtualNode":{"virtualNodeName":"blue"}}}}`)
	s.caller(service)
	await(t, s.front.HTTP("tcp"), "http://"+service+":443/", http.StatusOK, "blue: GET colour.test.local:443")
	if err := s.handshake("tcp", amazon, ":443"); err != nil {
		t.Errorf("Amazon beside a service on port 443: %v", err)
	}
	s.wantShut("tcp", stranger, ":443")
	s.plane.Put(t, "/meshes/test", `{"spec":`+mesh("ALLOW_ALL")+`}`)
	meshtest.Eventually(t, "a stranger on port 443 is reached", func() error { return s.handshake("tcp", stranger, ":443") })
	want(t, s.front.HTTP("tcp"), "http://"+service+":443/", http.StatusOK, "blue: GET colour.test.local:443")
}

func mesh(filter string) string {
	return `{"egressFilter":{"type":"` + filter + `"},"serviceDiscovery":{"ipPreference":"IPv4_PREFERRED"}}`
}

// secure adds a host outside the mesh with TLS on ports 443 and 8443, which both names
// lead to.
func (s *stage) secure() {
	s.t.Helper()
	h := s.hosts.Add("secure")
	cert, key := meshtest.NewAuthority(s.t).Issue(s.t, "secure", time.Hour)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, address := range []string{":443", ":8443"} {
		l := tls.NewListener(h.Listen(address), &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
		go meshtest.HandleConns(l, func(conn net.Conn) {
			if c := conn.(*tls.Conn); c.Handshake() == nil {
				fmt.Fprintf(c, "asked for %s\n", c.ConnectionState().ServerName)
			}
		})
	}
	for _, name := range []string{amazon, stranger} {
		s.hosts.Names.Set(name, h.V4, h.V6)
	}
}

// handshake connects from front to a name by TLS, and checks that the server itself, and
// nobody between, has answered.
func (s *stage) handshake(network, name, port string) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	c, err := s.front.Dial(ctx, network, name+port)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	x := tls.Client(c, &tls.Config{
		ServerName:         name,
		InsecureSkipVerify: true, //nolint:gosec // the certificate is looked at below
	})
	if err := x.Handshake(); err != nil {
		return err
	}
	if got := x.ConnectionState().PeerCertificates[0].Subject.CommonName; got != "secure" {
		return fmt.Errorf("the certificate is that of %q", got)
	}
	if line, err := bufio.NewReader(x).ReadString('\n'); err != nil || line != "asked for "+name+"\n" {
		return fmt.Errorf("answered %q %w", line, err)
	}
	return nil
}

// wantShut fails the test if front reaches a name by TLS.
func (s *stage) wantShut(network, name, port string) {
	s.t.Helper()
	err := s.handshake(network, name, port)
	timeout, isNet := err.(net.Error) //nolint:errorlint // what Dial and Handshake return
	if err == nil || isNet && timeout.Timeout() {
		s.t.Errorf("%s%s over %s: %v, want it closed", name, port, network, err)
	}
}
