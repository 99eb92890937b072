package ecs

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// base is a task definition with all that is looked at.
const base = `{
  "family": "shop", "networkMode": "awsvpc", "requiresCompatibilities": ["EC2"],
  "taskRoleArn": "arn:aws:iam::111122223333:role/task", "executionRoleArn": "arn:aws:iam::111122223333:role/execution",
  "proxyConfiguration": {"type": "APPMESH", "containerName": "envoy", "properties": [
    {"name": "IgnoredUID", "value": "1337"}, {"name": "ProxyIngressPort", "value": "15000"}, {"name": "ProxyEgressPort", "value": "15001"}, {"name": "AppPorts", "value": "8080"}]},
  "containerDefinitions": [
    {"name": "app", "image": "app", "dependsOn": [{"containerName": "envoy", "condition": "HEALTHY"}]},
    {"name": "envoy", "image": "aws-appmesh-envoy:v1", "user": "1337", "stopTimeout": 40,
     "environment": [{"name": "APPMESH_RESOURCE_ARN", "value": "mesh/shop/virtualNode/app"}, {"name": "AWS_REGION", "value": "us-east-1"}],
     "mountPoints": [{"sourceVolume": "tmp", "containerPath": "/tmp"}],
     "healthCheck": {"command": ["CMD-SHELL", "curl http://localhost:9901/ready"]}}
  ]
}`

func options() Options {
	return Options{Image: "fairlead-envoy:1", XDSEndpoint: "fairlead:9081", Identity: IdentityKeep}
}

