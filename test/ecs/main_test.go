//go:build linux

// Package ecs runs task definitions that "fairlead-agent ecs" has converted: a stand-in for
// ECS starts their containers as processes, with the agent as it is built and a real Envoy,
// against a whole control plane, and requests go through the mesh.
package ecs

import (
	"os"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// programVariable names the application that a process of this test binary is.
const programVariable = "FAIRLEAD_TEST_PROGRAM"

func TestMain(m *testing.M) {
	meshtest.Main(m, map[string]func(string) error{programVariable: func(name string) error { return program(name, os.Args[1:]) }})
}
