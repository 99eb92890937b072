package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// envoys returns the process ids of the Envoys that this process has started, itself or
// through an agent, but for some others.
func envoys(b *testing.B, others ...int) []int {
	b.Helper()
	parents, names := map[int]int{}, map[int]string{}
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range all {
		if pid, name, fields := stat(file); fields != nil {
			parents[pid], names[pid] = number(fields[1]), name
		}
	}
	var out []int
	for pid, name := range names {
		ours := false
		for p := pid; p > 1 && !ours; p = parents[p] {
			ours = p == os.Getpid()
		}
		if ours && name == "envoy" && !slices.Contains(others, pid) {
			out = append(out, pid)
		}
	}
	slices.Sort(out)
	return out
}

// stat reads what the system says of a process; fields are those behind its name, nil if
// the process has ended.
func stat(file string) (pid int, name string, fields []string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, "", nil
	}
	before, after, ok := strings.Cut(string(raw), ") ")
	id, name, named := strings.Cut(before, " (")
	if !ok || !named {
		return 0, "", nil
	}
	return number(id), name, strings.Fields(after)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

// cpu returns how long processes have run.
func cpu(b *testing.B, pids []int) time.Duration {
	b.Helper()
	const tick = 10 * time.Millisecond // of Linux, as user space sees it
	var sum time.Duration
	for _, pid := range pids {
		_, _, fields := stat(fmt.Sprintf("/proc/%d/stat", pid))
		if fields == nil {
			b.Fatalf("process %d has ended", pid)
		}
		sum += time.Duration(number(fields[11])+number(fields[12])) * tick
	}
	return sum
}
