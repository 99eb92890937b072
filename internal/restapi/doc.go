// Package restapi serves two APIs on one handler: the App Mesh REST API, the 38
// operations of the service model, and Fairlead's own under /v1; beside them the APIs
// of other rooms that it is given (Target), and what of AWS's STS /v1 has too. All share
// the check of signatures, the rates, the audit log and one mapping of errors.
//
// What differs between the operations of App Mesh is data in a table, which one generic
// handler reads; the table is generated (operations_gen.go) by internal/gen. Those of
// /v1 are methods from typed inputs to typed outputs, which package v1 below this one
// has. DESIGN.md beside this file says how a request goes through and why;
// docs/compatibility.md lists where the answers are our choice.
//
// The package imports api, mesh, store and access, and no other room.
package restapi
