package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// The variables that name files of the user's own, parts of a bootstrap, in the order
// in which they are merged.
const (
	tracingFile   = "ENVOY_TRACING_CFG_FILE"
	statsFile     = "ENVOY_STATS_CONFIG_FILE"
	sinksFile     = "ENVOY_STATS_SINKS_CFG_FILE"
	resourcesFile = "ENVOY_RESOURCES_CONFIG_FILE"
)

var overlayFiles = []string{tracingFile, statsFile, sinksFile, resourcesFile}

// readOverlays returns the files of the variables, nil for none.
func readOverlays(e *env) map[string]string {
	var files map[string]string
	for _, name := range overlayFiles {
		if v := e.text(name, ""); v != "" {
			if files == nil {
				files = map[string]string{}
			}
			files[name] = v
		}
	}
	return files
}

// Overlay is a file of the user's own.
type Overlay struct {
	Variable, File string
	// Content is what stands in the file, its top-level names as Envoy's documentation
	// spells them (stats_config); nil until Resolve has read it.
	Content map[string]any
}

// loadOverlays reads the files in the order in which they are merged.
func loadOverlays(files map[string]string) ([]Overlay, error) {
	var out []Overlay
	for _, name := range overlayFiles {
		file, ok := files[name]
		if !ok {
			continue
		}
		content, err := readOverlay(file)
		if err == nil && len(content) == 0 && name != resourcesFile {
			err = errors.New("the file is empty")
		}
		if _, ok := content["stats_sinks"]; err == nil && name == sinksFile && !ok {
			err = errors.New("the file has no stats_sinks")
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s %s: %w", name, file, err)
		}
		out = append(out, Overlay{Variable: name, File: file, Content: content})
	}
	return out, nil
}

// readOverlay reads one file of YAML or JSON.
func readOverlay(file string) (map[string]any, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var raw map[string]any
	if err := yaml.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("decoding YAML: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	// By way of JSON, so that what JSON cannot hold is found here and not later.
	text, err := json.Marshal(raw)
	if err != nil {
		return nil, fmt.Errorf("the file holds what JSON cannot: %w", err)
	}
	var content map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&content); err != nil {
		return nil, err
	}
	return snakeKeys(content)
}

// snakeKeys spells the names of a message's fields as protocol buffers do: Envoy takes
// them in either spelling, but not both.
func snakeKeys(m map[string]any) (map[string]any, error) {
	out := make(map[string]any, len(m))
	for name, value := range m {
		snake := snakeCase(name)
		if _, twice := out[snake]; twice {
			return nil, fmt.Errorf("%s is there in both spellings, as %s too; one is allowed", snake, camelCase(snake))
		}
		out[snake] = value
	}
	return out, nil
}

func snakeCase(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsUpper(r) {
			b.WriteByte('_')
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

func camelCase(s string) string {
	words := strings.Split(s, "_")
	for i, w := range words[1:] {
		if w != "" {
			words[i+1] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "")
}

// reserved are the parts of a bootstrap that must stay ours: with others, Envoy would
// be someone else, or could not be drained.
var reserved = []string{"node", "dynamic_resources", "admin"}

// merge lays a file over a bootstrap, by App Mesh's rules: tracing and stats_config may
// be there once, stats_sinks and the lists of static_resources grow, and anything
// else takes the place of what was there.
func (o Overlay) merge(b map[string]any) error {
	for name, value := range o.Content {
		var err error
		switch _, there := b[name]; {
		case slices.Contains(reserved, name):
			err = fmt.Errorf("%s is for the agent to say; ENVOY_CONFIG_FILE takes a whole bootstrap", name)
		case there && (name == "tracing" || name == "stats_config"):
			err = fmt.Errorf("%s is there twice: another file or variable brings it too", name)
		case name == "stats_sinks":
			b[name], err = grown(b[name], value)
		case name == "static_resources":
			b[name], err = mergeResources(b[name], value)
		default:
			b[name] = value
		}
		if err != nil {
			return fmt.Errorf("merging %s %s into the bootstrap: %w", o.Variable, o.File, err)
		}
	}
	return nil
}

// grown appends a list to another.
func grown(have, more any) (any, error) {
	if more == nil {
		return have, nil
	}
	list, ok := more.([]any)
	if !ok {
		return nil, errors.New("a list is expected")
	}
	before, _ := have.([]any)
	return slices.Concat(before, list), nil
}

func mergeResources(have, more any) (any, error) {
	if more == nil {
		return have, nil
	}
	members, ok := more.(map[string]any)
	if !ok {
		return nil, errors.New("static_resources must hold listeners, clusters or secrets")
	}
	out, _ := have.(map[string]any)
	if out == nil {
		out = map[string]any{}
	}
	for name, value := range members {
		if name != "listeners" && name != "clusters" && name != "secrets" {
			return nil, fmt.Errorf("static_resources.%s is not known, allowed are listeners, clusters and secrets", name)
		}
		var err error
		if out[name], err = grown(out[name], value); err != nil {
			return nil, fmt.Errorf("static_resources.%s: %w", name, err)
		}
	}
	return out, nil
}

// merged lays all files over a bootstrap in JSON.
func merged(text []byte, overlays []Overlay) ([]byte, error) {
	if len(overlays) == 0 {
		return text, nil
	}
	var b map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&b); err != nil {
		return nil, fmt.Errorf("reading our own bootstrap: %w", err)
	}
	for _, o := range overlays {
		if err := o.merge(b); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(b); err != nil {
		return nil, fmt.Errorf("encoding the bootstrap: %w", err)
	}
	return out.Bytes(), nil
}
