package audit

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMerge reads the trails of several servers as one, in pages of every length: each
// event comes once, the newest first, also while a trail answers with less than it has.
func TestMerge(t *testing.T) {
	t.Parallel()
	const account, trails, events = "000000000001", 3, 60
	logs := make([]*Log, trails)
	for i := range logs {
		log, err := Open(Config{Path: filepath.Join(t.TempDir(), "audit.log")})
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		logs[i] = log
	}
	var want []string
	begin := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	for n := range events {
		name := fmt.Sprintf("Event%03d", n)
		// Most are in one trail, so that the others come to their end early.
		of := max(0, rand.IntN(2*trails)-trails)
		logs[of].Write(Event{Time: begin.Add(time.Duration(n) * time.Second), Name: name, Account: account, Source: AppMesh})
		want = append([]string{name}, want...)
	}
	for limit := 1; limit < 20; limit += 3 {
		var got []string
		var from map[string]string
		for pages := 0; pages == 0 || len(from) > 0; pages++ {
			if pages > 3*events {
				t.Fatalf("limit %d: no end after %d pages", limit, pages)
			}
			var parts []Part
			for i, log := range logs {
				trail := fmt.Sprint(i)
				token, ok := from[trail]
				if !ok && from != nil {
					continue
				}
				// A trail that is asked for little says that there is more.
				found, err := log.Find(t.Context(), Query{Account: account, Next: token, Limit: 1 + rand.IntN(limit)})
				if err != nil {
					t.Fatal(err)
				}
				parts = append(parts, Part{Trail: trail, From: token, Found: found})
			}
			var page []json.RawMessage
			page, from = Merge(parts, limit)
			for _, raw := range page {
				var e struct{ EventName string }
				if err := json.Unmarshal(raw, &e); err != nil {
					t.Fatal(err)
				}
				got = append(got, e.EventName)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, d)
		}
	}
	// A trail that has found nothing yet holds the page back, and is asked to go on.
	held, next := Merge([]Part{
		{Trail: "a", Found: Found{Events: []json.RawMessage{json.RawMessage(`{}`)}, Tokens: []string{"x"}}},
		{Trail: "b", From: "y", Found: Found{Next: "z"}},
	}, 5)
	if d := cmp.Diff(map[string]string{"a": "", "b": "z"}, next); len(held) > 0 || d != "" {
		t.Errorf("%s, and %s", held, d)
	}
}
