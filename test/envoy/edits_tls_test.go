package envoy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// sealedPort is that of the listener whose certificate is replaced.
const sealedPort = 8443

// A certificate is replaced on the disk again and again while the service is called by
// TLS: no request fails, and the proxy has each in turn.
func TestCertificateRotationUnderLoad(t *testing.T) {
	t.Parallel()
	e := newEdits(t)
	ca, dir := meshtest.NewAuthority(t), t.TempDir()
	rotate := func(name string) {
		cert, key := ca.Issue(t, name, time.Hour)
		for file, content := range map[string][]byte{"key": key, "crt": cert} {
			path := filepath.Join(dir, "sealed."+file)
			meshtest.WriteFile(t, path+".new", content)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		}
	}
	rotate("first")
	sealed := e.sealed(dir, ca.File)
	e.run(t, editKind{"certificate", func(e *edits, i int) {
		if i == 0 {
			e.route(meshtest.Weights("sealed", 1))
			e.awaitShift(e.t, "sealed", "blue", "green")
		}
		before := certificates(e.t, sealed)
		rotate(fmt.Sprint("rotation ", i))
		meshtest.Eventually(e.t, "Envoy has the certificate", func() error {
			if certificates(e.t, sealed) == before {
				return errors.New("it has the one before")
			}
			return nil
		})
		e.more(20)
	}, nil})
	e.end(t)
	if n := sum(t, sealed, `listener\..*\.ssl\.handshake$`); n == 0 {
		t.Error("the service was not called by TLS")
	}
}

// sealed adds an application behind an Envoy that asks for TLS, with the certificate of a
// folder, and has front trust an authority where it calls that listener's port.
func (e *edits) sealed(dir, trusted string) *meshtest.Proxy {
	e.t.Helper()
	bind := meshtest.Address(e.t)
	e.plane.Put(e.t, "/meshes/test/virtualNodes", fmt.Sprintf(
		`{"virtualNodeName":"sealed","spec":{"listeners":[{"portMapping":{"port":%d,"protocol":"http"},"tls":{"mode":"STRICT","certificate":`+
			`{"file":{"certificateChain":"%s/sealed.crt","privateKey":"%[2]s/sealed.key"}}}}],"serviceDiscovery":{"dns":{"hostname":%q}}}}`,
		sealedPort, dir, bind))
	e.frontMore = fmt.Sprintf(`,"backendDefaults":{"clientPolicy":{"tls":{"ports":[%d],"validation":{"trust":{"file":{"certificateChain":%q}},`+
		`"subjectAlternativeNames":{"match":{"exact":["localhost"]}}}}}}`, sealedPort, trusted)
	return e.plane.Proxy(e.t, meshtest.ProxyConfig{
		ARN: meshtest.ARN("test", "sealed"), Bind: bind, App: meshtest.Serve(e.t, sealedPort, named("sealed")),
	}).Ready(e.t)
}

// certificates returns what an Envoy says of its certificates.
func certificates(t *testing.T, x *meshtest.Proxy) string {
	t.Helper()
	text, err := x.Admin("/certs")
	if err != nil {
		t.Fatal(err)
	}
	return text
}
