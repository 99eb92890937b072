package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// unit is what a series is counted in.
type unit string

const (
	pieces    unit = ""
	megabytes unit = "MB"
)

// show writes a value.
func (u unit) show(v float64) string {
	if u == megabytes {
		return fmt.Sprintf("%.1f MB", v/1e6)
	}
	return fmt.Sprintf("%.0f", v)
}

// watched is one thing that must not grow.
type watched struct {
	name string
	unit unit
	// atMost and part bound how much it may grow between the end of the warm-up and the end
	// of the run: by atMost, or by that part of its median, whichever is more.
	atMost, part float64
}

// all is what is watched. What is not a leak, and why it moves all the same:
//
//   - heap: etcd has an index of what is stored, in which the registry's operations of an
//     hour are, and the rates of calls know each key that has signed within an hour. Half an
//     hour of these is some MB. The audit has what it has not written yet.
//   - resident: the collector begins when the heap has doubled, and gives pages back when
//     it sees fit; what it is for are leaks that are not on the heap.
//   - goroutines, files: a call or a connection that is about to end.
//   - etcd in use: history between two compactions, a sawtooth of some 2 MB, and the
//     registry's operations.
//   - directory: the files in which etcd has its state from time to time.
var all = []watched{
	{"streams", pieces, 0, 0},
	{"goroutines", pieces, 16, 0.01},
	{"file descriptors", pieces, 8, 0.01},
	{"heap", megabytes, 6e6, 0.03},
	{"resident", megabytes, 48e6, 0.10},
	{"records in the store", pieces, 50, 0.02},
	{"bytes in the store", megabytes, 2e5, 0.05},
	{"etcd in use", megabytes, 6e6, 0.10},
	{"data directory", megabytes, 8e6, 0.10},
}

// sample is what was seen at one moment.
type sample struct {
	at     float64   // seconds since the beginning
	values []float64 // in the order of all
	opened int64     // streams opened by then, by which a leak is found
}

// finding is how one thing went.
type finding struct {
	watched
	first, last float64 // medians of the second and the last quarter
	slope       float64 // a second
	growth      float64 // over the judged part
	allowed     float64
	each        float64 // growth for each stream that was opened meanwhile
}

func (f *finding) grew() bool { return f.growth > f.allowed }

// leastSamples is how many samples there must be to judge, after the warm-up.
const leastSamples = 6

// judge says how all things went. The first quarter of the run is the warm-up and does not
// count. Growth is told in two ways, and what both say counts, so that neither one jump
// back and forth nor a few odd samples decide:
//
//   - the slope of Theil and Sen, the median of the slopes between all pairs of samples,
//     over the whole time after the warm-up;
//   - the median of the last quarter less that of the second, times one and a half, which is
//     the same for what grows evenly.
func judge(what []watched, samples []sample) ([]finding, error) {
	if len(samples) == 0 {
		return nil, fmt.Errorf("there are no samples")
	}
	end := samples[len(samples)-1].at
	first := slices.IndexFunc(samples, func(s sample) bool { return s.at >= end/4 })
	judged := samples[first:]
	if len(judged) < leastSamples {
		return nil, fmt.Errorf("%d samples after the warm-up are too few to judge by: %d are needed, let it run for longer", len(judged), leastSamples)
	}
	third := len(judged) / 3
	begin, last := judged[0], judged[len(judged)-1]
	var out []finding
	for i, w := range what {
		f := finding{watched: w, slope: theilSen(judged, i), first: medianOf(judged[:third], i), last: medianOf(judged[len(judged)-third:], i)}
		f.growth = between(f.slope*(last.at-begin.at), 1.5*(f.last-f.first))
		f.allowed = max(w.atMost, w.part*medianOf(judged, i))
		if n := last.opened - begin.opened; n > 0 {
			f.each = f.growth / float64(n)
		}
		out = append(out, f)
	}
	return out, nil
}

// between is what two estimates have in common: 0 if they point in different ways.
func between(a, b float64) float64 {
	if a*b <= 0 {
		return 0
	}
	if math.Abs(a) < math.Abs(b) {
		return a
	}
	return b
}

// theilSen is the median of the slopes between all pairs.
func theilSen(samples []sample, i int) float64 {
	var slopes []float64
	for n, a := range samples {
		for _, b := range samples[n+1:] {
			if b.at > a.at {
				slopes = append(slopes, (b.values[i]-a.values[i])/(b.at-a.at))
			}
		}
	}
	return median(slopes)
}

func medianOf(samples []sample, i int) float64 {
	var values []float64
	for _, s := range samples {
		values = append(values, s.values[i])
	}
	return median(values)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// table shows the findings in Markdown.
func table(findings []finding) string {
	var b strings.Builder
	b.WriteString("| | second quarter | last quarter | growth after the warm-up | allowed | a stream opened | |\n|---|---|---|---|---|---|---|\n")
	for _, f := range findings {
		mark := ""
		if f.grew() {
			mark = "GROWS"
		}
		each := fmt.Sprintf("%.3f", f.each)
		if f.unit == megabytes {
			each = fmt.Sprintf("%.0f bytes", f.each)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", f.name, f.unit.show(f.first), f.unit.show(f.last), f.unit.show(f.growth), f.unit.show(f.allowed), each, mark)
	}
	return b.String()
}

// csv writes the samples as comma-separated values.
func csv(what []watched, samples []sample) string {
	var b strings.Builder
	b.WriteString("seconds,streams opened")
	for _, w := range what {
		b.WriteString("," + w.name)
	}
	b.WriteString("\n")
	for _, s := range samples {
		fmt.Fprintf(&b, "%.1f,%d", s.at, s.opened)
		for _, v := range s.values {
			fmt.Fprintf(&b, ",%.0f", v)
		}
		b.WriteString("\n")
	}
	return b.String()
}
