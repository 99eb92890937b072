package spire

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

const (
	port    = 8080
	service = "blue.test.local"
)

// stage is a mesh in which nodes call the node blue by mutual TLS.
type stage struct {
	t     *testing.T
	plane *meshtest.Plane
}

// secrets is what a node shows and what it trusts, as the specs of App Mesh have it.
func secrets(certificate, trust, peer string) string {
	return fmt.Sprintf(`"certificate":{"sds":{"secretName":%q}},"validation":{"trust":%s,"subjectAlternativeNames":{"match":{"exact":[%q]}}}`, certificate, trust, peer)
}

func bySDS(name string) string { return fmt.Sprintf(`{"sds":{"secretName":%q}}`, name) }

func byFile(path string) string { return fmt.Sprintf(`{"file":{"certificateChain":%q}}`, path) }

// blue runs the node that is called: it lets in whoever is called front.
func (s *stage) blue(d *domain) *meshtest.Proxy {
	s.t.Helper()
	app := meshtest.Serve(s.t, port, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "blue") }))
	bind := meshtest.Address(s.t)
	s.plane.Put(s.t, "/meshes/test/virtualNodes", fmt.Sprintf(`{"virtualNodeName":"blue","spec":{"serviceDiscovery":{"dns":{"hostname":%q}},
		"listeners":[{"portMapping":{"port":%d,"protocol":"http"},"tls":{"mode":"STRICT",%s}}]}}`,
		bind, port, secrets(d.id("blue"), bySDS(d.id("")), d.id("front"))))
	s.plane.Put(s.t, "/meshes/test/virtualServices", `{"virtualServiceName":"`+service+`","spec":{"provider":{"virtualNode":{"virtualNodeName":"blue"}}}}`)
	return s.plane.Proxy(s.t, meshtest.ProxyConfig{
		ARN: meshtest.ARN("test", "blue"), Bind: bind, App: app, Env: []string{"APPMESH_SDS_SOCKET_PATH=" + d.host(s.t, "blue")},
	}).Ready(s.t)
}

// caller runs a node that calls blue as a workload of a domain, and says what it trusts
// and what blue is to be called.
func (s *stage) caller(d *domain, name, workload, trust, blue string) *meshtest.Proxy {
	s.t.Helper()
	s.plane.Put(s.t, "/meshes/test/virtualNodes", fmt.Sprintf(`{"virtualNodeName":%q,"spec":{"backends":[{"virtualService":{"virtualServiceName":%q,
		"clientPolicy":{"tls":{"enforce":true,%s}}}}]}}`, name, service, secrets(d.id(workload), trust, blue)))
	return s.plane.Proxy(s.t, meshtest.ProxyConfig{
		ARN: meshtest.ARN("test", name), Bind: meshtest.Address(s.t), App: meshtest.Address(s.t),
		Env: []string{"APPMESH_SDS_SOCKET_PATH=" + d.host(s.t, workload)},
	}).Ready(s.t)
}

func url() string { return fmt.Sprintf("http://%s:%d/", service, port) }

var serialNumber = regexp.MustCompile(`"serial_number": "([0-9a-f]+)"`)

// serials returns the serial numbers of the certificates that an Envoy has.
func serials(x *meshtest.Proxy) ([]string, error) {
	text, err := x.Admin("/certs")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, m := range serialNumber.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	if all == nil {
		return nil, errors.New("there is no certificate yet")
	}
	return all, nil
}

// awaitAnother waits until an Envoy has a certificate that it did not have.
func awaitAnother(t *testing.T, x *meshtest.Proxy) {
	t.Helper()
	var before []string
	meshtest.Eventually(t, "the certificate is renewed", func() error {
		now, err := serials(x)
		if err != nil {
			return err
		}
		if before == nil {
			before = now
		}
		if !slices.ContainsFunc(now, func(serial string) bool { return !slices.Contains(before, serial) }) {
			return fmt.Errorf("they are still %v", now)
		}
		return nil
	})
}

// counted returns the sum of statistics whose names end so.
func counted(t *testing.T, x *meshtest.Proxy, names ...string) (sum int) {
	t.Helper()
	text, err := x.Admin("/stats")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(text, "\n") {
		name, value, _ := strings.Cut(line, ": ")
		if n, err := strconv.Atoi(value); err == nil && slices.ContainsFunc(names, func(end string) bool { return strings.HasSuffix(name, end) }) {
			sum += n
		}
	}
	return sum
}

// TestCertificatesOfSPIRE has two nodes take certificates and roots from SPIRE's agents, as
// the guide says: they call each other by mutual TLS, while SPIRE renews what they have. A
// workload of another name is refused, and so is one of another trust domain that goes by
// the right one.
func TestCertificatesOfSPIRE(t *testing.T) {
	t.Parallel()
	program(t, "spire-server") // skips before anything is started
	meshtest.EnvoyPath(t)
	s := &stage{t: t, plane: meshtest.Start(t)}
	s.plane.Put(t, "/meshes", `{"meshName":"test"}`)
	ours, other := startDomain(t, "example.org"), startDomain(t, "other.example")
	blue := s.blue(ours)
	front := s.caller(ours, "front", "front", bySDS(ours.id("")), ours.id("blue"))

	client := front.Outbound()
	meshtest.Eventually(t, "front is answered", func() error { return answered(client) })
	if n := counted(t, blue, ".ssl.handshake"); n == 0 {
		t.Error("blue was called without TLS")
	}
	for _, x := range []*meshtest.Proxy{front, blue} {
		awaitAnother(t, x)
	}
	// Another Envoy of blue has other connections, made with the certificates of now.
	if err := syscall.Kill(blue.EnvoyPid(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	meshtest.Eventually(t, "front is answered again", func() error { return answered(client) })
	if n := counted(t, blue, ".ssl.fail_verify_error", ".ssl.fail_verify_san"); n > 0 {
		t.Errorf("blue refused %d handshakes of front", n)
	}

	s.refused(blue, s.caller(ours, "green", "green", bySDS(ours.id("")), ours.id("blue")))
	// It trusts blue, so that blue is who refuses.
	s.refused(blue, s.caller(other, "stranger", "front", byFile(ours.Bundle), ours.id("blue")))
	if err := answered(client); err != nil {
		t.Error(err)
	}
}

// answered calls blue.
func answered(client *http.Client) error {
	status, body, err := meshtest.Get(client, url())
	if err == nil && (status != http.StatusOK || body != "blue") {
		return fmt.Errorf("answered %d %q", status, body)
	}
	return err
}

// refused wants blue not to take an Envoy's certificate.
func (s *stage) refused(blue, x *meshtest.Proxy) {
	s.t.Helper()
	before := counted(s.t, blue, ".ssl.fail_verify_error", ".ssl.fail_verify_san")
	client := x.Outbound()
	meshtest.Eventually(s.t, "blue refuses the certificate", func() error {
		status, body, err := meshtest.Get(client, url())
		if err != nil {
			return err
		}
		if status == http.StatusOK {
			s.t.Fatalf("it was answered: %q", body)
		}
		if counted(s.t, blue, ".ssl.fail_verify_error", ".ssl.fail_verify_san") == before {
			return fmt.Errorf("answered %d %q, and blue has refused none", status, body)
		}
		return nil
	})
}
