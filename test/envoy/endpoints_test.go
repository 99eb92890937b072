package envoy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

// colours is the service that the instances of these tests are registered with.
var colours = meshtest.Key("test.local", "colour")

// mapped is a stage whose virtual node colour is discovered by Cloud Map.
type mapped struct {
	*stage
	registry *meshtest.Registry
}

const colourCluster = "cds_egress_test_colour_http_8080"

// newMapped starts a control plane with a registry, the virtual node colour, whose
// listener and discovery have further settings, and the service that leads to it.
func newMapped(t *testing.T, listener, discovery string) *mapped {
	t.Helper()
	meshtest.EnvoyPath(t) // skips before anything is started
	m := &mapped{registry: &meshtest.Registry{}}
	m.registry.Create(colours)
	m.stage = &stage{t: t, plane: meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) { c.Registry = m.registry }})}
	m.plane.Put(t, "/meshes", `{"meshName":"test"}`)
	m.plane.Put(t, "/meshes/test/virtualNodes", `{"virtualNodeName":"colour","spec":`+mappedSpec(listener, discovery)+`}`)
	m.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("colour", 1))
	return m
}

func mappedSpec(listener, discovery string) string {
	return fmt.Sprintf(`{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}%s}],
		"serviceDiscovery":{"awsCloudMap":{"namespaceName":"test.local","serviceName":"colour"%s}}}`, port, listener, discovery)
}

// edit changes the settings of the virtual node colour.
func (m *mapped) edit(listener, discovery string) {
	m.t.Helper()
	m.plane.Put(m.t, "/meshes/test/virtualNodes/colour", `{"spec":`+mappedSpec(listener, discovery)+`}`)
}

// instance runs an application behind an Envoy of the virtual node, waits until it is
// ready, and does not register it.
func (m *mapped) instance(name string, attributes ...string) (*meshtest.Proxy, mesh.Instance) {
	m.t.Helper()
	i := mesh.Instance{ID: name, IPv4: meshtest.Address(m.t), Attributes: map[string]string{}}
	for n := 0; n+1 < len(attributes); n += 2 {
		i.Attributes[attributes[n]] = attributes[n+1]
	}
	x := m.plane.Proxy(m.t, meshtest.ProxyConfig{
		ARN: meshtest.ARN("test", "colour"), Bind: i.IPv4, App: meshtest.Serve(m.t, port, named(name)),
	})
	return x.Ready(m.t), i
}

// hosts returns the addresses that front's Envoy has in the node's cluster.
func (m *mapped) hosts() []string {
	m.t.Helper()
	page, err := m.front.Admin("/clusters?format=json")
	if err != nil {
		m.t.Fatal(err)
	}
	var all struct {
		Clusters []struct {
			Name  string `json:"name"`
			Hosts []struct {
				Address struct {
					Socket struct {
						Address string `json:"address"`
					} `json:"socket_address"`
				} `json:"address"`
			} `json:"host_statuses"`
		} `json:"cluster_statuses"`
	}
	if err := json.Unmarshal([]byte(page), &all); err != nil {
		m.t.Fatal(err)
	}
	var out []string
	for _, c := range all.Clusters {
		for _, h := range c.Hosts {
			if c.Name == colourCluster {
				out = append(out, h.Address.Socket.Address)
			}
		}
	}
	slices.Sort(out)
	return out
}

// awaitHosts waits until front's Envoy has the given instances, and no others.
func (m *mapped) awaitHosts(instances ...mesh.Instance) {
	m.t.Helper()
	var want []string
	for _, i := range instances {
		want = append(want, i.IPv4)
	}
	slices.Sort(want)
	meshtest.Eventually(m.t, fmt.Sprintf("front has the hosts %v", want), func() error {
		if got := m.hosts(); !slices.Equal(got, want) {
			return fmt.Errorf("it has %v", got)
		}
		return nil
	})
}

