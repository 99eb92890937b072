package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
	"github.com/fairlead-mesh/fairlead/test/process"
)

func credentials(id, secret, token string) aws.Credentials {
	return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: token}
}

// temporary is what the calls answer that give temporary credentials.
type temporary struct {
	Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken string }
}

// use lets temporary credentials call, and open a stream.
func (s *soak) use(ctx context.Context, t *tenant, c *load.Process, given temporary) error {
	u := *t
	u.API = process.NewAPI(t.Endpoint, credentials(given.Credentials.AccessKeyID, given.Credentials.SecretAccessKey, given.Credentials.SessionToken))
	defer u.Close()
	if err := u.Call(ctx, http.MethodGet, meshPath, "", nil); err != nil {
		return err
	}
	return s.visit(c, fmt.Sprintf("temporary-%d", s.ids.Add(1)), u.proxies(s.server.XDS, 1, false), nil)
}

// identities makes sessions of a user and of a role, and a call with a key that is gone.
func (s *soak) identities(ctx context.Context, t *tenant, c *load.Process) error {
	name := fmt.Sprintf("some-%d", s.ids.Add(1))
	u, err := s.newUser(ctx, t, name, "*")
	if err != nil {
		return err
	}
	defer u.Close()
	var given temporary
	if err := u.Call(ctx, http.MethodPut, "/v1/sessions", `{"durationSeconds":900}`, &given); err != nil {
		return err
	}
	if err := s.use(ctx, t, c, given); err != nil {
		return err
	}
	s.did.add("sessions", 1)
	role := fmt.Sprintf(`{"roleName":%q,"trustPolicy":{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::%s:user/%s"},"Action":"sts:AssumeRole"}},`+
		`"policies":{"all":{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"appmesh:*","Resource":"*"}}}}`, name, t.account, name)
	if err := t.Call(ctx, http.MethodPut, "/v1/roles", role, nil); err != nil {
		return err
	}
	assume := fmt.Sprintf(`{"roleArn":"arn:aws:iam::%s:role/%s","sessionName":%q}`, t.account, name, name)
	if err := u.Call(ctx, http.MethodPut, "/v1/assumedRoles", assume, &given); err != nil {
		return err
	}
	if err := s.use(ctx, t, c, given); err != nil {
		return err
	}
	s.did.add("roles", 1)
	if err := t.Call(ctx, http.MethodPut, "/v1/roles/"+name+"/revocation", "", nil); err != nil {
		return err
	}
	if err := t.remove(ctx, "/v1/roles/"+name, "/v1/users/"+name+"/accessKeys/"+u.Creds.AccessKeyID, "/v1/users/"+name); err != nil {
		return err
	}
	if u.Call(ctx, http.MethodGet, meshPath, "", nil) == nil {
		return errors.New("a key that is gone may still call")
	}
	return s.pace(ctx, 500*time.Millisecond)
}

// request is a certificate request, the same each time: a key costs more than a signature.
var request = sync.OnceValues(func() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), err
})

// certificates has one issued and, now and then, revoked.
func (s *soak) certificates(ctx context.Context, t *tenant, _ *load.Process) error {
	csr, err := request()
	if err != nil {
		return err
	}
	n := int(s.ids.Add(1))
	body, err := json.Marshal(map[string]string{"csr": csr, "resourceArn": t.arn(fmt.Sprintf("n-%d", n%t.services))})
	if err != nil {
		return err
	}
	var issued struct{ SerialNumber string }
	if err := t.Call(ctx, http.MethodPut, "/v1/meshes/soak/certificates", string(body), &issued); err != nil {
		return err
	}
	s.did.add("certificates", 1)
	if n%10 == 0 || s.did.get("revocations") == 0 {
		if err := t.Call(ctx, http.MethodPut, "/v1/meshes/soak/revokedCertificates/"+issued.SerialNumber, `{"reason":"soak"}`, nil); err != nil {
			return err
		}
		s.did.add("revocations", 1)
	}
	return s.pace(ctx, 2*time.Second)
}
