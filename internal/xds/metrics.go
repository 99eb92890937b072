package xds

import "github.com/prometheus/client_golang/prometheus"

// metrics are the server's own figures.
type metrics struct {
	streams   prometheus.Gauge
	refused   prometheus.Counter
	dropped   prometheus.Counter
	rebuilds  prometheus.Histogram
	published prometheus.Histogram
	acked     prometheus.Histogram
	responses *prometheus.CounterVec
	acks      *prometheus.CounterVec
	nacks     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	byType := []string{"type"}
	m := &metrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_xds_streams", Help: "Discovery streams open now.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_xds_refused_streams_total", Help: "Discovery streams refused at their opening.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_xds_dropped_streams_total", Help: "Discovery streams ended because their proxies did not read.",
		}),
		rebuilds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_xds_rebuild_seconds", Help: "Time to read, translate, encode and compare one view.",
			Buckets: prometheus.ExponentialBuckets(0.00005, 4, 9),
		}),
		published: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_xds_published_seconds", Help: "Time from a change's arrival from the store until the resources of a virtual node or gateway that depends on it are published.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		acked: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_xds_acknowledged_seconds", Help: "Time from a change's arrival from the store until a connected proxy that depends on it has acknowledged it.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		responses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_xds_responses_total", Help: "Discovery responses sent, by type.",
		}, byType),
		acks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_xds_acks_total", Help: "Responses that proxies accepted, by type.",
		}, byType),
		nacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_xds_nacks_total", Help: "Responses that proxies refused, by type.",
		}, byType),
	}
	if reg != nil {
		reg.MustRegister(m.streams, m.refused, m.dropped, m.rebuilds, m.published, m.acked, m.responses, m.acks, m.nacks)
	}
	return m
}
