package agent

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/fairlead-mesh/fairlead/internal/agent/identity"
	"github.com/fairlead-mesh/fairlead/internal/agent/relay"
	"github.com/fairlead-mesh/fairlead/internal/agent/status"
	"github.com/fairlead-mesh/fairlead/internal/agent/workload"
)

const (
	// watchAtStart is how often the monitor looks at an Envoy that has just been started, for
	// starting.
	watchAtStart = 100 * time.Millisecond
	starting     = 5 * time.Second
	// liveAtStart is how often it asks such an Envoy meanwhile whether it is live.
	liveAtStart = 25 * time.Millisecond
	// watchWhileAway is how often the monitor looks at an Envoy that does not serve yet, or
	// is not connected.
	watchWhileAway = time.Second
	// freshFor is for how long an answer is good: those who ask one after the other are told
	// the same.
	freshFor = 200 * time.Millisecond
	// sampleTimeout bounds a look.
	sampleTimeout = 2 * time.Second
)

// monitor knows how Envoy is and how it stands with the control plane. It looks by itself,
// and when it is asked.
type monitor struct {
	admin    *adminClient
	settings Settings
	version  string
	logger   *slog.Logger
	now      func() time.Time
	began    time.Time
	source   *identity.Source   // of credentials; nil until hear
	relay    *relaying          // that Envoy is connected to; nil for none
	workload *workload.Workload // nil for none

	looking sync.Mutex    // held while Envoy is asked
	newborn chan struct{} // has one when an Envoy was started that run has not looked at

	mu       sync.Mutex // guards what follows
	phase    string
	pid      int // -1 for none
	turn     int // changes when an Envoy starts and when it ends
	starts   int
	born     time.Time // when the Envoy that runs was started
	looked   time.Time
	sample   sample // the last one; its state is status.StateUnreachable where Envoy did not answer
	judge    judge
	standing standing
	said     standing
	refused  int    // looks since said changed
	initial  string // status.UpdateOK or UpdateFailed, of the Envoy that runs
	lost     time.Time
	refusal  *status.Refusal
	end      *status.End
}

func newMonitor(cfg RunConfig, admin *adminClient) *monitor {
	m := &monitor{
		admin: admin, settings: cfg.Settings, version: cfg.Version, logger: cfg.Logger, now: time.Now,
		newborn: make(chan struct{}, 1), phase: status.PhaseStarting, pid: -1, sample: sample{state: status.StateUnreachable},
	}
	m.began = m.now()
	m.lost = m.began
	return m
}

// hear has the monitor know what else there is: where credentials come from, the agent's own
// relay, and who has the workload's certificate; the last two may be nil. It is called before
// run.
func (m *monitor) hear(source *identity.Source, relay *relaying, w *workload.Workload) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.source, m.relay, m.workload = source, relay, w
}

// own reports whether Envoy has a bootstrap of the user's own, of which nothing is known but
// where its admin interface should be.
func (m *monitor) own() bool { return m.settings.ConfigFile != "" }

// run looks until ctx ends.
func (m *monitor) run(ctx context.Context) {
	for {
		m.look(ctx, 0)
		if !m.rest(ctx) {
			return
		}
	}
}

// rest waits until it is time for the next look; false when ctx has ended. That of an Envoy
// that has just been started is at once, and meanwhile it is asked whether it is live, which
// costs it next to nothing: one that is killed soon after it began to serve should be known
// to have served.
func (m *monitor) rest(ctx context.Context) bool {
	over := time.After(m.pause())
	tick := time.NewTicker(liveAtStart)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-over:
			return true
		case <-m.newborn:
			return true
		case <-tick.C:
			if !m.awaited() {
				tick.Stop()
			} else if state, err := m.admin.state(ctx); err == nil && state == status.StateLive {
				return true
			}
		}
	}
}

// awaited reports whether an Envoy has just been started, and was not live when it was
// looked at.
func (m *monitor) awaited() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.phase == status.PhaseStarting && m.pid >= 0 && m.sample.state != status.StateLive && m.now().Sub(m.born) < starting
}

func (m *monitor) pause() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	settled := m.initial != "" && (m.own() || m.standing == standingConnected && m.judge.lasts(m.now()))
	if settled && m.phase == status.PhaseServing {
		return m.settings.Supervision.HealthPoll
	}
	if m.phase == status.PhaseStarting && m.now().Sub(m.born) < starting {
		return watchAtStart
	}
	return watchWhileAway
}

