package xds

import (
	"errors"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/access/audit"
)

// auditEstablished notes that a stream has begun to be served.
func (s *Server) auditEstablished(one *session) {
	s.cfg.Audit.Write(s.event(one, audit.Established, ""))
}

// auditEnded notes the end of a stream that was served.
func (s *Server) auditEnded(one *session, err error) {
	if graceful(err) || errors.Is(err, errShutdown) {
		s.cfg.Audit.Write(s.event(one, audit.Graceful, ""))
		return
	}
	s.cfg.Audit.Write(s.event(one, audit.Terminated, status.Convert(err).Message()))
}

// auditRefused notes a stream that was never served. A proxy tries again every few
// seconds, for days: the same refusal is written once a minute, with the number of those
// that were left out.
func (s *Server) auditRefused(one *session, err error) {
	if s.cfg.Audit == nil {
		return
	}
	if graceful(err) {
		err = errGone
	}
	code := codeOf(err)
	key := refusalKey{account: one.caller.Account, node: one.node, code: code, host: one.peer.Addr().String()}
	write, left := s.refusals.note(key, time.Now())
	if !write {
		return
	}
	e := s.event(one, audit.Terminated, status.Convert(err).Message())
	e.ErrorCode, e.ErrorMessage = code, status.Convert(err).Message()
	if left > 0 {
		e.Details["repetitionsLeftOut"] = strconv.Itoa(left)
	}
	s.cfg.Audit.Write(e)
}

// codeOf returns the audit's code of a refusal.
func codeOf(err error) string {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return string(r.code)
	case errors.Is(err, errGone):
		return ""
	}
	return status.Code(err).String()
}

// event returns the event of a stream, in the form that App Mesh gave it.
func (s *Server) event(one *session, what, why string) audit.Event {
	c := &one.caller
	e := audit.Event{
		Source: audit.AppMesh, Name: audit.StreamName, ReadOnly: true, RequestID: one.id,
		Region: c.Region, Account: c.Account, UserAgent: one.agent,
		Principal: audit.Identity{
			Type: c.Principal.Type, ID: c.Principal.ID, ARN: c.Principal.ARN, Account: c.Principal.Account, KeyID: c.KeyID,
			User: c.Principal.User, Role: c.Principal.Role, RoleARN: c.Principal.RoleARN, RoleID: c.Principal.RoleID, Session: c.Principal.Session,
		},
		Details: map[string]string{
			"connectionId": one.id, "nodeArn": one.node, "eventStatus": what, "failureReason": why, "protocol": one.protocol(),
		},
	}
	if one.peer.IsValid() {
		e.SourceIP = one.peer.Addr().String()
	}
	if one.key == (feedKey{}) {
		return e
	}
	e.Details["nodeArn"] = one.key.arn()
	e.Resources = []audit.Resource{{ARN: one.key.arn(), Account: one.key.owner, Type: "AWS::AppMesh::" + one.key.id.Kind.Title()}}
	if one.shared {
		e.Owner = one.key.id.Mesh.Account
	}
	return e
}

// refusals remembers what was refused lately.
type refusals struct {
	mu   sync.Mutex
	seen map[refusalKey]*refused
}

type refusalKey struct{ account, node, code, host string }

type refused struct {
	at   time.Time // when it was written
	left int       // how many were left out since
}

const (
	refusalEvery = time.Minute
	mostRefusals = 10_000
)

// note reports whether a refusal is to be written, and how many like it were left out
// before.
func (r *refusals) note(key refusalKey, now time.Time) (write bool, left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	have := r.seen[key]
	if have != nil && now.Sub(have.at) < refusalEvery {
		have.left++
		return false, 0
	}
	if have != nil {
		left = have.left
	} else if len(r.seen) >= mostRefusals {
		r.seen = nil
	}
	if r.seen == nil {
		r.seen = map[refusalKey]*refused{}
	}
	r.seen[key] = &refused{at: now}
	return true, left
}

// arn returns the ARN of the feed's virtual node or gateway.
func (k feedKey) arn() string { return k.id.ARN(k.owner) }
