// Package federation verifies what others vouch for, so that a workload gets Fairlead's
// credentials without a secret of Fairlead's: a token of OpenID Connect, a client
// certificate, or a request that AWS's own keys signed.
//
// It says who a proof is about, and nothing of what that one may do: which roles trust
// whom is access's. Settings come from the accounts and proofs from anybody, so both are
// bounded and checked here, and what is asked of other hosts goes through one guarded
// HTTP client (client.go).
//
// It imports no room, and of others' modules golang.org/x/sync and a library for OpenID
// Connect with the one for JSON Web Signatures below it. Nothing but the server links it.
package federation
