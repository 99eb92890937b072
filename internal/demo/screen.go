package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// screen writes for a person. On a terminal it shows what is going on in one line at
// the bottom, which changes; elsewhere it writes plain lines only.
type screen struct {
	look look
	now  func() time.Time

	mu     sync.Mutex
	out    io.Writer
	live   bool        // there is a line at the bottom
	broken func(error) // told of a write that failed; may be nil
}

// look is what the output can show.
type look struct {
	live    bool // lines can be written over
	colour  bool
	symbols bool // characters beyond ASCII
	width   int  // columns, where live
}

// lookOf finds out what can be shown: colour and changing lines on a terminal only, and
// symbols on one that says it knows UTF-8.
func lookOf(out io.Writer, env func(string) string) look {
	f, ok := out.(*os.File)
	if !ok {
		return look{}
	}
	width, terminal := terminalWidth(f)
	if !terminal || env("TERM") == "dumb" || env("TERM") == "" {
		return look{}
	}
	l := look{live: width >= 40, colour: env("NO_COLOR") == "", width: width}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToUpper(env(name)); v != "" {
			l.symbols = strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
			break
		}
	}
	return l
}

func newScreen(out io.Writer, l look) *screen { return &screen{out: out, look: l, now: time.Now} }

// line writes a line of its own.
func (s *screen) line(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(s.wipe() + fmt.Sprintf(format, args...) + "\n")
}

// bottom shows text in the changing line; "" takes it away.
func (s *screen) bottom(text string) {
	if !s.look.live {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.wipe()
	if text != "" {
		out += clip(text, s.look.width-1)
		s.live = true
	}
	s.write(out)
}

// wipe returns what takes the changing line away.
func (s *screen) wipe() string {
	if !s.live {
		return ""
	}
	s.live = false
	return "\r\x1b[K"
}

func (s *screen) write(text string) {
	if _, err := io.WriteString(s.out, text); err != nil && s.broken != nil {
		s.broken(err)
	}
}

// clip cuts text to a number of columns, which one character takes each.
func clip(text string, columns int) string {
	if utf8.RuneCountInString(text) <= columns {
		return text
	}
	return string([]rune(text)[:columns])
}

// Colours, as terminals number them.
const (
	plain  = ""
	bold   = "1"
	dim    = "2"
	red    = "31"
	asBlue = "34"
	asOK   = "32"
)

func (s *screen) paint(colour, text string) string {
	if !s.look.colour || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// detail writes a line under one with a mark, as far to the right as its text.
func (s *screen) detail(colour, text string) {
	s.line("%s%s", s.symbol("    ", "     "), s.paint(colour, text))
}

// good and bad mark what went as it should and what did not. Both are equally wide.
func (s *screen) good() string { return s.paint(asOK, s.symbol("✓", "ok")) }
func (s *screen) bad() string  { return s.paint(red, s.symbol("✗", "NO")) }

// symbol returns fancy where it can be shown, else ascii.
func (s *screen) symbol(fancy, ascii string) string {
	if s.look.symbols {
		return fancy
	}
	return ascii
}

// title writes a heading.
func (s *screen) title(text string) { s.line("\n%s", s.paint(bold, text)) }

// task is something that takes a moment. While it does, it says what it waits for.
type task struct {
	s     *screen
	name  string
	began time.Time
	stop  chan struct{}
	over  chan struct{}

	mu   sync.Mutex
	what func() string
}

// begin starts a task. done or drop must follow.
func (s *screen) begin(name string) *task {
	t := &task{s: s, name: name, began: s.now(), stop: make(chan struct{}), over: make(chan struct{})}
	go t.show()
	return t
}

// How often the changing line changes, and how often a plain line says that something
// still goes on.
const (
	liveEvery  = 100 * time.Millisecond
	plainEvery = 5 * time.Second
)

func (t *task) show() {
	defer close(t.over)
	every := plainEvery
	if t.s.look.live {
		every = liveEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for turn := 0; ; turn++ {
		if t.s.look.live {
			t.s.bottom(fmt.Sprintf("  %s %s: %s  %s", t.s.spinner(turn), t.name, t.waitingFor(), span(t.s.now().Sub(t.began))))
		}
		select {
		case <-t.stop:
			return
		case <-tick.C:
			if !t.s.look.live {
				t.s.line("  .. %s: %s, for %s now", t.name, t.waitingFor(), span(t.s.now().Sub(t.began)))
			}
		}
	}
}

// spinner returns the frame of a turn.
func (s *screen) spinner(turn int) string {
	frames := []rune(s.symbol("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", `|/-\`))
	return string(frames[turn%len(frames)])
}

// waits says what the task waits for from now on.
func (t *task) waits(format string, args ...any) {
	t.waitsBy(func() string { return fmt.Sprintf(format, args...) })
}

// waitsBy is like waits, for a text that changes.
func (t *task) waitsBy(what func() string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.what = what
}

func (t *task) waitingFor() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.what == nil {
		return "starting"
	}
	return t.what()
}

// done ends the task and writes what came of it.
func (t *task) done(format string, args ...any) {
	t.drop()
	took := t.s.now().Sub(t.began)
	t.s.line("  %s %-16s %s%s", t.s.good(), t.name, fmt.Sprintf(format, args...), t.s.paint(dim, "  "+span(took)))
}

// drop ends the task without a word. It does nothing after done.
func (t *task) drop() {
	select {
	case <-t.stop:
		return
	default:
	}
	close(t.stop)
	<-t.over
	t.s.bottom("")
}

// span writes a duration for a person.
func span(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// thousands writes a number with commas.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// firstLine returns the first line of a program's output.
func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(line)
}
