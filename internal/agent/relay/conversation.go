package relay

import (
	"context"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

type (
	request  = discoveryv3.DeltaDiscoveryRequest
	response = discoveryv3.DeltaDiscoveryResponse
	resource = discoveryv3.Resource
)

// wildcard subscribes to every resource of a type.
const wildcard = "*"

// conversation is one stream of an Envoy, in the words of delta xDS. One goroutine works
// on it (run).
//
// What Envoy asks for is asked upstream; what comes from there is passed on, in the same
// order, and so is Envoy's answer. What upstream does not answer in time is answered from
// the copy. Whenever nothing is under way, what Envoy has becomes the copy.
type conversation struct {
	relay *Relay
	node  *corev3.Node
	key   string
	copy  snapshot // what the last Envoy of this kind had
	send  func(*response) error
	up    *upstream

	types   map[string]*subscription
	order   []string // of types, as Envoy asked for them
	flights map[string]*flight
	nonces  uint64
	changed bool // since the copy was made
}

// subscription is what Envoy asked for of one type.
type subscription struct {
	all     bool // every resource
	names   map[string]bool
	waiting map[string]time.Time // asked for and not answered, by when they are answered from the copy; wildcard for all
	has     map[string]*resource // what Envoy has accepted; without a body if it brought it along and the copy does not have it
	asked   bool                 // upstream, on its present stream
}

// flight is a response that Envoy has not answered yet.
type flight struct {
	typ      string
	response *response
	up       *upstreamStream // that it came from, nil for one made of the copy
	nonce    string          // of upstream
}

func (c *conversation) run(ctx context.Context, requests <-chan *request, ended <-chan error) error {
	c.up.start(ctx)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(c.patience(time.Now()))
		var err error
		select {
		case err = <-ended:
			return err
		case req := <-requests:
			err = c.onRequest(req)
		case ev := <-c.up.events:
			err = c.onUpstream(ev)
		case now := <-timer.C:
			err = c.fromCopy(func(until time.Time) bool { return !until.After(now) })
		}
		if err != nil {
			return err
		}
		c.rest()
	}
}

// patience returns how long to wait for upstream until something must be answered from
// the copy.
func (c *conversation) patience(now time.Time) time.Duration {
	wait := time.Hour
	for _, s := range c.types {
		for _, until := range s.waiting {
			wait = min(wait, until.Sub(now))
		}
	}
	return max(wait, 0)
}

// onRequest takes what Envoy says: an answer, a subscription, or both.
func (c *conversation) onRequest(req *request) error {
	typ := req.GetTypeUrl()
	s := c.types[typ]
	if s == nil {
		s = c.subscribe(req)
	}
	f := c.answered(s, req)
	for _, name := range req.GetResourceNamesUnsubscribe() {
		s.drop(name)
		c.changed = true
	}
	until := time.Now().Add(c.relay.cfg.Patience)
	for _, name := range req.GetResourceNamesSubscribe() {
		s.add(name, until)
	}
	if c.up.stream == nil {
		if c.up.away {
			return c.fromCopy(func(time.Time) bool { return true })
		}
		return nil
	}
	if !s.asked {
		c.ask(typ, s)
		return nil
	}
	out := &request{TypeUrl: typ, ResourceNamesSubscribe: req.GetResourceNamesSubscribe(), ResourceNamesUnsubscribe: req.GetResourceNamesUnsubscribe()}
	if f != nil && f.up == c.up.stream {
		out.ResponseNonce, out.ErrorDetail = f.nonce, req.GetErrorDetail()
	}
	if out.ResponseNonce == "" && len(out.GetResourceNamesSubscribe())+len(out.GetResourceNamesUnsubscribe()) == 0 {
		return nil
	}
	c.up.send(out)
	return nil
}

// subscribe begins a type. What Envoy brings along is what it has.
func (c *conversation) subscribe(req *request) *subscription {
	typ := req.GetTypeUrl()
	s := &subscription{names: map[string]bool{}, waiting: map[string]time.Time{}, has: map[string]*resource{}}
	c.types[typ] = s
	c.order = append(c.order, typ)
	for name, version := range req.GetInitialResourceVersions() {
		s.has[name] = &resource{Name: name, Version: version}
		if kept := c.copy[typ][name]; kept.GetVersion() == version {
			s.has[name] = kept
		}
	}
	if len(req.GetResourceNamesSubscribe()) == 0 && listedWhole(typ) {
		s.add(wildcard, time.Now().Add(c.relay.cfg.Patience))
	}
	if len(s.has) > 0 { // it does not wait: it has something
		delete(s.waiting, wildcard)
	}
	return s
}

// The types of which a first request without names means all.
const (
	typeListener    = "type.googleapis.com/envoy.config.listener.v3.Listener"
	typeCluster     = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	typeRoute       = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	typeVirtualHost = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
)

func listedWhole(typ string) bool {
	return typ == typeListener || typ == typeCluster || typ == typeVirtualHost
}

func (s *subscription) add(name string, until time.Time) {
	if name == wildcard {
		s.all = true
	} else {
		s.names[name] = true
	}
	s.waiting[name] = until
}

