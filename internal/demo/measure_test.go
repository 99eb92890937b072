package demo

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// edit is when the edit of these tests is made.
var edit = time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC)

// answer is a request that took a millisecond and ended at a time after the edit.
func answer(version string, after time.Duration) sample {
	end := edit.Add(after)
	return sample{sent: end.Add(-time.Millisecond), end: end, version: version}
}

func TestShares(t *testing.T) {
	t.Parallel()
	answers := func(blues, greens, others, failures int) []sample {
		var out []sample
		for version, n := range map[string]int{blue: blues, green: greens, "red": others} {
			for range n {
				out = append(out, answer(version, time.Second))
			}
		}
		for range failures {
			out = append(out, sample{err: errors.New("status 503")})
		}
		return out
	}
	for name, c := range map[string]struct {
		samples     []sample
		asked       weights
		blue, green float64
		off         float64
		failed      int
	}{
		"as asked":                  {answers(90, 10, 0, 0), weights{90, 10}, 90, 10, 0, 0},
		"two points off":            {answers(48, 52, 0, 0), weights{50, 50}, 48, 52, 2, 0},
		"weights are relative":      {answers(30, 10, 0, 0), weights{3, 1}, 75, 25, 0, 0},
		"failures are no answers":   {answers(5, 5, 0, 10), weights{50, 50}, 50, 50, 0, 10},
		"somebody else answers":     {answers(50, 40, 10, 0), weights{50, 50}, 50, 40, 10, 0},
		"nobody answers":            {answers(0, 0, 0, 3), weights{100, 0}, 0, 0, 100, 3},
		"no request was made":       {nil, weights{100, 0}, 0, 0, 100, 0},
		"all from the wrong colour": {answers(7, 0, 0, 0), weights{0, 100}, 100, 0, 100, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := count(c.samples)
			if got.share(blue) != c.blue || got.share(green) != c.green || got.off(c.asked) != c.off || got.failed != c.failed {
				t.Errorf("blue %v, green %v, off by %v, %d failed; want %v, %v, %v, %d",
					got.share(blue), got.share(green), got.off(c.asked), got.failed, c.blue, c.green, c.off, c.failed)
			}
		})
	}
}

func TestWhenAnEditIsObeyed(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	fail := answer("", 5*ms)
	fail.err = errors.New("status 503")
	samples := []sample{answer(blue, -20*ms), answer(blue, 10*ms), fail, answer(green, 14*ms), answer(blue, 12*ms), answer(green, 13*ms)}
	for name, c := range map[string]struct {
		before, after weights
		first, last   time.Duration
	}{
		"all moves":              {weights{100, 0}, weights{0, 100}, 13 * ms, 12 * ms},
		"some of it moves":       {weights{100, 0}, weights{90, 10}, 13 * ms, never},
		"the rest moves":         {weights{50, 50}, weights{0, 100}, never, 12 * ms},
		"both had and have some": {weights{90, 10}, weights{50, 50}, never, never},
		"nothing moves":          {weights{100, 0}, weights{100, 0}, never, never},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := firstObeying(samples, edit, c.before, c.after); got != c.first {
				t.Errorf("first obeying answer after %v, want %v", got, c.first)
			}
			if got := lastDisobeying(samples, edit, c.before, c.after); got != c.last {
				t.Errorf("last disobeying answer after %v, want %v", got, c.last)
			}
		})
	}
	if got := lastDisobeying(samples[:1], edit, weights{100, 0}, weights{0, 100}); got != never {
		t.Errorf("an answer before the edit counts as disobeying it: after %v", got)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	early := answer(blue, settleTime)
	early.sent = edit
	samples := []sample{early, answer(green, settleTime+time.Second), answer(green, settleTime+2*time.Second)}
	got := judge("all", samples, edit, weights{100, 0}, weights{0, 100}, 4)
	want := row{
		step: "all", asked: weights{0, 100}, ok: true, first: settleTime + time.Second, last: settleTime,
		seen: tally{total: 2, answers: map[string]int{green: 2}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(row{}, weights{}, tally{})); diff != "" {
		t.Errorf("what was sent before the edit settled is no part of the share (-want +got):\n%s", diff)
	}

	failed := sample{sent: edit, end: edit, err: errors.New("status 503")}
	if got := judge("all", append(samples, failed), edit, weights{100, 0}, weights{0, 100}, 4); got.ok || got.failed != 1 {
		t.Errorf("a failure while the edit settles: ok %v, %d failed; want not ok, 1", got.ok, got.failed)
	}
	if got := judge("half", samples, edit, weights{0, 100}, weights{50, 50}, 4); got.ok {
		t.Error("a share 50 points off is ok")
	}
}

// Shares of fewer requests may be further off, and are of enough requests to mean something.
func TestSmallerShares(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]float64{sampleSize: 4, sampleSize / 4: 8} {
		if got := tolerance(n); got != want {
			t.Errorf("a share of %d requests may be %v points off, want %v", n, got, want)
		}
	}
	for n, want := range map[int]string{0: "", leastShare: "", leastShare - 1: "--share is 299, allowed are 300 requests and more"} {
		got := ""
		if err := (Config{Network: Auto, Share: n}).Check(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("a share of %d requests: %q, want %q", n, got, want)
		}
	}
}
