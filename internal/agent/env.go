package agent

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// env reads variables and keeps the first complaint. An empty variable counts as
// one that is not set, because container tools pass empty ones on.
type env struct {
	lookup func(string) (string, bool)
	err    error
}

// refuse keeps the first error.
func (e *env) refuse(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(format, args...)
	}
}

// text returns a variable's value, or fallback. The value may be a secret, and so
// the complaint does not show it.
func (e *env) text(name, fallback string) string {
	v, ok := e.lookup(name)
	if !ok || v == "" {
		return fallback
	}
	if !utf8.ValidString(v) || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }) {
		e.refuse("%s holds a line break or another character that cannot be printed, allowed is plain text", name)
		return fallback
	}
	return v
}

// first returns the first of the names that is set, and its value; when none is
// set, the first name and "".
func (e *env) first(names ...string) (name, value string) {
	for _, n := range names {
		if v := e.text(n, ""); v != "" {
			return n, v
		}
	}
	return names[0], ""
}

// integer reads a whole number from low to high.
func (e *env) integer(name string, fallback, low, high int) int {
	v := e.text(name, "")
	if v == "" {
		return fallback
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		e.refuse("%s is %q, allowed are whole numbers from %d to %d", name, v, low, high)
		return fallback
	}
	return n
}

// yes reads a switch: 1 or true, 0 or false.
func (e *env) yes(name string, fallback bool) bool {
	v := e.text(name, "")
	if v == "" {
		return fallback
	}
	on, ok := parseSwitch(v)
	if !ok {
		e.refuse("%s is %q, allowed are 1, true, 0 and false", name, v)
		return fallback
	}
	return on
}

func parseSwitch(v string) (on, ok bool) {
	switch strings.ToLower(v) {
	case "1", "true":
		return true, true
	case "0", "false":
		return false, true
	}
	return false, false
}

// oneOf reads one of a few words, in any case of letters.
func (e *env) oneOf(name, fallback string, allowed ...string) string {
	v := e.text(name, fallback)
	if !slices.Contains(allowed, strings.ToLower(v)) {
		e.refuse("%s is %q, allowed are %s", name, v, strings.Join(allowed, ", "))
		return fallback
	}
	return strings.ToLower(v)
}

// address reads the address of one host: not 0.0.0.0, no multicast, no zone.
func (e *env) address(name string) netip.Addr {
	v := e.text(name, "")
	if v == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(v)
	if err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		e.refuse("%s is %q, allowed is the IP address of one host, for example 127.0.0.2", name, v)
		return netip.Addr{}
	}
	return a.Unmap()
}
