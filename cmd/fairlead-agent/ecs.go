package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/agent"
	"github.com/fairlead-mesh/fairlead/internal/agent/ecs"
)

const ecsUsage = `fairlead-agent ecs turns an ECS task definition for App Mesh into one that runs with Fairlead.

Usage:
  aws ecs describe-task-definition --task-definition NAME | fairlead-agent ecs FLAG… > new.json
  fairlead-agent ecs FLAG… --diff FILE            show the difference; values that look like secrets are hidden
  aws ecs register-task-definition --cli-input-json file://new.json

Flags:
  --image IMAGE                the image of Envoy with the agent; required
  --xds-endpoint HOST:PORT     where the control plane serves xDS; required
  --api-endpoint URL           where it serves its API, for example https://fairlead.example.com:9080
  --ca-file PATH               PEM file in Envoy's container of the roots to trust; without it the system's
  --region REGION              region of the mesh, where the task definition does not say it
  --role-arn ARN               the role in Fairlead that the task takes on by its role in AWS (--identity aws-role);
                               needs --api-endpoint
  --identity-audience NAME     the server's --identity-audience, where it is not the host of --api-endpoint
  --credentials-secret ARN     instead: an access key of Fairlead in a JSON secret with the members AWS_ACCESS_KEY_ID and
                               AWS_SECRET_ACCESS_KEY, or two ARNs with a comma in between (--identity secrets)
  --identity keep              neither; the task definition says itself how the agent comes to credentials
  --cache-volume NAME          a volume of the task in which the agent keeps what Envoy was sent
  --intercept platform         ECS brings connections to Envoy, as proxyConfiguration says; the default
  --intercept init-container   a container of the task has the kernel do it, with the launch type EC2
  --set NAME=VALUE             one more variable of Envoy's container; may be repeated
  --container NAME             which container is Envoy's, where it is not found by itself
  --diff                       print the difference instead of the new task definition

What a person should know goes to standard error. The page docs/guide/ecs.md has the whole way.
`

// ecsInputLimit is in bytes, and more than ECS takes, by far.
const ecsInputLimit = 1 << 20

// variableFlags collects --set.
type variableFlags struct{ to *[]ecs.Variable }

func (v variableFlags) String() string { return "" }

func (v variableFlags) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return errors.New("allowed is NAME=VALUE")
	}
	*v.to = append(*v.to, ecs.Variable{Name: name, Value: value})
	return nil
}

// ecsCommand converts a task definition and returns the exit code.
func ecsCommand(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var o ecs.Options
	flags := flag.NewFlagSet("ecs", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	for name, to := range map[string]*string{
		"image": &o.Image, "xds-endpoint": &o.XDSEndpoint, "api-endpoint": &o.APIEndpoint, "ca-file": &o.CAFile, "region": &o.Region,
		"identity": &o.Identity, "role-arn": &o.RoleARN, "identity-audience": &o.Audience, "credentials-secret": &o.CredentialsSecret,
		"cache-volume": &o.CacheVolume, "intercept": &o.Intercept, "container": &o.Container,
	} {
		flags.StringVar(to, name, "", "")
	}
	flags.Var(variableFlags{&o.Set}, "set", "")
	diff := flags.Bool("diff", false, "")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, ecsUsage)
		return exitDone
	} else if err != nil {
		return misused(stderr, err.Error())
	}
	if flags.NArg() > 1 {
		return misused(stderr, fmt.Sprintf("ecs takes one file, and %q is a second; flags go before it", flags.Arg(1)))
	}
	if err := o.Check(); err != nil {
		return misused(stderr, err.Error())
	}
	input, err := ecsInput(flags.Arg(0), stdin)
	if err != nil {
		return failed(stderr, err)
	}
	result, err := ecs.Convert(input, o)
	if err != nil {
		return failed(stderr, err)
	}
	notes, err := obeyed(result, o)
	if err != nil {
		return failed(stderr, err)
	}
	for _, note := range append(result.Notes, notes...) {
		fmt.Fprintf(stderr, "note: %s\n", note)
	}
	text := result.JSON
	if *diff {
		text = result.Diff
	}
	if _, err := io.WriteString(stdout, text); err != nil {
		return failed(stderr, fmt.Errorf("writing the task definition: %w", err))
	}
	return exitDone
}

// ecsInput reads the file, or standard input without one or with "-".
func ecsInput(name string, stdin io.Reader) ([]byte, error) {
	var text []byte
	var err error
	if name == "" || name == "-" {
		text, err = io.ReadAll(io.LimitReader(stdin, ecsInputLimit+1))
	} else {
		text, err = os.ReadFile(name)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the task definition: %w", err)
	case len(text) > ecsInputLimit:
		return nil, fmt.Errorf("reading the task definition: it has more than %d bytes", ecsInputLimit)
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errors.New("reading the task definition: there is nothing in it; give a file, or the output of \"aws ecs describe-task-definition\" on standard input")
	}
	return text, nil
}

// placeholder stands for what ECS or the exchange of credentials puts in at run time.
const placeholder = "placeholder"

// obeyed has the agent read the new variables of Envoy's container, as it will when it
// starts: what it refuses is refused now, and what has no effect is worth a note.
func obeyed(r *ecs.Result, o ecs.Options) ([]string, error) {
	if !r.Whole {
		return []string{fmt.Sprintf("container %q has environmentFiles, which are not looked at", r.Container)}, nil
	}
	env := maps.Clone(r.Environment)
	if o.Identity != ecs.IdentityAWSRole {
		env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"] = placeholder, placeholder
	}
	for _, name := range r.Secrets {
		if strings.HasPrefix(name, "APPMESH_") {
			env[name] = "mesh/mesh/virtualNode/node"
		}
	}
	_, warnings, err := agent.ReadSettings(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		return nil, fmt.Errorf("container %q: %w", r.Container, err)
	}
	var notes []string
	for _, w := range warnings {
		notes = append(notes, fmt.Sprintf("container %q: %s has no effect: %s", r.Container, w.Variable, w.Effect))
	}
	return notes, nil
}
