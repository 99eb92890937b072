package mesh

import "strings"

// Whether no request can be meant by two policies. What cannot be seen to be apart is taken
// to have requests in common.

// apartFrom reports whether no client is in both lists, neither of which means all.
func apartFrom(a, b []PolicyClient) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	for _, x := range a {
		for _, y := range b {
			if !x.apart(y) {
				return false
			}
		}
	}
	return true
}

func (c PolicyClient) apart(o PolicyClient) bool {
	return differ(c.VirtualNode, o.VirtualNode) || differ(c.VirtualGateway, o.VirtualGateway) ||
		c.VirtualNode != nil && o.VirtualGateway != nil || c.VirtualGateway != nil && o.VirtualNode != nil ||
		differ(c.Account, o.Account) || apartHeaders(c.Headers, o.Headers)
}

// differ reports whether both are given and not the same.
func differ(a, b *string) bool { return a != nil && b != nil && *a != *b }

// apartHeaders reports whether one list asks for a value of a header, and the other for
// another one.
func apartHeaders(a, b []HttpRouteHeader) bool {
	for _, x := range a {
		for _, y := range b {
			if strings.EqualFold(x.Name, y.Name) && differ(x.exactly(), y.exactly()) {
				return true
			}
		}
	}
	return false
}

// exactly returns the only value that a header may have; nil if there is more than one.
func (h HttpRouteHeader) exactly() *string {
	if h.Match == nil || h.Invert != nil && *h.Invert {
		return nil
	}
	return h.Match.Exact
}

func (m *PolicyMatch) apart(o *PolicyMatch) bool {
	if m == nil || o == nil {
		return false
	}
	return differ(m.Method, o.Method) || apartHeaders(m.Headers, o.Headers) || apartPaths(m, o)
}

func apartPaths(a, b *PolicyMatch) bool {
	exactA, exactB := a.exactPath(), b.exactPath()
	switch {
	case exactA != nil && exactB != nil:
		return *exactA != *exactB
	case exactA != nil && b.Prefix != nil:
		return !strings.HasPrefix(*exactA, *b.Prefix)
	case exactB != nil && a.Prefix != nil:
		return !strings.HasPrefix(*exactB, *a.Prefix)
	case a.Prefix != nil && b.Prefix != nil:
		return !strings.HasPrefix(*a.Prefix, *b.Prefix) && !strings.HasPrefix(*b.Prefix, *a.Prefix)
	}
	return false
}

func (m *PolicyMatch) exactPath() *string {
	if m.Path == nil {
		return nil
	}
	return m.Path.Exact
}
