package quota

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// envoy is a proxy as Envoy was seen to be: it keeps its tokens when the rate changes, and
// counts what it lets through.
type envoy struct {
	id              string
	tokens          float64
	has             Assignment
	demand          float64 // requests a second
	next            time.Time
	last            time.Time
	allowed, denied int64
}

// get gives the proxy an assignment: a new token bucket is full, another one keeps its tokens.
func (e *envoy) get(a Assignment) {
	if e.has.Rate == 0 {
		e.tokens = float64(a.Burst)
	}
	e.has = a
}

// step lets a hundredth of a second pass, and returns how many requests were let through.
func (e *envoy) step(chance *rand.Rand) (through int64) {
	const dt = 0.01
	e.tokens = min(e.tokens+e.has.Rate*dt, float64(e.has.Burst))
	for n := e.demand * dt; n > 0 && chance.Float64() < n; n-- {
		if e.tokens >= 1 && e.has.Rate > 0 {
			e.tokens--
			e.allowed++
			through++
		} else {
			e.denied++
		}
	}
	return through
}

// TestKeepsQuota has proxies with demands that change, come and go, report in their own time,
// and holds what they let through in each window against the quota.
func TestKeepsQuota(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit   int64
		per     time.Duration
		proxies int
		demand  float64 // of all together, in requests a second
	}{
		{600, time.Minute, 20, 40},
		{600, time.Minute, 3, 200},
		{6000, time.Minute, 20, 300},
		{6000, time.Minute, 20, 50},
		{100, time.Second, 20, 300},
		{1000, time.Hour, 20, 100},
		{20_000, time.Hour, 5, 60},
	} {
		t.Run(fmt.Sprintf("%d in %s, %d proxies, %v a second", c.limit, c.per, c.proxies, c.demand), func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			chance := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // chance, not secrets
			b := NewBucket(c.limit, c.per)
			now := time.Unix(1_800_000_000, 0).UTC().Truncate(c.per)
			all := make([]*envoy, c.proxies)
			for i := range all {
				all[i] = &envoy{id: fmt.Sprint(i), demand: c.demand / float64(c.proxies) * (0.2 + 1.6*chance.Float64()), next: now.Add(time.Duration(chance.Int64N(int64(time.Second)))), last: now}
			}
			first, through := now, map[time.Time]int64{}
			asked := map[time.Time]float64{}
			for end := now.Add(max(3*c.per, 60*time.Second)); now.Before(end); now = now.Add(10 * time.Millisecond) {
				window := now.Truncate(max(c.per, 10*time.Second))
				if now.Sub(now.Truncate(time.Second)) == 0 {
					b.Tend(now)
				}
				if now.Sub(now.Truncate(time.Second)) == 500*time.Millisecond { // it takes its way
					for id, a := range b.Changed(func(string) bool { return true }) {
						n, _ := strconv.Atoi(id)
						all[n].get(a)
					}
				}
				for _, e := range all {
					through[window] += e.step(chance)
					asked[window] += e.demand * 0.01
					if now.Before(e.next) {
						continue
					}
					e.get(b.Report(now, e.id, e.allowed, e.denied, now.Sub(e.last)))
					e.last, e.allowed, e.denied = now, 0, 0
					e.next = now.Add(ReportEvery + time.Duration(chance.Int64N(int64(Late))))
					if chance.IntN(20) == 0 { // another load
						e.demand = c.demand / float64(c.proxies) * 2 * chance.Float64()
					}
				}
			}
			for window, n := range through {
				limit := float64(c.limit) * max(1, float64(10*time.Second)/float64(c.per))
				if float64(n) > limit*1.05+float64(c.proxies) {
					t.Errorf("seed %d: %d requests passed from %s on, the quota is %v", seed, n, window.Format(time.TimeOnly), limit)
				}
				least := 0.8
				if window.Equal(first) && c.per == time.Second { // shares are found within some windows
					least = 0.7
				}
				if want := min(limit, asked[window]); float64(n) < want*least {
					t.Errorf("seed %d: %d requests passed from %s on, of %.0f asked with a quota of %v", seed, n, window.Format(time.TimeOnly), asked[window], limit)
				}
			}
		})
	}
}

