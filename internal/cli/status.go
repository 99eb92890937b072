package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// screen is how wide a line of Status is at most, in characters.
const screen = 80

// statusReport is what Status tells, in the form of its JSON.
type statusReport struct {
	Endpoint string       `json:"endpoint"`
	Region   string       `json:"region"`
	Account  string       `json:"account"`
	Caller   string       `json:"caller"`
	Meshes   []meshStatus `json:"meshes"`
}

type meshStatus struct {
	Mesh    string         `json:"mesh"`
	Owner   string         `json:"meshOwner"`
	Objects map[string]int `json:"objects"`
	// Proxies and Problems are absent where they cannot be known; Unknown says why.
	Proxies  *proxyCounts     `json:"proxies,omitempty"`
	Problems []client.Problem `json:"problems"`
	Unknown  []string         `json:"unknown,omitempty"`

	shared bool
}

type proxyCounts struct {
	Connected int `json:"connected"`
	InSync    int `json:"inSync"`
	NotInSync int `json:"notInSync"`
	Rejected  int `json:"rejected"`
}

// Status prints one screen: the meshes of a scope, or all, with their objects, proxies and
// problems.
func Status(ctx context.Context, s *Session, term Terminal, in Scope, form string) error {
	if err := checkForm(form, FormTable, FormJSON); err != nil {
		return err
	}
	me, err := ask(ctx, s, s.own.GetCallerIdentity, &client.GetCallerIdentityInput{})
	if err != nil {
		return err
	}
	defer s.warnOfMissing(term)
	report := statusReport{Endpoint: s.endpoint, Region: s.Region(), Account: me.Account, Caller: me.ARN, Meshes: []meshStatus{}}
	inv := newInventory(s, 0)
	meshes, err := inv.scopeMeshes(ctx, in)
	if err != nil {
		return err
	}
	for _, m := range meshes {
		one, err := inv.meshStatus(ctx, m)
		if err != nil {
			return err
		}
		one.shared = m.MeshOwner != me.Account
		report.Meshes = append(report.Meshes, one)
	}
	if form == FormJSON {
		return printJSON(term, report)
	}
	report.print(term)
	return nil
}

func (i *inventory) meshStatus(ctx context.Context, m *object) (meshStatus, error) {
	out := meshStatus{Mesh: m.Name, Owner: m.MeshOwner, Objects: map[string]int{}, Problems: []client.Problem{}}
	list, err := i.listAll(ctx, m.Ref, mesh.Kinds...)
	if err != nil {
		return out, err
	}
	for _, o := range list {
		out.Objects[o.Kind.String()]++
	}
	t := i.truthOf(ctx, m.Ref)
	if t.noProxies == nil {
		out.Proxies = countProxies(t.proxies)
	}
	for _, err := range []error{t.noProxies, t.noProblems} {
		if err != nil {
			out.Unknown = append(out.Unknown, err.Error())
		}
	}
	out.Unknown = slices.Compact(out.Unknown)
	out.Problems = append(out.Problems, t.problems...)
	return out, nil
}

func countProxies(proxies []client.Proxy) *proxyCounts {
	c := &proxyCounts{Connected: len(proxies)}
	for _, p := range proxies {
		switch {
		case p.Rejected != "":
			c.Rejected++
		case p.InSync:
			c.InSync++
		default:
			c.NotInSync++
		}
	}
	return c
}

// print writes the screen.
func (r statusReport) print(term Terminal) {
	line := func(format string, args ...any) { term.printf("%s\n", cut(fmt.Sprintf(format, args...))) }
	line("%s, region %s, account %s", r.Endpoint, r.Region, r.Account)
	line("signed in as %s", r.Caller)
	if len(r.Meshes) == 0 {
		term.printf("\nThere is no mesh yet: 'fairlead apply -f FILE' makes one.\n")
	}
	for _, m := range r.Meshes {
		title := "mesh " + m.Mesh
		if m.shared {
			title += ", shared by account " + m.Owner
		}
		term.printf("\n%s\n", term.paint(bold, cut(printable(title))))
		m.print(term)
	}
}

func (m meshStatus) print(term Terminal) {
	var parts []string
	for _, k := range mesh.Kinds {
		if n := m.Objects[k.String()]; n > 0 {
			parts = append(parts, plural(n, kindWords[k], kindsWord(k)))
		}
	}
	if len(parts) == 0 {
		parts = []string{"none"}
	}
	wrap(term, "  objects   ", parts)
	if p := m.Proxies; p != nil {
		text := []string{"none connected"}
		if p.Connected > 0 {
			text = []string{fmt.Sprintf("%d connected", p.Connected), fmt.Sprintf("%d in sync", p.InSync)}
			for _, c := range []struct {
				n    int
				what string
			}{{p.NotInSync, "not in sync"}, {p.Rejected, "rejected their configuration"}} {
				if c.n > 0 {
					text = append(text, fmt.Sprintf("%d %s", c.n, c.what))
				}
			}
		}
		wrap(term, "  proxies   ", text)
	}
	const most = 5
	if n := len(m.Problems); n > 0 {
		wrap(term, "  problems  ", []string{term.paint(red, fmt.Sprint(n))})
		for _, p := range m.Problems[:min(n, most)] {
			term.printf("%s\n", cut(printable("    "+problemLine(p))))
		}
		if n > most {
			term.printf("    and %d more: see 'fairlead problems --mesh %s'\n", n-most, m.Mesh)
		}
	} else if len(m.Unknown) == 0 {
		wrap(term, "  problems  ", []string{"none"})
	}
	for _, u := range m.Unknown {
		term.printf("%s\n", cut(printable("  not known "+u)))
	}
}

