package cloudmap

import "github.com/prometheus/client_golang/prometheus"

// measure makes the figures, and registers them with what may be nil. Those of all sources
// are there from the beginning, so that they can be watched for a change.
func (p *Poller) measure(to prometheus.Registerer) {
	p.asked = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fairlead_cloud_map_requests_total", Help: "Requests to AWS Cloud Map.",
	}, []string{"account", "operation"})
	p.failed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fairlead_cloud_map_failures_total",
		Help: "Polls of AWS Cloud Map that failed, in asking or in keeping the answer; the last answer is kept.",
	}, []string{"account", "in"})
	all := []prometheus.Collector{p.asked, p.failed}
	for _, s := range p.sources {
		for _, operation := range []string{opDiscover, opRevision} {
			p.asked.WithLabelValues(s.Account, operation)
		}
		for _, in := range []string{inAsking, inKeeping} {
			p.failed.WithLabelValues(s.Account, in)
		}
		of := prometheus.Labels{"account": s.Account}
		all = append(all,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "fairlead_cloud_map_services", Help: "Services that AWS Cloud Map is asked for.", ConstLabels: of,
			}, func() float64 { return float64(s.count()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "fairlead_cloud_map_oldest_answer_seconds", ConstLabels: of,
				Help: "Age of the oldest last answer among the services that AWS Cloud Map is asked for; 0 without any.",
			}, func() float64 { return s.oldest().Seconds() }),
		)
	}
	if to != nil {
		to.MustRegister(all...)
	}
}

// The values of the labels.
const (
	opDiscover = "DiscoverInstances"
	opRevision = "DiscoverInstancesRevision"
	inAsking   = "asking"
	inKeeping  = "keeping"
)
