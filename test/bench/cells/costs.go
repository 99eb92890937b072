package main

// source says how sure a figure is.
type source string

const (
	measured source = "measured"
	derived  source = "derived" // calculated from measured figures, as the note says
	assumed  source = "assumed" // nobody has measured it here
)

// costs are what things take: seconds of one core, bytes, pieces. The fields are those that
// the model calculates with.
type costs struct {
	// of memory, in bytes
	base, stream, feedService, object float64
	// of processor time, in seconds; idle a second
	idle, sync, syncService, write, rebuildService, rebuildWide, rebuildEndpoints, push, watch, certificate, renewal, question float64
	// of etcd
	etcdWrite, etcdEvent, recordBytes, certificateBytes, historySeconds float64
	// of the network, in bytes
	pushBytes, endpointBytes, syncServiceBytes, pingBytes, pingSeconds float64
}

// cost is one of them with what is known of it.
type cost struct {
	of    func(*costs) *float64
	value float64
	what  string
	unit  unit
	how   source
	where string
}

// known are all unit costs. They were measured on two cores that the load client and other
// processes shared; a quiet machine gives better ones.
var known = []cost{
	{func(c *costs) *float64 { return &c.base }, 250e6, "a replica with next to nothing", megabytes, measured, "`make soak`: resident with 62 streams and 250 objects; a heap that is collected when it has grown by 128 MiB"},
	{func(c *costs) *float64 { return &c.stream }, 67e3, "a stream, resident", kilobytes, measured, "`make bench BENCH=Streams`: 10 services, delta, TLS; 59 without TLS, 76 with 1,000 services"},
	{func(c *costs) *float64 { return &c.feedService }, 1.2e3, "a service in the view of a node, once for each replica that has a proxy of it", kilobytes, measured, "`SCALE=spread`: 0.5 to 1.2 MB for 1,000 services"},
	{func(c *costs) *float64 { return &c.object }, 4e3, "an object of a mesh, on each replica", kilobytes, derived, "`SCALE=start`: 473 MB with 100,000 objects"},

	{func(c *costs) *float64 { return &c.idle }, 7e-6, "a stream that is idle, pings included, a second", microseconds, derived, "`SCALE=fleet/idle`: 2.1 % of a core with 1,000 proxies, 8.3 % with 10,000"},
	{func(c *costs) *float64 { return &c.sync }, 0.5e-3, "a proxy that comes back, with 10 services and a node of its own", milliseconds, measured, "`SCALE=fleet/reconnect`: 3.5 to 5.6 CPU s for 10,000"},
	{func(c *costs) *float64 { return &c.syncService }, 1.9e-6, "each service more", microseconds, derived, "`SCALE=wide/sync`: 2.4 ms a proxy with 1,000 services"},
	{func(c *costs) *float64 { return &c.write }, 230e-6, "a write, on the replica that is called", microseconds, measured, "`make bench BENCH=API`; of it 65 are the embedded etcd's"},
	{func(c *costs) *float64 { return &c.rebuildService }, 9e-6, "a node's view translated again, for each service in it, up to 100", microseconds, measured, "`internal/xds` BenchmarkInstanceChange, everything: 0.46 ms for a view of 50 services"},
	{func(c *costs) *float64 { return &c.rebuildWide }, 2.4e-6, "the same beyond 100", microseconds, derived, "`SCALE=spread/route`: 1.2 CPU s for 500 views of 1,000 services, less the pushes"},
	{func(c *costs) *float64 { return &c.rebuildEndpoints }, 0.5e-3, "a node's endpoints made again", microseconds, derived, "`internal/xds` BenchmarkInstanceChange: a hundredth of a view of 50 services with 10 instances each, and what is read for it"},
	{func(c *costs) *float64 { return &c.push }, 56e-6, "a change sent to a proxy and acknowledged", microseconds, measured, "`SCALE=wide/endpoint`: 28 ms for 500"},
	{func(c *costs) *float64 { return &c.watch }, 30e-6, "a change read by a replica that it does not concern", microseconds, derived, "`SCALE=start`: 100,000 objects in 1.6 to 3.5 s"},
	{func(c *costs) *float64 { return &c.certificate }, 500e-6, "a workload's certificate issued", microseconds, assumed, "a write, a lease and a signature with P-256"},
	{func(c *costs) *float64 { return &c.renewal }, 145e-6, "an instance's lease renewed, which writes nothing", microseconds, derived, "`make bench BENCH=API`: a write without etcd's part and the check of the spec"},
	{func(c *costs) *float64 { return &c.question }, 300e-6, "a question from one replica to another, both sides", microseconds, assumed, "an HTTPS request over a connection that is there"},

	{func(c *costs) *float64 { return &c.etcdWrite }, 65e-6, "a write, on each member of etcd", microseconds, measured, "`make bench BENCH=API`: 40 to apply it, 25 to propose it"},
	{func(c *costs) *float64 { return &c.etcdEvent }, 10e-6, "a change told to a replica, on one member", microseconds, assumed, "an encoded message of 1 KB over gRPC"},
	{func(c *costs) *float64 { return &c.recordBytes }, 2e3, "an object in etcd's file, its slot and references included", kilobytes, derived, "`make soak`: 0.27 KB a record, four or five records an object, and the pages of etcd's file"},
	{func(c *costs) *float64 { return &c.certificateBytes }, 600, "the record of a certificate that is valid", kilobytes, measured, "`make soak`: 0.4 KB, and etcd's own"},
	{func(c *costs) *float64 { return &c.historySeconds }, 900, "how long what was replaced stays in etcd, on average", seconds, derived, "compaction every 10 minutes, of what is older than 10"},

	{func(c *costs) *float64 { return &c.pushBytes }, 670, "a route's change on the wire, for each proxy", kilobytes, measured, "`SCALE=wide/route`, `SCALE=spread/route`"},
	{func(c *costs) *float64 { return &c.endpointBytes }, 400, "an instance's change, for each proxy", kilobytes, measured, "`SCALE=wide/endpoint`"},
	{func(c *costs) *float64 { return &c.syncServiceBytes }, 1.05e3, "a first synchronisation, for each service", kilobytes, measured, "`SCALE=wide/sync`"},
	{func(c *costs) *float64 { return &c.pingBytes }, 160, "a ping and its answer", kilobytes, assumed, "two frames of 17 bytes, TLS's and TCP's own"},
	{func(c *costs) *float64 { return &c.pingSeconds }, 10, "between two pings", seconds, measured, "the agent's bootstrap"},
}

