package agent

import (
	"bytes"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// tap passes Envoy's log on and picks from it why the control plane closed a stream: Envoy
// tells that nowhere else.
type tap struct {
	to     io.Writer
	closed func(code int, message string)
	line   []byte // the beginning of the line that is being written
}

// closeLine is Envoy's line about a stream that was closed. Beginning with its own prefix it
// cannot be the text of someone else in an access log.
var closeLine = regexp.MustCompile(`^\[[^\]]+\]\[\d+\]\[\w+\]\[config\] \[[^\]]*\] \w+ gRPC config stream to ` + xdsClusterName + ` closed(?: since \d+s ago)?: (\d+), (.*)$`)

// mostOfLine bounds what is kept of a line.
const mostOfLine = 4096

// Write never fails: that nobody reads the log is no reason for Envoy to stop.
func (t *tap) Write(p []byte) (int, error) {
	_, _ = t.to.Write(p)
	for rest := p; len(rest) > 0; {
		part, after, ended := bytes.Cut(rest, []byte{'\n'})
		t.line = append(t.line, part[:min(len(part), mostOfLine-len(t.line))]...)
		rest = after
		if !ended {
			break
		}
		t.look()
		t.line = t.line[:0]
	}
	return len(p), nil
}

func (t *tap) look() {
	if !bytes.Contains(t.line, []byte(" gRPC config stream to ")) {
		return
	}
	m := closeLine.FindSubmatch(t.line)
	if m == nil {
		return
	}
	if code, err := strconv.Atoi(string(m[1])); err == nil {
		t.closed(code, serverWords(string(m[2])))
	}
}

// serverWords is what the server said: without what Envoy adds, on one line and not too long.
func serverWords(s string) string {
	if i := strings.LastIndex(s, " (previously "); i >= 0 {
		s = s[:i]
	}
	s = strings.TrimSuffix(strings.TrimSpace(s), "{via_upstream}")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 500 {
		s = string(r[:500]) + "…"
	}
	return s
}