// noFetchTimedOut fails the test if front's Envoy waited in vain for endpoints.
func (m *mapped) noFetchTimedOut() {
	m.t.Helper()
	stats, err := m.front.Admin("/stats?filter=" + colourCluster + ".init_fetch_timeout")
	if err != nil || stats != "cluster."+colourCluster+".init_fetch_timeout: 0" {
		m.t.Errorf("waits for endpoints that timed out: %q %v", stats, err)
	}
}

// speakingFull makes an Envoy speak state-of-the-world.
func speakingFull(bootstrap map[string]any) {
	bootstrap["dynamic_resources"].(map[string]any)["ads_config"].(map[string]any)["api_type"] = "GRPC"
}

// Instances come, take their share and go at once, although their health checks still
// pass; one that went can be stopped. No request fails.
func TestInstancesComeAndGo(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.serviceDiscovery.awsCloudMap.{namespaceName,serviceName}")
	m := newMapped(t, `,"healthCheck":{"protocol":"http","path":"/","healthyThreshold":2,"unhealthyThreshold":2,"timeoutMillis":2000,"intervalMillis":5000}`, "")
	_, blue := m.instance("blue")
	green, greens := m.instance("green")
	m.registry.Register(colours, blue)
	m.caller()
	m.awaitAnswer("/", http.StatusOK)
	l := m.startLoad()
	m.registry.Register(colours, greens)
	meshtest.Eventually(t, "the new instance answers", func() error {
		if l.answers("green") == 0 {
			return errors.New("it does not")
		}
		return nil
	})
	m.registry.Deregister(colours, "green")
	m.awaitHosts(blue)
	l.awaitShift(t, "blue", "green")
	green.Kill()
	_, red := m.instance("red")
	m.registry.Register(colours, red)
	m.registry.Deregister(colours, "blue")
	m.awaitHosts(red)
	l.awaitShift(t, "red", "blue")
	l.end(t)
	m.noMeshFailures()
	m.noFetchTimedOut()

	red.Unhealthy = true
	m.registry.Register(colours, red)
	m.awaitHosts()
	m.awaitAnswer("/", http.StatusServiceUnavailable)
}

// Virtual nodes that share a service are told apart by the attributes of its instances.
func TestAttributesTellInstancesApart(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.serviceDiscovery.awsCloudMap.attributes")
	m := newMapped(t, "", `,"attributes":[{"key":"version","value":"blue"},{"key":"stage","value":"live"}]`)
	_, blue := m.instance("blue", "version", "blue", "stage", "live")
	_, green := m.instance("green", "version", "green", "stage", "live")
	_, next := m.instance("next", "version", "blue", "stage", "test")
	m.registry.Register(colours, blue, green, next)
	m.caller()
	m.awaitHosts(blue)
	m.awaitAnswer("/", http.StatusOK)
	for range 20 {
		if status, body := m.get("/"); body != "blue" {
			t.Fatalf("answered %d %q, want blue alone", status, body)
		}
	}
	next.Attributes = blue.Attributes
	m.registry.Register(colours, next)
	m.awaitHosts(blue, next)
	m.edit("", `,"attributes":[{"key":"version","value":"green"}]`)
	m.awaitHosts(green)
	m.edit("", "")
	m.awaitHosts(blue, green, next)
}

// serveBoth runs two applications on one port, one on an IPv4 and one on an IPv6 address.
func serveBoth(t *testing.T) mesh.Instance {
	t.Helper()
	six, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("there is no IPv6 here: %v", err)
	}
	i := mesh.Instance{ID: "both", IPv4: meshtest.Address(t), IPv6: "::1", Port: uint32(six.Addr().(*net.TCPAddr).Port)}
	four, err := net.Listen("tcp", fmt.Sprintf("%s:%d", i.IPv4, i.Port))
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]net.Listener{"four": four, "six": six} {
		s := &http.Server{Handler: named(name)}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close() })
	}
	return i
}

