package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// mostInput bounds one file of documents, in bytes.
const mostInput = 64 << 20

// value is one document as it was read: what is in it, and where.
type value struct {
	file    string
	line    int
	content any        // of JSON's types, numbers as json.Number
	node    *yaml.Node // for the lines of members; nil in JSON files
}

// at returns "file:line" of a member, by its path as violations spell it, or of the nearest
// thing around it.
func (v *value) at(path string) string {
	line := v.line
	if n := v.node; n != nil {
		for _, step := range pathSteps(path) {
			if n = child(n, step); n == nil {
				break
			}
			line = n.Line
		}
	}
	return fmt.Sprintf("%s:%d", v.file, line)
}

var pathStep = regexp.MustCompile(`[^.\[\]]+|\[\d+\]`)

// pathSteps splits "spec.listeners[0].port" into "spec", "listeners", "[0]", "port".
func pathSteps(path string) []string { return pathStep.FindAllString(path, -1) }

// child returns a member of a YAML mapping or sequence, nil where there is none.
func child(n *yaml.Node, step string) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if i, ok := strings.CutPrefix(step, "["); ok {
		var index int
		if _, err := fmt.Sscanf(i, "%d]", &index); err != nil || n.Kind != yaml.SequenceNode || index >= len(n.Content) {
			return nil
		}
		return n.Content[index]
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == step {
			return n.Content[i+1]
		}
	}
	return nil
}

// readValues reads all documents of files, of the files in folders (*.yaml, *.yml and *.json,
// at any depth, hidden ones aside), and of standard input for "-".
func readValues(in io.Reader, paths []string) ([]*value, error) {
	if len(paths) == 0 {
		return nil, usagef("-f is required: a file, a folder, or - for standard input")
	}
	var out []*value
	for _, p := range paths {
		found, err := readPath(in, p)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no document was found", strings.Join(paths, ", "))
	}
	return out, nil
}

func readPath(in io.Reader, path string) ([]*value, error) {
	if path == "-" {
		return readStream("-", in)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading -f: %w", err)
	}
	if !info.IsDir() {
		return readFile(path)
	}
	var out []*value
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		switch hidden := strings.HasPrefix(d.Name(), ".") && p != path; {
		case err != nil:
			return fmt.Errorf("reading -f: %w", err)
		case d.IsDir() && hidden:
			return fs.SkipDir
		case d.IsDir() || hidden || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(p)):
			return nil
		}
		found, err := readFile(p)
		out = append(out, found...)
		return err
	})
	return out, err
}

func readFile(path string) ([]*value, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading -f: %w", err)
	}
	defer f.Close()
	return readStream(path, f)
}

func readStream(name string, r io.Reader) ([]*value, error) {
	raw, err := io.ReadAll(io.LimitReader(r, mostInput+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", name, err)
	case len(raw) > mostInput:
		return nil, fmt.Errorf("%s is larger than %d MiB", name, mostInput>>20)
	}
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	start := bytes.TrimLeft(raw, " \t\r\n")
	if filepath.Ext(name) == ".json" || name == "-" && len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		return readJSON(name, raw)
	}
	return readYAML(name, raw)
}

// readJSON reads values one after the other. Lists of documents are taken apart.
func readJSON(name string, raw []byte) ([]*value, error) {
	var out []*value
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	inList := false
	for {
		begin := len(raw) - len(bytes.TrimLeft(raw[d.InputOffset():], " \t\r\n,"))
		var err error
		switch {
		case begin < len(raw) && !inList && raw[begin] == '[', inList && !d.More():
			inList = !inList
			_, err = d.Token()
		default:
			v := &value{file: name, line: lineAt(raw, begin)}
			if err = d.Decode(&v.content); err == nil {
				out = append(out, v)
			}
		}
		if errors.Is(err, io.EOF) && !inList {
			return out, nil
		}
		if err != nil {
			return nil, jsonError(name, raw, begin, err)
		}
	}
}

// jsonError says where a file is no JSON.
func jsonError(name string, raw []byte, begin int, err error) error {
	at := begin
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		at = int(syntax.Offset)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		at, err = len(raw), errors.New("it ends too early")
	}
	return fmt.Errorf("%s:%d: is not valid JSON: %w", name, lineAt(raw, at), err)
}

func lineAt(raw []byte, offset int) int {
	return 1 + bytes.Count(raw[:min(offset, len(raw))], []byte("\n"))
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\s*)?line (\d+): `)

// yamlError puts the line that the YAML reader names where an editor finds it.
func yamlError(name string, err error) error {
	text := oneLine(err.Error())
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s:%s: is not valid YAML: %s", name, m[1], text[len(m[0]):])
	}
	return fmt.Errorf("%s: is not valid YAML: %s", name, strings.TrimPrefix(text, "yaml: "))
}

// readYAML reads the documents of a YAML file; empty ones are passed over, lists of documents
// are taken apart.
func readYAML(name string, raw []byte) ([]*value, error) {
	var out []*value
	d := yaml.NewDecoder(bytes.NewReader(raw))
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, yamlError(name, err)
		}
		if len(doc.Content) == 0 {
			continue
		}
		nodes := []*yaml.Node{doc.Content[0]}
		if nodes[0].Kind == yaml.SequenceNode {
			nodes = nodes[0].Content
		}
		for _, n := range nodes {
			if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
				continue
			}
			content, err := fromYAML(n)
			if err != nil {
				return nil, yamlError(name, err)
			}
			out = append(out, &value{file: name, line: n.Line, content: content, node: n})
		}
	}
}

// fromYAML returns what a node holds in JSON's types. Dates stay the text that was written,
// and so do the values of tags.
func fromYAML(n *yaml.Node) (any, error) {
	asText(n, false)
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, err
	}
	if err := onlyJSON(v); err != nil {
		return nil, fmt.Errorf("line %d: %w", n.Line, err)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", n.Line, err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var out any
	return out, d.Decode(&out)
}

// asText makes dates text, and with all every other scalar too.
func asText(n *yaml.Node, all bool) {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!merge" && (all && n.ShortTag() != "!!null" || n.ShortTag() == "!!timestamp") {
		n.Tag = "!!str"
	}
	for i, c := range n.Content {
		tags := n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "tags" && c.Kind == yaml.MappingNode
		asText(c, all || tags)
	}
}

// onlyJSON reports what JSON cannot say.
func onlyJSON(v any) error {
	switch v := v.(type) {
	case map[any]any:
		for key := range v {
			if _, ok := key.(string); !ok {
				return fmt.Errorf("the key %v is not text: write it in quotation marks", key)
			}
		}
	case map[string]any:
		for _, e := range v {
			if err := onlyJSON(e); err != nil {
				return err
			}
		}
	case []any:
		for _, e := range v {
			if err := onlyJSON(e); err != nil {
				return err
			}
		}
	}
	return nil
}
