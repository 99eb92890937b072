package demo

import (
	"math"
	"time"
)

// The two versions of colour.
const (
	blue  = "blue"
	green = "green"
)

// weights are what a route gives each version.
type weights struct{ blue, green int }

// of returns a version's weight.
func (w weights) of(version string) int {
	if version == blue {
		return w.blue
	}
	return w.green
}

// tally is what became of a number of requests.
type tally struct {
	total, failed int
	answers       map[string]int // by version
	reason        error          // of one of the failed
}

// count counts requests.
func count(samples []sample) tally {
	t := tally{answers: map[string]int{}}
	for _, s := range samples {
		t.total++
		if s.err != nil {
			t.failed++
			t.reason = s.err
			continue
		}
		t.answers[s.version]++
	}
	return t
}

// share returns the part of the answers that came from a version, in percent; 0 where
// there is no answer.
func (t tally) share(version string) float64 {
	if answered := t.total - t.failed; answered > 0 {
		return 100 * float64(t.answers[version]) / float64(answered)
	}
	return 0
}

// off returns by how many points the worse of the two shares differs from what the
// weights ask for. An answer from neither version counts against both.
func (t tally) off(asked weights) float64 {
	sum := float64(asked.blue + asked.green)
	var worst float64
	for _, version := range []string{blue, green} {
		want := 100 * float64(asked.of(version)) / sum
		worst = max(worst, math.Abs(t.share(version)-want))
	}
	return worst
}

// sentFrom returns the requests that were sent at a time or later.
func sentFrom(samples []sample, from time.Time) []sample {
	var out []sample
	for _, s := range samples {
		if !s.sent.Before(from) {
			out = append(out, s)
		}
	}
	return out
}

// never stands for a time that was not seen or could not be.
const never = time.Duration(-1)

// firstObeying returns the time from an edit to the first answer that only its weights
// explain: one from a version that had weight 0 before. It is never where the edit gives
// weight to no such version, or no answer came.
func firstObeying(samples []sample, edit time.Time, before, after weights) time.Duration {
	first := never
	for _, s := range samples {
		if s.err != nil || before.of(s.version) > 0 || after.of(s.version) == 0 {
			continue
		}
		if d := s.end.Sub(edit); first == never || d < first {
			first = d
		}
	}
	return first
}

// lastDisobeying returns the time from an edit to the last answer that only the weights
// before it explain: one from a version that has weight 0 now. It is never where the
// edit takes all weight from no version, or no answer came after it.
func lastDisobeying(samples []sample, edit time.Time, before, after weights) time.Duration {
	last := never
	for _, s := range samples {
		if s.err != nil || before.of(s.version) == 0 || after.of(s.version) > 0 || s.end.Before(edit) {
			continue
		}
		last = max(last, s.end.Sub(edit))
	}
	return last
}