// An instance is called at the address that the IP preference asks for, the node's or
// else the mesh's, and on its own port.
func TestAddressesOfInstances(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.serviceDiscovery.awsCloudMap.ipPreference", "Mesh.serviceDiscovery.ipPreference")
	both := serveBoth(t)
	m := newMapped(t, "", "")
	m.registry.Register(colours, both)
	m.caller()
	expect := func(preference, want string) {
		t.Helper()
		meshtest.Eventually(t, want+" answers where "+preference, func() error {
			status, body, err := meshtest.Get(m.http, url("/"))
			if err == nil && body != want && !(want == "" && status == http.StatusServiceUnavailable) {
				return fmt.Errorf("answered %d %q", status, body)
			}
			return err
		})
	}
	expect("nothing is said", "four")
	for _, c := range [][2]string{{"IPv6_PREFERRED", "six"}, {"IPv4_PREFERRED", "four"}, {"IPv6_ONLY", "six"}, {"IPv4_ONLY", "four"}} {
		m.edit("", `,"ipPreference":"`+c[0]+`"`)
		expect("the node says "+c[0], c[1])
	}
	m.edit("", "")
	m.plane.Put(t, "/meshes/test", `{"spec":{"serviceDiscovery":{"ipPreference":"IPv6_ONLY"}}}`)
	expect("the mesh says IPv6_ONLY", "six")
	m.edit("", `,"ipPreference":"IPv4_ONLY"`)
	expect("the node overrides the mesh", "four")
	both.IPv4 = ""
	m.registry.Register(colours, both)
	expect("there is no IPv4 address", "")
	m.edit("", `,"ipPreference":"IPv4_PREFERRED"`)
	expect("IPv4 is only preferred", "six")
}

// Endpoints come and go 200 times under load, and the cluster is edited in between.
func TestEndpointsChangeUnderLoad(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(map[string]any){"delta": func(map[string]any) {}, "full": speakingFull} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMapped(t, "", "")
			all := make([]mesh.Instance, 4)
			for i, name := range []string{"blue", "green", "red", "white"} {
				_, all[i] = m.instance(name)
			}
			in := []bool{true, false, false, false}
			m.registry.Register(colours, all[0])
			m.callerWith(change)
			m.awaitAnswer("/", http.StatusOK)
			l := m.startLoad()
			for n := range 200 {
				m.toggle(all, in, rand.IntN(len(all)))
				if n%20 == 10 {
					m.edit(ejects(n), "")
				}
				if n < 100 || n%10 == 0 { // one after the other, then in bursts
					m.awaitHosts(m.registered()...)
					l.awaitMore(t, 3)
				}
			}
			l.end(t)
			m.noMeshFailures()
			m.noFetchTimedOut()
			if len(l.bodies) != len(all) {
				t.Errorf("answers came of %v, want all instances", l.bodies)
			}
		})
	}
}

// registered returns the instances that are registered now.
func (m *mapped) registered() []mesh.Instance {
	list, _ := m.registry.Instances(colours)
	return list
}

// toggle registers an instance, or deregisters it if it is not the last.
func (m *mapped) toggle(all []mesh.Instance, in []bool, i int) {
	switch {
	case !in[i]:
		m.registry.Register(colours, all[i])
	case slices.Contains(append(slices.Clone(in[:i]), in[i+1:]...), true):
		m.registry.Deregister(colours, all[i].ID)
	default:
		return
	}
	in[i] = !in[i]
}

// awaitMore waits until as many more requests have been answered.
func (l *load) awaitMore(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.sent
	}
	had := count()
	meshtest.Eventually(t, fmt.Sprintf("%d more requests are answered", n), func() error {
		if got := count() - had; got < n {
			return fmt.Errorf("%d are", got)
		}
		return nil
	})
}

// ejects is an outlier detection that can be told from others.
func ejects(n int) string {
	return fmt.Sprintf(`,"outlierDetection":{"maxServerErrors":%d,"interval":{"unit":"s","value":10},"baseEjectionDuration":{"unit":"s","value":30},"maxEjectionPercent":50}`, 1000+n)
}

