package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// ProxyQuery says which proxies' configuration is wanted.
type ProxyQuery struct {
	// As is the ARN of a virtual node or gateway, or the same from "mesh/" on.
	As string
	// Connection is the id of one proxy's stream, "" for the first that is connected.
	Connection string
	// Type and Name pick resources: the type as Envoy names it, for example "cluster", in
	// any case of letters. What is empty does not matter.
	Type, Name string
	Output     string
}

// resourceTypes are the types that a ProxyQuery may name.
var resourceTypes = []string{"Cluster", "ClusterLoadAssignment", "Secret", "Listener", "RouteConfiguration", "VirtualHost"}

// configuration asks for what a query means.
func (q ProxyQuery) configuration(ctx context.Context, s *Session) (client.Configuration, error) {
	ref, err := ParseRef(q.As)
	if err != nil {
		return client.Configuration{}, err
	}
	if ref.Kind != mesh.KindVirtualNode && ref.Kind != mesh.KindVirtualGateway {
		return client.Configuration{}, usagef("%s is not allowed: a virtual node or virtual gateway, for example mesh/shop/virtualNode/cart", q.As)
	}
	out, err := ask(ctx, s, s.own.DescribeConfiguration, &client.DescribeConfigurationInput{
		MeshName: ref.Mesh, MeshOwner: ref.Owner, Resource: ref.Key.String(), ConnectionID: q.Connection,
	})
	if err != nil {
		return client.Configuration{}, err
	}
	return out.Configuration, nil
}

// shownResource is a resource as XDS prints it.
type shownResource struct {
	Type    string          `json:"type"`
	Name    string          `json:"name"`
	Content json.RawMessage `json:"content"`
}

// XDS prints the Envoy resources that the proxies of a virtual node or gateway are sent.
func XDS(ctx context.Context, s *Session, term Terminal, q ProxyQuery) error {
	if err := checkForm(q.Output, FormTable, FormJSON, FormYAML); err != nil {
		return err
	}
	if q.Type != "" && !slices.ContainsFunc(resourceTypes, q.isType) {
		return usagef("--type %s is not allowed: %s", q.Type, strings.Join(resourceTypes, ", "))
	}
	c, err := q.configuration(ctx, s)
	if err != nil {
		return err
	}
	found := []shownResource{}
	for _, r := range c.Resources {
		if (q.Type == "" || q.isType(r.Type)) && (q.Name == "" || q.Name == r.Name) {
			found = append(found, shownResource{r.Type, r.Name, r.Content})
		}
	}
	switch q.Output {
	case FormJSON:
		return printJSON(term, found)
	case FormYAML:
		raw, err := json.Marshal(found)
		if err != nil {
			return fmt.Errorf("writing the resources: %w", err)
		}
		value, err := forYAML(raw)
		if err != nil {
			return fmt.Errorf("reading the resources: %w", err)
		}
		text, err := toYAML(value)
		if err != nil {
			return fmt.Errorf("writing the resources: %w", err)
		}
		term.printf("%s", text)
		return nil
	}
	t := &table{head: []string{"TYPE", "NAME", "BYTES"}}
	for _, r := range found {
		t.add(r.Type, r.Name, fmt.Sprint(len(r.Content)))
	}
	return t.printOr(term, "there are no such resources")
}

func (q ProxyQuery) isType(name string) bool { return strings.EqualFold(q.Type, name) }

// Explain prints what the configuration of a virtual node's or gateway's proxies does, and
// which objects cause it.
func Explain(ctx context.Context, s *Session, term Terminal, q ProxyQuery) error {
	if err := checkForm(q.Output, FormTable, FormJSON); err != nil {
		return err
	}
	c, err := q.configuration(ctx, s)
	if err != nil {
		return err
	}
	if q.Output == FormJSON {
		return printJSON(term, struct {
			ARN          string               `json:"arn"`
			Placement    string               `json:"placement"`
			ConnectionID string               `json:"connectionId,omitzero"`
			Explanation  []client.Explanation `json:"explanation"`
			Problems     []client.Problem     `json:"problems"`
		}{c.ARN, c.Placement, c.ConnectionID, c.Explanation, c.Problems})
	}
	term.printf("%s\n", term.paint(bold, printable(shortARN(c.ARN))))
	state := "no proxy is connected; shown is one that is " + c.Placement
	if c.ConnectionID != "" {
		state = "proxy " + c.ConnectionID + ", " + c.Placement
	}
	term.printf("%s\n", printable(state))
	before := ""
	for _, e := range c.Explanation {
		line := strings.Repeat("  ", e.Depth) + e.Text
		if e.Object != "" && e.Object != before {
			line += "   ← " + e.Object
		}
		before = e.Object
		term.printf("%s\n", term.fold(printable(line)))
	}
	if len(c.Problems) > 0 {
		term.printf("%s\n", term.paint(red, "problems"))
	}
	for _, p := range c.Problems {
		term.printf("%s\n", term.fold("  "+printable(problemLine(p))))
	}
	return nil
}
