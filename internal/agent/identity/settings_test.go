package identity

import (
	"strings"
	"testing"
	"time"
)

const role = "arn:aws:iam::000000000001:role/cart"

func TestRead(t *testing.T) {
	t.Parallel()
	type vars map[string]string
	web := vars{"FAIRLEAD_ROLE_ARN": role, "FAIRLEAD_WEB_IDENTITY_TOKEN_FILE": "/token"}
	amazon := vars{"FAIRLEAD_ROLE_ARN": role, "FAIRLEAD_IDENTITY": "aws", "FAIRLEAD_IDENTITY_AUDIENCE": "fairlead.test"}
	with := func(v vars, more vars) vars {
		out := vars{}
		for _, m := range []vars{v, more} {
			for name, value := range m {
				out[name] = value
			}
		}
		return out
	}
	for name, c := range map[string]struct {
		vars vars
		kind Kind
		bad  string // what the refusal says
		want func(Settings) bool
	}{
		"nothing":           {vars{}, File, "", nil},
		"a key":             {vars{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, Keys, "", nil},
		"half a key":        {vars{"AWS_ACCESS_KEY_ID": "a"}, Keys, "", nil}, // whoever reads the key says it
		"a file":            {vars{"AWS_SHARED_CREDENTIALS_FILE": "/f"}, File, "", nil},
		"a key and a file":  {vars{"AWS_ACCESS_KEY_ID": "a", "AWS_SHARED_CREDENTIALS_FILE": "/f"}, Keys, "", nil},
		"a token":           {web, WebIdentity, "", func(s Settings) bool { return s.TokenFile == "/token" && s.RoleARN == role }},
		"a token, by AWS":   {vars{"AWS_ROLE_ARN": role, "AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "AWS_ROLE_SESSION_NAME": "me"}, WebIdentity, "", func(s Settings) bool { return s.TokenFile == "/t" && s.Session == "me" }},
		"Fairlead's first":  {with(web, vars{"AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/x", "AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}), WebIdentity, "", func(s Settings) bool { return s.TokenFile == "/token" && s.RoleARN == role }},
		"AWS's with a key":  {vars{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ROLE_ARN": role, "AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}, Keys, "", nil},
		"a token and a key": {with(web, vars{"AWS_ACCESS_KEY_ID": "a"}), "", "AWS_ACCESS_KEY_ID is set and so is FAIRLEAD_WEB_IDENTITY_TOKEN_FILE; say with FAIRLEAD_IDENTITY which of keys and web-identity is meant", nil},
		"a token and a certificate": {
			with(web, vars{"FAIRLEAD_CLIENT_CERT_FILE": "/c"}), "", "FAIRLEAD_WEB_IDENTITY_TOKEN_FILE is set and so is FAIRLEAD_CLIENT_CERT_FILE", nil,
		},
		"both, and said":      {with(web, vars{"AWS_ACCESS_KEY_ID": "a", "FAIRLEAD_IDENTITY": "Web-Identity"}), WebIdentity, "", nil},
		"said, and not there": {vars{"FAIRLEAD_IDENTITY": "web-identity", "FAIRLEAD_ROLE_ARN": role}, "", "FAIRLEAD_WEB_IDENTITY_TOKEN_FILE is not set", nil},
		"said oddly":          {vars{"FAIRLEAD_IDENTITY": "token"}, "", `FAIRLEAD_IDENTITY is "token", allowed are keys, file, web-identity, certificate, aws`, nil},
		"no role":             {vars{"FAIRLEAD_WEB_IDENTITY_TOKEN_FILE": "/t"}, "", "FAIRLEAD_ROLE_ARN is not set", nil},
		"an odd role":         {with(web, vars{"FAIRLEAD_ROLE_ARN": "cart"}), "", `FAIRLEAD_ROLE_ARN is "cart"`, nil},
		"AWS's odd role":      {vars{"AWS_ROLE_ARN": "x", "AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}, "", `AWS_ROLE_ARN is "x"`, nil},
		"an odd session":      {with(web, vars{"AWS_ROLE_SESSION_NAME": "a b"}), "", `AWS_ROLE_SESSION_NAME is "a b"`, nil},
		"times":               {with(web, vars{"FAIRLEAD_SESSION_SECONDS": "900", "FAIRLEAD_IDENTITY_RENEW_SECONDS": "60"}), WebIdentity, "", func(s Settings) bool { return s.Duration == 15*time.Minute && s.RenewAfter == time.Minute }},
		"odd times":           {with(web, vars{"FAIRLEAD_SESSION_SECONDS": "60"}), "", `FAIRLEAD_SESSION_SECONDS is "60", allowed are whole numbers from 900 to 43200`, nil},
		"a certificate": {
			vars{"FAIRLEAD_ROLE_ARN": role, "FAIRLEAD_CLIENT_CERT_FILE": "/c", "FAIRLEAD_CLIENT_KEY_FILE": "/k"},
			Certificate, "",
			func(s Settings) bool { return s.CertFile == "/c" && s.KeyFile == "/k" },
		},
		"half a certificate": {vars{"FAIRLEAD_ROLE_ARN": role, "FAIRLEAD_CLIENT_KEY_FILE": "/k"}, "", "FAIRLEAD_CLIENT_CERT_FILE and FAIRLEAD_CLIENT_KEY_FILE are needed both", nil},
		"AWS": {amazon, AWS, "", func(s Settings) bool {
			return s.Amazon == Amazon{Audience: "fairlead.test", STS: "https://sts.eu-west-1.amazonaws.com/", Region: "eu-west-1", Metadata: "http://169.254.169.254"}
		}},
		"AWS by its audience":  {with(amazon, vars{"FAIRLEAD_IDENTITY": ""}), AWS, "", nil},
		"AWS in China":         {with(amazon, vars{"FAIRLEAD_STS_REGION": "cn-north-1"}), AWS, "", func(s Settings) bool { return s.Amazon.STS == "https://sts.cn-north-1.amazonaws.com.cn/" }},
		"AWS's key":            {with(amazon, vars{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}), AWS, "", func(s Settings) bool { return s.Amazon.Environment }},
		"ECS":                  {with(amazon, vars{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/1"}), AWS, "", func(s Settings) bool { return s.Amazon.ContainerURL == "http://169.254.170.2/v2/credentials/1" }},
		"EKS":                  {with(amazon, vars{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/t"}), AWS, "", func(s Settings) bool { return s.Amazon.ContainerTokenFile == "/t" }},
		"another host":         {with(amazon, vars{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/x"}), "", "AWS_CONTAINER_CREDENTIALS_FULL_URI is", nil},
		"another host by TLS":  {with(amazon, vars{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "https://192.0.2.1/x"}), AWS, "", nil},
		"no audience":          {with(amazon, vars{"FAIRLEAD_IDENTITY_AUDIENCE": ""}), "", `FAIRLEAD_IDENTITY_AUDIENCE is ""`, nil},
		"nothing of AWS":       {with(amazon, vars{"AWS_EC2_METADATA_DISABLED": "true"}), "", "there is no AWS role", nil},
		"an odd STS":           {with(amazon, vars{"FAIRLEAD_STS_ENDPOINT": "sts.example.com"}), "", "FAIRLEAD_STS_ENDPOINT is", nil},
		"an odd region of STS": {with(amazon, vars{"FAIRLEAD_STS_REGION": "here"}), "", `FAIRLEAD_STS_REGION is "here"`, nil},
	} {
		s, err := Read(func(name string) string { return c.vars[name] }, "eu-west-1")
		switch {
		case c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: got %v, want one line with %q", name, err, c.bad)
		case c.bad == "" && (err != nil || s.Kind != c.kind || c.want != nil && !c.want(s)):
			t.Errorf("%s: got %+v, %v", name, s, err)
		}
	}
}
