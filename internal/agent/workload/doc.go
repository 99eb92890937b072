// Package workload gives an Envoy the certificate of its workload and the trust bundle of
// its mesh, by the Secret Discovery Service at a Unix socket. The key is made here and
// leaves this process only for its Envoy; the control plane signs requests for
// certificates and pushes trust bundles.
//
// Nothing is asked of the control plane before Envoy asks for it. The package may import
// the standard library, grpc, the Envoy protos and internal/agent/private.
package workload
