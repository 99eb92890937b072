package cli

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMissingReplicas holds that lists go through all pages, and that who did not answer is
// said once, beside what is printed.
func TestMissingReplicas(t *testing.T) {
	t.Parallel()
	s := &Session{}
	var errs bytes.Buffer
	s.warnOfMissing(Terminal{Err: &errs})
	if errs.Len() > 0 {
		t.Errorf("%q is said though all answered", errs.String())
	}
	answers := map[string]struct {
		list    []int
		next    string
		missing []string
	}{
		"":  {[]int{1, 2}, "a", []string{"10.0.0.1:9083"}},
		"a": {nil, "b", nil},
		"b": {[]int{3}, "", []string{"10.0.0.1:9083", "10.0.0.2:9083"}},
	}
	var got []int
	for one, err := range pages(s, func(token string) ([]int, string, []string, error) {
		a := answers[token]
		return a.list, a.next, a.missing, nil
	}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, one)
	}
	if d := cmp.Diff([]int{1, 2, 3}, got); d != "" {
		t.Error(d)
	}
	s.warnOfMissing(Terminal{Err: &errs})
	if want := "not all is known: no answer from 10.0.0.1:9083, 10.0.0.2:9083\n"; errs.String() != want {
		t.Errorf("%q is said, want %q", errs.String(), want)
	}
	broken := errors.New("broken")
	var all []error
	for _, err := range pages(s, func(string) ([]int, string, []string, error) { return nil, "", nil, broken }) {
		all = append(all, err)
	}
	if !slices.Equal(all, []error{broken}) {
		t.Errorf("errors are %v", all)
	}
}
