package main

import (
	"math"
	"sort"
)

// fleet is what is to be served.
type fleet struct {
	proxies      float64
	perNode      float64 // proxies of a virtual node
	services     float64 // that a node calls; as many nodes call each service
	objects      float64 // of a mesh for each node: itself, a service, its router, a route
	meshNodes    float64 // nodes of a mesh, the largest that must be in one cell
	edits        float64 // a day, for each node
	replaced     float64 // how often a day a proxy is replaced by another, with its instance
	age          float64 // of a stream, in seconds
	certificates bool    // of workloads, by the agents: a second stream each, for the bundle
	life         float64 // of a certificate, in seconds; renewed at half of it
	leases       bool    // agents register their instances
	lease        float64 // in seconds; renewed at a third of it
}

// ordinary is the fleet that the tables begin with.
var ordinary = fleet{
	proxies: 1e6, perNode: 10, services: 10, objects: 4, meshNodes: 1000, edits: 10, replaced: 2, age: 1800,
	certificates: true, life: 3600, leases: true, lease: 30,
}

// rates are what happens in a second.
type rates struct {
	edits, instances, returns, certificates, renewals float64
	// writes are etcd's, changes those that each replica reads.
	writes, changes float64
}

const day = 86400

func (f fleet) nodes() float64 { return f.proxies / f.perNode }

// streams are the proxies' and, where their agents have certificates, the bundles'.
func (f fleet) streams() float64 {
	if f.certificates {
		return 2 * f.proxies
	}
	return f.proxies
}

func (f fleet) rates() rates {
	r := rates{
		edits: f.nodes() * f.edits / day, instances: 2 * f.proxies * f.replaced / day,
		returns: f.proxies/f.age + f.proxies*f.replaced/day,
	}
	if f.certificates {
		r.certificates = f.proxies/(f.life/2) + f.proxies*f.replaced/day
	}
	if f.leases {
		r.renewals = f.proxies / (f.lease / 3)
	}
	// A certificate is a lease and a record; both are in etcd's log, the record alone is
	// told, and an instance has the record of an operation beside its own.
	r.writes = r.edits + r.instances + 2*r.certificates
	r.changes = r.edits + r.instances
	return r
}

// cell is a Fairlead: replicas over one etcd.
type cell struct {
	fleet    fleet
	replicas float64
	// decides is what the number of replicas is for, first what is beyond a limit of etcd's
	// or of the cell; "" if nothing is.
	decides, first string
	rates          rates
	parts          []part  // of processor time
	cores          float64 // that all replicas are busy with
	memory         float64 // of each replica, bytes resident
	storm          float64 // seconds until all are back
	moved          float64 // seconds until those of a replica that has gone are back
	start          float64 // seconds until a new replica has read everything
	etcdBytes      float64
	etcdLeases     float64
	etcdCores      float64 // of the busiest member
	sent           float64 // bytes a second to proxies
	watched        float64 // bytes a second from etcd to replicas
}

// part is what some work takes of the cores of all replicas.
type part struct {
	name  string
	cores float64
}

// feeds is on how many replicas of r a node's n proxies are, if they go where they like.
func feeds(r, n float64) float64 { return r * (1 - math.Pow(1-1/r, n)) }

// rebuild is what it takes to translate a view of some services.
func (c *costs) rebuild(services float64) float64 {
	return min(services, 100)*c.rebuildService + max(0, services-100)*c.rebuildWide
}

