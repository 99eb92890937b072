package process

import (
	"strings"
	"sync"
)

// tail keeps the last lines of what a process writes.
type tail struct {
	mu    sync.Mutex
	lines []string
}

// kept is how many lines are kept.
const kept = 20

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
	if len(t.lines) > kept {
		t.lines = t.lines[1:]
	}
}

// String returns the lines.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}
