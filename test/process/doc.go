// Package process runs Fairlead's programs for tests as users run them, each in a process
// of its own, and calls what they serve: for benchmarks and long runs, which are to know how
// much memory and processor time the server takes by itself. It may import internal/meshtest
// and what any program may; nothing but programs and tests below test/ imports it.
package process
