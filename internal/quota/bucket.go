package quota

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// ReportEvery is how often a proxy reports, and Late what a report may be late by: until then
// it goes by the rate that it has.
const (
	ReportEvery = 5 * time.Second
	Late        = 500 * time.Millisecond
)

// horizon is for how long a proxy may go by a rate, in seconds.
const horizon = float64(ReportEvery+Late) / float64(time.Second)

// leastRate is the least rate that a proxy is given, in requests a second: below it waits for
// the next window.
const leastRate = 1 / horizon

// growth is by how much more than it lately asked for a proxy may ask, before others get it.
const growth = 1.5

// Assignment is what a proxy is to go by until its next report.
type Assignment struct {
	// Rate is in requests a second; 0: nothing is let through.
	Rate float64
	// Burst is how many may come at once.
	Burst int
}

// Bucket is a quota: so many requests in each window for all proxies together. Windows are
// parts of the time since the beginning of 1970, UTC. It is not for several goroutines.
type Bucket struct {
	limit   int64
	per     time.Duration
	window  time.Time // its beginning
	used    int64     // in the window, as reported
	proxies map[string]*proxy
}

// proxy is what is known of one that uses the bucket.
type proxy struct {
	at     time.Time // of its last report
	demand float64   // what it asked for lately, in requests a second
	has    Assignment
}

// New returns a bucket for so many requests in each window.
func New(limit int64, per time.Duration) *Bucket {
	return &Bucket{limit: limit, per: per, proxies: map[string]*proxy{}}
}

// Restore sets how many requests were used in the window of a time: what was kept while nobody
// had the bucket.
func (b *Bucket) Restore(at time.Time, used int64) {
	b.turn(at)
	b.used = used
}

// Used returns when the window of a time began, and how many requests were used in it as far as
// was reported.
func (b *Bucket) Used(now time.Time) (window time.Time, used int64) {
	b.turn(now)
	return b.window, b.used
}

// turn begins a new window if it is time.
func (b *Bucket) turn(now time.Time) {
	if begin := now.UTC().Truncate(b.per); !begin.Equal(b.window) {
		b.window, b.used = begin, 0
	}
}

// Report takes note of what a proxy let through and refused in a time that ends now, and
// returns what it is to go by.
func (b *Bucket) Report(now time.Time, id string, allowed, denied int64, elapsed time.Duration) Assignment {
	p := b.proxies[id]
	if p == nil {
		p = &proxy{}
		b.proxies[id] = p
	}
	b.count(now, allowed, elapsed)
	p.demand = float64(allowed+denied) / max(elapsed.Seconds(), 1)
	p.at = now
	b.forget(now)
	p.has = b.assign(now, id)
	return p.has
}

// count adds what was let through in a time that ends now: to this window the part of it that
// is in it.
func (b *Bucket) count(now time.Time, allowed int64, elapsed time.Duration) {
	b.turn(now)
	if since := now.Sub(b.window); elapsed > since && elapsed > 0 {
		allowed = int64(math.Ceil(float64(allowed) * float64(since) / float64(elapsed)))
	}
	b.used += allowed
}

// Gone takes note that a proxy is not there any more, without a last report: it is taken to
// have used what it might.
func (b *Bucket) Gone(now time.Time, id string) {
	p := b.proxies[id]
	if p == nil {
		return
	}
	elapsed := min(now.Sub(p.at), ReportEvery+Late)
	b.count(now, int64(math.Ceil(p.has.Rate*elapsed.Seconds()))+int64(p.has.Burst), elapsed)
	delete(b.proxies, id)
}

// forget drops proxies that have said nothing for several reports.
func (b *Bucket) forget(now time.Time) {
	for id, p := range b.proxies {
		if now.Sub(p.at) > 3*(ReportEvery+Late) {
			b.Gone(now, id)
		}
	}
}

// assign returns what a proxy may have: its part of what is left, as long as the others go by
// what they have.
func (b *Bucket) assign(now time.Time, id string) Assignment {
	budget := b.budget(now)
	demands := make([]float64, 0, len(b.proxies))
	own, others := 0, 0.0
	for name, p := range b.proxies {
		if name == id {
			own = len(demands)
		} else {
			others += b.cost(p.has)
		}
		demands = append(demands, max(p.demand*growth, leastRate))
	}
	return b.worth(min(divide(budget, demands)[own], budget-others))
}

// short reports whether windows pass while nobody reports: then rates alone keep the quota.
func (b *Bucket) short() bool { return b.per.Seconds() <= horizon }

// worth returns what costs so many requests a second.
func (b *Bucket) worth(rate float64) Assignment {
	if b.short() {
		return Assignment{Rate: max(rate, 0), Burst: int(max(1, math.Round(rate*b.per.Seconds())))}
	}
	if rate < leastRate {
		return Assignment{}
	}
	burst := max(1, math.Floor(rate/10))
	return Assignment{Rate: rate - burst/horizon, Burst: int(burst)}
}

// cost returns how many requests a second an assignment may let through until the next report.
func (b *Bucket) cost(a Assignment) float64 {
	if b.short() {
		return a.Rate
	}
	return a.Rate + float64(a.Burst)/horizon
}

// budget returns how many requests a second all proxies may let through together until their
// next reports.
func (b *Bucket) budget(now time.Time) float64 {
	limit, left := float64(b.limit), float64(b.limit-b.used)
	if b.short() {
		return limit / b.per.Seconds()
	}
	end := b.window.Add(b.per).Sub(now).Seconds()
	if end >= horizon {
		return max(left, 0) / horizon
	}
	// What is left for the rest of this window, and not more than the next has as well.
	return max(min(left/max(end, 0.1), (left+limit)/horizon), 0)
}

// divide returns the parts of a budget that go to those who ask for so much each. Who asks for
// less than an equal part gets it, and what is over goes to the others in equal parts.
func divide(budget float64, asked []float64) []float64 {
	out := make([]float64, len(asked))
	order := make([]int, len(asked))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(asked[a], asked[b]) })
	for n, i := range order {
		out[i] = min(asked[i], budget/float64(len(order)-n))
		budget -= out[i]
	}
	for i := range out {
		out[i] += budget / float64(len(out))
	}
	return out
}
