package cloudmap

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// many returns as many services.
func many(n int) []mesh.InstancesKey {
	all := make([]mesh.InstancesKey, n)
	for i := range all {
		all[i] = cart
		all[i].Service = fmt.Sprintf("s%04d", i)
	}
	return all
}

// A service that is deleted is forgotten, once that was said twice; one that never was
// is not made.
func TestServicesThatDoNotExist(t *testing.T) {
	credentials(t)
	c, endpoint := newCloud(t)
	c.refuseOne["DiscoverInstances"] = "ServiceNotFound"
	s := newSink(cart)
	start(t, endpoint, s)
	eventually(t, "three answers", func() bool { return c.count("DiscoverInstances") >= 3 })
	if _, ok := s.find(cart); ok {
		t.Error("a service was imported that does not exist")
	}
	c.set(func(c *cloud) {
		c.refuseOne = map[string]string{}
		c.instances["a"] = map[string]string{}
	})
	eventually(t, "an instance", func() bool { return len(s.of(cart)) == 1 })
	c.set(func(c *cloud) {
		c.refuseOne["DiscoverInstances"], c.refuseOne["DiscoverInstancesRevision"] = "ServiceNotFound", "ServiceNotFound"
		clear(c.calls)
	})
	eventually(t, "it is forgotten", func() bool { _, ok := s.find(cart); return !ok })
	if n := c.count("DiscoverInstances"); n < 2 {
		t.Errorf("believed after %d answers", n)
	}
	whole := c.count("DiscoverInstances")
	eventually(t, "more answers", func() bool { return c.count("DiscoverInstances") >= whole+3 })
	if s.forgets != 1 || s.imports != 1 {
		t.Errorf("forgotten %d times, imported %d times", s.forgets, s.imports)
	}
}

// An answer that is known is not written again, and of two instances with one id one
// counts.
func TestOnlyChangesAreKept(t *testing.T) {
	credentials(t)
	c, endpoint := newCloud(t)
	c.twice = true
	c.instances["a"] = map[string]string{}
	c.instances["b"] = map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.2"}
	s := newSink(cart)
	s.known[cart] = []mesh.Instance{{ID: "a"}, {ID: "b", IPv4: "10.0.0.2", Attributes: c.instances["b"]}}
	start(t, endpoint, s)
	eventually(t, "three whole answers", func() bool { return c.count("DiscoverInstances") >= 3 })
	if s.imports != 0 {
		t.Errorf("%d imports of what was known", s.imports)
	}
	c.set(func(c *cloud) { c.instances["c"] = nil; c.revision++ })
	eventually(t, "the new instance", func() bool { return slices.Equal(s.ids(cart), []string{"a", "b", "c"}) })
}

// However revisions are refused, all instances are asked for instead, and that is said
// once.
func TestRevisionsThatAreNotTold(t *testing.T) {
	credentials(t)
	for _, code := range []string{"AccessDeniedException", "UnknownOperationException", "InvalidAction", "a page"} {
		c, endpoint := newCloud(t)
		if c.refuseOne["DiscoverInstancesRevision"] = code; code == "a page" {
			c.refuseOne, c.broken = map[string]string{}, "DiscoverInstancesRevision"
		}
		c.instances["a"] = map[string]string{}
		s := newSink(append(many(30), cart)...)
		logged := start(t, endpoint, s)
		eventually(t, "an instance", func() bool { return len(s.of(cart)) == 1 })
		c.set(func(c *cloud) { c.instances["b"] = map[string]string{} })
		eventually(t, code+": the new instance without a new revision", func() bool { return len(s.of(cart)) == 2 })
		looks, whole := c.count("DiscoverInstancesRevision"), c.count("DiscoverInstances")
		eventually(t, "more polls", func() bool { return c.count("DiscoverInstances") > whole+500 })
		if n := c.count("DiscoverInstancesRevision") - looks; n > 100 {
			t.Errorf("%s: the revision was asked for %d times more", code, n)
		}
		if lines := logged.having("level=WARN"); len(lines) != 1 || !strings.Contains(lines[0], "does not tell revisions") {
			t.Errorf("%s: logged %q", code, lines)
		}
	}
}

// A request that is never answered ends, and keeps no other service waiting.
func TestRequestsThatHang(t *testing.T) {
	credentials(t)
	c, endpoint := newCloud(t)
	c.instances["a"] = map[string]string{}
	c.hang = "s0000"
	s := newSink(many(40)...)
	logged := startWith(t, Config{Endpoint: endpoint, Timeout: 500 * time.Millisecond}, s)
	eventually(t, "all the others", func() bool { return s.services() == 39 })
	eventually(t, "a line that says so", func() bool { return len(logged.having("service=s0000")) > 0 })
	c.set(func(c *cloud) { c.hang = "" })
	eventually(t, "this one too", func() bool { return s.services() == 40 })
}

// While there is more to ask for than the rate allows, a service that is new comes first.
func TestNewServicesComeFirst(t *testing.T) {
	credentials(t)
	c, endpoint := newCloud(t)
	c.instances["a"] = map[string]string{}
	s := newSink(many(500)...)
	for _, k := range s.wanted {
		s.known[k] = nil
	}
	startWith(t, Config{Endpoint: endpoint, Rate: 250}, s)
	eventually(t, "each was asked for", func() bool { return c.count("DiscoverInstances") >= 500 })
	asked := c.count("DiscoverInstances") + c.count("DiscoverInstancesRevision")
	s.mu.Lock()
	s.wanted = append(s.wanted, cart)
	s.mu.Unlock()
	eventually(t, "the new one", func() bool { return len(s.of(cart)) == 1 })
	if n := c.count("DiscoverInstances") + c.count("DiscoverInstancesRevision") - asked; n > 250 {
		t.Errorf("%d requests came before that for the new service", n)
	}
}

