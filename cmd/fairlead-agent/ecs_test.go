package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// TestECSGolden: each txtar has the flags, a line each, a task definition, the new one, the
// difference and what standard error has.
func TestECSGolden(t *testing.T) {
	t.Parallel()
	golden.Run(t, "testdata/ecs/*.txtar", func(t *testing.T, c *golden.Case) {
		flags, input := strings.Fields(c.Section("flags")), c.Section("input.json")
		output, notes := convert(t, input, flags...)
		diff, again := convert(t, input, append(flags, "--diff")...)
		if notes != again {
			t.Errorf("with --diff standard error is %q, without %q", again, notes)
		}
		c.Equal(t, "output.json", output)
		c.Equal(t, "diff", diff)
		c.Equal(t, "notes", notes)
		// What is converted is ready: converting it again changes nothing.
		if twice, _ := convert(t, output, flags...); twice != output {
			t.Errorf("converted twice it differs:\n%s", cmp.Diff(output, twice))
		}
		if none, _ := convert(t, output, append(flags, "--diff")...); none != "" {
			t.Errorf("the difference of nothing is:\n%s", none)
		}
		for _, secret := range []string{"hunter2", "correct-horse"} {
			if strings.Contains(input, secret) && !strings.Contains(output, secret) {
				t.Errorf("the new task definition has lost %q", secret)
			}
			if strings.Contains(diff+notes, secret) {
				t.Errorf("the difference shows %q", secret)
			}
		}
	})
}

// convert runs the command.
func convert(t *testing.T, input string, flags ...string) (stdout, stderr string) {
	t.Helper()
	var out, complaint bytes.Buffer
	if code := ecsCommand(flags, strings.NewReader(input), &out, &complaint); code != exitDone {
		t.Fatalf("ecs ends with %d: %s", code, &complaint)
	}
	return out.String(), complaint.String()
}

// The command says what is wrong in one line, and ends with 2 where that is a flag.
func TestECSCommand(t *testing.T) {
	t.Parallel()
	good := []string{"--image", "fairlead-envoy", "--xds-endpoint", "fairlead.example.com:9081", "--identity", "keep"}
	task := func(environment string) string {
		return `{"family": "f", "networkMode": "awsvpc", "containerDefinitions": [{"name": "envoy", "image": "aws-appmesh-envoy", "environment": [
			{"name": "APPMESH_RESOURCE_ARN", "value": "mesh/m/virtualNode/n"}, {"name": "AWS_REGION", "value": "us-east-1"}` + environment + `]}]}`
	}
	for name, c := range map[string]struct {
		flags         []string
		input         string
		code          int
		stdout, notes string // parts
	}{
		"help":            {[]string{"--help"}, "", exitDone, "--credentials-secret ARN", ""},
		"good":            {good, task(""), exitDone, `"value": "fairlead.example.com:9081"`, "has no healthCheck"},
		"standard input":  {append(good, "-"), task(""), exitDone, `"image": "fairlead-envoy"`, "note: "},
		"unknown flag":    {append(good, "--fast"), task(""), exitUsage, "", "-fast"},
		"bad flag":        {append(good, "--intercept", "magic"), task(""), exitUsage, "", `--intercept is "magic", allowed are platform and init-container`},
		"set":             {append(good, "--set", "X"), task(""), exitUsage, "", "allowed is NAME=VALUE"},
		"a secret is set": {append(good, "--set", "DB_PASSWORD=hunter2"), task(""), exitUsage, "", "--set names DB_PASSWORD, which looks like a secret"},
		"two files":       {append(good, "a", "b"), task(""), exitUsage, "", `"b" is a second`},
		"no file":         {append(good, "/none/such"), "", exitFailed, "", "reading the task definition: open /none/such"},
		"nothing":         {good, " \n", exitFailed, "", "there is nothing in it"},
		"no JSON":         {good, "{\n  \"family\": x}", exitFailed, "", "line 2: "},
		// What the agent would refuse at its start is refused here.
		"a variable": {good, task(`, {"name": "ENVOY_LOG_LEVEL", "value": "loud"}`), exitFailed, "", `container "envoy": ENVOY_LOG_LEVEL is "loud"`},
		"no effect":  {good, task(`, {"name": "APPMESH_PREVIEW", "value": "1"}`), exitDone, `"APPMESH_PREVIEW"`, `note: container "envoy": APPMESH_PREVIEW has no effect`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, complaint bytes.Buffer
			if code := ecsCommand(c.flags, strings.NewReader(c.input), &out, &complaint); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if !strings.Contains(out.String(), c.stdout) || c.stdout == "" && out.Len() > 0 {
				t.Errorf("standard output %q, want %q", &out, c.stdout)
			}
			if !strings.Contains(complaint.String(), c.notes) || c.code != exitDone && strings.Count(complaint.String(), "\n") != 1 {
				t.Errorf("standard error %q, want %q, one line", &complaint, c.notes)
			}
			if strings.Contains(out.String()+complaint.String(), "hunter2") {
				t.Error("a secret is shown")
			}
		})
	}
}

// The difference that the guide shows is the one that is printed, of the flags that it shows.
func TestECSGuide(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/guide/ecs.md")
	if err != nil {
		t.Fatal(err)
	}
	c := golden.Read(t, "testdata/ecs/fargate-virtual-node.txtar")
	if want := "```diff\n" + c.Section("diff") + "```\n"; !strings.Contains(string(page), want) {
		t.Errorf("docs/guide/ecs.md does not show what is printed:\n%s", want)
	}
	for line := range strings.Lines(c.Section("flags")) {
		if flag := strings.TrimSpace(line); !strings.Contains(string(page), flag) {
			t.Errorf("docs/guide/ecs.md does not show the flag %s", flag)
		}
	}
}
