package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// unit says how a figure is written.
type unit string

const (
	milliseconds unit = "ms"
	seconds      unit = "s"
	cpuSeconds   unit = "CPU s"
	kilobytes    unit = "KB"
	megabytes    unit = "MB"
	percent      unit = "%"
	ratio        unit = "times"
	pieces       unit = ""
)

// The systems that figures are of, as the table names them.
const (
	ours     = "Fairlead"
	snapshot = "SnapshotCache"
	linear   = "LinearCache"
)

// figure is a line of the table.
type figure struct {
	what string
	unit unit
	// asked is the most that it should be; 0 where nothing is asked.
	asked float64
	// rounds are the values of each system, one a round.
	rounds map[string][]float64
}

// table are all figures, in the order in which they were first given.
type table struct {
	figures []*figure
	// told is called with each new value.
	told func(string)
}

// add takes a round's value of a figure.
func (t *table) add(what string, u unit, asked float64, system string, value float64) {
	i := slices.IndexFunc(t.figures, func(f *figure) bool { return f.what == what && f.unit == u })
	if i < 0 {
		i = len(t.figures)
		t.figures = append(t.figures, &figure{what: what, unit: u, asked: asked, rounds: map[string][]float64{}})
	}
	f := t.figures[i]
	f.rounds[system] = append(f.rounds[system], value)
	if t.told != nil {
		t.told(fmt.Sprintf("%s: %s %s %s", system, what, number(value), u))
	}
}

// median returns the middle value, the lower one of two.
func median(values []float64) float64 { return percentile(values, 50) }

// percentile returns the value that a share of all, in percent, does not exceed.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(p/100*float64(len(sorted))))-1)]
}

// number writes a value with three digits that count.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case a >= 100 || a == 0:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// cell writes the median of all rounds, and their range.
func cell(values []float64) string {
	switch len(values) {
	case 0:
		return ""
	case 1:
		return number(values[0])
	}
	return fmt.Sprintf("%s (%s to %s)", number(median(values)), number(slices.Min(values)), number(slices.Max(values)))
}

// markdown writes the table. The last column is how many times as much the better peer
// took.
func (t *table) markdown() string {
	var b strings.Builder
	b.WriteString("| what | asked | " + ours + " | reached | " + snapshot + " | " + linear + " | the better peer, in times of ours |\n|---|---|---|---|---|---|---|\n")
	for _, f := range t.figures {
		what, asked, reached, times := f.what, "", "", ""
		if f.unit != pieces {
			what += ", " + string(f.unit)
		}
		own := median(f.rounds[ours])
		if f.asked > 0 {
			asked, reached = number(f.asked), "no"
			if own <= f.asked {
				reached = "yes"
			}
		}
		best := math.Inf(1)
		for _, peer := range []string{snapshot, linear} {
			if v := f.rounds[peer]; len(v) > 0 {
				best = min(best, median(v))
			}
		}
		if !math.IsInf(best, 1) && own > 0 {
			times = number(best / own)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", what, asked, cell(f.rounds[ours]), reached, cell(f.rounds[snapshot]), cell(f.rounds[linear]), times)
	}
	return b.String()
}