// look asks Envoy, unless what is known is younger than age.
func (m *monitor) look(ctx context.Context, age time.Duration) {
	m.looking.Lock()
	defer m.looking.Unlock()
	m.mu.Lock()
	fresh, turn := m.now().Sub(m.looked) < age, m.turn
	m.mu.Unlock()
	if fresh {
		return
	}
	// Not with ctx's end: that somebody who asked went away says nothing of Envoy.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sampleTimeout)
	defer cancel()
	s, err := m.admin.sample(ctx)
	if err != nil {
		s.state = status.StateUnreachable
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.turn == turn { // else it is of an Envoy that has ended
		m.take(s, err)
	}
}

// take takes in what a look has shown. One that Envoy did not answer says nothing of its
// standing.
func (m *monitor) take(s sample, err error) {
	m.looked, m.sample = m.now(), s
	if err != nil {
		return
	}
	if m.initial == "" && s.state == status.StateLive && (s.configured || m.own()) {
		m.initial = status.UpdateOK
		if s.failures > 0 {
			m.initial = status.UpdateFailed
			m.logger.Error(listenerFailed)
		} else {
			m.logger.Info("Envoy serves", "pid", m.pid, "after", m.looked.Sub(m.born).Round(time.Millisecond))
		}
	}
	if m.initial != "" && m.phase == status.PhaseStarting {
		m.phase = status.PhaseServing
	}
	if m.own() {
		return
	}
	m.judgeConnection(s)
	switch {
	case m.connected():
		m.lost = time.Time{}
	case m.lost.IsZero():
		m.lost = m.looked
	}
}

// judgeConnection finds out how it stands with the control plane.
func (m *monitor) judgeConnection(s sample) {
	if m.relay != nil { // which says it in the log too
		m.standing, m.refusal = relayed(m.relay.Standing(), m.refusal)
		return
	}
	m.standing = m.judge.next(s, m.looked)
	if m.standing == standingRefused && m.settings.XDS.Credentials.check() != nil {
		// Envoy's own count of signed streams (signing_added) includes those sent unsigned.
		m.standing = standingUnsigned
	}
	m.refused++
	if m.standing != m.said && m.standing != standingUnknown {
		m.standing.log(m.logger, m.settings.XDS, m.refusalWords())
		m.said, m.refused = m.standing, 0
	}
	// The session may have been revoked. Else it does not help, and is not worth much.
	if m.standing == standingRefused && m.refused%renewEvery == 0 && m.source != nil {
		m.source.Renew()
	}
}

// renewEvery is after how many looks in which the stream is refused other credentials are
// asked for.
const renewEvery = 60

// relayed says how it stands by what a relay knows, and what the control plane refused last.
func relayed(s relay.Standing, last *status.Refusal) (standing, *status.Refusal) {
	switch {
	case s.Since.IsZero():
		return standingUnknown, last
	case s.Connected:
		return standingConnected, last
	case s.Code == codes.Unavailable || s.Code == codes.DeadlineExceeded || s.Code == codes.Canceled || s.Code == codes.OK:
		return standingUnreachable, last
	}
	return standingRefused, &status.Refusal{Time: s.Since.UTC(), Code: int(s.Code), Message: s.Reason}
}

// connected reports whether a stream is open that is good for something.
func (m *monitor) connected() bool { return m.standing == standingConnected && m.sample.connected }

// refusalWords says why the control plane refuses Envoy.
func (m *monitor) refusalWords() string {
	if m.refusal == nil {
		return "Envoy's own log says why, in a line with \"gRPC config stream to " + xdsClusterName + " closed\""
	}
	return fmt.Sprintf("%s (code %d%s)", m.refusal.Message, m.refusal.Code, codeHint(m.refusal.Code))
}

// codeHint says what a code of gRPC means here.
func codeHint(code int) string {
	switch code {
	case 3:
		return ": no such resource, or something it refers to is missing"
	case 7:
		return ": this key may not serve this resource"
	case 8:
		return ": too many proxies of this resource"
	case 16:
		return ": the key is not known, has expired, or the clock is wrong"
	}
	return ""
}

// closed is told that the control plane has closed Envoy's stream.
func (m *monitor) closed(code int, message string) {
	if code == 0 {
		return // a matter of course
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refusal = &status.Refusal{Time: m.now().UTC(), Code: code, Message: message}
}

// started is told that an Envoy runs.
func (m *monitor) started(pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pid, m.phase = pid, status.PhaseStarting
	m.turn++
	m.starts++
	m.born = m.now()
	select {
	case m.newborn <- struct{}{}:
	default:
	}
}

// ended is told that it has ended, and reports whether it had served.
func (m *monitor) ended(code int) (served bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	served = m.initial == status.UpdateOK
	m.turn++
	m.pid, m.phase = -1, status.PhaseRestarting
	m.end = &status.End{Time: m.now().UTC(), Code: code}
	m.sample, m.judge, m.standing, m.initial = sample{state: status.StateUnreachable}, judge{}, standingUnknown, ""
	if m.lost.IsZero() {
		m.lost = m.now()
	}
	return served
}

// enter is told of a phase near the end.
func (m *monitor) enter(phase string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.phase = phase
}

// report says how Envoy is now.
func (m *monitor) report(ctx context.Context) status.Report {
	m.look(ctx, freshFor)
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	r := status.Report{
		HealthStatus:      status.Healthy,
		AgentUptime:       fmt.Sprintf("%.0fs", now.Sub(m.began).Seconds()),
		EnvoyPid:          strconv.Itoa(m.pid),
		EnvoyState:        m.sample.state,
		EnvoyRestartCount: strconv.Itoa(max(0, m.starts-1)),
		ReadinessState:    status.NotInitialized,
		InitialConfig:     m.initial,
		More: status.More{
			Version: m.version, Resource: m.settings.Resource.ARN, Phase: m.phase,
			LastRefusal: m.refusal, LastEnd: m.end,
		},
	}
	if m.initial != "" {
		r.ReadinessState = status.Initialized
	}
	if !m.own() {
		m.reportConnection(&r)
	}
	unhealthy := m.unhealthy(now)
	if unhealthy != "" {
		r.HealthStatus = status.Unhealthy
	}
	r.More.Why = m.why(unhealthy)
	return r
}

// reportConnection says how Envoy stands with the control plane.
func (m *monitor) reportConnection(r *status.Report) {
	r.ConnectionStatus, r.More.ControlPlane = status.NotConnected, m.settings.XDS.Address()
	if m.connected() {
		r.ConnectionStatus = status.Connected
	}
	if !m.lost.IsZero() {
		lost := m.lost.UTC()
		r.Disconnected = &lost
	}
	r.More.Credentials = m.credentials()
	r.More.Certificate = m.certificate()
}

// certificate says how it stands with the workload's certificate, nil if Envoy has not asked
// for one.
func (m *monitor) certificate() *status.Certificate {
	if m.workload == nil {
		return nil
	}
	s := m.workload.Status()
	if s.NotAfter.IsZero() && s.Reason == "" {
		return nil
	}
	return &status.Certificate{NotAfter: s.NotAfter.UTC(), RenewAfter: s.RenewAfter.UTC(), Issued: s.Certificates, Problem: s.Reason}
}

// credentials says where the access key comes from, and what is wrong with it.
func (m *monitor) credentials() *status.Credentials {
	c := m.settings.XDS.Credentials
	switch {
	case m.settings.XDS.Socket != "":
		return &status.Credentials{Source: "relay"}
	case m.source != nil && m.settings.Identity.Kind.Exchanges():
		s := m.source.Status()
		out := &status.Credentials{Source: string(s.Source), Identity: s.Identity, Problem: s.Error}
		if !s.Expires.IsZero() {
			expires := s.Expires.UTC()
			out.Expires = &expires
		}
		return out
	case c.File == "":
		return &status.Credentials{Source: "environment"}
	}
	out := &status.Credentials{Source: "file", File: c.File, Profile: c.Profile}
	if err := c.check(); err != nil {
		out.Problem = err.Error()
	}
	return out
}

// unhealthy says why Envoy does not count as healthy, "" if it does.
func (m *monitor) unhealthy(now time.Time) string {
	switch {
	case m.pid < 0 && m.end != nil:
		return fmt.Sprintf("Envoy has ended with code %d", m.end.Code)
	case m.sample.state == status.StateUnreachable:
		return "Envoy's admin interface does not answer"
	case m.sample.state != status.StateLive:
		return "Envoy is not live, it says " + m.sample.state
	case m.initial == "":
		return m.sample.unconfigured()
	case m.initial == status.UpdateFailed:
		return listenerFailed
	case !m.own() && !m.lost.IsZero() && now.Sub(m.lost) >= m.settings.Supervision.Away:
		return "Envoy has been without the control plane since " + m.lost.UTC().Format(time.RFC3339)
	}
	return ""
}

// listenerFailed says that the first configuration is not served whole.
const listenerFailed = "a listener of the first configuration could not be made; Envoy's own log says which, and why"

// unconfigured says what Envoy lacks that has no configuration in place.
func (s sample) unconfigured() string {
	if s.rejected > 0 && s.accepted == 0 {
		return "Envoy rejects its first configuration; its own log says why"
	}
	return "Envoy waits for its first configuration"
}

// why puts into words what is wrong, with Envoy and with its connection.
func (m *monitor) why(unhealthy string) string {
	connection := ""
	if !m.own() && !m.connected() {
		if connection = m.standing.words(m.settings.XDS, m.refusalWords()); connection == "" && unhealthy == "" {
			connection = "Envoy is not connected to the control plane at the moment"
		}
	}
	if unhealthy != "" && connection != "" {
		return unhealthy + "; " + connection
	}
	return unhealthy + connection
}

// serves reports whether the Envoy that runs has its first configuration and serves, for who
// waits for that.
func (m *monitor) serves(ctx context.Context) bool {
	m.look(ctx, 0)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.initial == status.UpdateOK && m.sample.state == status.StateLive
}
