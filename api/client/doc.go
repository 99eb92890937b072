// Package client is the Go client of Fairlead's own API under /v1: accounts, users,
// roles, access keys, quotas, shared meshes, the audit log, and what is known of
// proxies. The App Mesh API itself is called with the AWS SDK.
//
// There is a method for each operation, and for each operation with pages an iterator
// over all of them. Methods, types and codes are generated from api/fairlead.json;
// client.go and call.go beside them sign, send and retry.
//
// The package imports the AWS SDK's core (signing, credentials) and the standard
// library. It imports nothing of Fairlead's own.
package client
