package meshtest

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	rlqsv3 "github.com/envoyproxy/go-control-plane/envoy/service/rate_limit_quota/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// Quotas is a client of the rate limit quota service, as an Envoy is one.
type Quotas struct {
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[rlqsv3.RateLimitQuotaUsageReports, rlqsv3.RateLimitQuotaResponse]
	domain string
}

// OpenQuotas opens a stream, signed by some credentials, as a proxy of the virtual node that the
// domain names. Without credentials it is not signed.
func OpenQuotas(ctx context.Context, addr string, c aws.Credentials, domain string) (*Quotas, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	if c.AccessKeyID != "" {
		if ctx, err = signCall(ctx, c, addr, rlqsv3.RateLimitQuotaService_StreamRateLimitQuotas_FullMethodName); err != nil {
			return nil, err
		}
	}
	stream, err := rlqsv3.NewRateLimitQuotaServiceClient(conn).StreamRateLimitQuotas(ctx)
	if err != nil {
		return nil, err
	}
	return &Quotas{conn: conn, stream: stream, domain: domain}, nil
}

// Report says what was let through and refused of a bucket, in 5 s.
func (q *Quotas) Report(policy, key string, allowed, denied uint64) {
	_ = q.stream.Send(&rlqsv3.RateLimitQuotaUsageReports{Domain: q.domain, BucketQuotaUsages: []*rlqsv3.RateLimitQuotaUsageReports_BucketQuotaUsage{{
		BucketId:           &rlqsv3.BucketId{Bucket: map[string]string{envoy.QuotaPolicy: policy, envoy.QuotaKey: key}},
		NumRequestsAllowed: allowed, NumRequestsDenied: denied, TimeElapsed: durationpb.New(5e9),
	}}}) // if the stream has ended, Next says why
}

// ReportKeys says that so many buckets of a policy were used.
func (q *Quotas) ReportKeys(policy string, n int) {
	r := &rlqsv3.RateLimitQuotaUsageReports{Domain: q.domain}
	for i := range n {
		r.BucketQuotaUsages = append(r.BucketQuotaUsages, &rlqsv3.RateLimitQuotaUsageReports_BucketQuotaUsage{
			BucketId:           &rlqsv3.BucketId{Bucket: map[string]string{envoy.QuotaPolicy: policy, envoy.QuotaKey: fmt.Sprint("by=", i)}},
			NumRequestsAllowed: 1,
		})
	}
	_ = q.stream.Send(r)
}

// NextAll returns all that is said next.
func (q *Quotas) NextAll() ([]*rlqsv3.RateLimitQuotaResponse_BucketAction, error) {
	r, err := q.stream.Recv()
	return r.GetBucketAction(), err
}

// Next returns what is said next of a bucket, or why the stream has ended.
func (q *Quotas) Next() (*rlqsv3.RateLimitQuotaResponse_BucketAction, error) {
	r, err := q.stream.Recv()
	if err != nil {
		return nil, err
	}
	return r.GetBucketAction()[0], nil
}

// Close ends the stream.
func (q *Quotas) Close() { _ = q.conn.Close() }
