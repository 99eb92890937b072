// Package cli is what the commands of fairlead do that talk to a control plane: apply and
// its relatives, get, shift, status, the administration of accounts, and credentials for
// AWS clients. It is a client of the API like any other and knows nothing of the server.
//
// It may import the mesh types, api/client, the AWS SDK, cobra and a YAML reader. Flags and
// their wiring live in cmd/fairlead.
package cli
