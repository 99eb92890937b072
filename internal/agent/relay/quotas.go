package relay

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"
)

// proxyHeader says which proxy of its virtual node a stream is, a contract with the control
// plane.
const proxyHeader = "x-fairlead-proxy"

// quotasDesc describes the service by which Envoys report for quotas
// (envoy.service.rate_limit_quota.v3). Its messages are handed on as they are.
var quotasDesc = grpc.ServiceDesc{
	ServiceName: "envoy.service.rate_limit_quota.v3.RateLimitQuotaService",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{
		StreamName: "StreamRateLimitQuotas", Handler: handOnQuotas, ServerStreams: true, ClientStreams: true,
	}},
	Metadata: "envoy/service/rate_limit_quota/v3/rlqs.proto",
}

// unread is a message of any kind: what an empty one does not know it keeps.
type unread = emptypb.Empty

// handOnQuotas hands a stream on, both ways, until either side ends it. An Envoy opens another
// one with its next report.
func handOnQuotas(srv any, down grpc.ServerStream) error {
	ctx, cancel := context.WithCancel(down.Context())
	defer cancel()
	md, _ := metadata.FromIncomingContext(ctx)
	for _, name := range md.Get(proxyHeader) {
		ctx = metadata.AppendToOutgoingContext(ctx, proxyHeader, name)
	}
	method, _ := grpc.MethodFromServerStream(down)
	up, err := srv.(*Relay).cfg.Upstream.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() { // ends with ctx
		defer cancel()
		for {
			report := new(unread)
			if down.RecvMsg(report) != nil || up.SendMsg(report) != nil {
				return
			}
		}
	}()
	for {
		answer := new(unread)
		err := up.RecvMsg(answer)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := down.SendMsg(answer); err != nil {
			return err
		}
	}
}
