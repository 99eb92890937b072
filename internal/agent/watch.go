package agent

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

// standing is how Envoy stands with the control plane.
type standing int

const (
	standingUnknown standing = iota
	standingConnected
	standingUnreachable
	standingUntrusted
	standingUnsigned
	standingRefused
)

// sample is what the monitor reads of Envoy at one time. The numbers are counters that
// begin at 0 when Envoy starts.
type sample struct {
	state       string // of Envoy, as it says itself
	connected   bool   // a stream is open, or being opened
	streams     uint64 // streams that were begun with the server
	updates     uint64 // answers about clusters and listeners
	connectFail uint64 // connections that did not come about
	tlsFail     uint64 // handshakes that failed
	signFail    uint64 // streams that could not be signed
	configured  bool   // a configuration is in place
	accepted    uint64 // answers about listeners that Envoy took
	rejected    uint64 // answers about listeners that Envoy rejected
	failures    uint64 // listeners that could not be made
}

const watchFilter = `^(control_plane\.connected_state|cluster_manager\.cds\.update_(success|rejected)|listener_manager\.(lds\.update_(success|rejected)|` +
	`listener_create_failure|total_listeners_warming|workers_started)|cluster\.` +
	xdsClusterName + `\.(upstream_cx_connect_fail|upstream_rq_total|ssl\.(connection_error|fail_verify_.*)|aws_request_signing\.signing_failed))$`

// sample asks Envoy how it is.
func (c *adminClient) sample(ctx context.Context) (sample, error) {
	state, err := c.state(ctx)
	if err != nil {
		return sample{}, err
	}
	stats, err := c.stats(ctx, watchFilter)
	if err != nil {
		return sample{}, err
	}
	const prefix, manager = "cluster." + xdsClusterName + ".", "listener_manager."
	s := sample{
		state:       state,
		connected:   stats["control_plane.connected_state"] == 1,
		streams:     stats[prefix+"upstream_rq_total"],
		connectFail: stats[prefix+"upstream_cx_connect_fail"],
		signFail:    stats[prefix+"aws_request_signing.signing_failed"],
		accepted:    stats[manager+"lds.update_success"],
		rejected:    stats[manager+"lds.update_rejected"],
		failures:    stats[manager+"listener_create_failure"],
	}
	s.configured = s.accepted > 0 && stats[manager+"total_listeners_warming"] == 0 && stats[manager+"workers_started"] > 0
	for name, n := range stats {
		switch {
		case strings.HasPrefix(name, prefix+"ssl."):
			s.tlsFail += n
		case strings.Contains(name, ".update_"):
			s.updates += n
		}
	}
	return s, nil
}

// judge makes up its mind from samples, one after the other.
type judge struct {
	last   standing
	before sample
	tries  uint64    // streams begun since one was good
	opened time.Time // when the newest stream was first seen open; zero for none
}

// goodAfter is for how long a stream must be seen open before it counts as good though
// nothing came by it. Envoy shows a stream as connected before the server has
// answered, and the server may think for a while before it refuses.
const goodAfter = 4 * time.Second

// lasts reports whether the newest stream has been open for long enough.
func (j *judge) lasts(at time.Time) bool { return !j.opened.IsZero() && at.Sub(j.opened) >= goodAfter }

// next returns the standing after one more sample: the one before, when nothing has
// happened.
func (j *judge) next(now sample, at time.Time) standing {
	before := j.before
	j.before = now
	j.tries += now.streams - before.streams
	failed := now.connectFail > before.connectFail || now.tlsFail > before.tlsFail
	switch {
	case !now.connected || failed:
		j.opened = time.Time{}
	case now.streams > before.streams: // else it is still being opened, or has been open
		j.opened = at
	}
	switch {
	case now.connected && (now.updates > before.updates || j.lasts(at)):
		j.tries = 0
		j.last = standingConnected
	case now.tlsFail > before.tlsFail:
		j.last = standingUntrusted
	case now.connectFail > before.connectFail:
		j.last = standingUnreachable
	case now.signFail > before.signFail:
		j.last = standingUnsigned
	case j.tries >= 2 && !now.connected:
		j.last = standingRefused
	}
	return j.last
}

// log says in the log how Envoy stands with the control plane, one line at each change.
// Envoy itself says of a refusal only what the server wrote, and sends its stream unsigned,
// without a word, when it finds no key.
func (s standing) log(logger *slog.Logger, x XDS, refusal string) {
	server := x.Address()
	switch s {
	case standingConnected:
		logger.Info("connected to the control plane", "server", server)
	case standingUnreachable:
		logger.Warn("the control plane cannot be reached; Envoy goes on with what it has and keeps trying", "server", server)
	case standingUntrusted:
		logger.Error("TLS with the control plane fails; look at FAIRLEAD_XDS_CA_FILE and at the names in its certificate", "server", server)
	case standingUnsigned:
		logger.Error("Envoy has no access key and sends its stream unsigned, which the control plane refuses; give it a key that Fairlead issued",
			"server", server, "file", x.Credentials.File, "profile", x.Credentials.Profile)
	case standingRefused:
		logger.Error("the control plane refuses the stream", "server", server, "reason", refusal)
	}
}

// words says the same for a status; "" when all is well, or nothing is known.
func (s standing) words(x XDS, refusal string) string {
	switch s {
	case standingUnreachable:
		return "the control plane at " + x.Address() + " cannot be reached"
	case standingUntrusted:
		return "TLS with the control plane fails: look at FAIRLEAD_XDS_CA_FILE and at the names in its certificate"
	case standingUnsigned:
		return "Envoy has no access key, and the control plane refuses a stream that is not signed"
	case standingRefused:
		return "the control plane refuses the stream: " + refusal
	}
	return ""
}
