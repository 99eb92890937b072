package envoy

import (
	"regexp"
	"regexp/syntax"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// pathKind says how a path is matched.
type pathKind uint8

// The kinds of path matches.
const (
	pathExact pathKind = iota // the path is the text
	pathUnder                 // the path begins with the text
	pathRegex                 // the path as a whole matches the text
)

// pathMatch is a set of paths. A path is what a request has before the first "?".
type pathMatch struct {
	kind pathKind
	text string
}

// rewriteKind says what becomes of a path.
type rewriteKind uint8

// The kinds of rewrites.
const (
	rewriteNone   rewriteKind = iota
	rewritePrefix             // "from", with which every path begins, becomes "to"
	rewriteWhole              // the path becomes "to"
)

// gatewayPath is a set of paths with what becomes of them.
type gatewayPath struct {
	pathMatch
	rewrite  rewriteKind
	from, to string
	// begins is a further condition: what the path begins with. It is for regular
	// expressions only, whose paths Envoy cannot match in any other way.
	begins string
}

// split returns the paths that a gateway route matches, with the prefix changed to to,
// which ends with "/"; "" changes nothing. The prefix "/x" is for /x and what lies under
// it, and not for /xb. The parts have no path in common.
func split(m pathMatch, to string) []gatewayPath {
	switch {
	case m.kind != pathUnder || to == "" && m.text == "/":
		return []gatewayPath{{pathMatch: m}}
	case strings.HasSuffix(m.text, "/"):
		return []gatewayPath{swap(m.text, to)}
	}
	self := gatewayPath{pathMatch: pathMatch{pathExact, m.text}}
	if to != "" && to != m.text {
		self.rewrite, self.to = rewriteWhole, to
	}
	return []gatewayPath{self, swap(m.text+"/", to)}
}

// swap returns the paths that begin with from, which becomes to; "" changes nothing.
func swap(from, to string) gatewayPath {
	p := gatewayPath{pathMatch: pathMatch{pathUnder, from}}
	if to != "" && to != from {
		p.rewrite, p.from, p.to = rewritePrefix, from, to
	}
	return p
}

// whole returns the paths that a gateway route matches, each changed to one path.
func whole(m pathMatch, to string) []gatewayPath {
	out := split(m, "")
	for i := range out {
		out[i].rewrite, out[i].to = rewriteWhole, to
	}
	return out
}

// specify gives a match the path.
func (p gatewayPath) specify(m *routev3.RouteMatch) {
	switch p.kind {
	case pathExact:
		m.PathSpecifier = &routev3.RouteMatch_Path{Path: p.text}
	case pathUnder:
		m.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: p.text}
	case pathRegex:
		m.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: p.text}}
	}
}

// rewritePath gives an action the rewrite of a path.
func (p gatewayPath) rewritePath(a *routev3.RouteAction) {
	switch {
	case p.rewrite == rewriteNone:
	case p.rewrite == rewriteWhole && p.kind == pathExact:
		a.PrefixRewrite = p.to
	case p.rewrite == rewriteWhole:
		a.RegexRewrite = substitute("^/.*$", p.to)
	case p.kind == pathUnder:
		// Envoy replaces the prefix that it matched, which may be longer than from.
		a.PrefixRewrite = p.to + p.text[len(p.from):]
	default:
		a.RegexRewrite = substitute("^"+regexp.QuoteMeta(p.from), p.to)
	}
}

