package relay

import (
	"context"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/fairlead-mesh/fairlead/internal/agent/backoff"
)

// reopen is how long to wait before a stream that was lost is opened again.
var reopen = backoff.Policy{First: 500 * time.Millisecond, Most: 3 * time.Second}

// upstream keeps a stream to the control plane open. What happens to it comes as events.
type upstream struct {
	conn   grpc.ClientConnInterface
	node   *corev3.Node
	events chan event
	cancel context.CancelFunc
	done   chan struct{}

	// Of the conversation that takes the events.
	stream *upstreamStream // nil while there is none
	away   bool            // the last one was lost
}

// event is one of the three.
type event struct {
	opened   *upstreamStream
	response *response // of stream from
	from     *upstreamStream
	lost     error
}

type upstreamStream struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

	told bool // who asks
}

func newUpstream(conn grpc.ClientConnInterface, node *corev3.Node) *upstream {
	return &upstream{conn: conn, node: node, events: make(chan event), done: make(chan struct{})}
}

func (u *upstream) start(ctx context.Context) {
	ctx, u.cancel = context.WithCancel(ctx)
	go func() {
		defer close(u.done)
		u.keep(ctx)
	}()
}

func (u *upstream) close() {
	if u.cancel != nil {
		u.cancel()
		<-u.done
	}
}

// keep opens streams, one after the other, until ctx ends.
func (u *upstream) keep(ctx context.Context) {
	for failures := 1; ; failures++ {
		answered, err := u.one(ctx)
		if !u.tell(ctx, event{lost: err}) {
			return
		}
		if answered {
			failures = 1
		}
		if !backoff.Wait(ctx, reopen.After(failures)) {
			return
		}
	}
}

// one opens a stream and reads it to its end.
func (u *upstream) one(ctx context.Context) (answered bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, err := discoveryv3.NewAggregatedDiscoveryServiceClient(u.conn).DeltaAggregatedResources(ctx, grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return false, err
	}
	s := &upstreamStream{AggregatedDiscoveryService_DeltaAggregatedResourcesClient: g}
	if !u.tell(ctx, event{opened: s}) {
		return false, ctx.Err()
	}
	for {
		resp, err := g.Recv()
		if err != nil {
			return answered, err
		}
		answered = true
		if !u.tell(ctx, event{response: resp, from: s}) {
			return answered, ctx.Err()
		}
	}
}

func (u *upstream) tell(ctx context.Context, ev event) bool {
	select {
	case u.events <- ev:
		return true
	case <-ctx.Done():
		return false
	}
}

// send sends a request on the present stream. That it could not be sent is known from
// reading.
func (u *upstream) send(req *request) {
	if !u.stream.told {
		req.Node, u.stream.told = u.node, true
	}
	_ = u.stream.Send(req)
}
