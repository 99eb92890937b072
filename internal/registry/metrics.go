package registry

import "github.com/prometheus/client_golang/prometheus"

// metrics are the registry's own figures. Those of the table are read when they are
// asked for.
type metrics struct {
	table     *table
	instances *prometheus.Desc
	expired   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, t *table) *metrics {
	m := &metrics{
		table: t,
		instances: prometheus.NewDesc("fairlead_registry_instances",
			"Instances in the registry, by account, region and where they come from.", []string{"account", "region", "source"}, nil),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_registry_expired_instances_total", Help: "Instances that this server took out because their leases were over.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m, m.expired)
	}
	return m
}

// Describe tells of the figures that Collect makes.
func (m *metrics) Describe(to chan<- *prometheus.Desc) { to <- m.instances }

// Collect counts the instances.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	m.table.mu.RLock()
	defer m.table.mu.RUnlock()
	for p, a := range m.table.areas {
		registered, imported := 0, 0
		for _, all := range a.instances {
			registered += len(all)
		}
		for _, i := range a.imported {
			imported += len(i.instances)
		}
		to <- prometheus.MustNewConstMetric(m.instances, prometheus.GaugeValue, float64(registered), p.account, p.region, "registered")
		to <- prometheus.MustNewConstMetric(m.instances, prometheus.GaugeValue, float64(imported), p.account, p.region, "imported")
	}
}
