package relay

import (
	"context"
	"errors"
	"io"

	rlqsv3 "github.com/envoyproxy/go-control-plane/envoy/service/rate_limit_quota/v3"
	"google.golang.org/grpc/metadata"
)

// proxyHeader says which proxy of its virtual node a stream is, a contract with the control
// plane.
const proxyHeader = "x-fairlead-proxy"

// quotas hands the streams on by which Envoys report for quotas.
type quotas struct {
	rlqsv3.UnimplementedRateLimitQuotaServiceServer

	relay *Relay
}

// StreamRateLimitQuotas hands a stream on, both ways, until either side ends it. An Envoy opens
// another one with its next report.
func (q quotas) StreamRateLimitQuotas(down rlqsv3.RateLimitQuotaService_StreamRateLimitQuotasServer) error {
	ctx, cancel := context.WithCancel(down.Context())
	defer cancel()
	md, _ := metadata.FromIncomingContext(ctx)
	for _, name := range md.Get(proxyHeader) {
		ctx = metadata.AppendToOutgoingContext(ctx, proxyHeader, name)
	}
	up, err := rlqsv3.NewRateLimitQuotaServiceClient(q.relay.cfg.Upstream).StreamRateLimitQuotas(ctx)
	if err != nil {
		return err
	}
	go func() { // ends with ctx
		defer cancel()
		for {
			report, err := down.Recv()
			if err != nil || up.Send(report) != nil {
				return
			}
		}
	}()
	for {
		answer, err := up.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := down.Send(answer); err != nil {
			return err
		}
	}
}
