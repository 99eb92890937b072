// Package audit writes what was asked of the control plane, and by whom: one line of
// JSON for each call, allowed or refused, and for each stream of a proxy, in the shape
// of CloudTrail's records, to a file that rotates. It answers questions about them, too.
//
// A log knows the events that its own process, or one before it on the same file, has
// written. DESIGN.md says how the files look and how they are read.
//
// The package imports mesh, for the errors that callers are told, and no other room.
package audit
