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

// missed is by how much longer the time since a proxy's last report may be than the time that it
// reports of. Beyond that a report was lost, or this one is late, which the next one shows.
const missed = time.Second

// onItsWay is how long, in seconds, a smaller rate may take to reach a proxy.
const onItsWay = 1.0

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
	// before are the proxies that were sent rates by who had the bucket before, and have not
	// reported since.
	before inherited
	// stirred is set where shares may be others than they were when they were looked over.
	stirred bool
}

// proxy is what is known of one that uses the bucket.
type proxy struct {
	at     time.Time // of its last report
	passed float64   // what it let through then, in requests a second
	demand float64   // what it asked for lately, in requests a second
	has    Assignment
	since  time.Time // when it got that
	owed   float64   // what it may have let through since its last report, before that
	early  float64   // the part of owed that was before this window
	tokens float64   // how many it may have had left when it got that
	sent   bool      // it knows what it has
	lost   float64   // what was added at the last report for reports that were lost
	gap    float64   // the time of those, in seconds
}

// inherited is what proxies may let through of which nobody knows more.
type inherited struct {
	rate    float64
	proxies int
	until   time.Time
}

// NewBucket returns a bucket for so many requests in each window.
func NewBucket(limit int64, per time.Duration) *Bucket {
	return &Bucket{limit: limit, per: per, proxies: map[string]*proxy{}}
}

// Change sets another limit. What was used stays, if windows are as long as before.
func (b *Bucket) Change(limit int64, per time.Duration) {
	if b.per != per {
		b.per, b.window, b.used = per, time.Time{}, 0
	}
	b.limit, b.stirred = limit, true
}

// Kept is what outlasts who has the bucket.
type Kept struct {
	Used int64 `json:"used"`
	// Rate is what so many proxies together were sent, in requests a second.
	Rate    float64 `json:"rate,omitzero"`
	Proxies int     `json:"proxies,omitzero"`
	// Each says it of each by its id, if that is wanted.
	Each map[string]KeptProxy `json:"each,omitempty"`
}

// KeptProxy is what outlasts of a proxy.
type KeptProxy struct {
	At     time.Time  `json:"at"`     // of its last report
	Passed float64    `json:"passed"` // as it said, in requests a second
	Has    Assignment `json:"has"`
}

// Restore takes over from who had the bucket until some time before.
func (b *Bucket) Restore(now time.Time, k Kept) {
	b.turn(now)
	b.used = k.Used
	for id, p := range k.Each {
		b.proxies[id] = &proxy{at: p.At, since: p.At, passed: p.Passed, demand: p.Passed, has: p.Has, sent: true}
	}
	if len(k.Each) == 0 {
		// They have not reported since some time before, and a report may be lost.
		b.before = inherited{2 * k.Rate, k.Proxies, now.Add(2 * (ReportEvery + Late))}
	}
}

// Keep returns what is to outlast this bucket, with each proxy if that is wanted.
func (b *Bucket) Keep(now time.Time, each bool) Kept {
	b.turn(now)
	k := Kept{Used: b.used, Proxies: len(b.proxies)}
	if each && len(b.proxies) > 0 {
		k.Each = make(map[string]KeptProxy, len(b.proxies))
	}
	for id, p := range b.proxies {
		k.Rate += b.cost(p)
		if each {
			k.Each[id] = KeptProxy{p.at, p.passed, p.has}
		}
	}
	return k
}

// Used returns when the window of a time began, and how many requests were used in it as far as
// was reported.
func (b *Bucket) Used(now time.Time) (window time.Time, used int64) {
	b.turn(now)
	return b.window, b.used
}

// Proxies returns how many proxies use the bucket.
func (b *Bucket) Proxies() int { return len(b.proxies) }

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
		if b.before.proxies > 0 {
			b.before.rate -= b.before.rate / float64(b.before.proxies)
			b.before.proxies--
		}
	}
	b.turn(now)
	b.stirred = b.stirred || allowed+denied > 0 || p.has.Rate > 0
	b.used -= int64(min(b.late(p, now, elapsed), float64(b.used)))
	b.lose(p, now, allowed, elapsed)
	b.used += int64(math.Ceil(float64(allowed)*b.within(p, now, elapsed) + p.lost))
	p.passed = float64(allowed) / max(elapsed.Seconds(), 1)
	if denied > 0 { // else it had let those through
		p.tokens = 0
	} else {
		p.tokens = float64(p.has.Burst)
	}
	p.demand = float64(allowed+denied) / max(elapsed.Seconds(), 1)
	p.at, p.owed, p.early = now, 0, 0
	b.forget(now)
	p.set(now, b.assign(now, id), true)
	return p.has
}

