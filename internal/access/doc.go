// Package access answers who is calling and what they may do: accounts, users and
// roles with policy documents, access keys, temporary credentials, and the AWS
// Signature Version 4 that callers sign with. It makes the first administrator on an
// empty store.
//
// Everything it knows lies in the store as records and is followed into one
// immutable table in memory, so that a check costs no round trip and a change
// reaches every replica through the watch. Sessions are kept nowhere: their tokens
// say all about them. DESIGN.md beside this file says how the records and the tokens
// look, how policies are read, and how the first credentials are handed over.
//
// The package imports mesh, store, one copy-on-write tree and the standard library,
// and no other room.
package access
