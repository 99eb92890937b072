package audit

import (
	"encoding/json"
	"time"
)

// Part is what one of several trails answered.
type Part struct {
	// Trail names it.
	Trail string
	// From is the token that it was asked with.
	From string
	Found
}

// Merge returns the newest events of several trails, at most limit, and the tokens with
// which those go on that have more, by trail. A trail that says there is more, without
// having come to it, ends the page: what others have may be older.
func Merge(parts []Part, limit int) (events []json.RawMessage, next map[string]string) {
	taken := make([]int, len(parts))
	for len(events) < limit {
		newest, at := -1, time.Time{}
		for i, p := range parts {
			if taken[i] == len(p.Events) {
				if p.Next != "" {
					return events, rest(parts, taken)
				}
				continue
			}
			// A line whose time cannot be read is the oldest, and holds nobody up.
			if t, _ := timeOf(p.Events[taken[i]]); newest < 0 || t.After(at) {
				newest, at = i, t
			}
		}
		if newest < 0 {
			break
		}
		events = append(events, parts[newest].Events[taken[newest]])
		taken[newest]++
	}
	return events, rest(parts, taken)
}

// rest returns where each trail goes on of which so many events were taken. Those that
// have no more are left out.
func rest(parts []Part, taken []int) map[string]string {
	next := map[string]string{}
	for i, p := range parts {
		switch {
		case taken[i] == len(p.Events) && p.Next == "":
		case taken[i] == len(p.Events):
			next[p.Trail] = p.Next
		case taken[i] == 0:
			next[p.Trail] = p.From
		default:
			next[p.Trail] = p.Tokens[taken[i]-1]
		}
	}
	return next
}
