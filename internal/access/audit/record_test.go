package audit

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// TestRecords: each txtar has an "event.json", and the record that all see ("record.json")
// and that a shared mesh's owner sees ("owner.json"). "request" holds a request's
// parameters that are no JSON.
func TestRecords(t *testing.T) {
	t.Parallel()
	golden.Run(t, "testdata/records/*.txtar", func(t *testing.T, c *golden.Case) {
		var e Event
		if err := json.Unmarshal([]byte(c.Section("event.json")), &e); err != nil {
			t.Fatal(err)
		}
		if request := c.Section("request"); request != "" {
			e.Request = []byte(request)
		}
		l := openLog(t, Config{})
		l.Write(e)
		c.Equal(t, "record.json", readable(t, one(t, l, Query{All: true})))
		if e.Owner != "" {
			c.Equal(t, "owner.json", readable(t, one(t, l, Query{Account: e.Owner})))
		}
	})
}

// one returns the only event that a query finds.
func one(t *testing.T, l *Log, q Query) json.RawMessage {
	t.Helper()
	events := all(t, l, q)
	if len(events) != 1 {
		t.Fatalf("%d events, want one: %s", len(events), events)
	}
	return events[0]
}

// readable indents a record and takes out what is different in each run.
func readable(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	for _, id := range []string{r.EventID, r.SharedEventID} {
		if id != "" {
			raw = bytes.ReplaceAll(raw, []byte(id), []byte("ID"))
		}
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	return b.String() + "\n"
}

func TestLongThingsAreBounded(t *testing.T) {
	t.Parallel()
	l := openLog(t, Config{})
	long := strings.Repeat("ü", 200_000)
	big := json.RawMessage(`{"a":"` + long + `"}`)
	e := Event{
		Account: "000000000001", RequestID: long, Source: long, Name: long, Region: long, SourceIP: long, UserAgent: long,
		ErrorCode: long, ErrorMessage: long, Request: big, Response: big,
		Principal: Identity{Type: long, ID: long, ARN: long, Account: long, KeyID: long, User: long, Role: long, RoleARN: long, RoleID: long, Session: long},
		Details:   map[string]string{"failureReason": long, long: long},
	}
	for range 1000 {
		e.Resources = append(e.Resources, Resource{ARN: long, Account: long, Type: long})
	}
	for i := range 100 {
		e.Details[strings.Repeat("x", i)] = long
	}
	l.Write(e)
	raw := one(t, l, Query{Account: "000000000001"})
	if len(raw) > 512<<10 || !utf8.Valid(raw) {
		t.Errorf("a record of %d bytes, valid UTF-8: %t", len(raw), utf8.Valid(raw))
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.UserAgent) > maxText || !strings.HasSuffix(r.UserAgent, "ü…") {
		t.Errorf("the user agent is not clipped as it should be: %d bytes", len(r.UserAgent))
	}
	want := `{"reason":"requestParameters too large","omitted":true,"originalSize":400008}`
	if string(r.RequestParameters) != want {
		t.Errorf("a large request became %s, want %s", r.RequestParameters, want)
	}
}

func TestTheTimeIsFoundWithoutDecoding(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 8, time.FixedZone("", 3600)) }
	r := newRecord(&Event{}, now)
	line, err := encoders.Get().(*encoder).encode(&r)
	if err != nil {
		t.Fatal(err)
	}
	at, ok := timeOf(line)
	if want := now().Truncate(time.Second); !ok || !at.Equal(want) {
		t.Errorf("read %v (%t) of %s, want %v", at, ok, line, want)
	}
	for _, bad := range []string{"", "{}", `{"eventVersion":"1.08","eventTime":"2026`, strings.Replace(string(line), "2026", "20x6", 1)} {
		if _, ok := timeOf([]byte(bad)); ok {
			t.Errorf("read a time of %q", bad)
		}
	}
}
