// Package relay stands between Envoys and the control plane: Envoy asks for its resources
// at a Unix socket, and the relay asks the control plane for them over a connection that
// it signs itself. It keeps a copy of what each Envoy has accepted, in a folder if it is
// given one, so that an Envoy, or a host, that starts while the control plane is away
// serves with what it had.
//
// It passes messages on as they are and looks into no resource. It may import the standard
// library, grpc, the discovery protos and protobuf.
package relay
