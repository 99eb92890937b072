// Package ca is the certificate authority of workloads: each mesh has one. It makes or
// takes in the authority's root, keeps its private keys sealed in the store, signs the
// requests of agents with names that the server decides, and knows the trust bundle, the
// replacement of roots and what is revoked. DESIGN.md says how.
//
// It imports mesh and store, and the standard library's crypto. It asks HashiCorp Vault,
// where a mesh's root is there, over HTTP.
package ca
