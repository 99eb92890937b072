package restapi

import (
	"maps"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

const (
	// failureRate and failureBurst bound how many requests a second from one address may
	// be refused before anybody has been found to have made them.
	failureRate  = 50
	failureBurst = 500
	// maxSources bounds how many addresses are remembered.
	maxSources = 10_000
	// attemptRate and attemptBurst bound how many requests a second from one address may
	// bring what somebody else vouches for, for credentials: as many as all workloads
	// behind one address that start together.
	attemptRate  = 50
	attemptBurst = 1000
	// idleTime is after how long without a request somebody is forgotten. Their buckets
	// are full again by then, so that it makes no difference.
	idleTime = time.Minute
	// keyTime is for how long a key whose signatures held is remembered, and maxKeys how
	// many of them are.
	keyTime = time.Hour
	maxKeys = 100_000
	// sweepTime is how often the idle are looked for.
	sweepTime = 30 * time.Second
)

// rates bounds how often callers may call, so that none can slow the others: each
// account by its quotas, reads and writes apart, and what comes from an address without
// a signature that holds. All times are from its clock.
type rates struct {
	now    func() time.Time
	quotas func(account string) mesh.Quotas

	mu       sync.Mutex
	accounts map[string]*account
	keys     map[string]*time.Time // access keys, and when their signature held last
	sources  map[source]*failures
	attempts map[source]*failures // the same of requests that need no signature
	swept    time.Time
}

// account is what is known of an account's calls.
type account struct {
	read, write *rate.Limiter
	used        time.Time
}

// source is where a request comes from. Key is the access key that it names if that
// key's signatures have held lately, so that others behind the same address, for example
// a proxy's, cannot use up what its owner has; else it is empty.
type source struct {
	addr netip.Addr
	key  string
}

type failures struct {
	*rate.Limiter
	used time.Time
}

func newRates(now func() time.Time, quotas func(account string) mesh.Quotas) *rates {
	if now == nil {
		now = time.Now
	}
	return &rates{
		now: now, quotas: quotas,
		accounts: map[string]*account{}, keys: map[string]*time.Time{}, sources: map[source]*failures{},
		attempts: map[source]*failures{},
	}
}

// admit counts a call of an account, whose signature by key has held, and refuses it if
// the account makes too many.
func (r *rates) admit(id, key string, readOnly bool) error {
	q, quota := r.quotas(id), mesh.QuotaWriteRate
	if readOnly {
		quota = mesh.QuotaReadRate
	}
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	a := r.accounts[id]
	if a == nil {
		a = &account{read: newBucket(q[mesh.QuotaReadRate]), write: newBucket(q[mesh.QuotaWriteRate])}
		r.accounts[id] = a
	}
	a.used = now
	r.remember(key, now)
	bucket := a.write
	if readOnly {
		bucket = a.read
	}
	if bucket.Limit() != rate.Limit(q[quota]) {
		bucket.SetLimitAt(now, rate.Limit(q[quota]))
		bucket.SetBurstAt(now, 2*q[quota])
	}
	if bucket.AllowN(now, 1) {
		return nil
	}
	return mesh.Errorf(mesh.ErrTooManyRequests, "account %s makes more calls than its quota %s allows: %d a second, and %d at once",
		id, quota, q[quota], bucket.Burst())
}

// remember notes that a key's signature has held; "" is none. The caller holds mu.
func (r *rates) remember(key string, now time.Time) {
	if used := r.keys[key]; used != nil {
		*used = now
		return
	}
	if key != "" {
		makeRoom(r.keys, maxKeys)
		used := now
		r.keys[strings.Clone(key)] = &used // it may be a part of the request's header
	}
}

// newBucket returns a bucket that is filled with a number of calls a second, and has
// twice as many to begin with.
func newBucket(perSecond int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), 2*perSecond)
}

// source returns what a request from an address that names an access key is counted as.
// Addresses of IPv6 are taken together by /64, which one machine may have whole.
func (r *rates) source(addr netip.Addr, authorization string) source {
	addr = addr.Unmap()
	if addr.Is6() {
		if p, err := addr.WithZone("").Prefix(64); err == nil {
			addr = p.Addr()
		}
	}
	s := source{addr: addr}
	if _, rest, ok := strings.Cut(authorization, "Credential="); ok {
		key, _, _ := strings.Cut(rest, "/")
		r.mu.Lock()
		defer r.mu.Unlock()
		if _, ok := r.keys[key]; ok {
			s.key = key
		}
	}
	return s
}

// blocked refuses a request from a source that has failed too often.
func (r *rates) blocked(s source) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.sources[s]; f != nil && f.TokensAt(r.now()) < 1 {
		return mesh.Errorf(mesh.ErrTooManyRequests, "too many requests from %s could not be authenticated: at most %d a second, and %d at once", s.addr, failureRate, failureBurst)
	}
	return nil
}

// failed counts a request of which it could not be found who made it.
func (r *rates) failed(s source) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	f := r.sources[s]
	if f == nil {
		makeRoom(r.sources, maxSources)
		f = &failures{Limiter: rate.NewLimiter(failureRate, failureBurst)}
		r.sources[s] = f
	}
	f.used = now
	f.AllowN(now, 1)
}

// attempt counts a request that needs no signature, and refuses it if there are too many
// of them from where it comes.
func (r *rates) attempt(s source) error {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	s.key = ""
	f := r.attempts[s]
	if f == nil {
		makeRoom(r.attempts, maxSources)
		f = &failures{Limiter: rate.NewLimiter(attemptRate, attemptBurst)}
		r.attempts[s] = f
	}
	f.used = now
	if f.AllowN(now, 1) {
		return nil
	}
	return mesh.Errorf(mesh.ErrTooManyRequests, "too many requests from %s ask for credentials: at most %d a second, and %d at once", s.addr, attemptRate, attemptBurst)
}

// sweep forgets the idle, if it is time to. The caller holds mu.
func (r *rates) sweep(now time.Time) {
	if d := now.Sub(r.swept); d >= 0 && d < sweepTime {
		return
	}
	r.swept = now
	maps.DeleteFunc(r.accounts, func(_ string, a *account) bool { return now.Sub(a.used) >= idleTime })
	maps.DeleteFunc(r.keys, func(_ string, used *time.Time) bool { return now.Sub(*used) >= keyTime })
	maps.DeleteFunc(r.attempts, func(_ source, f *failures) bool { return now.Sub(f.used) >= idleTime })
	maps.DeleteFunc(r.sources, func(_ source, f *failures) bool { return now.Sub(f.used) >= idleTime })
}

// makeRoom forgets any one entry of a map that has as many as it may.
func makeRoom[K comparable, V any](m map[K]V, most int) {
	if len(m) < most {
		return
	}
	for k := range m {
		delete(m, k)
		return
	}
}
