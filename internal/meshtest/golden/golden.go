// Package golden compares what a test makes with what is written down: one txtar file a case,
// below the package's testdata. With the flag -update, which every test that imports this package
// has, what is made is written instead. It may import the standard library, go-cmp and txtar.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what the tests make into testdata, instead of comparing it")

// Update reports whether the files are to be written anew.
func Update() bool { return *update }

// Case is one file.
type Case struct {
	// File is its path, as the pattern has it, and Name that without folder and ending.
	File, Name string
	// Comment is what stands before the first section.
	Comment string

	sections []txtar.File
	used     map[string]bool // the names of those that were asked for or compared
	changed  bool
}

// Read reads a file. It fails the test if it cannot.
func Read(t testing.TB, file string) *Case {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := &Case{
		File: file, Name: strings.TrimSuffix(filepath.Base(file), ".txtar"), Comment: string(archive.Comment),
		sections: archive.Files, used: map[string]bool{},
	}
	for i, f := range c.sections {
		if c.index(f.Name) < i {
			t.Fatalf("%s has two sections called %s", file, f.Name)
		}
	}
	return c
}

// ReadAll reads the files that match a pattern, in the order of their names. It fails the
// test if there are none.
func ReadAll(t testing.TB, pattern string) []*Case {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files match %s: %v", pattern, err)
	}
	cases := make([]*Case, len(files))
	for i, file := range files {
		cases[i] = Read(t, file)
	}
	return cases
}

// Run runs a test for each file that matches a pattern, beside each other, each named after its
// file. A test that leaves a section unused, neither read nor compared, fails. What it
// has updated is in its file when it ends. Run fails the test if no file matches.
func Run(t *testing.T, pattern string, test func(t *testing.T, c *Case)) {
	t.Helper()
	for _, c := range ReadAll(t, pattern) {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			test(t, c)
			if rest := c.unused(); len(rest) > 0 && !t.Failed() {
				t.Errorf("%s has sections that nothing uses: %s", c.File, strings.Join(rest, ", "))
			}
			c.write(t)
		})
	}
}

// Names returns the names of the sections, in their order.
func (c *Case) Names() []string {
	names := make([]string, len(c.sections))
	for i, f := range c.sections {
		names[i] = f.Name
	}
	return names
}

// Section returns a section, "" if it is not there.
func (c *Case) Section(name string) string {
	c.used[name] = true
	if i := c.index(name); i >= 0 {
		return string(c.sections[i].Data)
	}
	return ""
}

func (c *Case) index(name string) int {
	return slices.IndexFunc(c.sections, func(f txtar.File) bool { return f.Name == name })
}

// Equal compares a section with what was made, and fails the test if they differ. With -update
// it becomes the section, and Run writes the file; one that was not there becomes the last.
func (c *Case) Equal(t testing.TB, name, got string) {
	t.Helper()
	want := c.Section(name)
	if *update {
		c.set(name, got)
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s in %s differs (-want +got; go test -update writes it anew):\n%s", name, c.File, diff)
	}
}

func (c *Case) set(name, text string) {
	i := c.index(name)
	switch {
	case i < 0:
		c.sections = append(c.sections, txtar.File{Name: name, Data: []byte(text)})
	case string(c.sections[i].Data) == text:
		return
	default:
		c.sections[i].Data = []byte(text)
	}
	c.changed = true
}

// unused returns the names of the sections that were neither read nor compared.
func (c *Case) unused() []string {
	return slices.DeleteFunc(c.Names(), func(name string) bool { return c.used[name] })
}

// write writes the file if Equal has changed it.
func (c *Case) write(t testing.TB) {
	t.Helper()
	if !c.changed {
		return
	}
	if err := os.WriteFile(c.File, txtar.Format(&txtar.Archive{Comment: []byte(c.Comment), Files: c.sections}), 0o644); err != nil {
		t.Fatal(err)
	}
	c.changed = false
}

// File compares a file that is no txtar with what was made, or with -update writes it.
func File(t testing.TB, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got; go test -update writes it anew):\n%s", path, diff)
	}
}
