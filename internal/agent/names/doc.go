// Package names answers an application's DNS questions beside its Envoy. Names of virtual
// services Envoy's DNS filter knows: it is asked first. All else is asked of the host's name
// servers, in the very bytes of the application's question, and answered in theirs, so that
// every type of record, every option and every refusal comes back as it would without a mesh.
//
// It imports the standard library and the DNS message format of golang.org/x/net.
package names