// with calculates a cell with a number of replicas.
func with(c costs, f fleet, m machine, l limits, replicas float64) cell {
	r := f.rates()
	x := cell{fleet: f, replicas: replicas, rates: r}
	perNode := feeds(replicas, f.perNode)
	pushes := f.services * f.perNode // proxies that a change of a service is sent to
	// What comes back to a feed that is there costs the push alone; the first on a replica
	// makes it again, which the measured figure has in it.
	sync := c.sync + max(0, f.services-10)*c.syncService
	x.parts = []part{
		{"streams that are idle, with their pings", f.streams() * c.idle},
		{"proxies that come back, at their streams' age or new", r.returns * sync},
		{"edits: writes, translation, pushes", r.edits * (c.write + f.services*perNode*c.rebuild(f.services) + pushes*c.push)},
		{"instances that come and go", r.instances * (c.write + f.services*perNode*c.rebuildEndpoints + pushes*c.push)},
		{"certificates", r.certificates * c.certificate},
		{"leases of instances", r.renewals * c.renewal},
		{"changes that are read by every replica", replicas * r.changes * c.watch},
		{"questions among replicas", replicas * (replicas - 1) / 2 * c.question},
	}
	for _, p := range x.parts {
		x.cores += p.cores
	}
	objects := f.nodes()*f.objects + f.proxies // instances are objects too
	memory := func(replicas float64) float64 {
		return c.base + objects*c.object + f.streams()/replicas*c.stream + f.nodes()*feeds(replicas, f.perNode)/replicas*f.services*c.feedService
	}
	x.memory = memory(replicas)
	coming := f.proxies * sync
	x.storm = coming / (replicas * m.cores * l.stormBusy)
	x.moved = coming / replicas / ((replicas - 1) * m.cores * l.stormBusy)
	x.start = objects * c.watch
	x.etcdBytes = objects*c.recordBytes + (r.edits+r.instances)*c.historySeconds*c.recordBytes
	if f.certificates {
		valid := f.proxies * 2 // one in use, and the one before it
		x.etcdBytes += valid * c.certificateBytes * (1 + c.historySeconds/f.life)
		x.etcdLeases = valid
	}
	x.etcdCores = r.writes*c.etcdWrite + replicas*r.changes*c.etcdEvent
	x.sent = r.edits*pushes*c.pushBytes + r.instances*pushes*c.endpointBytes + r.returns*f.services*c.syncServiceBytes + f.streams()*c.pingBytes/c.pingSeconds
	x.watched = replicas * r.changes * c.recordBytes
	x.judge(m, l, memory(replicas-1), c.base+objects*c.object)
	return x
}

// judge says what is beyond a limit. With one replica gone the others carry all, and have
// some memory resident then; so much of it is what each has of all objects.
func (x *cell) judge(m machine, l limits, then, objects float64) {
	left := x.replicas - 1
	for _, c := range []struct {
		what string
		over bool
	}{
		{"processors", x.cores > left*m.cores*l.busy},
		{"memory", then > m.bytes*l.memory},
		{"the return of all", x.storm > l.storm},
		{"streams of a replica", x.fleet.streams()/left > l.streams},
	} {
		if c.over && x.decides == "" {
			x.decides = c.what
		}
	}
	for _, c := range []struct {
		what string
		over bool
	}{
		{"etcd's leases", x.etcdLeases > l.etcdLeases},
		{"etcd's writes", x.rates.writes > l.etcdWrites},
		{"etcd's size", x.etcdBytes > l.etcdBytes},
		{"etcd's processors", x.etcdCores > m.cores*l.busy},
		{"the start of a replica", x.start > l.start},
		{"objects on each replica", objects > m.bytes*l.memory/2},
	} {
		if c.over && x.first == "" {
			x.first = c.what
		}
	}
}

// fit returns the cell with as few replicas as will do. Its first says what is beyond a
// limit if none will.
func fit(c costs, f fleet, m machine, l limits) cell {
	why := "one may go"
	for r := l.least; ; r++ {
		x := with(c, f, m, l, r)
		if x.decides == "" {
			x.decides = why
			return x
		}
		why = x.decides
		if r >= l.replicas {
			if x.first == "" {
				x.first = "replicas"
			}
			return x
		}
	}
}

// largest returns how many proxies a cell can have, to the thousand, and what limits it.
func largest(c costs, f fleet, m machine, l limits) (proxies float64, ends string) {
	over := func(thousands int) string {
		f.proxies = 1e3 * float64(thousands)
		return fit(c, f, m, l).first
	}
	const most = 100_000 // thousands: more is no cell
	n := sort.Search(most, func(i int) bool { return over(i+1) != "" })
	return 1e3 * float64(n), over(n + 1)
}

// plan is a fleet over cells that are alike.
type plan struct {
	cells float64
	cell  cell
	// first is what one cell fewer would be beyond, or "the size that was chosen".
	first           string
	machines, cores float64
	bytes           float64
	month           float64 // US dollars
}

const etcdMembers = 3

// spread spreads a fleet over as few cells as will do, each of at most some proxies, 0 for
// any number.
func spread(c costs, f fleet, m machine, l limits, p prices, most float64) plan {
	first := ""
	for n := 1.0; ; n++ {
		one := f
		one.proxies = f.proxies / n
		if most > 0 && one.proxies > most {
			first = "the size that was chosen"
			continue
		}
		x := fit(c, one, m, l)
		if x.first != "" && n < 10_000 {
			first = x.first
			continue
		}
		out := plan{cells: n, cell: x, first: first}
		out.machines = n * (x.replicas + etcdMembers)
		out.cores, out.bytes = out.machines*m.cores, out.machines*m.bytes
		hours := 365.0 * 24 / 12
		out.month = hours*(out.cores*p.coreHour+out.bytes/1e9*p.gigabyteHour) + n*x.sent*3600*hours/1e9*p.gigabyteSent
		return out
	}
}
