package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// noise tells how much of the machine others take while something is measured.
type noise struct {
	at        time.Time
	all, ours time.Duration // processor time
}

// hear begins. Processes of ours must have ended by then, and when noise is asked for.
func hear() (noise, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return noise{}, err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	var busy int64
	for i, f := range strings.Fields(line) {
		const idle, wait = 4, 5 // positions, "cpu" being the first
		if i == 0 || i == idle || i == wait || i > 8 {
			continue // the rest is counted in user time already
		}
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return noise{}, fmt.Errorf("reading /proc/stat: %w", err)
		}
		busy += n
	}
	const tick = 10 * time.Millisecond
	n := noise{at: time.Now(), all: time.Duration(busy) * tick}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			return noise{}, err
		}
		n.ours += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return n, nil
}

// since returns how many cores others took on average.
func (n noise) since(before noise) float64 {
	return max(0, (n.all-before.all-(n.ours-before.ours)).Seconds()/n.at.Sub(before.at).Seconds())
}

// listenDrops returns how many connection attempts this machine has dropped because a
// listener's queue was full. Who attempted waits a second, then longer, and tries again.
func listenDrops() (float64, error) {
	raw, err := os.ReadFile("/proc/net/netstat")
	if err != nil {
		return 0, err
	}
	var names []string
	for line := range strings.Lines(string(raw)) {
		rest, ok := strings.CutPrefix(line, "TcpExt:")
		if !ok {
			continue
		}
		if names == nil {
			names = strings.Fields(rest)
			continue
		}
		for i, v := range strings.Fields(rest) {
			if i < len(names) && names[i] == "ListenOverflows" {
				return strconv.ParseFloat(v, 64)
			}
		}
	}
	return 0, errors.New("/proc/net/netstat does not say how many connections were dropped")
}
