package main

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// series makes samples of one thing, one every five seconds for a time in minutes.
func series(minutes float64, value func(at float64) float64) []sample {
	var out []sample
	for at := 0.0; at <= minutes*60; at += 5 {
		out = append(out, sample{at: at, values: []float64{value(at)}, opened: int64(at * 20)})
	}
	return out
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	noise := func(seed uint64, size float64) func() float64 {
		r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // the same numbers each time, on purpose
		return func() float64 { return size * r.NormFloat64() }
	}
	heap := watched{"heap", megabytes, 4e6, 0.05}
	few := watched{"goroutines", pieces, 16, 0.01}
	for name, c := range map[string]struct {
		what    watched
		minutes float64
		value   func(at float64, noise float64) float64
		noise   float64
		grows   bool
	}{
		"flat":                            {heap, 30, func(_, n float64) float64 { return 80e6 + n }, 3e6, false},
		"falls":                           {heap, 30, func(at, n float64) float64 { return 80e6 - 20e3*at + n }, 3e6, false},
		"a leak of 250 bytes a stream":    {heap, 30, func(at, n float64) float64 { return 80e6 + 250*20*at + n }, 3e6, true},
		"a leak in two minutes":           {heap, 2, func(at, n float64) float64 { return 80e6 + 5000*20*at + n }, 1e6, true},
		"warms up and stays":              {heap, 30, func(at, n float64) float64 { return 80e6 + 40e6*min(1, at/400) + n }, 2e6, false},
		"a saw":                           {heap, 30, func(at, n float64) float64 { return 80e6 + 15e6*math.Mod(at, 120)/120 + n }, 1e6, false},
		"a saw that climbs":               {heap, 30, func(at, n float64) float64 { return 80e6 + 15e6*math.Mod(at, 120)/120 + 15e3*at + n }, 1e6, true},
		"one wild sample in ten":          {heap, 30, func(at, n float64) float64 { return 80e6 + 60e6*float64(int(at/5)%10/9) + n }, 2e6, false},
		"a goroutine in a hundred":        {few, 30, func(at, n float64) float64 { return math.Round(300 + 0.2*at + n) }, 3, true},
		"goroutines come and go":          {few, 30, func(_, n float64) float64 { return math.Round(300 + n) }, 6, false},
		"a jump at the end":               {few, 30, func(at, n float64) float64 { return 300 + 200*math.Floor(at/1700) + n }, 3, false},
		"a step in the middle that stays": {few, 30, func(at, n float64) float64 { return 300 + 200*math.Floor(min(1, at/1100)) + n }, 3, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(5) {
				n := noise(seed, c.noise)
				got, err := judge([]watched{c.what}, series(c.minutes, func(at float64) float64 { return c.value(at, n()) }))
				if err != nil {
					t.Fatal(err)
				}
				if got[0].grew() != c.grows {
					t.Errorf("seed %d: grows is %v, want %v:\n%s", seed, got[0].grew(), c.grows, table(got))
				}
				if marked := strings.Contains(table(got), "GROWS"); marked != c.grows {
					t.Errorf("the table says that it grows: %v, want %v", marked, c.grows)
				}
			}
		})
	}
}

// Too few samples are no verdict.
func TestTooFewSamples(t *testing.T) {
	t.Parallel()
	for _, s := range [][]sample{nil, series(0.3, func(float64) float64 { return 1 })} {
		if got, err := judge([]watched{{"x", pieces, 1, 0}}, s); err == nil {
			t.Errorf("%d samples gave %v, want an error", len(s), got)
		}
	}
}