// Each is one change of the task definition or the flags, and what is said of it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	with := func(change func(*Options)) func(*Options) { return change }
	none := with(func(*Options) {})
	initContainer := with(func(o *Options) { o.Intercept = InterceptInit })
	role := with(func(o *Options) {
		o.Identity, o.RoleARN, o.APIEndpoint = "", "arn:aws:iam::000000000001:role/cart", "https://fairlead:9080"
	})
	secrets := with(func(o *Options) {
		o.Identity, o.CredentialsSecret = "", "arn:aws:secretsmanager:us-east-1:111122223333:secret:fairlead"
	})
	for _, c := range []struct {
		from, to string
		change   func(*Options)
		want     string
	}{
		{"", "", with(func(o *Options) { o.Image = "" }), `--image is "", allowed is the image`},
		{"", "", with(func(o *Options) { o.XDSEndpoint = "fairlead" }), `--xds-endpoint is "fairlead", allowed is host:port`},
		{"", "", with(func(o *Options) { o.XDSEndpoint = "http://fairlead:9081" }), `--xds-endpoint is "http://fairlead:9081", allowed is host:port`},
		{"", "", with(func(o *Options) { o.APIEndpoint = "fairlead:9080" }), `--api-endpoint is "fairlead:9080", allowed is a URL`},
		{"", "", with(func(o *Options) { o.CAFile = "ca.pem" }), `--ca-file is "ca.pem", allowed is an absolute path`},
		{"", "", with(func(o *Options) { o.Region = "Ireland" }), `--region is "Ireland", allowed is the name of a region`},
		{"", "", with(func(o *Options) { o.CacheVolume = "a/b" }), `--cache-volume is "a/b", allowed is the name`},
		{"", "", with(func(o *Options) { o.Container = "sidecar" }), `--container is "sidecar", allowed are the task definition's containers: app, envoy`},
		{"", "", with(func(o *Options) { o.Container = "app" }), `proxyConfiguration.containerName is "envoy", and --container is "app"`},
		{"", "", with(func(o *Options) { o.Identity = "" }), "nothing says how the agent comes to credentials"},
		{"", "", with(func(o *Options) { o.Identity = "magic" }), `--identity is "magic", allowed are aws-role, secrets and keep`},
		{"", "", with(func(o *Options) { role(o); o.CredentialsSecret = "x" }), "--role-arn and --credentials-secret are both set"},
		{"", "", with(func(o *Options) { role(o); o.RoleARN = "cart" }), `--role-arn is "cart", allowed is the ARN of a role`},
		{"", "", with(func(o *Options) { role(o); o.APIEndpoint = "" }), "--api-endpoint is missing"},
		{"", "", with(func(o *Options) { role(o); o.Audience = "a b" }), `--identity-audience is "a b"`},
		{"", "", with(func(o *Options) { secrets(o); o.CredentialsSecret = "AKIDEXAMPLE,x" }), "--credentials-secret is"},
		{"", "", with(func(o *Options) { secrets(o); o.CredentialsSecret = "arn:aws:ssm:eu-west-1:111122223333:parameter/one" }), "--credentials-secret is"},
		{"", "", with(func(o *Options) { secrets(o); o.CredentialsSecret += ",a,b" }), "--credentials-secret is"},
		{"", "", with(func(o *Options) { o.Set = []Variable{{"A B", ""}} }), `--set names the variable "A B"`},
		{base, `[]`, none, "the input is a list, allowed is a task definition"},
		{base, `{"taskDefinition": 1}`, none, "taskDefinition is a number, allowed is an object"},
		{base, `{"Resources": {}}`, none, "this is a CloudFormation template"},
		{base, `{"family": "x"}`, none, "containerDefinitions is missing"},
		{base, `{"family": "x", "containerDefinitions": {}}`, none, "containerDefinitions is an object, allowed is a list"},
		{base, `{} {}`, none, "line 1: not the JSON of a task definition: something follows"},
		{base, `{"a": 1, "a": 2}`, none, `"a" is there twice`},
		{base, `{"a": [`, none, "it ends too early"},
		{base, strings.Repeat("[", 100), none, "more than 64 levels"},
		{`"family": "shop"`, `"family": null`, none, "family is missing"},
		{`"name": "app"`, `"names": "app"`, none, "containerDefinitions[0]: name is missing"},
		{`"name": "app"`, `"name": "a b"`, none, `containerDefinitions[0]: name is "a b", allowed are letters`},
		{`"name": "app"`, `"name": "envoy"`, none, `container "envoy": there are two of this name`},
		{`"image": "app"`, `"image": 7`, none, `container "app": image is missing`},
		{`"dependsOn": [{`, `"dependsOn": ["x", {`, none, `container "app": dependsOn[0] is a string, allowed is an object`},
		{`"condition": "HEALTHY"`, `"conditions": "HEALTHY"`, none, `container "app": dependsOn[0] lacks containerName or condition`},
		{`"environment": [{`, `"environment": [{"name": "A", "value": 5}, {`, none, `container "envoy": environment[0] lacks name or value, both of which are strings`},
		{`"environment": [{`, `"environment": [{"name": "AWS_REGION", "value": "x"}, {`, none, `container "envoy": environment names "AWS_REGION" twice`},
		{`"environment": [`, `"environment": {"A": "B"}, "x": [`, none, `container "envoy": environment is an object, allowed is a list`},
		{`"containerName": "envoy", "properties"`, `"containerName": "proxy", "properties"`, none, `proxyConfiguration.containerName is "proxy", allowed are the task definition's containers: app, envoy`},
		{`"type": "APPMESH"`, `"type": "OTHER"`, none, `proxyConfiguration.type is "OTHER", allowed is APPMESH`},
		{`"15001"`, `"15002"`, none, `proxyConfiguration: ProxyEgressPort is "15002", allowed is 15001`},
		{`"IgnoredUID"`, `"IgnoredPID"`, none, "proxyConfiguration: IgnoredUID and IgnoredGID are both missing"},
		{`"user": "1337"`, `"user": "1000"`, none, `container "envoy": user is "1000", and proxyConfiguration ignores IgnoredUID "1337"`},
		{`"APPMESH_RESOURCE_ARN"`, `"APPMESH_RESOURCE"`, none, `container "envoy": environment has none of APPMESH_RESOURCE_ARN`},
		{`"AWS_REGION"`, `"REGION"`, none, `container "envoy": environment has no AWS_REGION`},
		{`"mesh/shop`, `"arn:aws:appmesh:eu-west-1:111122223333:mesh/shop`, with(func(o *Options) { o.Region = "us-east-1" }), `its resource is of region "eu-west-1", and --region is "us-east-1"`},
		{`"user": "1337"`, `"user": "1337", "command": ["sh", "-c", "exec agent"]`, none, `container "envoy": command runs "sh", which is not in the new image`},
		{`"user": "1337"`, `"user": "1337", "entryPoint": [7]`, none, `container "envoy": entryPoint[0] is a number, allowed is a string`},
		{`["CMD-SHELL", "curl http://localhost:9901/ready"]`, `"curl"`, none, `container "envoy": healthCheck.command is a string, allowed is a list of strings`},
		{`{"command": ["CMD-SHELL", "curl http://localhost:9901/ready"]}`, `{}`, none, `container "envoy": healthCheck.command is missing`},
		{`"healthCheck"`, `"healthcheck"`, none, `container "envoy": healthCheck is missing, and container "app" waits for it to be HEALTHY`},
		{`"stopTimeout": 40`, `"stopTimeout": "40"`, none, `container "envoy": stopTimeout is a string, allowed is a whole number`},
		{`{"name": "AWS_REGION"`, `{"name": "LISTENER_DRAIN_WAIT_TIME_S", "value": "soon"}, {"name": "AWS_REGION"`, none, `container "envoy": LISTENER_DRAIN_WAIT_TIME_S is "soon"`},
		{`"containerPath": "/tmp"`, `"containerPath": "/var/lib/fairlead"`, with(func(o *Options) { o.CacheVolume = "cache" }), `container "envoy": mountPoints[0] has volume "tmp" at /var/lib/fairlead`},
		{`"family"`, `"volumes": {}, "family"`, with(func(o *Options) { o.CacheVolume = "cache" }), "volumes is an object, allowed is a list"},
		{`"taskRoleArn"`, `"taskRole"`, role, "taskRoleArn is missing"},
		{`"executionRoleArn"`, `"executionRole"`, secrets, "executionRoleArn is missing"},
		{`["EC2"]`, `["EC2", "FARGATE"]`, initContainer, `requiresCompatibilities has "FARGATE", and --intercept init-container needs the capability NET_ADMIN`},
		{`["EC2"]`, `"EC2"`, initContainer, "requiresCompatibilities is a string, allowed is a list of strings"},
		{`"awsvpc"`, `"bridge"`, initContainer, `networkMode is "bridge", and --intercept init-container needs awsvpc`},
		{`"name": "app"`, `"name": "fairlead-intercept"`, initContainer, `container "fairlead-intercept": has the name`},
		{`"proxyConfiguration"`, `"proxy"`, initContainer, "proxyConfiguration is missing, from which --intercept init-container takes the ports"},
	} {
		t.Run(c.want, func(t *testing.T) {
			t.Parallel()
			o := options()
			c.change(&o)
			if c.from != "" && !strings.Contains(base, c.from) {
				t.Fatalf("the task definition has no %s", c.from)
			}
			r, err := Convert([]byte(strings.Replace(base, c.from, c.to, 1)), o)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v and %v, want %q", r, err, c.want)
			}
		})
	}
}

