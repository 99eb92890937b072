package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Forms in which objects are printed.
const (
	FormTable = "table"
	FormWide  = "wide"
	FormJSON  = "json"
	FormYAML  = "yaml"
	FormName  = "name"
)

// checkForm refuses a form that a command does not have.
func checkForm(form string, allowed ...string) error {
	for _, a := range allowed {
		if form == a {
			return nil
		}
	}
	return usagef("--output %q is not allowed: %s", form, strings.Join(allowed, ", "))
}

// shown is an object as a document, which apply takes back.
type shown struct {
	Kind           string            `json:"kind" yaml:"kind"`
	Mesh           string            `json:"mesh,omitempty" yaml:"mesh,omitempty"`
	MeshOwner      string            `json:"meshOwner,omitempty" yaml:"meshOwner,omitempty"`
	VirtualRouter  string            `json:"virtualRouter,omitempty" yaml:"virtualRouter,omitempty"`
	VirtualGateway string            `json:"virtualGateway,omitempty" yaml:"virtualGateway,omitempty"`
	Name           string            `json:"name" yaml:"name"`
	Spec           any               `json:"spec" yaml:"spec"`
	Tags           map[string]string `json:"tags,omitempty" yaml:"tags,omitempty"`
	Metadata       *shownMetadata    `json:"metadata,omitempty" yaml:"-"`
}

// shownMetadata is for machines that read JSON; apply passes over it.
type shownMetadata struct {
	ARN           string    `json:"arn"`
	UID           string    `json:"uid"`
	Version       int64     `json:"version"`
	CreatedAt     time.Time `json:"createdAt"`
	LastUpdatedAt time.Time `json:"lastUpdatedAt"`
	MeshOwner     string    `json:"meshOwner"`
	ResourceOwner string    `json:"resourceOwner"`
	Status        string    `json:"status"`
}

func (o *object) shown() shown {
	out := shown{Kind: o.Kind.Title(), Mesh: o.Mesh, MeshOwner: o.Owner, Name: o.Name, Spec: o.Spec, Tags: o.Tags}
	switch o.Kind {
	case mesh.KindMesh:
		out.Mesh = ""
	case mesh.KindRoute:
		out.VirtualRouter = o.Parent
	case mesh.KindGatewayRoute:
		out.VirtualGateway = o.Parent
	}
	return out
}

// printDocuments writes objects as YAML documents.
func printDocuments(t Terminal, objects []*object) error {
	for i, o := range objects {
		if i > 0 {
			t.printf("---\n")
		}
		text, err := yamlText(o.shown())
		if err != nil {
			return fmt.Errorf("writing %s: %w", o, err)
		}
		t.printf("%s", text)
	}
	return nil
}

// yamlText writes one document.
func yamlText(doc shown) (string, error) {
	if raw, ok := doc.Spec.(json.RawMessage); ok {
		spec, err := forYAML(raw)
		if err != nil {
			return "", err
		}
		doc.Spec = spec
	}
	return toYAML(doc)
}

func toYAML(v any) (string, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return b.String(), e.Close()
}

// forYAML reads JSON so that its numbers are written as numbers.
func forYAML(raw json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return numbers(v), nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for name, e := range v {
			v[name] = numbers(e)
		}
	case []any:
		for i, e := range v {
			v[i] = numbers(e)
		}
	}
	return v
}

// printObjectsJSON writes an object, or a list of them.
func printObjectsJSON(t Terminal, objects []*object, one bool) error {
	list := make([]shown, 0, len(objects))
	for _, o := range objects {
		s := o.shown()
		s.Metadata = &shownMetadata{o.ARN, o.UID, o.Version, o.CreatedAt, o.UpdatedAt, o.MeshOwner, o.ResourceOwner, o.Status}
		list = append(list, s)
	}
	if one && len(list) == 1 {
		return printJSON(t, list[0])
	}
	return printJSON(t, list)
}

// printJSON writes a value with indentation.
func printJSON(t Terminal, v any) error {
	e := json.NewEncoder(t.Out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	return nil
}
