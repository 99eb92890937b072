// Package access answers who is calling and what they may do: accounts, users with
// policy documents, access keys, and the AWS Signature Version 4 that callers sign
// with. It makes the first administrator on an empty store.
//
// Everything it knows lies in the store as records and is followed into one
// immutable table in memory, so that a check costs no round trip and a change
// reaches every replica through the watch. DESIGN.md beside this file says how the
// records look and how the first credentials are handed over.
//
// The package imports mesh, store and the standard library, and no other room.
package access
