package agent

import "time"

// Times of starting Envoy again.
const (
	// healthyAfter is how long an Envoy must have run for the restarts before it to be
	// forgotten.
	healthyAfter = 10 * time.Minute
	// atOnce is how many in a row that never served are replaced without a pause.
	atOnce       = 2
	restartFirst = 500 * time.Millisecond // the first pause; it doubles
	restartMost  = 5 * time.Second
	// killedCode is the code of an Envoy that was killed (SIGKILL), which it does not do to
	// itself: no sign of one that cannot start.
	killedCode = 128 + 9
)

// restarts decides whether and when an Envoy that ended by itself is started again.
type restarts struct {
	most   int // in a row
	used   int // since one ran for healthyAfter
	failed int // that never served and were not killed, since one did or was
}

// next is told how the last Envoy ended, for how long it had run, and whether it served
// meanwhile. One that ended with code 0 was told to end, by its admin interface or by a signal
// of its own; one that served is no Envoy that cannot start, and nor is one that was killed:
// both are started again at once. Pauses are for those that keep failing to.
func (r *restarts) next(code int, ran time.Duration, served bool) (pause time.Duration, again bool) {
	if ran >= healthyAfter {
		r.used = 0
	}
	if code == 0 || r.used >= r.most {
		return 0, false
	}
	r.used++
	r.failed++
	if served || code == killedCode {
		r.failed = 0
	}
	if r.failed <= atOnce {
		return 0, true
	}
	return min(restartFirst<<(r.failed-atOnce-1), restartMost), true
}
