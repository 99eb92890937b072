package agent

import (
	"maps"
	"slices"
	"strings"
)

// ourPrefixes begin the names of variables that are meant for an agent and for nobody else.
var ourPrefixes = []string{"APPMESH_", "APPNET_", "FAIRLEAD_"}

// Misspelt returns variables that nobody reads, and that are so near to one that is read that
// they must be slips. Environ has the form of os.Environ.
func Misspelt(environ []string) []Warning {
	var out []Warning
	set := map[string]bool{}
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		set[name] = value != ""
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		ours := slices.ContainsFunc(ourPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
		if !ours || slices.Contains(variables, name) {
			continue
		}
		if near := nearest(name, variables); near != "" && !set[near] {
			out = append(out, Warning{name, "no variable has this name; " + near + " has a similar one"})
		}
	}
	return out
}

// nearest returns the known name that is not much different, "" if there is none: a letter
// or two in a short name, three in a long one, or the wrong prefix.
func nearest(name string, known []string) string {
	best, at := "", 4
	for _, k := range known {
		most := min(3, len(k)/8)
		if d := distance(name, k); d <= most && d < at {
			best, at = k, d
		}
	}
	if best != "" {
		return best
	}
	_, rest, _ := strings.Cut(name, "_")
	for _, k := range known {
		if _, r, ok := strings.Cut(k, "_"); ok && r == rest {
			return k
		}
	}
	return ""
}

// distance counts the letters to put in, take out, replace or swap with their neighbours to
// make one text from another.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
