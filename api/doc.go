// Package api holds the contract of Fairlead's own API, which is served under /v1
// beside the App Mesh API.
//
// The contract is fairlead.json, a service model in the form in which AWS describes its
// services. internal/gen makes from it what the server, the Go client (package client
// below this one) and the OpenAPI document say. It imports the standard library alone.
package api

import _ "embed" // for the document

// OpenAPI is the OpenAPI 3.1 document of /v1, JSON in UTF-8. It must not be changed.
//
//go:embed openapi.json
var OpenAPI []byte