// substitute replaces what an expression matches in a path by a text.
func substitute(expr, to string) *matcherv3.RegexMatchAndSubstitute {
	return &matcherv3.RegexMatchAndSubstitute{
		Pattern:      &matcherv3.RegexMatcher{Regex: expr},
		Substitution: strings.ReplaceAll(to, `\`, `\\`),
	}
}

// meet returns the paths of p that are in q once they are rewritten: those of the one
// pass that stand for a first pass by p and a second by q. fits is false if there are
// none. exact is false if Envoy has no words for them.
func (p gatewayPath) meet(q pathMatch) (out gatewayPath, fits, exact bool) {
	switch {
	case p.rewrite == rewriteWhole:
		fits, exact = q.has(p.to)
		return p, fits, exact
	case p.kind == pathExact:
		fits, exact = q.has(p.text)
		return p, fits, exact
	case p.kind == pathRegex:
		return p.meetRegex(q)
	}
	to := p.text // what a path that begins with p.text begins with in the second pass
	if p.rewrite == rewritePrefix {
		to = p.to
	}
	switch {
	case q.kind == pathRegex:
		return p.underRegex(q, to)
	case q.kind == pathUnder && strings.HasPrefix(to, q.text):
		return p, true, true
	case !strings.HasPrefix(q.text, to):
		return p, false, true
	}
	p.text += q.text[len(to):]
	if q.kind == pathExact {
		p.kind = pathExact
		if p.rewrite == rewritePrefix {
			p.rewrite, p.from, p.to = rewriteWhole, "", q.text
		}
	}
	return p, true, true
}

// meetRegex is meet for an expression whose paths are not rewritten.
func (p gatewayPath) meetRegex(q pathMatch) (out gatewayPath, fits, exact bool) {
	switch q.kind {
	case pathUnder:
		if q.text != "/" {
			p.begins = q.text
		}
		return p, true, true
	case pathExact:
		fits, exact = p.has(q.text)
		p.pathMatch = q
		return p, fits, exact
	}
	return p, true, p.text == q.text // Envoy matches one expression against a path
}

// underRegex is meet for a prefix and an expression: the path that begins with p.text
// begins with to when q sees it.
func (p gatewayPath) underRegex(q pathMatch, to string) (out gatewayPath, fits, exact bool) {
	if p.rewrite == rewriteNone {
		if p.text != "/" {
			p.begins = p.text
		}
		p.pathMatch = q
		return p, true, true
	}
	rest, ok := regexAfter(q.text, to)
	if !ok {
		return p, true, false
	}
	p.pathMatch = pathMatch{pathRegex, regexp.QuoteMeta(p.text) + rest}
	_, err := regex(p.text)
	return p, true, err == nil
}

// has reports whether a path is in the set. known is false where that depends on how
// Envoy reads an expression: as characters or as bytes.
func (m pathMatch) has(path string) (is, known bool) {
	switch m.kind {
	case pathExact:
		return path == m.text, true
	case pathUnder:
		return strings.HasPrefix(path, m.text), true
	}
	return matchesRegex(m.text, path)
}

// matchesRegex reports whether an expression matches the whole of a text, and whether
// that is known: not beyond ASCII, which different versions of Envoy read in different
// ways.
func matchesRegex(expr, text string) (is, known bool) {
	if !isASCII(expr) || !isASCII(text) {
		return false, false
	}
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		return false, false
	}
	return re.MatchString(text), true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// regexAfter returns the expression of what follows a text in the strings that an
// expression matches, if all of them begin with the text and that can be seen from how
// the expression begins. What \b sees before it does not change: both the text and what
// stands for it end with "/".
func regexAfter(expr, text string) (rest string, ok bool) {
	if !isASCII(expr) || !isASCII(text) {
		return "", false
	}
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return "", false
	}
	parts := []*syntax.Regexp{re}
	if re.Op == syntax.OpConcat {
		parts = re.Sub
	}
	if len(parts) > 0 && parts[0].Op == syntax.OpBeginText {
		parts = parts[1:] // the whole of a string is matched in any case
	}
	if len(parts) == 0 || parts[0].Op != syntax.OpLiteral || parts[0].Flags&syntax.FoldCase != 0 {
		return "", false
	}
	literal := string(parts[0].Rune)
	if !strings.HasPrefix(literal, text) {
		return "", false
	}
	var b strings.Builder
	b.WriteString(regexp.QuoteMeta(literal[len(text):]))
	for _, p := range parts[1:] {
		b.WriteString("(?:" + p.String() + ")")
	}
	return b.String(), true
}
