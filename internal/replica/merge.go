package replica

import (
	"cmp"
	"slices"
)

// Merge returns the first items of several lists behind a position, in the order of their
// keys, each key once; and whether there may be more. Each list is in that order and begins
// behind the position, and has more than limit items unless it is whole.
func Merge[T any](lists [][]T, key func(T) string, limit int) (first []T, more bool) {
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	all = slices.CompactFunc(all, func(a, b T) bool { return key(a) == key(b) })
	return all[:min(limit, len(all))], len(all) > limit
}

// Cut returns what a replica adds to Merge: of the items that are behind a position, one
// more than limit, in the order of their keys. It sorts items in place.
func Cut[T any](items []T, key func(T) string, after string, limit int) []T {
	slices.SortFunc(items, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	items = slices.CompactFunc(items, func(a, b T) bool { return key(a) == key(b) })
	i, found := slices.BinarySearchFunc(items, after, func(item T, after string) int { return cmp.Compare(key(item), after) })
	if found {
		i++
	}
	return items[i:min(len(items), i+limit+1)]
}
