package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Terminal is where a command reads and writes.
type Terminal struct {
	In       io.Reader
	Out, Err io.Writer
	// Colour allows colours on Out.
	Colour bool
	// Progress allows lines on Err that are written anew.
	Progress bool
	// Width is how many characters a line of Out has before long ones are broken; 0 leaves
	// them as they are.
	Width int
	// Now is the clock that ages are told by; nil is the system's.
	Now func() time.Time
}

// NewTerminal returns the terminal of a process. There are colours only if out is a terminal
// and neither NO_COLOR is set nor TERM=dumb. Lines are broken only if out is a terminal and
// COLUMNS says how wide it is.
func NewTerminal(in io.Reader, out, err io.Writer) Terminal {
	t := Terminal{In: in, Out: out, Err: err, Progress: isTerminal(err) && os.Getenv("TERM") != "dumb"}
	if isTerminal(out) {
		t.Colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if width, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && width > 0 {
			t.Width = width
		}
	}
	return t
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (t Terminal) now() time.Time {
	if t.Now != nil {
		return t.Now()
	}
	return time.Now()
}

// Colours, as terminals number them.
const (
	bold   = 1
	red    = 31
	green  = 32
	yellow = 33
	dim    = 2
)

func (t Terminal) paint(colour int, s string) string {
	if !t.Colour || s == "" {
		return s
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", colour, s)
}

func (t Terminal) printf(format string, args ...any) { fmt.Fprintf(t.Out, format, args...) }

// fold breaks a line at its spaces so that no part of it is wider than the terminal, if that
// can be. What follows the first part is indented deeper than the line itself.
func (t Terminal) fold(line string) string {
	text := strings.TrimLeft(line, " ")
	indent := len(line) - len(text)
	if room := t.Width - indent; room < 40 || utf8.RuneCountInString(text) <= room {
		return line // there is no width, or none that more lines would help
	}
	const deeper = 4
	var b strings.Builder
	b.WriteString(line[:indent])
	column := indent
	for i, word := range strings.Split(text, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n > t.Width:
			b.WriteString("\n" + strings.Repeat(" ", indent+deeper))
			column = indent + deeper
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

// printable replaces what could control a terminal. Names of virtual services and texts that
// come from proxies are others' words.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' {
			return ' '
		}
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == utf8.RuneError || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, s)
}

// age words how long ago something was, in one unit: 5s, 12m, 3h, 40d.
func age(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	d := max(now.Sub(then), 0)
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// plural words a count of things: "1 proxy", "2 proxies".
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// table is rows with the same columns, aligned when printed. It counts characters, so that
// names in any script stay in line.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) {
	for i, c := range cells {
		cells[i] = printable(c)
	}
	t.rows = append(t.rows, cells)
}

// write writes the table; a column that is empty in all rows is left out.
func (t *table) write(term Terminal, indent string) {
	widths := make([]int, len(t.head))
	used := make([]bool, len(t.head))
	for _, row := range t.rows {
		for i, c := range row {
			used[i] = used[i] || c != ""
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for i, h := range t.head {
		widths[i] = max(widths[i], utf8.RuneCountInString(h))
	}
	line := func(cells []string) string {
		var b strings.Builder
		b.WriteString(indent)
		for i, c := range cells {
			if used[i] {
				b.WriteString(c + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2))
			}
		}
		return strings.TrimRight(b.String(), " ")
	}
	if head := line(t.head); strings.TrimSpace(head) != "" {
		term.printf("%s\n", term.paint(bold, head))
	}
	for _, row := range t.rows {
		term.printf("%s\n", line(row))
	}
}
