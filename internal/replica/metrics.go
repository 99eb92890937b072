package replica

import "github.com/prometheus/client_golang/prometheus"

// metrics are the figures of this room.
type metrics struct {
	terms prometheus.Counter
	asked *prometheus.CounterVec
}

func (m *metrics) register(to prometheus.Registerer, s *Service) {
	m.terms = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fairlead_replica_terms_total", Help: "How often this replica has become the one that leads.",
	})
	m.asked = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fairlead_replica_questions_total", Help: "Questions to other replicas, by question and whether they were answered.",
	}, []string{"question", "answered"})
	leading := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fairlead_replica_leading", Help: "1 on the replica that does what only one is to do.",
	}, func() float64 {
		if s.Leading() {
			return 1
		}
		return 0
	})
	others := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fairlead_replicas", Help: "Replicas that this one knows of, itself included.",
	}, func() float64 { return float64(1 + len(s.Others())) })
	if to != nil {
		to.MustRegister(m.terms, m.asked, leading, others)
	}
}
