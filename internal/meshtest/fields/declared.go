package fields

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Test is a test function.
type Test struct {
	// Dir is the folder of its package below the root of the checkout, for example
	// "test/envoy".
	Dir, Name string
}

// String returns folder and name.
func (t Test) String() string { return t.Dir + " " + t.Name }

// Declared reads from the source of the tests below a folder which fields they say they
// cover: a call covers(t, "PATTERN", …), or one of meshtest.Covers, within a test
// function. The patterns are Expand's, as literals. The tests of each field are in the
// order of their folders and names. The error names the file and line of a call that
// cannot be read.
func Declared(root string) (map[string][]Test, error) {
	found := map[string][]Test{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (strings.HasPrefix(e.Name(), ".") && path != root || e.Name() == "testdata"):
			return filepath.SkipDir
		case e.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		return declaredIn(found, root, path)
	})
	if err != nil {
		return nil, fmt.Errorf("reading what tests cover: %w", err)
	}
	for _, tests := range found {
		slices.SortFunc(tests, func(a, b Test) int { return strings.Compare(a.String(), b.String()) })
	}
	return found, nil
}

// declaredIn adds what the tests of one file declare.
func declaredIn(found map[string][]Test, root, path string) error {
	src, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(src, []byte("overs(")) {
		return err
	}
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, path, src, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir, err := filepath.Rel(root, filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, d := range f.Decls {
		test, ok := d.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(test.Name.Name, "Test") || test.Recv != nil {
			continue
		}
		paths, at, err := coveredBy(test)
		if err != nil {
			return fmt.Errorf("%s: %w", files.Position(at), err)
		}
		for _, p := range paths {
			one := Test{filepath.ToSlash(dir), test.Name.Name}
			if !slices.Contains(found[p], one) {
				found[p] = append(found[p], one)
			}
		}
	}
	return nil
}

// coveredBy returns the fields that a test declares, or what is wrong and where.
func coveredBy(test *ast.FuncDecl) (paths []string, at token.Pos, err error) {
	ast.Inspect(test, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || err != nil || !declares(call.Fun) || len(call.Args) == 0 {
			return err == nil
		}
		for _, arg := range call.Args[1:] {
			var more []string
			at = arg.Pos()
			if more, err = literal(arg); err != nil {
				return false
			}
			paths = append(paths, more...)
		}
		return true
	})
	return paths, at, err
}

// declares reports whether a function is one that declares fields.
func declares(f ast.Expr) bool {
	switch f := f.(type) {
	case *ast.Ident:
		return f.Name == "covers"
	case *ast.SelectorExpr:
		pkg, ok := f.X.(*ast.Ident)
		return ok && pkg.Name == "meshtest" && f.Sel.Name == "Covers"
	}
	return false
}

// literal returns the fields that one argument stands for.
func literal(arg ast.Expr) ([]string, error) {
	text, ok := arg.(*ast.BasicLit)
	if !ok || text.Kind != token.STRING {
		return nil, fmt.Errorf("what a test covers must be a string literal, so that it can be read from the source")
	}
	pattern, err := strconv.Unquote(text.Value)
	if err != nil {
		return nil, err
	}
	return Expand(pattern)
}
