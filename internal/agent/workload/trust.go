package workload

import (
	"context"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/agent/backoff"
)

// followTrust holds a stream for a trust bundle, and opens it again when it ends. What was
// had last is served meanwhile.
func (w *Workload) followTrust(ctx context.Context, name string) {
	said := ""
	for failures := 1; ; failures++ {
		came, err := w.streamTrust(ctx, name)
		if ctx.Err() != nil {
			return
		}
		if came {
			failures, said = 1, ""
		}
		if st := status.Convert(err); err != nil && st.Message() != said {
			said = st.Message()
			w.cfg.Logger.Warn("no trust bundle comes; what was had last is served", "name", name, "code", st.Code().String(), "reason", said)
		}
		if !backoff.Wait(ctx, retry.After(failures)) {
			return
		}
	}
}

// streamTrust reads one stream to its end. A stream that the server ends in good order is
// no error.
func (w *Workload) streamTrust(ctx context.Context, name string) (came bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, err := w.openSecrets(ctx)
	if err != nil {
		return false, err
	}
	req := &discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: w.cfg.Node}, TypeUrl: typeSecret, ResourceNames: []string{name}}
	for {
		_ = g.Send(req) // reading says what is wrong
		resp, err := g.Recv()
		if err != nil {
			return came, err
		}
		came = true
		req = &discoveryv3.DiscoveryRequest{
			TypeUrl: typeSecret, ResourceNames: []string{name}, VersionInfo: resp.GetVersionInfo(), ResponseNonce: resp.GetNonce(),
		}
		if err := w.takeTrust(name, resp); err != nil {
			w.cfg.Logger.Error("a trust bundle cannot be used", "name", name, "error", err)
			req.ErrorDetail = &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
		}
	}
}

// takeTrust serves what a response holds under the name.
func (w *Workload) takeTrust(name string, resp *discoveryv3.DiscoveryResponse) error {
	for _, raw := range resp.GetResources() {
		s := new(tlsv3.Secret)
		if err := raw.UnmarshalTo(s); err != nil {
			return fmt.Errorf("reading a secret: %w", err)
		}
		if s.GetName() != name {
			continue
		}
		if s.GetValidationContext() == nil {
			return fmt.Errorf("secret %q is no trust bundle", name)
		}
		w.put(s, resp.GetVersionInfo())
		w.keepTrust(s)
		w.cfg.Logger.Info("trust bundle received", "name", name, "version", resp.GetVersionInfo())
	}
	return nil
}
