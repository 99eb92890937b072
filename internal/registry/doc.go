// Package registry holds the instances that make up services: a registry of Fairlead's own
// that speaks the AWS Cloud Map API (awsJson1.1), so that the AWS CLI and the SDKs
// register and discover instances here.
//
// All that is registered is in the store; each replica follows it and keeps every
// instance in memory, for the API's reads and for what translation asks (Instances,
// Subscribe). Instances may be registered with a lease, and are taken out when nobody
// renews it. Instances that were found elsewhere are kept apart (Import). The HTTP side
// is internal/restapi's: it is given Call. DESIGN.md beside this file says how instances
// expire and how the records are laid out; docs/reference/registry.md says for users
// what is served.
//
// Types, the table of operations and the codes of refusals are generated from the
// service model by internal/gen. The package imports mesh and store, and no other room.
package registry
