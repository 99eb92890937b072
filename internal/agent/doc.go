// Package agent is what stands beside an Envoy: it reads the App Mesh and
// Fairlead variables of a container or host, makes Envoy's bootstrap from them,
// starts Envoy, passes signals to it, drains it before it ends, and says in plain
// words how it stands with the control plane.
//
// It runs once per workload, so it is small: it may import the standard library,
// the Envoy protos and protobuf, a YAML decoder, AWS's signer, internal/intercept and
// api/client, and neither etcd nor Kubernetes nor the AWS SDK's clients.
package agent
