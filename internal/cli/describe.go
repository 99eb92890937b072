package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Describe prints all that is known of objects: their settings and tags, what refers to them,
// and which proxies and problems they have.
func Describe(ctx context.Context, s *Session, term Terminal, sel Selection) error {
	inv := newInventory(s, 0)
	if len(sel.Args) < 2 && (len(sel.Args) == 0 || !looksLikeRef(sel.Args[0])) {
		return usagef("a kind and a name are required, for example: node cart --mesh shop")
	}
	objects, _, err := inv.selected(ctx, sel)
	if err != nil {
		return err
	}
	if objects, err = inv.filled(ctx, objects, true); err != nil {
		return err
	}
	for n, o := range objects {
		if n > 0 {
			term.printf("\n")
		}
		if err := inv.describeOne(ctx, term, o); err != nil {
			return err
		}
	}
	return nil
}

func (i *inventory) describeOne(ctx context.Context, term Terminal, o *object) error {
	term.facts(o)
	spec, err := forYAML(o.Spec)
	if err != nil {
		return fmt.Errorf("reading the spec of %s: %w", o, err)
	}
	text, err := toYAML(spec)
	if err != nil {
		return fmt.Errorf("writing the spec of %s: %w", o, err)
	}
	term.section("Spec", lines(text))
	used, err := i.usedBy(ctx, o)
	if err != nil {
		return err
	}
	term.section(map[bool]string{true: "Holds", false: "Used by"}[o.Kind == mesh.KindMesh], used)
	if policy, ok := i.world.specs[o.Ref].(*mesh.PolicySpec); ok && policy.Action.Quota != nil {
		term.section("Usage", i.usageOf(ctx, o))
	}
	i.describeTruth(ctx, term, o)
	return nil
}

// facts prints an object's metadata.
func (t Terminal) facts(o *object) {
	row := func(name, value string) {
		if value != "" {
			t.printf("%-9s %s\n", name+":", printable(value))
		}
	}
	moment := func(at time.Time) string {
		return at.Format("2006-01-02 15:04:05 UTC") + " (" + age(t.now(), at) + " ago)"
	}
	row("Name", o.Name)
	row("Kind", o.Kind.Title())
	if o.Kind != mesh.KindMesh {
		row("Mesh", o.Mesh)
	}
	switch o.Kind.Parent() {
	case mesh.KindVirtualRouter:
		row("Router", o.Parent)
	case mesh.KindVirtualGateway:
		row("Gateway", o.Parent)
	}
	row("ARN", o.ARN)
	row("UID", o.UID)
	row("Owner", o.ResourceOwner)
	if o.MeshOwner != o.ResourceOwner {
		row("Mesh of", o.MeshOwner)
	}
	row("Status", o.Status)
	row("Version", fmt.Sprint(o.Version))
	row("Created", moment(o.CreatedAt))
	row("Updated", moment(o.UpdatedAt))
	var tags []string
	for _, key := range slices.Sorted(maps.Keys(o.Tags)) {
		tags = append(tags, key+": "+o.Tags[key])
	}
	if len(tags) > 0 {
		t.section("Tags", tags)
	}
}

// section prints a title and lines below it; nothing if there are none.
func (t Terminal) section(title string, all []string) {
	if len(all) == 0 {
		return
	}
	t.printf("%s\n", t.paint(bold, title+":"))
	for _, l := range all {
		t.printf("  %s\n", printable(l))
	}
}

func lines(text string) []string { return strings.Split(strings.TrimRight(text, "\n"), "\n") }

// usedBy returns what refers to an object or lives in it; for a mesh, how many objects of
// each kind it holds.
func (i *inventory) usedBy(ctx context.Context, o *object) ([]string, error) {
	if o.Kind == mesh.KindMesh {
		return i.holds(ctx, o)
	}
	var kinds []mesh.Kind
	switch o.Kind {
	case mesh.KindVirtualNode:
		kinds = []mesh.Kind{mesh.KindRoute, mesh.KindVirtualService}
	case mesh.KindVirtualRouter:
		kinds = []mesh.Kind{mesh.KindRoute, mesh.KindVirtualService}
	case mesh.KindVirtualService:
		kinds = []mesh.Kind{mesh.KindVirtualNode, mesh.KindGatewayRoute}
	case mesh.KindVirtualGateway:
		kinds = []mesh.Kind{mesh.KindGatewayRoute}
	default:
		return nil, nil
	}
	if err := i.describeKinds(ctx, o.mesh(), kinds...); err != nil {
		return nil, err
	}
	users := map[Ref]bool{}
	maps.Copy(users, i.world.usedBy[o.Ref])
	for r, spec := range i.world.specs {
		node, ok := spec.(*mesh.VirtualNodeSpec)
		if !ok || o.Kind != mesh.KindVirtualService || r.mesh() != o.mesh() {
			continue
		}
		for _, b := range node.Backends {
			name := b.VirtualService.VirtualServiceName
			users[r] = users[r] || name == o.Name || name == o.ARN
		}
	}
	var out []string
	for _, r := range slices.SortedFunc(maps.Keys(users), compareRefs) {
		if users[r] {
			out = append(out, r.Key.String())
		}
	}
	return out, nil
}

