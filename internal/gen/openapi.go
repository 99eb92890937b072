package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// object is a JSON object. It is written with its members in name order.
type object = map[string]any

// genOpenAPI writes our model as an OpenAPI 3.1 document.
func genOpenAPI(m *model) (string, error) {
	paths := object{}
	for _, name := range m.operationNames() {
		op := m.Operations[name]
		item, ok := paths[op.HTTP.URI].(object)
		if !ok {
			item = object{}
			paths[op.HTTP.URI] = item
		}
		item[strings.ToLower(op.HTTP.Method)] = m.openOperation(name, op)
	}
	doc := object{
		"openapi": "3.1.0",
		"info": object{
			"title":       "Fairlead",
			"version":     "v1",
			"description": m.Doc,
			"license":     object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"servers":  []any{object{"url": "/", "description": "The server that this document comes from."}},
		"security": []any{object{"sigv4": []any{}}},
		"paths":    paths,
		"components": object{
			"schemas": m.openSchemas(),
			"headers": openHeaders(),
			"securitySchemes": object{"sigv4": object{
				"type": "apiKey", "in": "header", "name": "Authorization", "x-amazon-apigateway-authtype": "awsSigv4",
				"description": "AWS Signature Version 4 over the request, with the service `appmesh` and a region that the server serves. " +
					"Requests that are signed with temporary credentials carry their session token in `X-Amz-Security-Token`.",
			}},
		},
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(doc); err != nil {
		return "", fmt.Errorf("writing the OpenAPI document: %w", err)
	}
	return b.String(), nil
}

// openOperation returns an operation of the document.
func (m *model) openOperation(name string, op operation) object {
	in := m.Shapes[op.Input.Shape]
	example := m.Examples[name]
	summary, _, _ := strings.Cut(op.Doc, ". ")
	o := object{
		"operationId": name,
		"summary":     strings.TrimSuffix(summary, "."),
		"description": op.Doc,
		"tags":        []any{tag(op.HTTP.URI)},
		"responses":   m.openResponses(op, example.Output),
	}
	if op.unsigned() {
		o["security"] = []any{}
	}
	var parameters []any
	for _, f := range in.fields() {
		mem := in.Members[f]
		where := map[string]string{"uri": "path", "querystring": "query"}[mem.Location]
		if where == "" {
			continue
		}
		p := object{"name": f, "in": where, "schema": m.openSchema(mem.Shape)}
		if in.required(f) {
			p["required"] = true
		}
		if doc := m.memberDoc(mem); doc != "" {
			p["description"] = doc
		}
		if v, ok := example.Input[f]; ok {
			p["example"] = v
		}
		parameters = append(parameters, p)
	}
	if parameters != nil {
		o["parameters"] = parameters
	}
	if names := in.at(""); len(names) > 0 {
		o["requestBody"] = m.openBody(in, names, example.Input)
	}
	return o
}

// tag returns the group that an operation is shown in: the first segment of its
// path behind /v1, or the one behind the name of a mesh.
func tag(uri string) string {
	segments := strings.Split(strings.TrimPrefix(uri, "/v1/"), "/")
	if segments[0] == "meshes" {
		return segments[2]
	}
	return segments[0]
}

// openBody returns the body of a request: the members that are neither in the path nor
// in the query.
func (m *model) openBody(in shape, names []string, example object) object {
	content := object{"schema": m.openMembers(in, names)}
	body := object{}
	for _, f := range names {
		if v, ok := example[f]; ok {
			body[f] = v
		}
	}
	if len(body) > 0 {
		content["example"] = body
	}
	needed := slices.ContainsFunc(names, in.required)
	return object{"required": needed, "content": object{"application/json": content}}
}

// openResponses returns the answers of an operation: one for each status.
func (m *model) openResponses(op operation, example object) object {
	content := object{"schema": object{"$ref": "#/components/schemas/" + op.Output.Shape}}
	if len(example) > 0 {
		content["example"] = example
	}
	requestID := object{"$ref": "#/components/headers/x-amzn-RequestId"}
	out := object{"200": object{
		"description": "Done.",
		"headers":     object{"x-amzn-RequestId": requestID},
		"content":     object{"application/json": content},
	}}
	byStatus := map[int][]string{}
	for _, e := range op.Errors {
		status := m.Shapes[e.Shape].Error.Status
		byStatus[status] = append(byStatus[status], e.Shape)
	}
	for status, names := range byStatus {
		slices.Sort(names)
		var says []string
		for _, n := range names {
			says = append(says, "`"+n+"`: "+m.Shapes[n].Doc)
		}
		header := object{"schema": object{"type": "string", "enum": names}}
		if status == 403 {
			says = append(says, "A signature that does not hold has one of the codes of AWS's front door, for example `InvalidSignatureException`.")
			header = object{"schema": object{"type": "string"}}
		}
		out[strconv.Itoa(status)] = object{
			"description": strings.Join(says, " "),
			"headers":     object{"x-amzn-RequestId": requestID, "x-amzn-ErrorType": header},
			"content":     object{"application/json": object{"schema": object{"$ref": "#/components/schemas/Error"}}},
		}
	}
	return out
}

func openHeaders() object {
	return object{"x-amzn-RequestId": object{
		"description": "The request's id, which the server's log and the audit log have too.",
		"schema":      object{"type": "string", "format": "uuid"},
	}}
}

// openSchemas returns the structures that answers and bodies are made of.
func (m *model) openSchemas() object {
	var roots []string
	inputs := map[string]bool{}
	for _, op := range m.Operations {
		roots = append(roots, op.Input.Shape, op.Output.Shape)
		inputs[op.Input.Shape] = true
	}
	out := object{"Error": object{
		"type": "object", "description": "Why a request was refused. The header x-amzn-ErrorType has the code.",
		"properties": object{"message": object{"type": "string"}}, "required": []string{"message"},
	}}
	for _, name := range m.reachable(roots...) {
		if !inputs[name] {
			s := m.Shapes[name]
			out[name] = m.openMembers(s, s.fields())
		}
	}
	return out
}

// openMembers returns the schema of an object with some members of a structure.
func (m *model) openMembers(s shape, names []string) object {
	properties, required := object{}, []string{}
	for _, f := range names {
		mem := s.Members[f]
		p := m.openSchema(mem.Shape)
		if mem.Doc != "" {
			p = maps.Clone(p)
			p["description"] = mem.Doc
		}
		properties[f] = p
		if s.required(f) {
			required = append(required, f)
		}
	}
	o := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		o["required"] = required
	}
	if s.Doc != "" {
		o["description"] = s.Doc
	}
	return o
}

// openSchema returns the schema of a shape, structures by reference.
func (m *model) openSchema(name string) object {
	s := m.Shapes[name]
	o := object{}
	bounds := [2]string{}
	switch {
	case s.Document:
		o["type"], o["additionalProperties"] = "object", true
	case s.Type == "structure":
		return object{"$ref": "#/components/schemas/" + name}
	case s.Type == "list":
		o["type"], o["items"] = "array", m.openSchema(s.Member.Shape)
		bounds = [2]string{"minItems", "maxItems"}
	case s.Type == "map":
		o["type"], o["additionalProperties"] = "object", m.openSchema(s.Value.Shape)
		o["propertyNames"] = m.openSchema(s.Key.Shape)
		bounds = [2]string{"minProperties", "maxProperties"}
	case s.Type == "timestamp":
		o["type"], o["format"] = "string", "date-time"
	case s.Type == "long":
		o["type"], o["format"], bounds = "integer", "int64", [2]string{"minimum", "maximum"}
	case s.Type == "double":
		o["type"], bounds = "number", [2]string{"minimum", "maximum"}
	case s.Type == "integer":
		o["type"], bounds = "integer", [2]string{"minimum", "maximum"}
	default:
		o["type"], bounds = s.Type, [2]string{"minLength", "maxLength"}
	}
	if s.Min != nil {
		o[bounds[0]] = *s.Min
	}
	if s.Max != nil {
		o[bounds[1]] = *s.Max
	}
	if s.Pattern != "" {
		o["pattern"] = s.Pattern
	}
	if len(s.Enum) > 0 {
		o["enum"] = s.Enum
	}
	if s.Doc != "" {
		o["description"] = s.Doc
	}
	return o
}
