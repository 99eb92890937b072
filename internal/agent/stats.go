package agent

import (
	"net/netip"
	"time"
)

// Stats is what the variables say of Envoy's statistics.
type Stats struct {
	// Own is set where a file of the user's own brings the tags and the rest of the
	// statistics' configuration.
	Own bool
	// Tags names the mesh and the resource on every statistic.
	Tags bool
	// Aggregate has Envoy keep App Mesh's aggregate metrics.
	Aggregate bool
	// FlushInterval is how often sinks are sent statistics; 0 leaves it to Envoy (5 s).
	FlushInterval time.Duration
	// DogStatsD and StatsD are sinks.
	DogStatsD, StatsD bool
	// Address is where they are, Socket a Unix socket in place of it.
	Address netip.AddrPort
	Socket  string
}

// readStats reads tags and sinks. A file of the user's own goes before what the
// variables would make.
func readStats(e *env, files map[string]string) Stats {
	s := Stats{
		Own:           files[statsFile] != "",
		Tags:          e.yes("ENABLE_ENVOY_STATS_TAGS", false),
		Aggregate:     e.oneOf("APPMESH_METRIC_EXTENSION_VERSION", "0", "0", "1") == "1",
		FlushInterval: e.duration("ENVOY_STATS_FLUSH_INTERVAL", time.Millisecond, 299*time.Second),
		DogStatsD:     e.yes("ENABLE_ENVOY_DOG_STATSD", false),
		StatsD:        e.yes("FAIRLEAD_ENABLE_STATSD", false),
	}
	if s.DogStatsD && s.StatsD {
		e.refuse("ENABLE_ENVOY_DOG_STATSD and FAIRLEAD_ENABLE_STATSD are on, allowed is one of them: both would send to the same address")
	}
	if !s.DogStatsD && !s.StatsD {
		return s
	}
	s.Socket = e.absolute("STATSD_SOCKET_PATH")
	s.Address = netip.AddrPortFrom(e.literal("STATSD_ADDRESS"), uint16(e.integer("STATSD_PORT", 8125, 1, 65535)))
	if files[sinksFile] != "" {
		s.DogStatsD, s.StatsD = false, false
	}
	return s
}
