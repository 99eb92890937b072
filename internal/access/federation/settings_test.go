package federation_test

import (
	"encoding/json"
	"strings"
	"testing"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/fairlead-mesh/fairlead/internal/access/federation"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/standin"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	keys := json.RawMessage(standin.NewIssuer(t, jose.RS256, false).KeySet())
	root := sign(t, nil, authorityTemplate("root"))
	oidc := func(change func(*federation.OIDC)) federation.Settings {
		o := &federation.OIDC{Issuer: "https://oidc.example.com/id/1", Audiences: []string{"fairlead"}, CA: root.pem(), KeySet: keys}
		change(o)
		return federation.Settings{OIDC: o}
	}
	issuer := func(s string) federation.Settings { return oidc(func(o *federation.OIDC) { o.Issuer = s }) }
	certificate := func(anchors, lists string) federation.Settings {
		return federation.Settings{Certificate: &federation.Certificate{Anchors: anchors, Lists: lists}}
	}
	aws := func(a federation.AWS) federation.Settings { return federation.Settings{AWS: &a} }
	accounts := []string{"111122223333"}
	for name, c := range map[string]struct {
		settings federation.Settings
		want     string // the provider's name, or after "!" what the refusal says
	}{
		"nothing":              {federation.Settings{}, "!0 of oidc, certificate and aws"},
		"two":                  {federation.Settings{OIDC: &federation.OIDC{}, AWS: &federation.AWS{}}, "!2 of oidc"},
		"an issuer":            {oidc(func(*federation.OIDC) {}), "oidc-provider/oidc.example.com/id/1"},
		"an issuer's port":     {issuer("https://10.0.0.1:6443"), "oidc-provider/10.0.0.1:6443"},
		"no issuer":            {issuer(""), "!oidc.issuer is \"\""},
		"plaintext":            {issuer("http://127.0.0.1:80"), "!allowed is a URL"},
		"a slash":              {issuer("https://oidc.example.com/"), "oidc-provider/oidc.example.com/"},
		"a user":               {issuer("https://a:b@oidc.example.com"), "!allowed is a URL"},
		"a query":              {issuer("https://oidc.example.com?a"), "!allowed is a URL"},
		"an odd path":          {issuer("https://oidc.example.com/a/../b"), "!allowed is a URL"},
		"capitals":             {issuer("https://OIDC.example.com"), "!allowed is a URL"},
		"wildcards":            {issuer("https://oidc.example.com/{x}"), "!allowed is a URL"},
		"no audience":          {oidc(func(o *federation.OIDC) { o.Audiences = nil }), "!oidc.audiences has 0"},
		"an empty audience":    {oidc(func(o *federation.OIDC) { o.Audiences = []string{""} }), "!oidc.audiences has \"\""},
		"no roots":             {oidc(func(o *federation.OIDC) { o.CA = "x" }), "!oidc.caCertificate is not 1 to 20"},
		"a key as root":        {oidc(func(o *federation.OIDC) { o.CA = strings.ReplaceAll(root.pem(), "CERTIFICATE", "PRIVATE KEY") }), "!oidc.caCertificate is not"},
		"no keys":              {oidc(func(o *federation.OIDC) { o.KeySet = json.RawMessage(`{"keys":[]}`) }), "!oidc.keySet has no public key"},
		"a shared secret":      {oidc(func(o *federation.OIDC) { o.KeySet = json.RawMessage(`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`) }), "!oidc.keySet has no public key"},
		"something else":       {oidc(func(o *federation.OIDC) { o.KeySet = json.RawMessage(`{}`) }), "!oidc.keySet is not a JSON Web Key Set"},
		"an authority":         {certificate(root.pem(), root.revoke(t)), "certificate-provider/p"},
		"no anchor":            {certificate("", ""), "!certificate.trustAnchors is not"},
		"text behind":          {certificate(root.pem()+"x", ""), "!certificate.trustAnchors is not"},
		"too many":             {certificate(strings.Repeat(root.pem(), 21), ""), "!certificate.trustAnchors is not 1 to 20"},
		"a list that is none":  {certificate(root.pem(), root.pem()), "!certificate.revocationLists is not"},
		"AWS":                  {aws(federation.AWS{Accounts: accounts, Regions: []string{"eu-west-1"}}), "aws-provider/p"},
		"AWS elsewhere":        {aws(federation.AWS{Accounts: accounts, Endpoints: []string{"https://sts.internal.example:8443/"}}), "aws-provider/p"},
		"no AWS account":       {aws(federation.AWS{}), "!aws.accountIds has 0"},
		"an odd AWS account":   {aws(federation.AWS{Accounts: []string{"1"}}), "!aws.accountIds has \"1\""},
		"an odd region":        {aws(federation.AWS{Accounts: accounts, Regions: []string{"evil.example"}}), "!aws.regions has"},
		"an odd endpoint":      {aws(federation.AWS{Accounts: accounts, Endpoints: []string{"https://sts.example/path"}}), "!aws.endpoints has"},
		"regions and endpoint": {aws(federation.AWS{Accounts: accounts, Regions: []string{"eu-west-1"}, Endpoints: []string{"https://sts.example"}}), "!allowed is one of them"},
	} {
		p, err := federation.New(federation.Config{}).Parse("p", c.settings)
		say, bad := strings.CutPrefix(c.want, "!")
		switch {
		case bad && (err == nil || p != nil || !strings.Contains(err.Error(), say) || strings.ContainsAny(err.Error(), "\r\n")):
			t.Errorf("%s: got %v, want one line with %q", name, err, say)
		case !bad && (err != nil || p.Name() != c.want):
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}
