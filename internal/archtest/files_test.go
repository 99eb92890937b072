package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// root is the checkout, seen from this package's folder, where go test runs it.
const root = "../.."

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type goFile struct {
	name    string // from the root, with slashes
	imports []string
	test    bool
}

// goFiles reads the imports of every Go file of the module. Files, not "go list": go test
// notices when a file that a test has read changes, and runs the test again.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	for _, top := range []string{"api", "cmd", "internal", "test"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(p string, d fs.DirEntry, err error) error {
			switch {
			case os.IsNotExist(err):
				return nil
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), "_") || strings.HasPrefix(d.Name(), ".")) && p != root:
				return fs.SkipDir
			case d.IsDir() || filepath.Ext(p) != ".go":
				return nil
			}
			src, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), p, src, parser.ImportsOnly)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, p)
			if err != nil {
				return err
			}
			f := goFile{name: filepath.ToSlash(name), test: strings.HasSuffix(p, "_test.go")}
			for _, s := range parsed.Imports {
				imp, err := strconv.Unquote(s.Path.Value)
				if err != nil {
					return err
				}
				f.imports = append(f.imports, imp)
			}
			files = append(files, f)
			return nil
		})
		if err != nil {
			t.Fatalf("reading the Go files of %s: %v", top, err)
		}
	}
	return files
}
