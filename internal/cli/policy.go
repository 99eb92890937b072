package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// administrator is the policy of who may do everything in an account.
const administrator = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

// Policies says which policy documents a user or role has.
type Policies struct {
	// Files are NAME=FILE.
	Files []string
	// Administrator adds a policy of that name which allows everything.
	Administrator bool
	// None says that it is meant that there are none.
	None bool
}

// read returns the documents by their names; nil if nothing was said of them.
func (p Policies) read(in io.Reader) (map[string]json.RawMessage, error) {
	if p.None && (p.Administrator || len(p.Files) > 0) {
		return nil, usagef("--no-policies excludes --policy and --administrator")
	}
	if !p.None && !p.Administrator && len(p.Files) == 0 {
		return nil, nil
	}
	out := map[string]json.RawMessage{}
	if p.Administrator {
		out["administrator"] = json.RawMessage(administrator)
	}
	for _, f := range p.Files {
		name, path, ok := strings.Cut(f, "=")
		if !ok || name == "" || path == "" {
			return nil, usagef("--policy %q is not of the form NAME=FILE", f)
		}
		if out[name] != nil {
			return nil, usagef("policy %q is given twice", name)
		}
		doc, err := readPolicy(in, path)
		if err != nil {
			return nil, err
		}
		out[name] = doc
	}
	return out, nil
}

// readPolicy reads one policy document: a JSON object in a file, or in the input for "-".
func readPolicy(in io.Reader, path string) (json.RawMessage, error) {
	raw, err := readInput(in, path)
	if err != nil {
		return nil, fmt.Errorf("reading a policy: %w", err)
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(raw, &doc); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, jsonError(path, raw, 0, err)
		}
		return nil, fmt.Errorf("%s holds no policy document, which is a JSON object", path)
	}
	var plain bytes.Buffer
	if err := json.Compact(&plain, raw); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return plain.Bytes(), nil
}
