package registry

import (
	"cmp"
	"slices"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// filter is a condition on what a list has: the filters of all lists are of this form.
type filter struct {
	Condition string
	Name      string
	Values    []string
}

// rule says how a filter can be used.
type rule struct {
	conditions []string
	values     []string // that there are, nil for any
}

var (
	onlyEquals = []string{"EQ"}
	beginsToo  = []string{"EQ", "BEGINS_WITH"}
	inToo      = []string{"EQ", "IN"}
	owners     = []string{"SELF", "OTHER_ACCOUNTS"}
)

// matcher returns what says whether an item, given by the values that filters can name,
// meets all filters.
func matcher(filters []filter, rules map[string]rule) (func(map[string]string) bool, error) {
	for i := range filters {
		f := &filters[i]
		f.Condition = cmp.Or(f.Condition, "EQ")
		r := rules[f.Name]
		switch {
		case !slices.Contains(r.conditions, f.Condition):
			return nil, mesh.Errorf(ErrInvalidInput, "Filters: the condition %s is not for %s, allowed are %s", f.Condition, f.Name, strings.Join(r.conditions, ", "))
		case len(f.Values) == 0 || f.Condition != "IN" && len(f.Values) != 1:
			return nil, mesh.Errorf(ErrInvalidInput, "Filters: %s with the condition %s needs one value, %d were given", f.Name, f.Condition, len(f.Values))
		case r.values != nil && !slices.Contains(r.values, f.Values[0]):
			return nil, mesh.Errorf(ErrInvalidInput, "Filters: %s must be %s, %q was given", f.Name, strings.Join(r.values, " or "), f.Values[0])
		}
	}
	return func(item map[string]string) bool {
		for _, f := range filters {
			got := item[f.Name]
			if f.Condition == "BEGINS_WITH" && strings.HasPrefix(got, f.Values[0]) || slices.Contains(f.Values, got) {
				continue
			}
			return false
		}
		return true
	}, nil
}

// page returns a page of a list whose items are sorted by their keys, which differ, and
// the token of the next one. It begins behind the key that the page before ended with, so
// that items may come and go between pages.
func page[T any](c *call, items []T, key func(T) string, limit *int64, token string, scope ...string) (of []T, next string, err error) {
	s := strings.Join(append([]string{c.operation, c.account, c.region}, scope...), "\x00")
	after, ok := mesh.OpenPosition(s, token)
	if !ok {
		return nil, "", mesh.Errorf(ErrInvalidInput, "NextToken does not belong to this list: allowed is the one that its page before returned, or none")
	}
	first := 0
	if token != "" {
		i, found := slices.BinarySearchFunc(items, after, func(item T, after string) int { return cmp.Compare(key(item), after) })
		if first = i; found {
			first++
		}
	}
	most := defaultMost
	if limit != nil {
		most = int(*limit)
	}
	last := min(first+most, len(items))
	if last < len(items) {
		next = mesh.SealPosition(s, key(items[last-1]))
	}
	return append(make([]T, 0, last-first), items[first:last]...), next, nil
}
