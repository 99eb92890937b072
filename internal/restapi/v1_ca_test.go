package restapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"
)

// texts are a certificate request, and an authority's certificate and key.
type texts struct{ csr, certificate, key string }

// madeTexts makes them once: they are the same for all tests of the process.
var madeTexts = sync.OnceValues(func() (texts, error) {
	var out texts
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return out, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return out, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return out, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return texts{text("CERTIFICATE REQUEST", csr), text("CERTIFICATE", cert), text("PRIVATE KEY", raw)}, err
})

// certificateTexts puts them into bodies.
func certificateTexts(t testing.TB) *strings.Replacer {
	t.Helper()
	made, err := madeTexts()
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("{csr}", inJSON(made.csr), "{certificate}", inJSON(made.certificate), "{privateKey}", inJSON(made.key))
}

// inJSON returns a text as it stands between the quotes of JSON.
func inJSON(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string
	}
	return string(b[1 : len(b)-1])
}

// What is asked with a private key, or with Vault's secrets, leaves neither in the audit
// log, however it is spelt; nor does a certificate fill it. What a caller names as it
// likes is not hidden by being called so.
func TestAuditOfCertificates(t *testing.T) {
	t.Parallel()
	p := newPlane(t, nil)
	p.must(t, p.admin, "PUT", "/v20190125/meshes", `{"meshName":"shop"}`)
	p.must(t, p.admin, "PUT", "/v20190125/meshes/shop/virtualNodes", `{"virtualNodeName":"cart","spec":{}}`)
	fill := certificateTexts(t)
	imported := fill.Replace(`{"certificate":"{certificate}","privateKey":"{privateKey}"}`)
	p.must(t, p.admin, "PUT", "/v1/meshes/shop/authority/root", imported)
	p.do(t, p.admin, "PUT", "/v1/meshes/shop/authority/rotation", strings.Replace(imported, "privateKey", `private\u004bey`, 1))
	p.do(t, p.admin, "PUT", "/v1/meshes/shop/authority/rotation", `{"vault":{"address":"https://v","mount":"pki","roleId":"r","\u0074oken":"hvs.secret-one","secretId":"secret-two-of-vault"}}`)
	p.must(t, p.admin, "PUT", "/v1/meshes/shop/certificates", fill.Replace(`{"resourceArn":"mesh/shop/virtualNode/cart","csr":"{csr}"}`))
	p.must(t, p.admin, "PUT", "/v1/users", `{"userName":"u","policies":{"token":`+administrator+`}}`)
	log := p.auditLog(t)
	made, err := madeTexts()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{made.key, made.csr} {
		line := strings.Split(text, "\n")[1]
		if strings.Contains(log, line) || strings.Contains(log, line[:30]) {
			t.Errorf("the log has %s", line)
		}
	}
	for _, text := range []string{"secret-one", "secret-two", "certificateChain", "trustBundle"} {
		if strings.Contains(log, text) {
			t.Errorf("the log has %q", text)
		}
	}
	for _, text := range []string{
		`"eventName":"ImportAuthority"`, `"mount":"pki"`, `"policies":{"token":{`,
		`"requestParameters":{"meshName":"shop","resourceArn":"mesh/shop/virtualNode/cart"}`,
		`"uri":"spiffe://fairlead.internal/000000000001/shop/virtualNode/cart"`,
		`"ARN":"arn:aws:appmesh:us-east-1:000000000001:mesh/shop/virtualNode/cart"`,
	} {
		if !strings.Contains(log, text) {
			t.Errorf("the log does not have %s", text)
		}
	}
	if t.Failed() {
		t.Log(log)
	}
}

// prepareCertificates makes what the requests of ownPermissions about certificates are
// about: meshes at each step of a replacement. It returns a certificate's serial number.
func prepareCertificates(t *testing.T, p *plane) (serial string) {
	t.Helper()
	fill := certificateTexts(t)
	p.must(t, p.admin, "PUT", "/v20190125/meshes/shop/virtualNodes", `{"virtualNodeName":"cart","spec":{}}`)
	issued := p.must(t, p.admin, "PUT", "/v1/meshes/shop/certificates", fill.Replace(`{"resourceArn":"mesh/shop/virtualNode/cart","csr":"{csr}"}`))
	var out struct{ SerialNumber string }
	if err := json.Unmarshal([]byte(issued.Body), &out); err != nil {
		t.Fatal(err)
	}
	p.must(t, p.admin, "PUT", "/v1/meshes/shop/revokedWorkloads", `{"resource":"virtualNode/gone"}`)
	for name, steps := range map[string][]string{"empty": nil, "added": {"rotation"}, "given-up": {"rotation"}, "switched": {"rotation", "rotation/switch"}} {
		p.must(t, p.admin, "PUT", "/v20190125/meshes", `{"meshName":"`+name+`"}`)
		for _, step := range steps {
			body := ""
			if step == "rotation/switch" {
				body = `{"force":true}`
			}
			p.must(t, p.admin, "PUT", "/v1/meshes/"+name+"/authority/"+step, body)
		}
	}
	return out.SerialNumber
}