// A cluster of which only settings change is replaced by Envoy, which waits for its
// endpoints: they must be sent again, although they are the same.
func TestClusterEditsFailNoRequest(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(map[string]any){"delta": func(map[string]any) {}, "full": speakingFull} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMapped(t, "", "")
			_, blue := m.instance("blue")
			_, green := m.instance("green")
			m.registry.Register(colours, blue, green)
			m.callerWith(change)
			m.awaitAnswer("/", http.StatusOK)
			l := m.startLoad()
			for n := range 10 {
				m.edit(ejects(n), "")
				m.awaitActive(fmt.Sprintf(`"consecutive_5xx": %d,`, 1000+n))
				l.awaitMore(t, 10)
			}
			check := `,"healthCheck":{"protocol":"http","path":"/","healthyThreshold":2,"unhealthyThreshold":2,"timeoutMillis":2000,"intervalMillis":%d}`
			for _, interval := range []int{5000, 6000} {
				m.edit(fmt.Sprintf(check, interval), "")
				m.awaitActive(fmt.Sprintf(`"interval": "%ds",`, interval/1000))
				l.awaitMore(t, 10)
			}
			m.edit("", "")
			m.awaitHosts(blue, green)
			l.end(t)
			m.noMeshFailures()
			m.noFetchTimedOut()
		})
	}
}

// awaitActive waits until the node's cluster in front's Envoy is in use and has a text in
// its configuration.
func (m *mapped) awaitActive(text string) {
	m.t.Helper()
	meshtest.Eventually(m.t, "the cluster is in use with "+text, func() error {
		dump, err := m.front.Admin("/config_dump?resource=dynamic_active_clusters&name_regex=" + colourCluster)
		if err == nil && !strings.Contains(dump, text) {
			return errors.New("it is not")
		}
		return err
	})
}

// A service whose instances nobody has called so far comes into use under load, and goes
// out of it: its endpoints are there before routes lead to them.
func TestRoutesMoveToDiscoveredNodes(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(map[string]any){"delta": func(map[string]any) {}, "full": speakingFull} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMapped(t, "", "")
			_, blue := m.instance("blue")
			m.registry.Register(colours, blue)
			m.app("plain", named("plain")).Ready(t)
			m.route(meshtest.Weights("plain", 1))
			m.callerWith(change)
			m.awaitAnswer("/", http.StatusOK)
			l := m.startLoad()
			for range 5 {
				m.route(meshtest.Weights("colour", 1))
				l.awaitShift(t, "blue", "plain")
				m.noFetchTimedOut() // as long as there is the cluster
				m.route(meshtest.Weights("plain", 1))
				l.awaitShift(t, "plain", "blue")
			}
			l.end(t)
			m.noMeshFailures()
		})
	}
}

// App Mesh's own agent gives its Envoy a cluster named local_cluster, whose endpoints are
// asked for before anything else, in one millisecond.
func TestALocalClusterIsAnsweredFirst(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(map[string]any){"delta": func(map[string]any) {}, "full": speakingFull} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMapped(t, "", "")
			_, blue := m.instance("blue")
			m.registry.Register(colours, blue)
			m.callerWith(func(bootstrap map[string]any) {
				change(bootstrap)
				static := bootstrap["static_resources"].(map[string]any)
				static["clusters"] = append(static["clusters"].([]any), map[string]any{
					"name": "local_cluster", "type": "EDS",
					"eds_cluster_config": map[string]any{"eds_config": map[string]any{
						"ads": map[string]any{}, "initial_fetch_timeout": "0.001s", "resource_api_version": "V3",
					}},
				})
				bootstrap["cluster_manager"] = map[string]any{"local_cluster_name": "local_cluster"}
			})
			m.awaitAnswer("/", http.StatusOK)
			meshtest.Eventually(t, "local_cluster was answered", func() error {
				stats, err := m.front.Admin("/stats?filter=^cluster.local_cluster.update_(success|rejected|empty)")
				if err == nil && !regexp.MustCompile(`update_success: [1-9]`).MatchString(stats) {
					return errors.New(stats)
				}
				return err
			})
		})
	}
}
