package golden

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const text = `Why it is there.
-- input --
1 + 1
-- sum --
2
-- stray --
`

// recorder is a test that notes whether it has failed.
type recorder struct {
	testing.TB
	said string
}

func (*recorder) Helper() {}

func (r *recorder) Errorf(f string, _ ...any) { r.said = f }

func file(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "addition.txtar")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCase(t *testing.T) {
	t.Parallel()
	c := Read(t, file(t))
	if c.Name != "addition" || c.Comment != "Why it is there.\n" || strings.Join(c.Names(), " ") != "input sum stray" {
		t.Errorf("it was read as %+v", c)
	}
	if got := c.Section("input"); got != "1 + 1\n" {
		t.Errorf("the input is %q", got)
	}
	if c.Section("nothing") != "" {
		t.Error("a section that is not there is not empty")
	}
	for got, fails := range map[string]bool{"2\n": false, "3\n": true, "": true} {
		r := &recorder{TB: t}
		if c.Equal(r, "sum", got); (r.said != "") != fails {
			t.Errorf("comparing %q says %q", got, r.said)
		}
	}
	if got := strings.Join(c.unused(), " "); got != "stray" {
		t.Errorf("unused are %q, want stray", got)
	}
}

// What is updated is written where it was; what is not keeps the file as it is.
func TestWrite(t *testing.T) {
	t.Parallel()
	c := Read(t, file(t))
	if err := os.Chmod(c.File, 0o400); err != nil {
		t.Fatal(err)
	}
	c.set("sum", "2\n")
	c.write(t) // or, unless as root, it fails
	if err := os.Chmod(c.File, 0o600); err != nil {
		t.Fatal(err)
	}
	c.set("sum", "two\n")
	c.set("proof", "none\n")
	c.write(t)
	got, err := os.ReadFile(c.File)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(text, "\n2\n", "\ntwo\n", 1) + "-- proof --\nnone\n"; string(got) != want {
		t.Errorf("the file is now\n%s", got)
	}
}