// An outage is said once and not for each service, and so is its end.
func TestOutagesAreSaidOnce(t *testing.T) {
	credentials(t)
	c, endpoint := newCloud(t)
	c.instances["a"] = map[string]string{}
	s := newSink(many(50)...)
	logged := start(t, endpoint, s)
	for range 2 {
		eventually(t, "all instances", func() bool { return s.services() == 50 })
		c.set(func(c *cloud) { c.refuse = "InternalFailure"; clear(c.calls) })
		eventually(t, "failures", func() bool { return c.count("DiscoverInstances")+c.count("DiscoverInstancesRevision") >= 150 })
		again := len(logged.having("answers again"))
		c.set(func(c *cloud) { c.refuse = "" })
		eventually(t, "the end", func() bool { return len(logged.having("answers again")) == again+1 })
	}
	if lines := logged.having("cannot be asked"); len(lines) != 2 {
		t.Errorf("two outages in %d lines: %q", len(lines), lines)
	}
}

// Without credentials nothing is asked, and that is said once, and what to do.
func TestWithoutCredentials(t *testing.T) {
	credentials(t)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_WEB_IDENTITY_TOKEN_FILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	c, endpoint := newCloud(t)
	s := newSink(many(50)...)
	metrics := prometheus.NewRegistry()
	logged := startWith(t, Config{Endpoint: endpoint, Metrics: metrics}, s)
	eventually(t, "failures", func() bool { return figure(t, metrics, "fairlead_cloud_map_failures_total", "in", "asking") > 100 })
	if lines := logged.having("level=WARN"); len(lines) != 1 || !strings.Contains(lines[0], "looking for credentials where AWS's clients do") {
		t.Errorf("logged %q", lines)
	}
	if c.count("DiscoverInstances") != 0 || figure(t, metrics, "fairlead_cloud_map_requests_total", "", "") != 0 {
		t.Error("asked without credentials")
	}
	if n := figure(t, metrics, "fairlead_cloud_map_services", "", ""); n != 50 {
		t.Errorf("%g services", n)
	}
	if n := figure(t, metrics, "fairlead_cloud_map_oldest_answer_seconds", "", ""); n <= 0 {
		t.Errorf("the oldest answer is %g s old", n)
	}
}

// figure sums a metric, of those with a label's value if a label is given.
func figure(t *testing.T, from prometheus.Gatherer, name, label, value string) (sum float64) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{"": ""}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == name && labels[label] == value {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// An answer that cannot be kept is not taken for an outage of Cloud Map, and is kept
// later.
func TestTheStoreIsAway(t *testing.T) {
	credentials(t)
	c, endpoint := newCloud(t)
	c.instances["a"] = map[string]string{}
	s := newSink(cart)
	s.away = errors.New("the store is away")
	metrics := prometheus.NewRegistry()
	logged := startWith(t, Config{Endpoint: endpoint, Metrics: metrics}, s)
	eventually(t, "failures", func() bool { return figure(t, metrics, "fairlead_cloud_map_failures_total", "in", "keeping") >= 2 })
	if lines := logged.having("level=WARN"); len(lines) != 1 || !strings.Contains(lines[0], "cannot be kept") || !strings.Contains(lines[0], "the store is away") {
		t.Errorf("logged %q", lines)
	}
	s.mu.Lock()
	s.away = nil
	s.mu.Unlock()
	eventually(t, "the instance", func() bool { return len(s.of(cart)) == 1 })
}

// A server does not ask itself, whatever variables say.
func TestItself(t *testing.T) {
	credentials(t)
	for endpoint, itself := range map[string]bool{
		"http://127.0.0.1:9080": true, "http://localhost:9080/": true, "http://[::1]:9080": true, "https://10.0.0.7:9080": true,
		"http://127.0.0.1:9081": false, "https://servicediscovery.us-east-1.amazonaws.com": false, "http://10.0.0.8:9080": false,
	} {
		if got := leads(endpoint, "10.0.0.7:9080"); got != itself {
			t.Errorf("%s leads here: %t", endpoint, got)
		}
	}
	c, endpoint := newCloud(t)
	t.Setenv("AWS_ENDPOINT_URL_SERVICEDISCOVERY", endpoint)
	s := newSink(cart)
	logged := startWith(t, Config{Self: strings.TrimPrefix(endpoint, "http://")}, s)
	eventually(t, "a line that says so", func() bool { return len(logged.having("is this server")) == 1 })
	if c.count("DiscoverInstances") != 0 {
		t.Error("it asked itself")
	}
}

// What is not wanted any more is not asked for any more.
func TestUnwanted(t *testing.T) {
	credentials(t)
	c, endpoint := newCloud(t)
	c.instances["a"] = map[string]string{}
	s := newSink(many(3)...)
	start(t, endpoint, s)
	eventually(t, "all of them", func() bool { return s.services() == 3 })
	s.mu.Lock()
	s.wanted = s.wanted[:1]
	s.mu.Unlock()
	c.set(func(c *cloud) { c.requests = nil; clear(c.calls) })
	eventually(t, "more polls", func() bool { return c.count("DiscoverInstances") > 2 })
	c.set(func(c *cloud) { c.requests = nil; clear(c.calls) })
	eventually(t, "still more polls", func() bool { return c.count("DiscoverInstances") > 2 })
	asked := map[string]bool{}
	c.set(func(c *cloud) {
		for _, r := range c.requests {
			asked[r["ServiceName"].(string)] = true
		}
	})
	if names := slices.Sorted(maps.Keys(asked)); !slices.Equal(names, []string{"s0000"}) {
		t.Errorf("asked for %v", names)
	}
}
