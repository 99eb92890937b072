package main

import (
	"fmt"
	"strings"
)

// genV1Client writes the methods of the Go client: one for each operation, and an
// iterator over all pages for each that has pages.
func genV1Client(m *model) string {
	var b strings.Builder
	b.WriteString(ownHeader + "package client\n\nimport (\n\"context\"\n\"iter\"\n)\n\n")
	for _, name := range m.operationNames() {
		op := m.Operations[name]
		m.clientMethod(&b, name, op)
		if list := m.listMember(op); list != "" {
			m.clientPages(&b, name, op, list)
		}
	}
	return b.String()
}

func (m *model) clientMethod(b *strings.Builder, name string, op operation) {
	in, out := op.Input.Shape, op.Output.Shape
	s := m.Shapes[in]
	b.WriteString(comment(name + ": " + op.Doc + " A refusal is an *Error."))
	fmt.Fprintf(b, "func (c *Client) %s(ctx context.Context, in *%s) (*%s, error) {\n", name, in, out)
	fmt.Fprintf(b, "if in == nil {\nin = new(%s)\n}\n", in)
	fmt.Fprintf(b, "r := call{operation: %q, method: %q, repeatable: %t%s}\n", name, op.HTTP.Method, op.Idempotent || op.HTTP.Method == "GET",
		map[bool]string{true: ", unsigned: true"}[op.unsigned()])
	literal := ""
	for segment := range strings.SplitSeq(strings.TrimPrefix(op.HTTP.URI, "/"), "/") {
		label, ok := strings.CutPrefix(segment, "{")
		if !ok {
			literal += "/" + segment
			continue
		}
		label = strings.TrimSuffix(label, "}")
		fmt.Fprintf(b, "r.literal(%q)\nr.label(%q, in.%s)\n", literal, label, goName(label))
		literal = ""
	}
	if literal != "" {
		fmt.Fprintf(b, "r.literal(%q)\n", literal)
	}
	for _, f := range s.at("querystring") {
		method := map[string]string{"string": "queryString", "integer": "queryInt", "timestamp": "queryTime"}[m.Shapes[s.Members[f].Shape].Type]
		fmt.Fprintf(b, "r.%s(%q, in.%s)\n", method, f, goName(f))
	}
	if len(s.at("")) > 0 {
		b.WriteString("r.body = in\n")
	}
	fmt.Fprintf(b, "out := new(%s)\nif err := c.do(ctx, &r, out); err != nil {\nreturn nil, err\n}\nreturn out, nil\n}\n\n", out)
}

func (m *model) clientPages(b *strings.Builder, name string, op operation, list string) {
	elem := m.v1Type(m.Shapes[m.Shapes[op.Output.Shape].Members[list].Shape].Member.Shape, true, clientTypes)
	if elem == "json.RawMessage" {
		elem = "Document"
	}
	all := "All" + exported(list)
	b.WriteString(comment(fmt.Sprintf("%s goes through the pages of %s from where in begins, which is not changed. It ends with the first error.", all, name)))
	fmt.Fprintf(b, "func (c *Client) %s(ctx context.Context, in *%s) iter.Seq2[%s, error] {\n", all, op.Input.Shape, elem)
	fmt.Fprintf(b, "var next %s\nif in != nil {\nnext = *in\n}\n", op.Input.Shape)
	fmt.Fprintf(b, "return pages(func(token string) ([]%s, string, error) {\n", elem)
	fmt.Fprintf(b, "page := next\nif token != \"\" {\npage.NextToken = token\n}\nout, err := c.%s(ctx, &page)\n", name)
	fmt.Fprintf(b, "if err != nil {\nreturn nil, \"\", err\n}\nreturn out.%s, out.NextToken, nil\n})\n}\n\n", goName(list))
}
