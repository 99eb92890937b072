//go:build linux

package ecs

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/agent/ecs"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// definition is what the stand-in reads of a task definition.
type definition struct {
	Family                  string
	TaskRoleArn             string
	NetworkMode             string
	RequiresCompatibilities []string
	ProxyConfiguration      *struct {
		ContainerName string
		Properties    []variable
	}
	ContainerDefinitions []containerDefinition
}

type variable struct{ Name, Value, ValueFrom string }

type containerDefinition struct {
	Name, Image, User    string
	Essential            *bool // nil is true
	EntryPoint, Command  []string
	Environment, Secrets []variable
	MountPoints          []struct{ SourceVolume, ContainerPath string }
	DependsOn            []struct{ ContainerName, Condition string }
	HealthCheck          *struct{ Command []string }
	StopTimeout          int
}

// property is one of proxyConfiguration.
func (d definition) property(name string) string {
	for _, p := range d.ProxyConfiguration.Properties {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// agentImage is the image that the converted containers have.
const agentImage = "registry.example.com/fairlead-envoy:1.0"

// original returns a task definition for App Mesh, one of the command's golden cases, in
// the account and region of the tests.
func original(t *testing.T, name string) string {
	t.Helper()
	root, err := meshtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	c := golden.Read(t, filepath.Join(root, "cmd", "fairlead-agent", "testdata", "ecs", name+".txtar"))
	return strings.NewReplacer("111122223333", meshtest.Account, "eu-west-1", meshtest.Region).Replace(c.Section("input.json"))
}

// converted returns it as it runs with Fairlead.
func converted(t *testing.T, name, xds string, change func(*ecs.Options)) definition {
	t.Helper()
	o := ecs.Options{
		Image: agentImage, XDSEndpoint: xds, Region: meshtest.Region, CacheVolume: "cache",
		CredentialsSecret: secretARN(name),
		Set: []ecs.Variable{
			{Name: "FAIRLEAD_XDS_PLAINTEXT", Value: "insecure"}, // inside one machine
			{Name: "ENVOY_CONCURRENCY", Value: "1"},
			{Name: "LISTENER_DRAIN_WAIT_TIME_S", Value: "5"},
		},
	}
	if change != nil {
		change(&o)
	}
	r, err := ecs.Convert([]byte(original(t, name)), o)
	if err != nil {
		t.Fatal(err)
	}
	var d definition
	if err := json.Unmarshal([]byte(r.JSON), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func secretARN(name string) string {
	return "arn:aws:secretsmanager:" + meshtest.Region + ":" + meshtest.Account + ":secret:fairlead/" + name
}
