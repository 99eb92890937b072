package rules

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxList is how many entries a list may have: each becomes a rule that the kernel looks
// at for every new connection.
const maxList = 256

// reader reads variables and keeps the first complaint. An empty variable counts as one
// that is not set, because container tools pass empty ones on.
type reader struct {
	lookup func(string) (string, bool)
	shown  map[string]string
	err    error
}

func (r *reader) refuse(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// show returns what the user calls a variable.
func (r *reader) show(name string) string {
	if other, ok := r.shown[name]; ok {
		return other
	}
	return name
}

func (r *reader) text(name string) string {
	v, _ := r.lookup(name)
	return strings.TrimSpace(v)
}

func (r *reader) yes(name string, fallback bool) bool {
	switch v := r.text(name); strings.ToLower(v) {
	case "":
		return fallback
	case "1", "true":
		return true
	case "0", "false":
		return false
	default:
		r.refuse("%s is %q, allowed are 1, true, 0 and false", r.show(name), v)
		return fallback
	}
}

func (r *reader) oneOf(name, fallback string, allowed ...string) string {
	v := r.text(name)
	if v == "" {
		return fallback
	}
	if !slices.Contains(allowed, strings.ToLower(v)) {
		r.refuse("%s is %q, allowed are %s", r.show(name), v, strings.Join(allowed, ", "))
		return fallback
	}
	return strings.ToLower(v)
}

func (r *reader) integer(name string, fallback, low, high int) int {
	v := r.text(name)
	if v == "" {
		return fallback
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		r.refuse("%s is %q, allowed are whole numbers from %d to %d", r.show(name), v, low, high)
		return fallback
	}
	return n
}

func (r *reader) port(name string, fallback int) uint16 {
	return uint16(r.integer(name, fallback, 1, 65535))
}

// list reads a list with commas. Each entry is read by one function; empty ones are
// passed over. The complaint names the entry and what is allowed.
func list[T any](r *reader, name, text, allowed string, limit int, read func(string) (T, bool)) []T {
	var out []T
	for entry := range strings.SplitSeq(text, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		x, ok := read(entry)
		if !ok {
			r.refuse("%s holds %q, allowed are %s", r.show(name), entry, allowed)
			return nil
		}
		out = append(out, x)
	}
	if len(out) > limit {
		if limit == 1 {
			r.refuse("%s is %q, allowed is one of %s", r.show(name), text, allowed)
		} else {
			r.refuse("%s has %d entries, allowed are %d", r.show(name), len(out), limit)
		}
		return nil
	}
	return out
}

// ports reads ports, sorted and each once.
func (r *reader) ports(name string) []uint16 {
	return sorted(list(r, name, r.text(name), "ports from 1 to 65535 with commas in between", maxList, func(s string) (uint16, bool) {
		n, err := strconv.ParseUint(s, 10, 16)
		return uint16(n), err == nil && n > 0
	}))
}

// ids reads numbers of users or groups. The last number of 32 bits means none.
func (r *reader) ids(name string, limit int) []uint32 {
	return list(r, name, r.text(name), "the numbers of users or groups, 0 to 4294967294", limit, func(s string) (uint32, bool) {
		n, err := strconv.ParseUint(s, 10, 32)
		return uint32(n), err == nil && n < 1<<32-1
	})
}

// nets reads addresses and networks of both families, sorted and each once; "none" is an
// empty list where there is a default.
func (r *reader) nets(name, fallback string) []netip.Prefix {
	text := cmp.Or(r.text(name), fallback)
	if strings.EqualFold(text, "none") {
		return nil
	}
	out := list(r, name, text, "IP addresses and networks in CIDR form with commas in between", maxList, func(s string) (netip.Prefix, bool) {
		if a, err := netip.ParseAddr(s); err == nil {
			a = a.Unmap()
			return netip.PrefixFrom(a, a.BitLen()), a.Zone() == ""
		}
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err == nil && !p.Addr().Is4In6()
	})
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// servers reads addresses of name servers, in their order.
func (r *reader) servers(name string) []netip.Addr {
	return once(list(r, name, r.text(name), "IP addresses with commas in between", maxList, func(s string) (netip.Addr, bool) {
		a, err := netip.ParseAddr(s)
		return a.Unmap(), err == nil && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
	}))
}

func sorted(ports []uint16) []uint16 {
	slices.Sort(ports)
	return slices.Compact(ports)
}

// once removes what is there a second time, and keeps the order.
func once[T comparable](in []T) []T {
	var out []T
	for _, x := range in {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}