// TestFound shows by what Envoy's container is found, and where it is not.
func TestFound(t *testing.T) {
	t.Parallel()
	const variable = `"environment": [{"name": "APPMESH_VIRTUAL_NODE_NAME", "value": "mesh/m/virtualNode/n"}]`
	for name, c := range map[string]struct{ containers, container, want string }{
		"image":               {`{"name": "a", "image": "x"}, {"name": "b", "image": "public.ecr.aws/appmesh/aws-appmesh-envoy:v1", ` + variable + `}`, "", "b"},
		"image with a digest": {`{"name": "a", "image": "host:5000/aws-appmesh-envoy@sha256:00", ` + variable + `}`, "", "a"},
		"variable":            {`{"name": "a", "image": "aws-appmesh-envoy-not"}, {"name": "b", "image": "own", ` + variable + `}`, "", "b"},
		"flag":                {`{"name": "a", "image": "x", ` + variable + `}, {"name": "b", "image": "aws-appmesh-envoy", ` + variable + `}`, "a", "a"},
		"none":                {`{"name": "a", "image": "x"}`, "", "none of the containers (a) is App Mesh's Envoy"},
		"two":                 {`{"name": "a", "image": "aws-appmesh-envoy"}, {"name": "b", "image": "aws-appmesh-envoy"}`, "", "containers a, b all look like App Mesh's Envoy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options()
			o.Container, o.Region = c.container, "us-east-1"
			got := ""
			r, err := Convert([]byte(`{"family": "f", "containerDefinitions": [`+c.containers+`]}`), o)
			if err != nil {
				got = err.Error()
			} else {
				got = r.Container
			}
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// What is not understood is kept as it was, in its order, numbers and characters included.
func TestUnknownFieldsStay(t *testing.T) {
	t.Parallel()
	const unknown = `"zebra": {"b": 1.50, "a": [1e3, 18446744073709551616, null, true, "<&> \u2028 ü \u0000"]}, "containerDefinitions": [{"yak": [[]], "name": "app"`
	r, err := Convert([]byte(strings.Replace(base, `"containerDefinitions": [
    {"name": "app"`, unknown, 1)), options())
	if err != nil {
		t.Fatal(err)
	}
	compact := strings.Join(strings.Fields(r.JSON), "")
	for _, want := range []string{`"zebra":{"b":1.50,"a":[1e3,18446744073709551616,null,true,"<&>\u2028ü\u0000"]},"containerDefinitions":[{"yak":[[]],"name":"app"`} {
		if !strings.Contains(compact, want) {
			t.Errorf("%s\nis not in\n%s", want, compact)
		}
	}
	if strings.Contains(r.Diff, "zebra") && strings.Contains(r.Diff, "-    \"zebra") {
		t.Errorf("the difference has what has not changed:\n%s", r.Diff)
	}
}

// Turning from one way to credentials to another leaves nothing of the first.
func TestCredentialsChange(t *testing.T) {
	t.Parallel()
	role := options()
	role.Identity, role.RoleARN, role.APIEndpoint, role.Audience = "", "arn:aws:iam::000000000001:role/cart", "https://fairlead:9080", "mesh"
	secrets := options()
	secrets.Identity, secrets.CredentialsSecret = "", "arn:aws:ssm:us-east-1:111122223333:parameter/id,arn:aws:ssm:us-east-1:111122223333:parameter/key"
	names := func(text string, o Options) (string, string) {
		t.Helper()
		r, err := Convert([]byte(text), o)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, name := range []string{identityVariable, roleVariable, audienceVariable, keyIDVariable, secretVariable} {
			if strings.Contains(r.JSON, `"`+name+`"`) {
				out = append(out, name)
			}
		}
		return r.JSON, strings.Join(out, " ")
	}
	text, got := names(strings.Replace(base, `"environment": [`, `"environment": [{"name": "AWS_ACCESS_KEY_ID", "value": "a"}, {"name": "AWS_SECRET_ACCESS_KEY", "value": "b"},`, 1), secrets)
	if want := "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY"; got != want || strings.Count(text, `"AWS_ACCESS_KEY_ID"`) != 1 {
		t.Errorf("with secrets %s, want %s once:\n%s", got, want, text)
	}
	text, got = names(text, role)
	if want := "FAIRLEAD_IDENTITY FAIRLEAD_ROLE_ARN FAIRLEAD_IDENTITY_AUDIENCE"; got != want {
		t.Errorf("with a role %s, want %s", got, want)
	}
	if _, got = names(text, secrets); got != "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY" {
		t.Errorf("back with secrets %s", got)
	}
}

// What --set says of the rules goes to the container that sets them; ECS does not hear of it.
func TestVariablesOfRules(t *testing.T) {
	t.Parallel()
	const name = "FAIRLEAD_INTERCEPT_WHILE_AWAY"
	for intercept, c := range map[string]struct{ times, notes int }{InterceptPlatform: {1, 1}, InterceptInit: {2, 0}} {
		o := options()
		o.Intercept, o.Set = intercept, []Variable{{name, "wait"}, {"ENVOY_LOG_LEVEL", "warning"}}
		r, err := Convert([]byte(base), o)
		if err != nil {
			t.Fatal(err)
		}
		notes := strings.Count(strings.Join(r.Notes, "\n"), name+" has no effect on the rules that ECS sets")
		if got := strings.Count(r.JSON, `"`+name+`"`); got != c.times || notes != c.notes || strings.Count(r.JSON, `"ENVOY_LOG_LEVEL"`) != 1 {
			t.Errorf("%s: it is set %d times, want %d; %d notes, want %d: %v", intercept, got, c.times, notes, c.notes, r.Notes)
		}
	}
}

// The user follows what ECS leaves alone.
func TestUser(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{`"user": "1337"`, `"IgnoredUID", "value": "1337"`, `"user": "1337"`},
		{`"x": 1`, `"IgnoredUID", "value": "1337"`, ``},
		{`"x": 1`, `"IgnoredUID", "value": "2000"`, `"user": "2000"`},
		{`"x": 1`, `"IgnoredGID", "value": "2000"`, `"user": "1337:2000"`},
		{`"user": "1:2000"`, `"IgnoredGID", "value": "2000"`, `"user": "1:2000"`},
	} {
		r, err := Convert([]byte(strings.NewReplacer(`"user": "1337"`, c[0], `"IgnoredUID", "value": "1337"`, c[1]).Replace(base)), options())
		if err != nil {
			t.Errorf("%v: %v", c, err)
		} else if !strings.Contains(r.JSON, c[2]) || c[2] == "" && strings.Contains(r.JSON, `"user"`) {
			t.Errorf("%v: no such user in\n%s", c, r.JSON)
		}
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	parsed := func(text string) *node {
		n, err := parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const task = `{"containerDefinitions": [{"name": "a", "command": ["--token=S3", "-v"], "image": "secret/image",
		"environment": [{"name": "DB_PASSWORD", "value": "S1"}, {"name": "URL", "value": "redis://:S2@host/0"}, {"name": "KEY_FILE", "value": "/run/key"}, {"name": "KEYS", "value": "3"}],
		"secrets": [{"name": "API_TOKEN", "valueFrom": "arn:aws:secretsmanager:eu:1:secret:x:password::"}],
		"logConfiguration": {"options": {"apikey": "S4", "Name": "datadog"}, "secretOptions": [{"name": "apikey", "valueFrom": "arn:token"}]}}]}`
	before := parsed(task)
	got := strings.Join(strings.Fields(mask(before, nil).json()), "")
	want := `{"containerDefinitions":[{"name":"a","command":["--token=(hidden)","-v"],"image":"secret/image",` +
		`"environment":[{"name":"DB_PASSWORD","value":"(hidden)"},{"name":"URL","value":"redis://:(hidden)@host/0"},{"name":"KEY_FILE","value":"/run/key"},{"name":"KEYS","value":"3"}],` +
		`"secrets":[{"name":"API_TOKEN","valueFrom":"arn:aws:secretsmanager:eu:1:secret:x:password::"}],` +
		`"logConfiguration":{"options":{"apikey":"(hidden)","Name":"datadog"},"secretOptions":[{"name":"apikey","valueFrom":"arn:token"}]}}]}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("masked (-want +got):\n%s", diff)
	}
	// A secret that is another now can be seen to be, and not what it is.
	now := mask(parsed(strings.Replace(task, "S1", "S9", 1)), before).json()
	if !strings.Contains(now, `"(hidden, changed)"`) || strings.Count(now, "changed") != 1 || strings.Contains(now, "S9") {
		t.Errorf("a changed secret is shown as\n%s", now)
	}
}

// TestUnified checks that what a difference says leads from one text to the other.
func TestUnified(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		before, after := randomLines(r), randomLines(r)
		diff := unified("a", "b", strings.Join(before, "\n")+"\n", strings.Join(after, "\n")+"\n")
		if got := apply(t, before, diff); !cmp.Equal(got, after) {
			t.Fatalf("%q with\n%s is %q, want %q", before, diff, got, after)
		}
	}
	// What is too long to be compared line by line is still told rightly.
	long, longer := make([]string, 5000), make([]string, 5000)
	for i := range long {
		long[i], longer[i] = fmt.Sprint(i), fmt.Sprint(i*2+1)
	}
	diff := unified("a", "b", strings.Join(long, "\n"), strings.Join(longer, "\n"))
	if got := apply(t, long, diff); !cmp.Equal(got, longer) {
		t.Error("the difference of long texts is wrong")
	}
	if got := unified("a", "b", "x\n", "x\n"); got != "" {
		t.Errorf("the difference of equal texts is %q", got)
	}
}

func randomLines(r *rand.Rand) []string {
	out := []string{"begin"}
	for range r.IntN(40) {
		out = append(out, fmt.Sprintf("%d", r.IntN(6)))
	}
	return out
}

// apply does what "patch" does, strictly.
func apply(t *testing.T, lines []string, diff string) []string {
	t.Helper()
	var out []string
	at := 0
	for i, line := range strings.Split(strings.TrimSuffix(diff, "\n"), "\n") {
		var from, n, to, m int
		switch {
		case line == "" || i < 2:
		case strings.HasPrefix(line, "@@"):
			if _, err := fmt.Sscanf(line, "@@ -%d,%d +%d,%d @@", &from, &n, &to, &m); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			out = append(out, lines[at:from-1]...)
			at = from - 1
			if len(out) != to-1 {
				t.Fatalf("%q begins at line %d of the new text", line, len(out)+1)
			}
		default:
			if line[0] != '+' {
				if lines[at] != line[1:] {
					t.Fatalf("line %d is %q, and the difference says %q", at, lines[at], line)
				}
				at++
			}
			if line[0] != '-' {
				out = append(out, line[1:])
			}
		}
	}
	return append(out, lines[at:]...)
}

// FuzzConvert: whatever comes in, the answer is a task definition in JSON that converts
// again to itself, or an error of one line.
func FuzzConvert(f *testing.F) {
	f.Add(base, true)
	f.Add(`{"taskDefinition": `+base+`, "tags": [{"key": "a", "value": "b"}]}`, false)
	f.Fuzz(func(t *testing.T, text string, secrets bool) {
		o := options()
		o.Region, o.CacheVolume = "us-east-1", "cache"
		if secrets {
			o.Identity, o.CredentialsSecret = IdentitySecrets, "arn:aws:secretsmanager:us-east-1:111122223333:secret:id"
		}
		r, err := Convert([]byte(text), o)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
			return
		}
		if !json.Valid([]byte(r.JSON)) {
			t.Fatalf("not JSON:\n%s", r.JSON)
		}
		again, err := Convert([]byte(r.JSON), o)
		if err != nil || again.JSON != r.JSON {
			t.Errorf("converted again: %v\n%s", err, cmp.Diff(r.JSON, again.JSON))
		}
	})
}