// late returns how much of what the last report added for lost ones was not lost: so much as this
// one is about a time before the last one came, for then that was late.
func (b *Bucket) late(p *proxy, now time.Time, elapsed time.Duration) float64 {
	over := p.at.Sub(now.Add(-elapsed)).Seconds()
	if p.lost == 0 || over <= 0 || p.at.Before(b.window) {
		return 0
	}
	return p.lost * min(over/p.gap, 1)
}

// lose notes how many requests a proxy has let through, by what it was sent and by what it lets
// through else, of which the report was lost: its server was killed, or could not be reached.
func (b *Bucket) lose(p *proxy, now time.Time, allowed int64, elapsed time.Duration) {
	p.lost = 0
	begin := now.Add(-elapsed)
	gap := begin.Sub(p.at)
	if p.at.IsZero() || gap < missed {
		return
	}
	if p.at.Before(b.window) { // what was before this window does not count any more
		gap = max(begin.Sub(b.window), 0)
	}
	most := p.owed + p.has.Rate*max(begin.Sub(p.since).Seconds(), 0) + p.tokens
	p.gap = gap.Seconds()
	p.lost = min(most, max(p.passed, float64(allowed)/max(elapsed.Seconds(), 1))*p.gap)
}

// set gives a proxy an assignment.
func (p *proxy) set(now time.Time, a Assignment, sent bool) {
	p.tokens = p.carries(a.Burst)
	p.has, p.since, p.sent = a, now, sent
}

// carries returns how many tokens a proxy may begin with if it gets a token bucket of a size: one
// keeps the tokens that were in the last one, and is full if there was none.
func (p *proxy) carries(burst int) float64 {
	if p.has.Rate == 0 {
		return float64(burst)
	}
	return min(p.tokens, float64(burst))
}

// within returns which part of what a proxy has let through, in a time that ends now, belongs
// to this window: as its rates were.
func (b *Bucket) within(p *proxy, now time.Time, elapsed time.Duration) float64 {
	since := now.Sub(b.window)
	if elapsed <= since || elapsed == 0 {
		return 1
	}
	total := p.owed + p.has.Rate*now.Sub(p.since).Seconds() + p.tokens
	if p.since.IsZero() || total == 0 {
		return since.Seconds() / elapsed.Seconds()
	}
	return min(max(1-b.earlyOf(p)/total, 0), 1)
}

// earlyOf returns what a proxy may have let through before this window, of which there was no
// report.
func (b *Bucket) earlyOf(p *proxy) float64 {
	if p.since.Before(b.window) {
		return p.owed + p.has.Rate*b.window.Sub(p.since).Seconds()
	}
	return p.early
}

// revise gives a proxy another assignment before it reports. owed is what it may let through
// beside that.
func (b *Bucket) revise(now time.Time, p *proxy, to Assignment, owed float64) {
	p.early = b.earlyOf(p)
	b.stirred = true // what became free may be another's next time
	p.owed = owed
	if p.has.Rate > 0 {
		p.tokens = 0 // they are among what is owed
	}
	p.set(now, to, false)
}

