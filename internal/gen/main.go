// Command gen reads the App Mesh service model and writes the parts of Fairlead
// that the model fixes: the types of the seven specs, the limits on their fields,
// the error shapes and the table of operations.
//
// It is run by "make generate" only. The model is the file
// appmesh/2019-01-25/service-2.json.gz of the botocore package that versions.yaml
// pins; names, types and bounds are taken from it, its prose is not.
//
// gen imports the standard library alone and nothing imports gen.
package main

import (
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
)

func main() {
	modelPath := flag.String("model", "", "path of botocore's appmesh service-2.json.gz")
	out := flag.String("out", ".", "root of the checkout to write to")
	flag.Parse()
	if err := run(*modelPath, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(modelPath, out string) error {
	m, err := readModel(modelPath)
	if err != nil {
		return err
	}
	files := []struct {
		path string
		body string
	}{
		{"internal/mesh/types_gen.go", genTypes(m)},
		{"internal/mesh/limits_gen.go", genLimits(m)},
		{"internal/mesh/errors_gen.go", genErrors(m)},
		{"internal/restapi/operations_gen.go", genOperations(m)},
	}
	for _, f := range files {
		src, err := format.Source([]byte(f.body))
		if err != nil {
			return fmt.Errorf("formatting %s: %w", f.path, err)
		}
		if err := os.WriteFile(filepath.Join(out, f.path), src, 0o644); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
	}
	return nil
}

func readModel(path string) (*model, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the model (-model): %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", path, err)
	}
	var m model
	if err := json.NewDecoder(z).Decode(&m); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", path, err)
	}
	return &m, nil
}
