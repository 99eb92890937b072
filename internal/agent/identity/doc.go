// Package identity is how an agent comes to the credentials that its Envoy signs with: an
// access key that Fairlead issued, or temporary ones of a role, which it exchanges for what
// somebody else vouches for (a token of OpenID Connect, a client certificate, an AWS role)
// and keeps fresh.
//
// Settings are read by Read; New and Run do the work, and Status tells how it stands. The
// package is linked into every agent: it may import the standard library, AWS's signer, the
// client of /v1 and its neighbours backoff, control and private.
package identity
