package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// unit is how a figure is shown.
type unit struct {
	name string
	of   float64
}

var (
	megabytes    = unit{"MB", 1e6}
	kilobytes    = unit{"KB", 1e3}
	seconds      = unit{"s", 1}
	milliseconds = unit{"ms", 1e-3}
	microseconds = unit{"µs", 1e-6}
)

// show writes a figure with about two digits that count.
func show(v float64) string {
	whole := math.Round(v)
	switch {
	case v >= 1e6:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v/1e6), ".0") + " million"
	case v >= 1e3:
		return fmt.Sprintf("%d,%03d", int(whole)/1000, int(whole)%1000)
	case v >= 100 || math.Abs(v-whole) < 0.005:
		return fmt.Sprintf("%.0f", v)
	case v >= 0.995:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.01:
		return fmt.Sprintf("%.2f", v)
	}
	return "below 0.01"
}

// rows writes a table in Markdown.
func rows(head []string, body ...[]string) string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	line(slices.Repeat([]string{"---"}, len(head)))
	for _, cells := range body {
		line(cells)
	}
	return b.String()
}

// calculation is all that the tables are made of.
type calculation struct {
	costs  costs
	fleet  fleet
	m      machine
	limits limits
	prices prices
	most   float64 // proxies of a cell, chosen
}

// ordinaryCalculation is what the design note shows.
func ordinaryCalculation() calculation {
	return calculation{costs: knownCosts(), fleet: ordinary, m: machine{cores: 2, bytes: 8e9}, limits: knownLimits, prices: knownPrices, most: 50_000}
}

// tables are those of the design note by their names.
func (x calculation) tables() map[string]string {
	return map[string]string{
		"costs": x.costTable(), "limits": x.limitTable(), "sizes": x.sizeTable(), "work": x.workTable(), "million": x.millionTable(),
		"cells": x.cellTable(), "sensitivity": x.sensitivityTable(),
	}
}

func (x calculation) costTable() string {
	var body [][]string
	for _, k := range known {
		body = append(body, []string{k.what, show(k.value/k.unit.of) + " " + k.unit.name, string(k.how), k.where})
	}
	return rows([]string{"what", "takes", "how sure", "from"}, body...)
}

func (x calculation) limitTable() string {
	l := x.limits
	return rows([]string{"limit", "value", "why"},
		[]string{"machine", fmt.Sprintf("%s cores, %s GB", show(x.m.cores), show(x.m.bytes/1e9)), "of a replica, and of a member of etcd"},
		[]string{"replicas of a cell", fmt.Sprintf("%s to %s", show(l.least), show(l.replicas)), "one may go, while another is replaced; each is asked by each, and reads every change"},
		[]string{"processors of a replica", show(100*l.busy) + " %", "with one of the others gone"},
		[]string{"memory of a replica", show(100*l.memory) + " %", "resident, with one of the others gone; half of it for objects"},
		[]string{"all proxies of a cell are back", show(l.storm) + " s", fmt.Sprintf("with %s %% of the cores; Envoys go on with what they have meanwhile", show(100*l.stormBusy))},
		[]string{"streams of a replica", show(l.streams), "the default of `--xds-max-connections`; 10,000 were measured"},
		[]string{"a new replica has read everything", show(l.start) + " s", "chosen"},
		[]string{"etcd's writes", show(l.etcdWrites) + " a second", "assumed: a fraction of what etcd's authors publish for three members on solid-state disks"},
		[]string{"etcd's file", "8 GiB", "`--store-quota`, and what etcd's authors advise"},
		[]string{"etcd's leases", show(l.etcdLeases), "assumed: each member holds all in memory, and the leader their ends"},
	)
}

// sizes that the tables show.
var sizes = []float64{1e3, 1e4, 5e4, 1e5, 2.5e5, 5e5, 1e6}

// sizeTable shows one cell, whatever its limits say.
func (x calculation) sizeTable() string {
	var body [][]string
	for _, n := range sizes {
		f := x.fleet
		f.proxies = n
		c := fit(x.costs, f, x.m, x.limits)
		beyond := "nothing"
		if c.first != "" {
			beyond = "**" + c.first + "**"
		}
		body = append(body, []string{
			show(n), show(c.replicas), c.decides, beyond, show(c.cores), show(c.memory / 1e9), show(c.rates.writes), show(c.etcdBytes / 1e9), show(c.etcdLeases),
			show(c.etcdCores), show(c.storm), show(c.moved), show(c.start), show(c.sent / 1e6), show(c.watched / 1e6),
		})
	}
	return rows([]string{
		"proxies in one cell", "replicas", "decided by", "beyond its limit", "cores busy", "GB a replica", "etcd writes/s", "etcd GB", "etcd leases",
		"etcd cores", "all back, s", "one replica's back, s", "start, s", "MB/s to proxies", "MB/s of watches",
	}, body...)
}

