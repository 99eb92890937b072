package envoy

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// longest is the longest duration that is passed on. Envoy takes up to 292 years and
// computes with some; nobody can tell the difference.
const longest = 10 * 365 * 24 * time.Hour

// The timeouts that hold where nothing is asked.
var (
	defaultPerRequest = durationpb.New(15 * time.Second)
	defaultIdle       = durationpb.New(300 * time.Second)
	off               = durationpb.New(0)
)

// duration reads an API duration. Without a value it is 0, without a unit its value
// is in seconds.
func duration(d *mesh.Duration) time.Duration {
	if d == nil || d.Value == nil || *d.Value <= 0 {
		return 0
	}
	unit := time.Second
	if d.Unit != nil && *d.Unit == "ms" {
		unit = time.Millisecond
	}
	if *d.Value > int64(longest/unit) {
		return longest
	}
	return time.Duration(*d.Value) * unit
}

// timeouts returns the per-request and the idle timeout that a route or listener asks
// for; a duration of 0 turns one off.
func timeouts(t *mesh.HttpTimeout) (perRequest, idle *durationpb.Duration) {
	perRequest, idle = defaultPerRequest, defaultIdle
	if t == nil {
		return perRequest, idle
	}
	if t.PerRequest != nil {
		perRequest = durationpb.New(duration(t.PerRequest))
	}
	if t.Idle != nil {
		idle = durationpb.New(duration(t.Idle))
	}
	return perRequest, idle
}

// listenerTimeouts returns the timeouts that a listener of the node asks for. Those of
// another protocol than the listener's have no effect. TCP knows no requests.
func (t *translator) listenerTimeouts(l *mesh.Listener, field string) (perRequest, idle *durationpb.Duration) {
	var asked *mesh.HttpTimeout
	if l.Timeout != nil {
		switch l.PortMapping.Protocol {
		case protoHTTP:
			asked = l.Timeout.Http
		case protoHTTP2:
			asked = l.Timeout.Http2
		case protoGRPC:
			asked = (*mesh.HttpTimeout)(l.Timeout.Grpc)
		case protoTCP:
			if tcp := l.Timeout.Tcp; tcp != nil {
				asked = &mesh.HttpTimeout{Idle: tcp.Idle}
			}
		}
		if asked == nil {
			t.problem(t.self(), field+".timeout", "the timeout is of another protocol than its listener, which is %s: it has no effect", l.PortMapping.Protocol)
		}
	}
	return timeouts(asked)
}