func (i *inventory) holds(ctx context.Context, m *object) ([]string, error) {
	list, err := i.listAll(ctx, m.Ref, mesh.Kinds...)
	if err != nil {
		return nil, err
	}
	counts := map[mesh.Kind]int{}
	for _, o := range list {
		counts[o.Kind]++
	}
	var out []string
	for _, k := range mesh.Kinds {
		if counts[k] > 0 {
			out = append(out, plural(counts[k], kindWords[k], kindsWord(k)))
		}
	}
	return out, nil
}

// mostUsage is how many keys of a quota are listed.
const mostUsage = 20

// usageOf returns what was used of a quota, by those that used most, or why it is not known.
func (i *inventory) usageOf(ctx context.Context, o *object) []string {
	in := &client.DescribeQuotaUsageInput{MeshName: o.Mesh, MeshOwner: o.MeshOwner, PolicyName: o.Name, Limit: 100}
	usage, err := ask(ctx, i.Session, i.own.DescribeQuotaUsage, in)
	if err != nil {
		return []string{"not known: " + err.Error()}
	}
	keys := usage.Keys
	for usage.NextToken != "" {
		in.NextToken = usage.NextToken
		if usage, err = ask(ctx, i.Session, i.own.DescribeQuotaUsage, in); err != nil {
			return []string{"not known: " + err.Error()}
		}
		keys = append(keys, usage.Keys...)
	}
	const form = "2006-01-02 15:04:05"
	out := []string{fmt.Sprintf("from %s to %s UTC", usage.BeginsAt.Format(form), usage.EndsAt.Format(form))}
	slices.SortStableFunc(keys, func(a, b client.QuotaKeyUsage) int { return b.Used - a.Used })
	for n, k := range keys {
		if n == mostUsage {
			out = append(out, fmt.Sprintf("and %d others", len(keys)-n))
			break
		}
		line := fmt.Sprintf("%d used, %d left", k.Used, k.Left)
		if k.Key != "" {
			line = k.Key + ": " + line
		}
		out = append(out, line)
	}
	if len(keys) == 0 {
		out = append(out, fmt.Sprintf("none used, %d left", usage.Requests))
	}
	return out
}

// describeTruth prints the proxies and problems of an object, or why they are not known.
func (i *inventory) describeTruth(ctx context.Context, term Terminal, o *object) {
	truth := i.truthOf(ctx, o.mesh())
	defer i.warnOfMissing(term)
	var proxies, problems []string
	for _, p := range truth.proxies {
		if p.ARN == o.ARN {
			proxies = append(proxies, proxyLine(p))
		}
	}
	for _, p := range truth.problems {
		if o.Kind == mesh.KindMesh || p.ARN == o.ARN || p.Object == o.ARN || p.Object == o.Key.String() {
			problems = append(problems, problemLine(p))
		}
	}
	if o.Kind == mesh.KindVirtualNode || o.Kind == mesh.KindVirtualGateway {
		if truth.noProxies != nil {
			proxies = []string{"not known: " + truth.noProxies.Error()}
		} else if len(proxies) == 0 {
			proxies = []string{"none is connected"}
		}
		term.section("Proxies", proxies)
	}
	if truth.noProblems != nil {
		problems = []string{"not known: " + truth.noProblems.Error()}
	}
	term.section("Problems", problems)
}

// truth is what a server knows of a mesh's proxies, or why it cannot be known.
type truth struct {
	proxies               []client.Proxy
	problems              []client.Problem
	noProxies, noProblems error
}

func (s *Session) truthOf(ctx context.Context, m Ref) truth {
	var t truth
	t.proxies, t.noProxies = all(ctx, s, s.allProxies, &client.ListProxiesInput{MeshName: m.Mesh, MeshOwner: m.Owner})
	t.problems, t.noProblems = all(ctx, s, s.allProblems, &client.ListProblemsInput{MeshName: m.Mesh, MeshOwner: m.Owner})
	return t
}

// proxyState words how a proxy stands.
func proxyState(p client.Proxy) string {
	switch {
	case p.Rejected != "":
		return "rejected"
	case p.InSync:
		return "in sync"
	}
	return "not in sync"
}

func proxyLine(p client.Proxy) string {
	s := p.Address
	if s == "" {
		s = p.ConnectionID
	}
	s += ": " + proxyState(p)
	if p.EnvoyVersion != "" {
		s += ", Envoy " + p.EnvoyVersion
	}
	if p.Rejected != "" {
		s += ": " + p.Rejected
	}
	return s
}

func problemLine(p client.Problem) string {
	s := shortARN(p.Object)
	if p.Field != "" {
		s = strings.TrimSpace(s + " " + p.Field)
	}
	if s == "" {
		s = shortARN(p.ARN)
	}
	return s + ": " + p.Message
}