// kindWords are what people call the kinds.
var kindWords = map[mesh.Kind]string{
	mesh.KindVirtualNode: "node", mesh.KindVirtualRouter: "router", mesh.KindRoute: "route",
	mesh.KindVirtualService: "service", mesh.KindVirtualGateway: "gateway", mesh.KindGatewayRoute: "gateway route",
	mesh.KindPolicy: "policy",
}

// kindsWord is what people call several objects of a kind.
func kindsWord(k mesh.Kind) string {
	if k == mesh.KindPolicy {
		return "policies"
	}
	return kindWords[k] + "s"
}

// wrap prints a title and parts with commas between them, in as many lines as it takes.
func wrap(term Terminal, title string, parts []string) {
	line := title
	for i, p := range parts {
		if i < len(parts)-1 {
			p += ", "
		}
		if utf8.RuneCountInString(line)+utf8.RuneCountInString(strings.TrimSpace(p)) > screen && strings.TrimSpace(line) != "" {
			term.printf("%s\n", strings.TrimRight(line, " "))
			line = strings.Repeat(" ", utf8.RuneCountInString(title))
		}
		line += p
	}
	term.printf("%s\n", strings.TrimRight(line, " "))
}

// cut shortens a line to the screen.
func cut(s string) string {
	if utf8.RuneCountInString(s) <= screen {
		return s
	}
	return string([]rune(s)[:screen-1]) + "…"
}

// ListProxies prints the connected proxies of a mesh, or of all.
func ListProxies(ctx context.Context, s *Session, term Terminal, in Scope, form string) error {
	if err := checkForm(form, FormTable, FormJSON); err != nil {
		return err
	}
	defer s.warnOfMissing(term)
	meshes, err := newInventory(s, 0).scopeMeshes(ctx, in)
	if err != nil {
		return err
	}
	found := []client.Proxy{}
	for _, m := range meshes {
		list, err := all(ctx, s, s.allProxies, &client.ListProxiesInput{MeshName: m.Mesh, MeshOwner: m.Owner})
		if err != nil {
			return err
		}
		found = append(found, list...)
	}
	if form == FormJSON {
		return printJSON(term, found)
	}
	t := &table{head: []string{"OF", "ADDRESS", "STATE", "ENVOY", "PROTOCOL", "AGE", "REJECTED"}}
	for _, p := range found {
		t.add(shortARN(p.ARN), p.Address, proxyState(p), p.EnvoyVersion, p.Protocol, age(term.now(), p.ConnectedAt), p.Rejected)
	}
	return t.printOr(term, "no proxy is connected")
}

// ListProblems prints the problems of a mesh's configuration, or of all meshes'.
func ListProblems(ctx context.Context, s *Session, term Terminal, in Scope, form string) error {
	if err := checkForm(form, FormTable, FormJSON); err != nil {
		return err
	}
	defer s.warnOfMissing(term)
	meshes, err := newInventory(s, 0).scopeMeshes(ctx, in)
	if err != nil {
		return err
	}
	found := []client.Problem{}
	for _, m := range meshes {
		list, err := all(ctx, s, s.allProblems, &client.ListProblemsInput{MeshName: m.Mesh, MeshOwner: m.Owner})
		if err != nil {
			return err
		}
		found = append(found, list...)
	}
	if form == FormJSON {
		return printJSON(term, found)
	}
	t := &table{head: []string{"OF", "OBJECT", "FIELD", "PROBLEM"}}
	for _, p := range found {
		t.add(shortARN(p.ARN), shortARN(p.Object), p.Field, p.Message)
	}
	return t.printOr(term, "there are no problems")
}

// shortARN returns the part of an ARN that names the object; other texts as they are.
func shortARN(s string) string {
	if parts := strings.SplitN(s, ":", 6); len(parts) == 6 && parts[0] == "arn" {
		return parts[5]
	}
	return s
}

// printOr prints the table, or says on the error output that there is nothing.
func (t *table) printOr(term Terminal, nothing string) error {
	if len(t.rows) == 0 {
		fmt.Fprintln(term.Err, nothing)
		return nil
	}
	t.write(term, "")
	return nil
}
