package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-mesh/fairlead/internal/store"
)

// storeMetrics tells how large the store is, and how far its documents have been brought to
// a new format.
type storeMetrics struct {
	store                                    *store.Store
	bytes, inUse, quota, level, disk         *prometheus.Desc
	defrags, stalled, compactions            *prometheus.Desc
	format, seen, rewritten, unreadable, all *prometheus.Desc
}

func newStoreMetrics(s *store.Store) *storeMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("fairlead_store_"+name, help, nil, nil)
	}
	return &storeMetrics{
		store: s,
		bytes: desc("size_bytes", "Size of etcd's file; of an external cluster that of its largest member."),
		inUse: desc("size_in_use_bytes", "What of etcd's file is in use."),
		quota: desc("quota_bytes", "Size of its file at which etcd takes no more writes."),
		level: desc("level", "How full the store is: 0 fine, 1 filling up, 2 nothing new is taken, 3 etcd takes nothing but deletes."),
		disk:  desc("disk_free_bytes", "What is free on the disk of the embedded store; below 128 MiB nothing is written."),

		defrags: desc("defragmentations_total", "How often this server has defragmented its embedded etcd."),
		stalled: desc("defragmentation_last_seconds", "How long the last defragmentation held everything up."),

		compactions: desc("compactions_total", "How often this server has compacted the history of an external etcd."),

		format:     desc("document_format", "Format that documents are written in."),
		seen:       desc("migration_seen", "Documents that this server has looked at to bring them to a new format."),
		rewritten:  desc("migration_rewritten", "Documents that this server has brought to a new format."),
		unreadable: desc("migration_unreadable", "Documents that could not be brought to a new format."),
		all:        desc("migration_documents", "Documents that there were to look at."),
	}
}

// Describe is part of prometheus.Collector.
func (m *storeMetrics) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, to) }

// Collect is part of prometheus.Collector.
func (m *storeMetrics) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	z, _ := m.store.Size()
	gauge(m.bytes, float64(z.Bytes))
	gauge(m.inUse, float64(z.InUse))
	gauge(m.quota, float64(z.Quota))
	gauge(m.level, float64(z.Level()))
	if free, ok := m.store.DiskFree(); ok {
		gauge(m.disk, float64(free))
	}
	n, last := m.store.Defragmentations()
	to <- prometheus.MustNewConstMetric(m.defrags, prometheus.CounterValue, float64(n))
	gauge(m.stalled, last.Seconds())
	to <- prometheus.MustNewConstMetric(m.compactions, prometheus.CounterValue, float64(m.store.Compactions()))
	gauge(m.format, float64(m.store.DocumentFormat()))
	seen, rewritten, unreadable, all := m.store.Migration()
	gauge(m.seen, float64(seen))
	gauge(m.rewritten, float64(rewritten))
	gauge(m.unreadable, float64(unreadable))
	gauge(m.all, float64(all))
}
