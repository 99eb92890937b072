// Package store keeps everything Fairlead remembers in etcd: the objects of every
// mesh, and records such as accounts and access keys. It runs etcd inside the
// process, or talks to an external cluster, through the same code. Names, references,
// the rules between objects, quotas, shares and idempotency tokens hold inside etcd
// transactions, so any number of replicas may write at once.
//
// DESIGN.md beside this file says how keys and values are laid out. The package
// imports mesh and etcd, and no other room.
package store
