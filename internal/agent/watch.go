package agent

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

// How often the watcher looks at Envoy's statistics.
const (
	watchWhileAway      = time.Second
	watchWhileConnected = 10 * time.Second
)

// watcher says in the log how Envoy stands with the control plane, one line at each
// change. Envoy itself says of a refusal only what the server wrote, and sends its
// stream unsigned, without a word, when it finds no key.
type watcher struct {
	admin       *adminClient
	server      string // host:port, for the log
	credentials Credentials
	renew       func() // asks for other credentials; it may be nil
	logger      *slog.Logger
}

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

// sample is what the watcher reads of Envoy's statistics at one time. The numbers are
// counters that begin at 0 when Envoy starts.
type sample struct {
	connected   bool   // a stream is open, or being opened
	streams     uint64 // streams that were begun with the server
	updates     uint64 // answers about clusters and listeners
	connectFail uint64 // connections that did not come about
	tlsFail     uint64 // handshakes that failed
	signFail    uint64 // streams that could not be signed
}

const watchFilter = `^(control_plane\.connected_state|cluster_manager\.cds\.update_(success|rejected)|listener_manager\.lds\.update_(success|rejected)|cluster\.` +
	xdsClusterName + `\.(upstream_cx_connect_fail|upstream_rq_total|ssl\.(connection_error|fail_verify_.*)|aws_request_signing\.signing_failed))$`

func (w *watcher) sample(ctx context.Context) (sample, error) {
	stats, err := w.admin.stats(ctx, watchFilter)
	if err != nil {
		return sample{}, err
	}
	const prefix = "cluster." + xdsClusterName + "."
	s := sample{
		connected:   stats["control_plane.connected_state"] == 1,
		streams:     stats[prefix+"upstream_rq_total"],
		connectFail: stats[prefix+"upstream_cx_connect_fail"],
		signFail:    stats[prefix+"aws_request_signing.signing_failed"],
	}
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
	tries  uint64 // streams begun since one was good
	lasted int    // samples in which the newest stream was seen open
}

// goodAfter is in how many samples a stream must be seen before it counts as good
// though nothing came by it. Envoy shows a stream as connected before the server has
// answered, and the server may think for a while before it refuses.
const goodAfter = 5

// next returns the standing after one more sample: the one before, when nothing has
// happened.
func (j *judge) next(now sample) standing {
	before := j.before
	j.before = now
	j.tries += now.streams - before.streams
	failed := now.connectFail > before.connectFail || now.tlsFail > before.tlsFail
	switch {
	case !now.connected || failed:
		j.lasted = 0
	case now.streams > before.streams:
		j.lasted = 1
	case j.lasted > 0: // else it is still being opened
		j.lasted++
	}
	switch {
	case now.connected && (now.updates > before.updates || j.lasted >= goodAfter):
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

// lookCloser finds out whether a refused stream had no key to be signed with. Envoy's
// own count of signed streams (signing_added) includes those sent unsigned.
func (w *watcher) lookCloser(s standing) standing {
	if s == standingRefused && w.credentials.check() != nil {
		return standingUnsigned
	}
	return s
}

// renewEvery is after how many samples in which the stream is refused other credentials are
// asked for.
const renewEvery = 60

func (w *watcher) run(ctx context.Context) {
	var j judge
	said, refusedFor := standingUnknown, 0
	for {
		if now, err := w.sample(ctx); err == nil {
			next := w.lookCloser(j.next(now))
			refusedFor++
			if next != said {
				w.log(next)
				said, refusedFor = next, 0
			}
			// The session may have been revoked. Else it does not help, and is not worth much.
			if next == standingRefused && refusedFor%renewEvery == 0 && w.renew != nil {
				w.renew()
			}
		}
		pause := watchWhileAway
		if said == standingConnected && j.lasted >= goodAfter {
			pause = watchWhileConnected
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (w *watcher) log(s standing) {
	switch s {
	case standingConnected:
		w.logger.Info("connected to the control plane", "server", w.server)
	case standingUnreachable:
		w.logger.Warn("the control plane cannot be reached; Envoy goes on with what it has and keeps trying", "server", w.server)
	case standingUntrusted:
		w.logger.Error("TLS with the control plane fails; look at FAIRLEAD_XDS_CA_FILE and at the names in its certificate", "server", w.server)
	case standingUnsigned:
		w.logger.Error("Envoy has no access key and sends its stream unsigned, which the control plane refuses; give it a key that Fairlead issued",
			"server", w.server, "file", w.credentials.File, "profile", w.credentials.Profile)
	case standingRefused:
		w.logger.Error("the control plane refuses the stream; Envoy's line \"gRPC config stream to fairlead_xds closed\" says why", "server", w.server,
			"codes", "16: key unknown or clock wrong, 7: key may not serve this resource, 3: no such resource, 8: too many proxies")
	}
}
