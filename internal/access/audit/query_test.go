package audit

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/clock"
)

func TestConditions(t *testing.T) {
	t.Parallel()
	c := clock.New(time.Unix(1_800_000_000, 0))
	start := c.Now()
	l := openLog(t, Config{Now: c.Now})
	write := func(name string, change func(*Event)) {
		c.Advance(10 * time.Second)
		e := named(alice, name)
		if change != nil {
			change(&e)
		}
		l.Write(e)
	}
	arn := "arn:aws:appmesh:us-east-1:000000000001:mesh/shop"
	write("a", nil)
	write("b", func(e *Event) { e.ErrorCode = "NotFoundException" })
	write("c", func(e *Event) { e.Principal.User = `od"d <user>` })
	write("d", func(e *Event) { e.Principal.User, e.Principal.Role = "", "deploy" })
	write("e", func(e *Event) { e.Resources = []Resource{{ARN: "x"}, {ARN: arn}} })
	write("f", func(e *Event) { e.Details = map[string]string{"nodeArn": arn + "/virtualNode/n"} })
	write("g", func(e *Event) {
		// What looks like a condition's text, in a place that does not count.
		e.Request = json.RawMessage(`{"eventName":"a","errorCode":"NotFoundException","userName":"deploy","ARN":"` + arn + `"}`)
	})
	for _, q := range []struct {
		what string
		q    Query
		want string
	}{
		{"everything", Query{}, "g f e d c b a"},
		{"name", Query{Name: "a"}, "a"},
		{"error", Query{ErrorCode: "NotFoundException"}, "b"},
		{"user", Query{User: `od"d <user>`}, "c"},
		{"role", Query{User: "deploy"}, "d"},
		{"resource", Query{Resource: arn}, "e"},
		{"resources", Query{Resource: arn + "*"}, "f e"},
		{"below", Query{Resource: arn + "/*"}, "f"},
		{"any resource", Query{Resource: "*"}, "f e"},
		{"from", Query{From: start.Add(60 * time.Second)}, "g f"},
		{"to", Query{To: start.Add(20 * time.Second)}, "a"},
		{"between", Query{From: start.Add(20 * time.Second), To: start.Add(40 * time.Second)}, "c b"},
		{"two", Query{User: "u" + alice, ErrorCode: "NotFoundException"}, "b"},
		{"none", Query{Name: "a", ErrorCode: "NotFoundException"}, ""},
	} {
		for _, limit := range []int{0, 1} {
			q.q.Account, q.q.Limit = alice, limit
			if got := names(t, all(t, l, q.q)); got != q.want {
				t.Errorf("%s, pages of %d: found %q, want %q", q.what, limit, got, q.want)
			}
		}
	}
}

// Events that are hours apart let a query pass over whole files; it finds the same.
func TestTimeBoundsOverManyFiles(t *testing.T) {
	t.Parallel()
	c := clock.New(time.Unix(1_800_000_000, 0))
	start := c.Now()
	l := openLog(t, Config{Now: c.Now, MaxBytes: 3000, MaxFiles: 100})
	for i := range 100 {
		e := named(alice, fmt.Sprint(i))
		e.Time = c.Now().Add(time.Duration(rand.IntN(3600)-1800) * time.Second) // out of order
		l.Write(e)
		c.Advance(20 * time.Minute)
	}
	everything := all(t, l, Query{Account: alice})
	for range 50 {
		from := start.Add(time.Duration(rand.IntN(40)) * time.Hour)
		to := from.Add(time.Duration(rand.IntN(10)) * time.Hour)
		var want []string
		for _, raw := range everything {
			if at, ok := timeOf(raw); ok && !at.Before(from) && at.Before(to) {
				want = append(want, names(t, []json.RawMessage{raw}))
			}
		}
		if got := names(t, all(t, l, Query{Account: alice, From: from, To: to, Limit: 3})); got != strings.Join(want, " ") {
			t.Fatalf("between %v and %v: found %s, want %s", from, to, got, want)
		}
	}
}