// Gone takes note that a proxy is not there any more, without a last report: it is taken to
// have used what it might.
func (b *Bucket) Gone(now time.Time, id string) {
	p := b.proxies[id]
	if p == nil {
		return
	}
	b.turn(now)
	until := now
	if last := p.at.Add(ReportEvery + Late); last.Before(now) {
		until = last
	}
	most := p.owed + p.has.Rate*max(until.Sub(p.since), 0).Seconds() + p.tokens
	b.used += int64(math.Ceil(most * b.within(p, until, until.Sub(p.at))))
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

// Tend looks whether what proxies have is what they would be given now, and changes it where it
// is not, so that nobody has to wait for others' reports. What Changed returns then is to be
// sent.
func (b *Bucket) Tend(now time.Time) {
	window := b.window
	if b.turn(now); !b.stirred && window.Equal(b.window) {
		return
	}
	b.stirred = false
	b.forget(now)
	ids, targets := b.targets(now)
	budget, all := b.budget(now)*horizon, b.outstanding(now)
	for i, id := range ids { // what is taken away goes first
		p := b.proxies[id]
		if targets[i] < b.cost(p)/1.2 {
			before := b.mayUse(p, now)
			to := b.worth(p, targets[i])
			b.revise(now, p, to, p.owed+p.has.Rate*(now.Sub(p.since).Seconds()+onItsWay)-to.Rate*onItsWay+p.tokens)
			all += b.mayUse(p, now) - before
		}
	}
	for i, id := range ids {
		p := b.proxies[id]
		own := b.mayUse(p, now)
		left := max(horizon-now.Sub(p.at).Seconds(), 1)
		spent := p.owed + p.has.Rate*now.Sub(p.since).Seconds() + p.tokens
		rate := min(targets[i], (budget-(all-own)-spent)/left)
		if to := b.worth(p, rate); to.Rate > 0 && rate > b.cost(p)*1.2 {
			b.revise(now, p, to, spent)
			all += b.mayUse(p, now) - own
		}
	}
}

// Changed returns what proxies are to go by that were not told yet, of those that are meant,
// and takes it that they are told now.
func (b *Bucket) Changed(meant func(id string) bool) map[string]Assignment {
	var out map[string]Assignment
	for id, p := range b.proxies {
		if p.sent || !meant(id) {
			continue
		}
		if out == nil {
			out = map[string]Assignment{}
		}
		out[id], p.sent = p.has, true
	}
	return out
}

// assign returns what a proxy may have that has just reported: its part of what is left, as
// long as the others go by what they have.
func (b *Bucket) assign(now time.Time, id string) Assignment {
	ids, targets := b.targets(now)
	free := b.budget(now) - (b.outstanding(now)-b.mayUse(b.proxies[id], now))/horizon
	target := targets[slices.Index(ids, id)]
	if target < leastRate && !b.short() {
		target = leastRate // the last ones go to who asks first
	}
	return b.worth(b.proxies[id], min(target, free))
}

// targets returns the parts of the budget that the proxies are to have, in requests a second.
func (b *Bucket) targets(now time.Time) (ids []string, parts []float64) {
	for id := range b.proxies {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	demands := make([]float64, len(ids))
	for i, id := range ids {
		demands[i] = max(b.proxies[id].demand*growth, leastRate)
	}
	return ids, divide(b.budget(now), demands)
}

// outstanding returns how many requests all proxies may let through, or have, of which there was
// no report yet, until their next ones.
func (b *Bucket) outstanding(now time.Time) float64 {
	sum := 0.0
	if now.Before(b.before.until) {
		sum = b.before.rate * horizon
	}
	for _, p := range b.proxies {
		sum += b.mayUse(p, now)
	}
	return sum
}

// mayUse returns that of one proxy. Where rates alone keep the quota these count.
func (b *Bucket) mayUse(p *proxy, now time.Time) float64 {
	if b.short() {
		return p.has.Rate * horizon
	}
	until := p.at.Add(ReportEvery + Late)
	return p.owed + p.has.Rate*max(until.Sub(p.since), now.Sub(p.since)).Seconds() + p.tokens
}

// short reports whether windows pass while nobody reports: then rates alone keep the quota.
func (b *Bucket) short() bool { return b.per.Seconds() <= horizon }

// worth returns what lets a proxy have so many requests a second until it reports, with what it
// may have left.
func (b *Bucket) worth(p *proxy, rate float64) Assignment {
	if b.short() {
		return Assignment{Rate: max(rate, 0), Burst: int(max(1, math.Round(rate*b.per.Seconds())))}
	}
	if rate < leastRate*(1-1e-9) {
		return Assignment{}
	}
	burst := int(max(1, math.Floor(rate/10)))
	return Assignment{Rate: max(rate-p.carries(burst)/horizon, 0.001), Burst: burst}
}

// cost returns how many requests a second a proxy may let through until it reports.
func (b *Bucket) cost(p *proxy) float64 {
	if b.short() {
		return p.has.Rate
	}
	return p.has.Rate + p.tokens/horizon
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