// TestGone holds that a proxy that ends, or falls silent, gives back what it did not use, and
// is taken to have used what it might.
func TestGone(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0).UTC().Truncate(time.Hour)
	b := NewBucket(1000, time.Hour)
	first := b.Report(now, "a", 0, 100, time.Second)
	if first.Rate == 0 || b.Report(now, "b", 0, 100, time.Second).Rate != 0 {
		t.Fatalf("%+v: the first has what is there until it reports again", first)
	}
	now = now.Add(2 * time.Second)
	b.Gone(now, "a")
	_, used := b.Used(now)
	if most := int64(first.Rate*2) + int64(first.Burst) + 1; used < most-1 || used > most {
		t.Errorf("%d are taken to be used, want about %d", used, most)
	}
	if b.Report(now.Add(3*time.Second), "b", 0, 500, 5*time.Second).Rate == 0 {
		t.Error("nobody has what the one that ended had")
	}
	now = now.Add(time.Minute)
	if b.Report(now, "c", 0, 1, 0); len(b.proxies) != 1 {
		t.Errorf("%d proxies are known, want 1: the other is silent", len(b.proxies))
	}
}

// TestLate holds that requests count twice of a report that is late only until the next one, and
// that those count of which the report was lost.
func TestLate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		after       []time.Duration // the report before
		allowed     int64           // in each
		least, most int64           // are used
	}{
		{"late", []time.Duration{ReportEvery + 2*time.Second, ReportEvery - 2*time.Second, ReportEvery}, 30, 90, 91},
		{"each a bit late", []time.Duration{ReportEvery + missed/2, ReportEvery - missed/2, ReportEvery}, 30, 90, 90},
		{"lost", []time.Duration{2 * ReportEvery, ReportEvery, ReportEvery}, 30, 115, 120},
		{"lost, and late", []time.Duration{2*ReportEvery + 2*time.Second, ReportEvery - 2*time.Second}, 30, 80, 92},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			now := time.Unix(1_800_000_000, 0).UTC().Truncate(time.Hour)
			b := NewBucket(10_000, time.Hour)
			b.Report(now, "a", 0, 100, time.Second)
			for _, after := range c.after {
				now = now.Add(after)
				b.Report(now, "a", c.allowed, 0, ReportEvery)
			}
			if _, used := b.Used(now); used < c.least || used > c.most {
				t.Errorf("%d are used, want %d to %d", used, c.least, c.most)
			}
		})
	}
}

// TestRestore holds that a window goes on where it was, and ends.
func TestRestore(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0).UTC().Truncate(24 * time.Hour).Add(time.Hour)
	b := NewBucket(100, 24*time.Hour)
	b.Restore(now, Kept{Used: 100})
	if got := b.Report(now, "a", 0, 1, 0); got != (Assignment{}) {
		t.Errorf("%+v, want nothing of what is used up", got)
	}
	now = now.Add(24 * time.Hour)
	if got := b.Report(now, "a", 0, 1, 5*time.Second); got.Rate == 0 {
		t.Error("nothing in a new window")
	}
	if window, used := b.Used(now); used != 0 || !window.Equal(now.Truncate(24*time.Hour)) {
		t.Errorf("%d used since %s", used, window)
	}
}

// BenchmarkReport is what a report costs where so many proxies use a bucket.
func BenchmarkReport(b *testing.B) {
	for _, n := range []int{1, 20, 1000} {
		b.Run(fmt.Sprint(n, " proxies"), func(b *testing.B) {
			bucket, now := NewBucket(1_000_000, time.Minute), time.Unix(1_800_000_000, 0)
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprint(i)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				now = now.Add(ReportEvery / time.Duration(n))
				bucket.Report(now, ids[i%n], 100, 10, ReportEvery)
			}
		})
	}
}

// BenchmarkTend is what it costs to look over the shares of a bucket that so many proxies use,
// twice a second.
func BenchmarkTend(b *testing.B) {
	for _, n := range []int{1, 20, 1000} {
		b.Run(fmt.Sprint(n, " proxies"), func(b *testing.B) {
			bucket, now := NewBucket(1_000_000, time.Minute), time.Unix(1_800_000_000, 0)
			for i := range n {
				bucket.Report(now, fmt.Sprint(i), 100, 10, ReportEvery)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				bucket.Tend(now.Add(time.Duration(i%8) * tendEvery))
			}
		})
	}
}
