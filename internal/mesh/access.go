package mesh

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// OwnTrust is the name of the secret by which a listener trusts the certificates of its
// mesh's own authority, as validation.trust.sds.secretName has it.
const OwnTrust = "fairlead:trust"

// Allows reports whether a closed default has an exception for what is meant.
func (a *AccessAction) Allows() bool { return a.Rule != nil && *a.Rule == "allow" }

// Denies reports whether requests are refused that are meant.
func (a *AccessAction) Denies() bool { return a.Rule != nil && *a.Rule == "deny" }

// Opens reports whether it is a default that refuses nothing.
func (a *AccessAction) Opens() bool { return a.Default != nil && *a.Default == "open" }

// Closes reports whether it is a default that refuses what no rule allows.
func (a *AccessAction) Closes() bool { return a.Default != nil && *a.Default == "closed" }

// Dry reports whether nothing is really refused.
func (a *AccessAction) Dry() bool { return a.DryRun != nil && *a.DryRun }

// Access is what the access policies among some come to where a request is seen.
type Access struct {
	// Deny refuse what they are for, and DryDeny would.
	Deny, DryDeny []Policy
	// Allow are the exceptions from a closed default.
	Allow []Policy
	// Closed is set where what no policy allows is refused, DryClosed where that is only tried.
	Closed, DryClosed bool
	// ClosedBy and DryClosedBy are the names of the policies that say so.
	ClosedBy, DryClosedBy string
}

// NewAccess sorts the access policies among some that are for one place, given the most
// specific first.
func NewAccess(policies []Policy) *Access {
	a := new(Access)
	var holds, tried *Policy // the defaults; what is tried is before what holds, at one target
	for i, p := range policies {
		access := p.Spec.Action.Access
		switch {
		case access == nil:
		case access.Allows():
			a.Allow = append(a.Allow, p)
		case access.Denies() && access.Dry():
			a.DryDeny = append(a.DryDeny, p)
		case access.Denies():
			a.Deny = append(a.Deny, p)
		case access.Default != nil && access.Dry():
			tried = cmp.Or(tried, &policies[i])
		case access.Default != nil:
			holds = cmp.Or(holds, &policies[i])
		}
	}
	if holds != nil && holds.Spec.Action.Access.Closes() {
		a.Closed, a.ClosedBy = true, holds.Name
	}
	if tried != nil && !a.Closed && (holds == nil || tried.Spec.specificity() >= holds.Spec.specificity()) {
		a.DryClosed, a.DryClosedBy = true, tried.Name
	}
	return a
}

// access checks an access policy's action, and that its default is for all requests.
func (r *rules) access(path string, s *PolicySpec) {
	a := s.Action.Access
	r.exactlyOne(path, choice{"default", a.Default != nil}, choice{"rule", a.Rule != nil})
	if a.DryRun != nil && (a.Allows() || a.Opens()) {
		r.fail(path+".dryRun", "is for rule deny and default closed, which refuse something")
	}
	if a.Default == nil {
		return
	}
	spec := strings.TrimSuffix(path, ".action.access")
	for _, c := range []choice{{"from", s.From != nil}, {"match", s.Match != nil}} {
		if c.given {
			r.fail(spec+"."+c.member, "is not allowed beside action.access.default, which is for all that no rule is for")
		}
	}
}

// clientTrust says what the certificates of a listener's clients prove.
type clientTrust int

const (
	provesNothing clientTrust = iota // no certificate is asked for
	provesOthers                     // what another authority than the mesh's says
	provesOwn                        // what the mesh's authority says
)

// Proves returns what a listener of a virtual node knows of its clients by their certificates:
// whether any authority's names are proven, and whether the mesh's own are.
func (l *Listener) Proves() (names, own bool) {
	t := l.proof()
	return t >= provesOthers, t == provesOwn
}

func (l *Listener) proof() clientTrust {
	if l.Tls == nil || l.Tls.Mode == "DISABLED" || l.Tls.Validation == nil || l.Tls.Validation.Trust == nil {
		return provesNothing
	}
	if sds := l.Tls.Validation.Trust.Sds; sds != nil && sds.SecretName == OwnTrust {
		return provesOwn
	}
	return provesOthers
}

func (l *VirtualGatewayListener) proof() clientTrust {
	if l.Tls == nil || l.Tls.Mode == "DISABLED" || l.Tls.Validation == nil || l.Tls.Validation.Trust == nil {
		return provesNothing
	}
	if sds := l.Tls.Validation.Trust.Sds; sds != nil && sds.SecretName == OwnTrust {
		return provesOwn
	}
	return provesOthers
}

// asks returns what a client's proof must be for an entry of from.
func (c *PolicyClient) asks() (needs clientTrust, member string) {
	switch {
	case c.VirtualNode != nil:
		return provesOwn, "virtualNode"
	case c.VirtualGateway != nil:
		return provesOwn, "virtualGateway"
	case c.Account != nil:
		return provesOwn, "account"
	case c.SpiffeId != nil:
		return provesOthers, "spiffeId"
	}
	return provesNothing, ""
}

// proving is a listener, by its port, with what it knows of its clients.
type proving struct {
	port  int64
	trust clientTrust
}

// provingListeners returns those of a virtual node or gateway that a target's port means, 0
// for all.
func provingListeners(spec any, port int64) (out []proving) {
	switch s := spec.(type) {
	case *VirtualNodeSpec:
		for i := range s.Listeners {
			out = append(out, proving{s.Listeners[i].PortMapping.Port, s.Listeners[i].proof()})
		}
	case *VirtualGatewaySpec:
		for i := range s.Listeners {
			out = append(out, proving{s.Listeners[i].PortMapping.Port, s.Listeners[i].proof()})
		}
	}
	return slices.DeleteFunc(out, func(p proving) bool { return port != 0 && p.port != port })
}

// how says what a listener needs for a proof.
func (t clientTrust) how() string {
	if t == provesOwn {
		return "tls.validation.trust.sds.secretName " + quote(OwnTrust)
	}
	return "tls.validation"
}

// checkProof refuses an access policy that asks who a client is where no listener of its
// target, an object of a key, can know that.
func checkProof(path string, s *PolicySpec, key Key, target any) (out Violations) {
	if s.Action.Access == nil || key.Kind != KindVirtualNode && key.Kind != KindVirtualGateway {
		return nil
	}
	all := provingListeners(target, s.Target.Port())
	for i := range s.From {
		needs, member := s.From[i].asks()
		if needs == provesNothing || slices.ContainsFunc(all, func(p proving) bool { return p.trust >= needs }) {
			continue
		}
		out = append(out, breach(at(path+".from", i)+"."+member, "cannot be proven: %s of %s asks its clients for such a certificate (%s)", whichListener(s.Target.Port()), key, needs.how()))
	}
	return out
}

func whichListener(port int64) string {
	if port == 0 {
		return "no listener"
	}
	return fmt.Sprintf("not the listener on port %d", port)
}

// ipRange checks an address or a range of them.
func (r *rules) ipRange(path, s string) {
	if !r.known(path) {
		return
	}
	p, err := ParseIPRange(s)
	switch {
	case err != nil:
		r.fail(path, "must be an address or a range such as 10.1.0.0/16, %s was given", quote(s))
	case p != p.Masked():
		r.fail(path, "must be zero behind the prefix, as in %s, %s was given", p.Masked(), quote(s))
	}
}

// ParseIPRange reads an address, or a range of them as CIDR spells it.
func ParseIPRange(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err == nil && p.Addr().Is4In6() {
			return p, fmt.Errorf("%s is an IPv4 address in IPv6's form", s)
		}
		return p, err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}