func (s *subscription) drop(name string) {
	delete(s.waiting, name)
	if name == wildcard {
		s.all = false
		return
	}
	delete(s.names, name)
	delete(s.has, name)
}

// answered takes Envoy's answer to a response, and returns that; nil for a request that
// answers none.
func (c *conversation) answered(s *subscription, req *request) *flight {
	f := c.flights[req.GetResponseNonce()]
	if f == nil {
		return nil
	}
	delete(c.flights, req.GetResponseNonce())
	if detail := req.GetErrorDetail(); detail != nil {
		c.relay.cfg.Logger.Warn("Envoy refused a response", "type", f.typ, "fromCopy", f.up == nil, "detail", detail.GetMessage())
		return f
	}
	for _, r := range f.response.GetResources() {
		if s.all || s.names[r.GetName()] {
			s.has[r.GetName()] = r
		}
	}
	for _, name := range f.response.GetRemovedResources() {
		delete(s.has, name)
	}
	c.changed = true
	return f
}

// ask asks upstream for a type for the first time on its stream, and says what Envoy has.
func (c *conversation) ask(typ string, s *subscription) {
	s.asked = true
	req := &request{TypeUrl: typ, InitialResourceVersions: map[string]string{}}
	if s.all && (len(s.names) > 0 || !listedWhole(typ)) {
		req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, wildcard)
	}
	for name := range s.names {
		req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, name)
	}
	for name, r := range s.has {
		req.InitialResourceVersions[name] = r.GetVersion()
		if r.GetResource() == nil { // it is needed for the copy: another version is had of it
			req.InitialResourceVersions[name] = "unknown"
		}
	}
	c.up.send(req)
}

// onUpstream takes what comes from upstream.
func (c *conversation) onUpstream(ev event) error {
	switch {
	case ev.opened != nil:
		c.up.stream, c.up.away = ev.opened, false
		c.relay.count(1, 0)
		for _, typ := range c.order {
			c.types[typ].asked = false
			c.ask(typ, c.types[typ])
		}
	case ev.response != nil && ev.from == c.up.stream:
		c.relay.stands(true, nil)
		return c.pass(ev.response)
	case ev.lost != nil:
		c.up.stream, c.up.away = nil, true
		c.relay.stands(false, ev.lost)
		return c.fromCopy(func(time.Time) bool { return true })
	}
	return nil
}

// pass passes a response of upstream on to Envoy.
func (c *conversation) pass(resp *response) error {
	s := c.types[resp.GetTypeUrl()]
	if s == nil {
		return nil // Envoy did not ask for it
	}
	delete(s.waiting, wildcard)
	for _, r := range resp.GetResources() {
		delete(s.waiting, r.GetName())
	}
	for _, name := range resp.GetRemovedResources() {
		delete(s.waiting, name)
	}
	return c.deliver(&flight{typ: resp.GetTypeUrl(), response: resp, up: c.up.stream, nonce: resp.GetNonce()})
}

func (c *conversation) deliver(f *flight) error {
	c.nonces++
	f.response.Nonce = strconv.FormatUint(c.nonces, 10)
	c.flights[f.response.GetNonce()] = f
	return c.send(f.response)
}

// fromCopy answers from the copy what Envoy waits for and is due. What is not in the copy
// goes on waiting: a name that is missing there may exist.
func (c *conversation) fromCopy(due func(until time.Time) bool) error {
	for _, typ := range c.order {
		s := c.types[typ]
		resp := &response{TypeUrl: typ, SystemVersionInfo: "copy"}
		for name, until := range s.waiting {
			if !due(until) {
				continue
			}
			s.waiting[name] = time.Now().Add(time.Hour) // it is not looked for again
			if name == wildcard && len(c.copy[typ]) > 0 {
				delete(s.waiting, name)
				for _, r := range c.copy[typ] {
					resp.Resources = append(resp.Resources, r)
				}
			} else if r := c.copy[typ][name]; r != nil {
				delete(s.waiting, name)
				resp.Resources = append(resp.Resources, r)
			}
		}
		if len(resp.GetResources()) == 0 {
			continue
		}
		sortResources(resp.Resources)
		if hosts := c.types[typeVirtualHost]; typ == typeRoute && hosts != nil && hosts.all {
			// Envoy has passed over those of route configurations that it did not have.
			hosts.waiting[wildcard] = time.Time{}
		}
		c.relay.count(0, 1)
		if err := c.deliver(&flight{typ: typ, response: resp}); err != nil {
			return err
		}
	}
	return nil
}

// rest makes the copy when nothing is under way and something has changed.
func (c *conversation) rest() {
	if !c.changed || len(c.flights) > 0 {
		return
	}
	kept := snapshot{}
	for typ, s := range c.types {
		if len(s.waiting) > 0 {
			return
		}
		kept[typ] = map[string]*resource{}
		for name, r := range s.has {
			if r.GetResource() == nil {
				return // it comes
			}
			kept[typ][name] = r
		}
	}
	if len(kept[typeListener]) == 0 { // Envoy has not asked for them yet
		return
	}
	c.changed = false
	c.relay.copies.put(c.key, kept)
}
