package status

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// metricsExtension is the one filter that there is: App Mesh's aggregate metrics. Their
// names lose aggregatePrefix.
const (
	metricsExtension = "metrics_extension"
	aggregatePrefix  = "envoy_appmesh_"
)

// statistics serves Envoy's statistics in Prometheus's format: all, those that were ever
// used, App Mesh's aggregate metrics only, and these as what happened within a minute.
func (s *Server) statistics(w http.ResponseWriter, r *http.Request) {
	values, ok := parameters(w, r, "usedonly", "filter", "delta")
	if !ok {
		return
	}
	filtered := values.Has("filter")
	if f := values.Get("filter"); filtered && f != metricsExtension {
		refuse(w, "filter is %.64q, allowed is %s", f, metricsExtension)
		return
	}
	if values.Has("delta") && !(filtered && values.Has("usedonly")) {
		refuse(w, "delta is there, allowed with usedonly and filter=%s only", metricsExtension)
		return
	}
	const format = "text/plain; version=0.0.4; charset=utf-8"
	if d := s.deltas.latest(); values.Has("delta") && d != nil {
		w.Header().Set("Content-Type", format)
		_, _ = w.Write(d.text())
		return
	}
	path := "/stats?format=prometheus"
	if filtered {
		path += "&filter=appmesh"
	}
	if values.Has("usedonly") {
		path += "&usedonly"
	}
	body, err := s.cfg.Ask(r.Context(), http.MethodGet, path)
	if err != nil {
		s.failed(w, "Envoy's statistics cannot be read", err)
		return
	}
	defer body.Close()
	w.Header().Set("Content-Type", format)
	if !filtered {
		_, _ = io.Copy(w, body)
		return
	}
	_, _ = w.Write(parseFamilies(io.LimitReader(body, mostStatistics)).text())
}

// family is one of App Mesh's aggregate metrics.
type family struct {
	name    string // without aggregatePrefix
	kind    string // counter, gauge or histogram
	samples []sample
}

// sample is a value of a family. Its series is name and labels as Prometheus writes them.
type sample struct {
	series string
	value  float64
}

type families []family

// parseFamilies reads App Mesh's aggregate metrics of a page in Prometheus's format. Lines of
// other metrics, and those that it cannot read, are left out.
func parseFamilies(page io.Reader) families {
	var out families
	lines := bufio.NewScanner(page)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "# TYPE "+aggregatePrefix); ok {
			name, kind, _ := strings.Cut(rest, " ")
			out = append(out, family{name: name, kind: kind})
			continue
		}
		rest, ok := strings.CutPrefix(line, aggregatePrefix)
		space := strings.LastIndexByte(rest, ' ')
		if !ok || space < 0 || len(out) == 0 || !strings.HasPrefix(rest, out[len(out)-1].name) {
			continue
		}
		if v, err := strconv.ParseFloat(rest[space+1:], 64); err == nil {
			f := &out[len(out)-1]
			f.samples = append(f.samples, sample{rest[:space], v})
		}
	}
	slices.SortFunc(out, func(a, b family) int { return strings.Compare(a.name, b.name) })
	return out
}

// text writes families as Prometheus reads them.
func (f families) text() []byte {
	var b bytes.Buffer
	for _, x := range f {
		b.WriteString("\n# TYPE " + x.name + " " + x.kind + "\n")
		for _, s := range x.samples {
			b.WriteString(s.series + " " + strconv.FormatFloat(s.value, 'g', -1, 64) + "\n")
		}
	}
	return b.Bytes()
}

// since returns what was added to counters and histograms since before. A gauge is as it is,
// and so is what was not there before, or has begun anew.
func (f families) since(before families) families {
	had := map[string]float64{}
	for _, x := range before {
		for _, s := range x.samples {
			had[s.series] = s.value
		}
	}
	out := make(families, len(f))
	for i, x := range f {
		out[i] = family{x.name, x.kind, slices.Clone(x.samples)}
		if x.kind == "gauge" {
			continue
		}
		for j, s := range x.samples {
			if old, ok := had[s.series]; ok && old <= s.value {
				out[i].samples[j].value -= old
			}
		}
	}
	return out
}

// deltas keeps what happened between the last two looks.
type deltas struct {
	mu    sync.Mutex
	last  families // nil before the first look
	delta families // nil before the first look
}

func (d *deltas) latest() families {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.delta
}

func (d *deltas) next(now families) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now == nil {
		now = families{}
	}
	d.delta, d.last = now.since(d.last), now
}

// forget is told that Envoy counts anew. The last delta stays until there is another.
func (d *deltas) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = nil
}

// keepDeltas looks once a minute.
func (s *Server) keepDeltas(ctx context.Context) {
	tick := time.NewTicker(snapshotEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.snapshot(ctx)
		}
	}
}

func (s *Server) snapshot(ctx context.Context) {
	body, err := s.cfg.Ask(ctx, http.MethodGet, "/stats?format=prometheus&filter=appmesh&usedonly")
	if err != nil {
		return // Envoy is not up, or busy: the next time
	}
	defer body.Close()
	s.deltas.next(parseFamilies(io.LimitReader(body, mostStatistics)))
}
