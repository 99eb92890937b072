package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/agent/status"
)

// Probe is how to ask about the Envoy of this container or host, from another process.
type Probe struct {
	// Interval and Timeout are those of APPNET_AGENT_POLL_ENVOY_READINESS_…; 0 is once.
	Interval, Timeout time.Duration

	server StatusServer
	admin  Admin
	own    bool // a bootstrap of the user's own
}

// ReadProbe reads the same variables as the agent, and of them only those that say where it
// and Envoy can be asked.
func ReadProbe(lookup func(string) (string, bool)) (Probe, error) {
	e := &env{lookup: lookup}
	placement := readPlacement(e)
	p := Probe{admin: readAdmin(e, placement), own: e.text("ENVOY_CONFIG_FILE", "") != ""}
	p.server = readStatusServer(e, placement, p.admin)
	p.Interval, p.Timeout = readReadiness(e)
	return p, e.err
}

// askEvery is how often Wait asks at most: the agent's server answers 10 times a second.
const askEvery = 150 * time.Millisecond

// askTimeout bounds one question.
const askTimeout = 5 * time.Second

// Ready asks once whether Envoy is healthy: the agent's own server, where that is off Envoy
// itself. The error says what is missing.
func (p Probe) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if !p.server.On() {
		return p.askEnvoy(ctx)
	}
	r, err := p.Status(ctx)
	for errors.Is(err, errTooMany) && ctx.Err() == nil { // others ask as well; that says nothing of Envoy
		select {
		case <-ctx.Done():
		case <-time.After(askEvery):
			r, err = p.Status(ctx)
		}
	}
	switch {
	case err != nil:
		return err
	case r.HealthStatus == status.Healthy:
		return nil
	case r.More.Why != "":
		return errors.New(r.More.Why)
	}
	return errors.New("Envoy is " + r.HealthStatus)
}

// Wait asks until Envoy is healthy, or the timeout is over; 0 is no timeout. It asks again
// after interval. The error is the last one.
func (p Probe) Wait(ctx context.Context, interval, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	tick := time.NewTicker(max(interval, askEvery))
	defer tick.Stop()
	var last error
	for {
		err := p.Ready(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // the one that was cut off says nothing
		}
		select {
		case <-ctx.Done():
			return last
		case <-tick.C:
		}
	}
}

// errNoServer says that there is nobody to tell the status.
var errNoServer = errors.New("APPNET_AGENT_ADMIN_MODE is not set, so the agent has no server that tells its status; allowed are tcp and uds")

// errTooMany says that the agent's server is asked too often.
var errTooMany = errors.New("the agent's server is asked more often than it answers")

// Status asks the agent's own server.
func (p Probe) Status(ctx context.Context) (status.Report, error) {
	var r status.Report
	if !p.server.On() {
		return r, errNoServer
	}
	network, address := "unix", p.server.Socket
	if address == "" {
		network, address = "tcp", p.server.address()
	}
	client := &http.Client{Timeout: askTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/status", nil)
	if err != nil {
		return r, err
	}
	res, err := client.Do(req)
	if err != nil {
		return r, fmt.Errorf("asking the agent at %s: %w", p.server, unwrapped(err))
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusTooManyRequests {
		return r, errTooMany
	}
	if res.StatusCode != http.StatusOK {
		return r, fmt.Errorf("asking the agent at %s: it answers %s", p.server, res.Status)
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&r); err != nil {
		return r, fmt.Errorf("asking the agent at %s: decoding its answer: %w", p.server, err)
	}
	return r, nil
}

// askEnvoy finds out by Envoy's admin interface alone. For how long the control plane has been
// away cannot be seen there.
func (p Probe) askEnvoy(ctx context.Context) error {
	s, err := newAdminClient(p.admin).sample(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("asking Envoy: %w", unwrapped(err))
	case s.state != status.StateLive:
		return errors.New("Envoy is not live, it says " + s.state)
	case p.own:
		return nil
	case !s.configured:
		return errors.New(s.unconfigured())
	case s.failures > 0 && s.accepted == 1: // later ones leave what is served as it is
		return errors.New(listenerFailed)
	}
	return nil
}

// unwrapped takes away that a request was made to a made-up host.
func unwrapped(err error) error {
	var operation *net.OpError
	if errors.As(err, &operation) {
		return operation
	}
	return err
}
