package cloudmap

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/aws/smithy-go"
	"golang.org/x/time/rate"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// source is one of the Cloud Maps that are asked.
type source struct {
	Source
	clients clients
	limit   *rate.Limiter

	mu       sync.Mutex
	services map[mesh.InstancesKey]*service
	said     map[string]time.Time // when failures were logged, by their codes
	untold   time.Time            // until when revisions are not asked for
	refusals int                  // of revisions, in a row
	quiet    bool                 // it was said that they are not told
}

// service is what is known of one service's polls.
type service struct {
	key mesh.InstancesKey

	// The source's mutex guards these.
	wanted   bool
	busy     bool      // it is being asked for
	next     time.Time // when it is asked for again
	heard    time.Time // when the last answer came, or it was wanted first
	failures int       // in a row

	// Who asks owns these.
	revision int64 // of the last whole answer, 0 for none
	looks    int   // at the revision alone, since then
	empty    bool  // the last answer was empty, and was not believed yet
	full     bool  // it was said that there may be more instances than are told
}

// want sets what is wanted, which may name a service twice. What is not wanted any more
// is forgotten, but for what is being asked for at the moment.
func (s *source) want(keys []mesh.InstancesKey, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.services {
		one.wanted = false
	}
	for _, k := range keys {
		one := s.services[k]
		if one == nil {
			one = &service{key: k, heard: now}
			s.services[k] = one
		}
		one.wanted = true
	}
	for k, one := range s.services {
		if !one.wanted && !one.busy {
			delete(s.services, k)
		}
	}
}

// due returns the services that are to be asked for, what waits longest first: above all
// what was never asked for.
func (s *source) due(now time.Time) []*service {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []*service
	for _, one := range s.services {
		if one.wanted && !one.busy && !one.next.After(now) {
			due = append(due, one)
		}
	}
	slices.SortFunc(due, func(a, b *service) int {
		return cmp.Or(a.next.Compare(b.next), cmp.Compare(a.key.Namespace, b.key.Namespace), cmp.Compare(a.key.Service, b.key.Service))
	})
	return due
}

func (s *source) begin(one *service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one.busy = true
}

// leave takes back begin.
func (s *source) leave(one *service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one.busy = false
}

// succeeded notes that a service was asked for, and reports whether that is to be said: no
// service is left now that cannot be, and it was said that some could not.
func (s *source) succeeded(one *service, interval time.Duration) (say bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one.busy, one.failures, one.heard = false, 0, time.Now()
	one.next = one.heard.Add(spread(interval))
	if len(s.said) == 0 || s.failing() > 0 {
		return false
	}
	clear(s.said)
	return true
}

// failed notes that a service could not be asked for, and returns how many cannot be now,
// and whether that is to be said: once for all services of the source, and again when
// another kind of failure comes, or when it lasts.
func (s *source) failed(one *service, err error, interval time.Duration) (failing int, say bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	one.busy = false
	one.failures++
	wait := min(interval<<min(one.failures-1, 10), max(longestWait, interval))
	one.next = now.Add(spread(wait))
	code := kind(err)
	if at, ok := s.said[code]; !ok || now.Sub(at) >= sayAgain {
		s.said[code], say = now, true
	}
	return s.failing(), say
}

// failing counts the services that cannot be asked for. The caller holds mu.
func (s *source) failing() (n int) {
	for _, one := range s.services {
		if one.wanted && one.failures > 0 {
			n++
		}
	}
	return n
}

// spread varies a time by a tenth, so that what began at once does not stay together.
func spread(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // spreads requests; guards nothing
}

// kind names a failure, whatever its details are.
func kind(err error) string {
	var api smithy.APIError
	var keep *keepError
	switch {
	case errors.As(err, &keep):
		return inKeeping
	case errors.As(err, &api):
		return api.ErrorCode()
	}
	return ""
}

// tellsRevisions reports whether revisions are to be asked for.
func (s *source) tellsRevisions(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !now.Before(s.untold)
}

// revisionsPause notes whether a revision was told, or how it was refused, and reports
// whether it is to be said that they are not asked for any more: once while it lasts.
func (s *source) revisionsPause(refusal error, now time.Time) (say bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refusal == nil || is(refusal, notThere...) {
		s.refusals, s.quiet = 0, false
		return false
	}
	s.refusals++
	if s.refusals < revisionTries && !is(refusal, notTold...) {
		return false
	}
	s.untold = now.Add(revisionPause)
	say, s.quiet = !s.quiet, true
	return say
}

// oldest returns how long the answer is ago that is the oldest of those that are wanted.
func (s *source) oldest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var age time.Duration
	for _, one := range s.services {
		if one.wanted {
			age = max(age, time.Since(one.heard))
		}
	}
	return age
}

// count returns how many services are wanted.
func (s *source) count() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.services {
		if one.wanted {
			n++
		}
	}
	return n
}