// workTable says where processor time goes in a cell of the chosen size.
func (x calculation) workTable() string {
	f := x.fleet
	f.proxies = x.most
	c := fit(x.costs, f, x.m, x.limits)
	r := c.rates
	often := []float64{f.streams(), r.returns, r.edits, r.instances, r.certificates, r.renewals, r.changes, c.replicas * (c.replicas - 1) / 2}
	var body [][]string
	for i, p := range c.parts {
		a := show(often[i]) + " a second"
		if i == 0 {
			a = show(often[i]) + " streams"
		}
		body = append(body, []string{p.name, a, show(p.cores), show(100*p.cores/c.cores) + " %"})
	}
	return rows([]string{fmt.Sprintf("a cell of %s proxies, %s replicas", show(f.proxies), show(c.replicas)), "how often", "cores", "of all"}, body...)
}

var planHead = []string{"", "cells", "replicas of each", "decided by", "one cell fewer", "machines", "cores", "GB", "US$ a month", "US$ a proxy and year", "all back, s"}

func (x calculation) planRow(name string) []string {
	p := spread(x.costs, x.fleet, x.m, x.limits, x.prices, x.most)
	fewer := p.first
	if fewer == "" {
		fewer = "there is one"
	}
	return []string{
		name, show(p.cells), show(p.cell.replicas), p.cell.decides, fewer, show(p.machines), show(p.cores), show(p.bytes / 1e9), show(p.month),
		fmt.Sprintf("%.2f", 12*p.month/x.fleet.proxies), show(p.cell.storm),
	}
}

// millionTable is the fleet over cells of some sizes.
func (x calculation) millionTable() string {
	var body [][]string
	for _, most := range []float64{1e4, 2.5e4, 5e4, 1e5, 0} {
		y, name := x, "as large as will do"
		if y.most = most; most > 0 {
			name = show(most) + " proxies a cell"
		}
		body = append(body, y.planRow(name))
	}
	return rows(planHead, body...)
}

// cellTable is fleets of some sizes over cells of the chosen size.
func (x calculation) cellTable() string {
	var body [][]string
	for _, n := range append(slices.Clone(sizes), 1e7) {
		y := x
		y.fleet.proxies = n
		body = append(body, y.planRow(show(n)+" proxies"))
	}
	return rows(planHead, body...)
}

// sensitivityTable changes one thing at a time.
func (x calculation) sensitivityTable() string {
	changes := []struct {
		name   string
		change func(*calculation)
	}{
		{"as above", func(*calculation) {}},
		{"1 proxy a node", func(y *calculation) { y.fleet.perNode = 1 }},
		{"100 proxies a node", func(y *calculation) { y.fleet.perNode = 100 }},
		{"3 services a node", func(y *calculation) { y.fleet.services = 3 }},
		{"50 services a node", func(y *calculation) { y.fleet.services = 50 }},
		{"200 services a node", func(y *calculation) { y.fleet.services = 200 }},
		{"1 edit a node and day", func(y *calculation) { y.fleet.edits = 1 }},
		{"1,000 edits a node and day", func(y *calculation) { y.fleet.edits = 1000 }},
		{"proxies are replaced 24 times a day", func(y *calculation) { y.fleet.replaced = 24 }},
		{"no certificates", func(y *calculation) { y.fleet.certificates = false }},
		{"certificates of 24 hours", func(y *calculation) { y.fleet.life = day }},
		{"no leases: instances by DNS, or registered by others", func(y *calculation) { y.fleet.leases = false }},
		{"leases of 120 s", func(y *calculation) { y.fleet.lease = 120 }},
		{"neither", func(y *calculation) { y.fleet.leases, y.fleet.certificates = false, false }},
		{"pings every 60 s", func(y *calculation) { y.costs.idle /= 4; y.costs.pingSeconds = 60 }},
		{"machines of 4 cores and 16 GB", func(y *calculation) { y.m = machine{4, 16e9} }},
		{"machines of 16 cores and 64 GB", func(y *calculation) { y.m = machine{16, 64e9} }},
		{"all processor times doubled", func(y *calculation) { y.costs = y.costs.slower(2) }},
		{"all processor times halved", func(y *calculation) { y.costs = y.costs.slower(0.5) }},
		{"twice the memory of a stream and a view", func(y *calculation) { y.costs.stream *= 2; y.costs.feedService *= 2 }},
		{"50,000 streams a replica", func(y *calculation) { y.limits.streams = 50_000 }},
		{"etcd takes a tenth of the writes", func(y *calculation) { y.limits.etcdWrites /= 10 }},
	}
	var body [][]string
	for _, c := range changes {
		y := x
		c.change(&y)
		size, ends := largest(y.costs, y.fleet, y.m, y.limits)
		body = append(body, append(y.planRow(c.name), show(size), ends))
	}
	return rows(append(slices.Clone(planHead), "proxies of the largest cell", "which ends at"), body...)
}

// slower returns the costs with all processor times multiplied.
func (c costs) slower(by float64) costs {
	for _, k := range known {
		if k.unit == microseconds || k.unit == milliseconds {
			*k.of(&c) *= by
		}
	}
	return c
}