// Tokens stay right while events are added and files rotate between the pages.
func TestPagesWhileFilesRotate(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{600, 1500, 20_000} {
		l := openLog(t, Config{MaxBytes: size, MaxFiles: 10_000})
		var want []string
		for i := range 200 {
			l.Write(named(alice, fmt.Sprint(i)))
			want = append(want, fmt.Sprint(i))
		}
		slices.Reverse(want)
		var got []string
		q := Query{Account: alice, Limit: 7}
		for n := 0; ; n++ {
			events, next, err := l.Query(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.Fields(names(t, events))...)
			if q.Next = next; next == "" {
				break
			}
			for range rand.IntN(20) {
				l.Write(named(alice, "later"))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("files of %d bytes: found %v, want %v", size, got, want)
		}
	}
}

func TestPagesWhoseFilesAreGone(t *testing.T) {
	t.Parallel()
	l := openLog(t, Config{MaxBytes: 1500, MaxFiles: 3})
	for i := range 10 {
		l.Write(named(alice, fmt.Sprint(i)))
	}
	q := Query{Account: alice, Limit: 1}
	_, next, err := l.Query(t.Context(), q)
	if err != nil || next == "" {
		t.Fatal(next, err)
	}
	for range 100 {
		l.Write(named(alice, "later"))
	}
	q.Next = next
	if events, next, err := l.Query(t.Context(), q); len(events) > 0 || next != "" || err != nil {
		t.Errorf("found %s %q %v in files that are gone", events, next, err)
	}
}

func TestTokensThatDoNotFit(t *testing.T) {
	t.Parallel()
	l := openLog(t, Config{})
	for i := range 5 {
		l.Write(named(alice, fmt.Sprint(i)))
		l.Write(named(bob, fmt.Sprint(i)))
	}
	q := Query{Account: alice, Limit: 2}
	_, next, err := l.Query(t.Context(), q)
	if err != nil || next == "" {
		t.Fatal(next, err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(next)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(at int, by byte) string {
		b := slices.Clone(raw)
		b[at] += by
		return base64.RawURLEncoding.EncodeToString(b)
	}
	for what, q := range map[string]Query{
		"no token":          {Account: alice, Next: "x"},
		"not base64":        {Account: alice, Next: "!"},
		"another's":         {Account: bob, Next: next},
		"of all":            {All: true, Next: next},
		"of another name":   {Account: alice, Name: "0", Next: next},
		"of another time":   {Account: alice, From: time.Unix(1, 0), Next: next},
		"of a later file":   {Account: alice, Next: changed(15, 9)},
		"within a line":     {Account: alice, Next: changed(23, 1)},
		"behind the end":    {Account: alice, Next: changed(20, 9)},
		"before the begin":  {Account: alice, Next: changed(16, 255)},
		"another's in time": {Account: bob, To: time.Unix(1, 0), Next: next},
	} {
		var refusal *mesh.Error
		events, _, err := l.Query(t.Context(), q)
		if !errors.As(err, &refusal) || refusal.Code != mesh.ErrBadRequest || len(events) > 0 {
			t.Errorf("a token %s: %s, %v", what, events, err)
		}
	}
	q.Next, q.Limit = next, 100 // another page size is no other query
	if events, _, err := l.Query(t.Context(), q); len(events) != 3 || err != nil {
		t.Errorf("%s, %v", events, err)
	}
}

// Whatever is written: nobody sees an event of another account, but for the owner of a
// shared mesh, who sees that it came from the account and nothing more of the caller.
func TestNothingOfOneAccountIsShownToAnother(t *testing.T) {
	t.Parallel()
	accounts := []string{"000000000001", "000000000002", "000000000003", ""}
	r := rand.New(rand.NewPCG(1, 2))
	l := openLog(t, Config{MaxBytes: 100_000, MaxFiles: 100})
	want := map[string]int{}
	total := 0
	for range 3000 {
		account, owner, other := accounts[r.IntN(4)], "", accounts[r.IntN(3)]
		if account != "" && r.IntN(3) == 0 {
			owner = accounts[r.IntN(3)]
		}
		secret := "of<" + account + ">"
		l.Write(Event{
			Account: account, Owner: owner, Source: AppMesh, Name: "n", UserAgent: `"recipientAccountId":"` + other + `"`,
			Principal: Identity{Type: "IAMUser", ARN: secret, Account: account, User: secret, KeyID: secret},
			// Parameters that look like what decides.
			Request: json.RawMessage(`{"recipientAccountId":"` + other + `","additionalEventData":{"meshOwner":"` + other + `"},"Recipient":"` + other + `"}`),
		})
		total++
		if account != "" {
			want[account]++
		}
		if owner != "" && owner != account {
			want[owner]++
		}
	}
	for _, account := range accounts {
		events := all(t, l, Query{Account: account})
		if account == "" {
			want[account] = 0
		}
		if len(events) != want[account] {
			t.Errorf("%q sees %d events, want %d", account, len(events), want[account])
		}
		for _, raw := range events {
			if text := string(raw); strings.Contains(text, "of<") && !strings.Contains(text, "of<"+account+">") {
				t.Fatalf("%q sees %s", account, text)
			}
			var rec record
			if err := json.Unmarshal(raw, &rec); err != nil || rec.Recipient != account {
				t.Fatalf("%q sees an event for %q: %v", account, rec.Recipient, err)
			}
		}
		for _, other := range accounts[:3] { // what is not shown cannot be asked for either
			if n := len(all(t, l, Query{Account: account, User: "of<" + other + ">"})); n > 0 && other != account {
				t.Errorf("%q finds %d events by the name of a user of %q", account, n, other)
			}
		}
	}
	if n := len(all(t, l, Query{All: true})); n != total {
		t.Errorf("there are %d events for all, want %d", n, total)
	}
}

// A call reads a bounded amount and returns where it stopped.
func TestOneCallIsBounded(t *testing.T) {
	t.Parallel()
	l := openLog(t, Config{})
	l.Write(named(alice, "needle"))
	line := append(slices.Repeat([]byte("x"), 1<<20-1), '\n')
	l.mu.Lock()
	for range mostRead>>20 + 8 {
		if err := l.append(line); err != nil {
			t.Error(err)
		}
	}
	l.mu.Unlock()
	events, next, err := l.Query(t.Context(), Query{Account: alice})
	if err != nil || len(events) != 0 || next == "" {
		t.Errorf("the first call: %s %q %v", events, next, err)
	}
	if got := names(t, all(t, l, Query{Account: alice})); got != "needle" {
		t.Errorf("found %q", got)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	l := openLog(t, Config{})
	e := named(alice, "big")
	e.Request = json.RawMessage(`"` + strings.Repeat("x", 60<<10) + `"`)
	e.Response = e.Request
	for range 80 {
		l.Write(e)
	}
	events, next, err := l.Query(t.Context(), Query{Account: alice})
	if err != nil || next == "" || len(events) > mostAnswer/(120<<10) {
		t.Errorf("%d events, %q, %v", len(events), next, err)
	}
	if n := len(all(t, l, Query{Account: alice})); n != 80 {
		t.Errorf("%d events in all pages, want 80", n)
	}
}

func TestGarbageIsPassedOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := dir + "/audit.log"
	var b strings.Builder
	for i := range 10 {
		fmt.Fprintf(&b, "\n{\n}null[]\x00%s\n", strings.Repeat(`{"recipientAccountId":"000000000001"`, i*10_000))
		fmt.Fprintf(&b, `{"eventVersion":"1.08","eventTime":"2026-01-01T00:00:00Z","recipientAccountId":"000000000001","eventName":"%d"}`+"\n", i)
	}
	if err := os.WriteFile(path+".0000000007", []byte(strings.TrimSuffix(b.String(), "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, Config{Path: path})
	if got := names(t, all(t, l, Query{Account: alice, Limit: 3})); got != "9 8 7 6 5 4 3 2 1 0" {
		t.Errorf("found %s", got)
	}
	if l.seq != 8 {
		t.Errorf("the current file has number %d, want 8", l.seq)
	}
}

// One asker cannot have more than its turns, and no turn is lost.
func TestTurns(t *testing.T) {
	t.Parallel()
	turns := newTurns()
	done, err := turns.take(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	waited := make(chan error, mostWaiting)
	for range mostWaiting - 1 {
		go func() { _, err := turns.take(ended, alice); waited <- err }()
	}
	for n := 0; n < mostWaiting; {
		turns.mu.Lock()
		n = turns.own[alice].users
		turns.mu.Unlock()
	}
	var refusal *mesh.Error
	if _, err := turns.take(t.Context(), alice); !errors.As(err, &refusal) || refusal.Code != mesh.ErrTooManyRequests {
		t.Errorf("one too many: %v", err)
	}
	other, err := turns.take(t.Context(), bob) // not held up
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for range mostWaiting - 1 {
		if err := <-waited; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up got %v", err)
		}
	}
	done()
	other()
	if len(turns.own) != 0 || len(turns.all) != 0 {
		t.Errorf("%d askers and %d readers are left", len(turns.own), len(turns.all))
	}
}
