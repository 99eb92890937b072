package demo

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

// tell writes everything that a screen can.
func tell(s *screen) {
	clock := edit
	s.now = func() time.Time { return clock }
	s.title("Shifting traffic")
	t := s.begin("control plane")
	t.waits("waiting for http://127.0.0.2:9082/readyz")
	clock = clock.Add(1234 * time.Millisecond)
	t.done("http://127.0.0.2:9080")
	t.drop()
	s.header()
	s.row(row{
		step: "canary", asked: weights{90, 10}, ok: true, first: 12 * time.Millisecond, last: never,
		seen: tally{total: 2400, answers: map[string]int{blue: 2166, green: 234}},
	})
	s.row(row{
		step: "back at once", asked: weights{100, 0}, failed: 1234, first: 9 * time.Millisecond, last: 2345 * time.Millisecond,
		seen: tally{total: 12401, failed: 1, answers: map[string]int{blue: 6200, green: 6200}},
	})
	s.detail(red, "one that failed: status 503")
	s.legend()
	s.line("  %s %s", s.bad(), "the end")
}

// TestScreen compares what a screen writes with testdata/screen.txtar: "plain" as it is,
// "terminal" with its control characters spelled out.
func TestScreen(t *testing.T) {
	t.Parallel()
	golden.Run(t, "testdata/screen.txtar", func(t *testing.T, c *golden.Case) {
		for name, l := range map[string]look{"plain": {}, "terminal": {colour: true, symbols: true, width: 130}} {
			var out bytes.Buffer
			tell(newScreen(&out, l))
			c.Equal(t, name, strings.ReplaceAll(out.String(), "\x1b", "ESC"))
		}
	})
}

func TestPlainScreenHasNoControlCharacters(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	tell(newScreen(&out, look{}))
	for _, r := range out.String() {
		if r != '\n' && (r < ' ' || r > '~') {
			t.Fatalf("character %q in the output off a terminal:\n%s", r, out.String())
		}
	}
}

// TestBottomLine checks that what changes is on one line, cut to the terminal's width.
func TestBottomLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := newScreen(&out, look{live: true, width: 40})
	s.bottom(strings.Repeat("x", 100))
	s.line("kept")
	s.bottom("y")
	s.bottom("")
	want := strings.Repeat("x", 39) + "\r\x1b[Kkept\ny\r\x1b[K"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLookOf(t *testing.T) {
	t.Parallel()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	env := func(string) string { return "C.UTF-8" }
	if got := lookOf(null, env); got != (look{}) {
		t.Errorf("%s looks like a terminal: %+v", os.DevNull, got)
	}
	if got := lookOf(&bytes.Buffer{}, env); got != (look{}) {
		t.Errorf("a buffer looks like a terminal: %+v", got)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestBrokenOutputIsTold(t *testing.T) {
	t.Parallel()
	var told error
	s := newScreen(brokenPipe{}, look{})
	s.broken = func(err error) { told = err }
	s.line("hello")
	if told == nil {
		t.Error("nobody was told that the output is gone")
	}
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 20003: "20,003", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %q, want %q", n, got, want)
		}
	}
	if got, want := fmt.Sprint(span(999*time.Millisecond), " ", span(1250*time.Millisecond)), "999 ms 1.2 s"; got != want {
		t.Errorf("span: %q, want %q", got, want)
	}
}
