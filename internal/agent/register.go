package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/agent/backoff"
)

// How often the registrar acts.
const (
	readyPause = 250 * time.Millisecond // between looks at an Envoy that is not ready, at first; 1 s from the fourth on
	firstPause = 500 * time.Millisecond // after a first failure; it doubles
	mostPause  = 30 * time.Second       // between tries at most, and no longer than until a renewal
)

// leaveTime bounds how long the end waits until the instance is deregistered.
const leaveTime = 5 * time.Second

// registrar registers an instance when its Envoy is ready, renews its lease, and takes it
// out at the end. A nil registrar does nothing.
type registrar struct {
	Registration
	api    *cloudMap
	admin  *adminClient
	logger *slog.Logger

	staying  context.Context // until the instance is to leave
	once     sync.Once       // guards what depart sets
	away     context.CancelFunc
	deadline time.Time     // for leave; set when staying ends
	left     chan struct{} // closed when all is done

	// Of the goroutine of run alone.
	id       string // the service's
	present  bool   // the instance is registered, or may be
	failures int    // since a success
	looks    int    // at an Envoy that was not ready
	said     string // what was logged last
}

func newRegistrar(r Registration, api *cloudMap, admin *adminClient, logger *slog.Logger) *registrar {
	out := &registrar{Registration: r, api: api, admin: admin, logger: logger, left: make(chan struct{})}
	out.staying, out.away = context.WithCancel(context.Background())
	if r.Namespace == "" {
		out.id = r.Service
	}
	return out
}

// run does all of it until the instance has left, or ctx ends.
func (r *registrar) run(ctx context.Context) {
	defer close(r.left)
	for pause := time.Duration(0); r.sleep(ctx, pause); {
		pause = r.step(ctx)
	}
	for delay := firstPause / 4; r.present && !r.deregister(ctx, "it is told to end"); delay = min(2*delay, mostPause) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
	}
}

// sleep waits, and reports whether the instance is to stay.
func (r *registrar) sleep(ctx context.Context, pause time.Duration) bool {
	if r.staying.Err() != nil || ctx.Err() != nil {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-r.staying.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// step does what is due, and returns for how long then nothing is.
func (r *registrar) step(ctx context.Context) (pause time.Duration) {
	ready, err := r.admin.ready(r.staying, !r.present)
	switch {
	case err != nil && r.present && r.staying.Err() == nil:
		r.say("silent", slog.LevelWarn, "Envoy's admin interface does not answer; this instance's lease is not renewed until it does", "error", err)
		return r.failed()
	case err == nil && !ready && r.present:
		if r.deregister(ctx, "Envoy is not ready any more") {
			return readyPause
		}
		return r.failed()
	case err != nil || !ready:
		r.looks++
		return readyPause * time.Duration(min(r.looks, 4))
	}
	if err := r.register(ctx); err != nil {
		r.complain(registering, err)
		return r.failed()
	}
	r.failures, r.looks = 0, 0
	r.say("registered", slog.LevelInfo, "this instance is registered", "service", r.title(), "instance", r.ID, "address", r.address(), "leaseSeconds", r.Lease.Seconds())
	return backoff.Part(r.Lease/3, 0.8)
}

// register registers the instance or renews its lease. A call that is under way is
// waited for even when the instance is to leave: it must not be overtaken.
func (r *registrar) register(ctx context.Context) error {
	if r.id == "" {
		id, err := r.api.findService(r.staying, r.Namespace, r.Service)
		if err != nil {
			return err
		}
		r.id = id
	}
	if r.staying.Err() != nil {
		return r.staying.Err()
	}
	err := r.api.register(ctx, r.id, r.ID, r.all())
	no := refusal(err)
	if no == nil {
		r.present = true
	} else if no.code == codeNoService {
		r.present = false
		if r.Namespace != "" {
			r.id = "" // there may be a new one by that name
		}
	}
	return err
}

// deregister takes the instance out once, and reports whether there is no more to do.
func (r *registrar) deregister(ctx context.Context, why string) (done bool) {
	err := r.api.deregister(ctx, r.id, r.ID)
	if err == nil {
		r.present, r.failures = false, 0
		r.say("deregistered", slog.LevelInfo, "this instance is deregistered", "service", r.title(), "instance", r.ID, "reason", why)
		return true
	}
	r.complain(deregistering, err)
	// When it is to leave, a refusal is the end: what is left is the lease.
	return refusal(err) != nil && r.staying.Err() != nil
}

// complain says what failed, once until something else happens.
func (r *registrar) complain(operation string, err error) {
	if r.staying.Err() != nil && operation == registering {
		return // given up because the instance is to leave
	}
	args := []any{"service", r.title(), "instance", r.ID, "error", err}
	switch no := refusal(err); {
	case no == nil && operation == registering:
		r.say(operation, slog.LevelWarn, "this instance cannot be registered now; Envoy goes on, and it is tried again", args...)
	case no == nil:
		r.say(operation, slog.LevelWarn, "this instance cannot be deregistered now; it is tried again", args...)
	case operation == registering:
		r.say(operation+no.code, slog.LevelError, "the control plane refuses to register this instance; Envoy goes on, and it is tried again", append(args, "look", hint(no))...)
	default:
		r.say(operation+no.code, slog.LevelError, "the control plane refuses to deregister this instance, which goes when its lease is over", append(args, "look", hint(no))...)
	}
}

// What is complained of.
const (
	registering   = "register "
	deregistering = "deregister "
)

// hint says where to look after a refusal.
func hint(no *apiError) string {
	switch no.code {
	case codeNoNamespace, codeNoService:
		return registerService + " names it"
	case "AccessDeniedException":
		return "the policies of the access key's user or role must allow it"
	case "UnrecognizedClientException", "InvalidSignatureException", "IncompleteSignatureException", "ExpiredTokenException":
		return "the access key, and this host's clock"
	}
	return "the variables FAIRLEAD_REGISTER_…"
}

// say writes a line, unless it is what was said last.
func (r *registrar) say(key string, level slog.Level, message string, args ...any) {
	if r.said == key {
		return
	}
	r.said = key
	r.logger.Log(context.Background(), level, message, args...)
}

// failed counts a failure, and returns how long to wait before the next try.
func (r *registrar) failed() time.Duration {
	r.failures++
	return backoff.Policy{First: firstPause, Most: min(r.Lease/3, mostPause)}.After(r.failures)
}

// depart has the instance leave, and does not wait.
func (r *registrar) depart() {
	if r == nil {
		return
	}
	r.once.Do(func() { r.deadline = time.Now().Add(leaveTime); r.away() })
}

// leave has the instance leave, and waits until it has, for leaveTime since it was told
// so for the first time at most.
func (r *registrar) leave() {
	if r == nil {
		return
	}
	r.depart()
	wait := time.NewTimer(time.Until(r.deadline))
	defer wait.Stop()
	select {
	case <-r.left:
	case <-wait.C:
	}
}

// startRegistration starts to look after the instance's registration, and returns also
// what ends it: that waits for the instance to leave, but not for ever.
func startRegistration(r *registrar) (end func()) {
	if r == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	go r.run(ctx)
	return func() {
		r.leave()
		cancel()
		<-r.left
		if r.present {
			r.logger.Warn("this instance could not be deregistered; it goes when its lease is over", "service", r.title(), "instance", r.ID, "leaseSeconds", r.Lease.Seconds())
		}
	}
}
