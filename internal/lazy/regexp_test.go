package lazy

import "testing"

// A regular expression is compiled when it is used and not before, and once.
func TestRegexp(t *testing.T) {
	t.Parallel()
	r := NewRegexp(`^([a-z]+)-[0-9]{2}$`)
	first := r.compiled()
	if !r.MatchString("ab-12") || r.MatchString("ab-1") || r.ReplaceAllString("ab-12", "$1") != "ab" {
		t.Error("it matches something else")
	}
	if r.compiled() != first {
		t.Error("it is compiled again")
	}
	broken := NewRegexp(`(`)
	defer func() {
		if recover() == nil {
			t.Error("one that is none is used")
		}
	}()
	broken.MatchString("")
}
