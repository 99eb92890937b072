package envoy

import (
	"fmt"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// matchText says which requests a route takes.
func matchText(m *routev3.RouteMatch) string {
	var parts []string
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		if p.Prefix != "/" {
			parts = append(parts, "paths that begin with "+p.Prefix)
		}
	case *routev3.RouteMatch_Path:
		parts = append(parts, "path "+p.Path)
	case *routev3.RouteMatch_PathSeparatedPrefix:
		parts = append(parts, "path "+p.PathSeparatedPrefix+" and what is below")
	case *routev3.RouteMatch_SafeRegex:
		parts = append(parts, "paths like "+p.SafeRegex.GetRegex())
	}
	for _, h := range m.GetHeaders() {
		parts = append(parts, headerText(h))
	}
	for _, q := range m.GetQueryParameters() {
		text := "query parameter " + q.Name
		if s := q.GetStringMatch(); s != nil {
			text += " " + stringText(s)
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return "every request"
	}
	return strings.Join(parts, ", ")
}

func headerText(h *routev3.HeaderMatcher) string {
	name := "header " + h.Name
	switch h.Name {
	case ":method":
		name = "method"
	case ":scheme":
		name = "scheme"
	case ":path":
		name = "path"
	case ":authority":
		name = "host"
	}
	if h.InvertMatch {
		name = "not " + name
	}
	if s := h.GetStringMatch(); s != nil {
		return name + " " + stringText(s)
	}
	if r := h.GetRangeMatch(); r != nil {
		return fmt.Sprintf("%s from %d to below %d", name, r.Start, r.End)
	}
	return name
}

func stringText(s *matcherv3.StringMatcher) string {
	switch p := s.MatchPattern.(type) {
	case *matcherv3.StringMatcher_Exact:
		return p.Exact
	case *matcherv3.StringMatcher_Prefix:
		return p.Prefix + "…"
	case *matcherv3.StringMatcher_Suffix:
		return "…" + p.Suffix
	case *matcherv3.StringMatcher_SafeRegex:
		return "like " + p.SafeRegex.GetRegex()
	}
	return "set"
}

// actionText says what becomes of the requests that a route takes.
func actionText(r *routev3.Route) string {
	if d := r.GetDirectResponse(); d != nil {
		return fmt.Sprintf("answered with %d", d.Status)
	}
	a := r.GetRoute()
	if a == nil {
		return "nothing is done"
	}
	parts := []string{"to " + clustersText(a)}
	if rewrite := rewriteText(a); rewrite != "" {
		parts = append(parts, rewrite)
	}
	parts = append(parts, "timeout "+limitText(a.Timeout), "idle "+limitText(a.IdleTimeout))
	if p := a.RetryPolicy; p != nil {
		text := fmt.Sprintf("up to %d retries on %s", p.NumRetries.GetValue(), strings.ReplaceAll(p.RetryOn, ",", ", "))
		if p.PerTryTimeout != nil {
			text += " of " + limitText(p.PerTryTimeout) + " each"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

func clustersText(a *routev3.RouteAction) string {
	w := a.GetWeightedClusters()
	if w == nil {
		return a.GetCluster()
	}
	var total uint64
	for _, c := range w.Clusters {
		total += uint64(c.Weight.GetValue())
	}
	parts := make([]string, len(w.Clusters))
	for i, c := range w.Clusters {
		parts[i] = fmt.Sprintf("%s %.4g %%", c.Name, 100*float64(c.Weight.GetValue())/float64(max(total, 1)))
	}
	return strings.Join(parts, ", ")
}

func rewriteText(a *routev3.RouteAction) string {
	var parts []string
	if a.PrefixRewrite != "" {
		parts = append(parts, "the matched path becomes "+a.PrefixRewrite)
	}
	if a.RegexRewrite != nil {
		parts = append(parts, "the path becomes "+a.RegexRewrite.Substitution)
	}
	if h := a.GetHostRewriteLiteral(); h != "" {
		parts = append(parts, "the host becomes "+h)
	}
	return strings.Join(parts, ", ")
}

func limitText(d *durationpb.Duration) string {
	switch {
	case d == nil:
		return "as Envoy has it"
	case d.AsDuration() == 0:
		return "off"
	}
	return d.AsDuration().String()
}
