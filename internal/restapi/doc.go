// Package restapi serves the App Mesh REST API: the 38 operations of the service
// model as one table, one router over it, one generic handler and one mapping of
// errors. What differs between the operations is data in the table.
//
// The table is generated (operations_gen.go) by internal/gen. DESIGN.md beside this
// file says how a request goes through and why; docs/compatibility.md lists where
// the answers are our choice.
//
// The package imports mesh, store and access, and no other room.
package restapi
