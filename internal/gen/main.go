// Command gen reads three service models and writes the parts of Fairlead that they fix.
//
// From the App Mesh model come the types of the seven specs, the limits on their
// fields, the error shapes and the table of operations. It is the file
// appmesh/2019-01-25/service-2.json.gz of the botocore package that versions.yaml
// pins; names, types and bounds are taken from it, its prose is not.
//
// From the Cloud Map model, servicediscovery/2017-03-14 of the same package, come the
// bounds, types, operations and error shapes of the registry of instances.
//
// From api/fairlead.json, our own model in the same form, come the types, bounds and
// operations of /v1 for the server, the Go client and the OpenAPI document. Kinds of object
// that it adds to App Mesh's become types and operations beside those, and use App Mesh's
// shapes by their names.
//
// It is run by "make generate" only.
//
// gen imports the standard library alone and nothing imports gen.
package main

import (
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"go/format"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	modelPath := flag.String("model", "", "path of botocore's appmesh service-2.json.gz")
	cloudMapPath := flag.String("cloudmap", "", "path of botocore's servicediscovery service-2.json.gz")
	ownPath := flag.String("own", "api/fairlead.json", "path of our own model")
	out := flag.String("out", ".", "root of the checkout to write to")
	flag.Parse()
	if err := run(*modelPath, *cloudMapPath, *ownPath, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(modelPath, cloudMapPath, ownPath, out string) error {
	m, err := readModel(modelPath)
	if err != nil {
		return err
	}
	cloudMap, err := readModel(cloudMapPath)
	if err != nil {
		return err
	}
	if err := cloudMap.respell(); err != nil {
		return fmt.Errorf("checking %s: %w", cloudMapPath, err)
	}
	own, err := readModel(ownPath)
	if err != nil {
		return err
	}
	own.borrow(m)
	if err := own.check(); err != nil {
		return fmt.Errorf("checking %s: %w", ownPath, err)
	}
	kinds, err := m.with(own)
	if err != nil {
		return fmt.Errorf("adding the kinds of %s: %w", ownPath, err)
	}
	openAPI, err := genOpenAPI(own)
	if err != nil {
		return err
	}
	return writeFiles(out, map[string]string{
		"internal/mesh/types_gen.go":            genTypes(kinds),
		"internal/mesh/limits_gen.go":           genLimits(kinds),
		"internal/mesh/errors_gen.go":           genErrors(m),
		"internal/mesh/cloudmap_gen.go":         genCloudMapLimits(cloudMap),
		"internal/registry/types_gen.go":        genCloudMapTypes(cloudMap),
		"internal/registry/operations_gen.go":   genCloudMapOperations(cloudMap),
		"internal/registry/errors_gen.go":       genCloudMapErrors(cloudMap),
		"internal/restapi/operations_gen.go":    genOperations(kinds),
		"internal/restapi/v1/types_gen.go":      genV1Types(own, serverTypes),
		"internal/restapi/v1/operations_gen.go": genV1Operations(own),
		"api/client/types_gen.go":               genV1Types(own, clientTypes),
		"api/client/operations_gen.go":          genV1Client(own),
		"api/openapi.json":                      openAPI,
	})
}

// writeFiles writes the generated files below a folder, Go code formatted.
func writeFiles(out string, files map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := []byte(files[name])
		if strings.HasSuffix(name, ".go") {
			var err error
			if text, err = format.Source(text); err != nil {
				return fmt.Errorf("formatting %s: %w", name, err)
			}
		}
		path := filepath.Join(out, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
	}
	return nil
}

// readModel reads a model, packed if its name ends in ".gz". A member of a model that gen
// does not know is passed over.
func readModel(path string) (*model, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the model (-model, -cloudmap, -own): %w", err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil, fmt.Errorf("unpacking %s: %w", path, err)
		}
	}
	var m model
	if err := json.NewDecoder(r).Decode(&m); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", path, err)
	}
	return &m, nil
}
