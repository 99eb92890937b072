// Package archtest holds the tests of what no single package can see: which room
// may import which (the table in rooms_test.go), that the linter is told the same,
// that versions agree wherever they stand, and that the pointers in AGENTS.md,
// README.md and docs/design/dependencies.md lead somewhere.
//
// It reads the checkout's own files. It has no code, imports no room, and nothing
// imports it.
package archtest
