package agent

import "time"

// Times of starting Envoy again.
const (
	// healthyAfter is how long an Envoy must have run for the restarts before it to be
	// forgotten.
	healthyAfter = 10 * time.Minute
	// longEnough is how long it must have run to be started again at once whatever was
	// before: it is no Envoy that cannot start.
	longEnough   = 30 * time.Second
	restartFirst = 500 * time.Millisecond // before the second restart; it doubles
	restartMost  = 5 * time.Second
)

// restarts decides whether and when an Envoy that ended by itself is started again.
type restarts struct {
	most int // in a row
	used int // since one ran for healthyAfter
}

// next is told how the last Envoy ended and for how long it had run. One that ended with
// code 0 was told to end, by its admin interface or by a signal of its own.
func (r *restarts) next(code int, ran time.Duration) (pause time.Duration, again bool) {
	if ran >= healthyAfter {
		r.used = 0
	}
	if code == 0 || r.used >= r.most {
		return 0, false
	}
	r.used++
	if r.used == 1 || ran >= longEnough {
		return 0, true
	}
	return min(restartFirst<<(r.used-2), restartMost), true
}
