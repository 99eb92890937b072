// Package mesh is Fairlead's model: the types, limits and names of the App Mesh
// API, references between objects, immutable snapshots of a mesh, and views, which
// hold all that one virtual node or gateway needs.
//
// The generated types are the request body, the stored spec and the translator's
// input at once; there is no second model. The package does no I/O and imports the
// standard library and one copy-on-write tree only.
package mesh