// known as the model takes them.
func knownCosts() costs {
	var c costs
	for _, k := range known {
		*k.of(&c) = k.value
	}
	return c
}

// limits are how far things may go.
type limits struct {
	busy   float64 // part of its cores that a replica may take when one of the others is gone
	memory float64 // part of a machine's memory that may be resident
	// storm is how long all proxies of a cell may take to be back, with stormBusy of the
	// cores, in seconds.
	storm, stormBusy float64
	streams          float64 // of a replica
	replicas         float64 // of a cell
	etcdWrites       float64 // a second
	etcdBytes        float64
	etcdLeases       float64
	start            float64 // until a replica has read everything, in seconds
	least            float64 // replicas of a cell, so that one may go
}

var knownLimits = limits{
	busy: 0.5, memory: 0.7, storm: 60, stormBusy: 0.75, streams: 20_000, replicas: 50,
	etcdWrites: 5_000, etcdBytes: 8 << 30, etcdLeases: 500_000, start: 30, least: 3,
}

// machine is what runs a replica or a member of etcd.
type machine struct {
	cores, bytes float64
}

// prices are what a cloud asks, in US dollars.
type prices struct {
	coreHour, gigabyteHour, gigabyteSent float64
}

// Round figures of general-purpose machines on demand in a large cloud in 2026. Put in your
// own: the cost is linear in them.
var knownPrices = prices{coreHour: 0.035, gigabyteHour: 0.0045, gigabyteSent: 0.01}
