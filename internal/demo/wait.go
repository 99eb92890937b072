package demo

import (
	"context"
	"fmt"
	"time"
)

// pollEvery is how often something that is waited for is looked at.
const pollEvery = 20 * time.Millisecond

// await returns when ready returns nil. It gives up when limit is over, with an error
// that names what was waited for and why it was not ready, or when ctx ends, with its
// cause.
func await(ctx context.Context, what string, limit time.Duration, ready func(context.Context) error) error {
	deadline, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last error
	for {
		err := ready(deadline)
		if err == nil {
			return nil
		}
		if deadline.Err() == nil || last == nil {
			last = err // what comes after the deadline says no more than that it is over
		}
		select {
		case <-tick.C:
		case <-deadline.Done():
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("waited %s for %s in vain: %w", span(limit), what, last)
		}
	}
}
