package envoy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// startTLSLoad calls a listener 100 times a second over connections that are kept, and as
// often over new ones.
func (s *tlsStage) startTLSLoad(port int) *load {
	kept := &http.Client{Timeout: deadline, Transport: &http.Transport{TLSClientConfig: s.config(), MaxIdleConnsPerHost: 32}}
	clients := []*http.Client{kept, s.httpsClient(s.config())}
	address := "https://" + s.at(port) + "/"
	return startLoad(s.t, func(n int) (int, string, error) { return meshtest.Get(clients[n%2], address) })
}

// keptConnection is a connection with TLS that is used again and again.
type keptConnection struct {
	*tls.Conn
	in *bufio.Reader
}

// request makes a request over the connection.
func (c *keptConnection) request() error {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: target\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}

// TestCertificateFilesAreReplaced replaces a certificate's files under load, one by one
// and moved into place, as tools do that renew certificates.
func TestCertificateFilesAreReplaced(t *testing.T) {
	t.Parallel()
	s := newTLSStage(t)
	s.serveHTTP(strictPort, false, version)
	s.define("", listener(strictPort, "http", s.asks("STRICT", "")))
	s.start(nil)
	s.replaced(t, "first", func(name string) {
		s.ca.WriteLeaf(t, s.dir, "target", meshtest.Leaf{Name: name, DNS: []string{targetName}})
	})
}

// TestMountedSecretIsReplaced replaces them as Kubernetes does in a mounted secret: the
// files are links into a directory that is itself reached by a link, which is moved.
func TestMountedSecretIsReplaced(t *testing.T) {
	t.Parallel()
	s := newTLSStage(t)
	mount := t.TempDir()
	version0 := func(name string) {
		dir := filepath.Join(mount, "..version-"+name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s.ca.WriteLeaf(t, dir, "tls", meshtest.Leaf{Name: name, DNS: []string{targetName}})
		link := filepath.Join(mount, "..data_tmp")
		if err := os.Symlink(filepath.Base(dir), link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version0("first")
	s.files = meshtest.Files{Cert: filepath.Join(mount, "tls.crt"), Key: filepath.Join(mount, "tls.key")}
	for _, file := range []string{s.files.Cert, s.files.Key} {
		if err := os.Symlink(filepath.Join("..data", filepath.Base(file)), file); err != nil {
			t.Fatal(err)
		}
	}
	s.serveHTTP(strictPort, false, version)
	s.define("", listener(strictPort, "http", s.asks("STRICT", "")))
	s.start(nil)
	s.replaced(t, "first", version0)
}

// replaced replaces the certificate of a listener several times. No request fails, over
// kept connections or new ones; a connection that is open stays so, and new ones see the
// new certificate.
func (s *tlsStage) replaced(t *testing.T, before string, replace func(name string)) {
	t.Helper()
	s.awaitLeaf(strictPort, s.config(), before)
	conn, err := s.handshake(strictPort, s.config())
	if err != nil {
		t.Fatal(err)
	}
	open := &keptConnection{conn, bufio.NewReader(conn)}
	if err := open.request(); err != nil {
		t.Fatal(err)
	}
	l := s.startTLSLoad(strictPort)
	for _, name := range []string{"second", "third", "fourth"} {
		l.more(50)
		replace(name)
		s.awaitLeaf(strictPort, s.config(), name)
		if err := open.request(); err != nil {
			t.Errorf("the connection made before certificate %s: %v", name, err)
		}
	}
	l.more(50)
	l.end(t)
}

// TestTrustFileIsReplaced moves the listener from one authority of its clients to
// another: first both are trusted, then the new one alone.
func TestTrustFileIsReplaced(t *testing.T) {
	t.Parallel()
	s := newTLSStage(t)
	next := meshtest.NewAuthority(t)
	trusted := filepath.Join(s.dir, "clients.crt")
	read := func(a *meshtest.Authority) []byte {
		raw, err := os.ReadFile(a.File)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	meshtest.ReplaceFile(t, trusted, read(s.ca))
	s.serveHTTP(strictPort, false, version)
	s.define("", listener(strictPort, "http", s.asks("STRICT", fmt.Sprintf(`,"validation":{"trust":{"file":{"certificateChain":%q}}}`, trusted))))
	s.start(nil)

	leaf := meshtest.Leaf{Name: "caller", DNS: []string{"caller.test.local"}}
	byOld, byNext := s.config(s.ca.ClientCertificate(t, leaf)), s.config(next.ClientCertificate(t, leaf))
	await := func(what string, old, other bool) {
		t.Helper()
		meshtest.Eventually(t, what, func() error {
			a, b := s.getTLS(strictPort, byOld), s.getTLS(strictPort, byNext)
			if (a.err == nil) != old || (b.err == nil) != other {
				return fmt.Errorf("the old authority's: %v, the new one's: %v", a, b)
			}
			return nil
		})
	}
	await("the first authority is trusted", true, false)
	meshtest.ReplaceFile(t, trusted, append(read(s.ca), read(next)...))
	await("both are trusted", true, true)
	meshtest.ReplaceFile(t, trusted, read(next))
	await("the second is trusted", false, true)
}
