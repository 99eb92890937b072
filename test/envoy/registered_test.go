package envoy

import (
	"errors"
	"maps"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// registered is a stage whose virtual node colour is discovered by the control plane's own
// registry, among the instances of the version v1.
type registered struct {
	*mapped
	service *meshtest.CloudMapService
}

func newRegistered(t *testing.T) *registered {
	t.Helper()
	meshtest.EnvoyPath(t) // skips before anything is started
	s := &stage{t: t, plane: meshtest.StartWith(t, meshtest.Options{Change: meshtest.Importing})}
	s.plane.Put(t, "/meshes", `{"meshName":"test"}`)
	s.plane.Put(t, "/meshes/test/virtualNodes", `{"virtualNodeName":"colour","spec":`+
		mappedSpec("", `,"attributes":[{"key":"version","value":"v1"}]`)+`}`)
	s.plane.Routed(t, "test", service, "colour", port, meshtest.Weights("colour", 1))
	return &registered{&mapped{stage: s}, s.plane.CloudMapService(t, "test.local", "colour")}
}

// register registers an instance by the API, with further attributes.
func (r *registered) register(i mesh.Instance, attributes ...string) {
	r.t.Helper()
	all := maps.Clone(i.Attributes)
	all["AWS_INSTANCE_IPV4"] = i.IPv4
	for n := 0; n+1 < len(attributes); n += 2 {
		all[attributes[n]] = attributes[n+1]
	}
	r.service.Register(r.t, i.ID, all)
}

// imported replaces what was imported for the node's service.
func (r *registered) imported(all ...mesh.Instance) {
	r.t.Helper()
	err := r.plane.Server().Registry().Import(r.t.Context(), meshtest.Account, meshtest.Region, colours.Namespace, colours.Service, all)
	if err != nil {
		r.t.Fatal(err)
	}
}

// Instances that are registered with the Cloud Map API reach an Envoy, and leave it when
// they are deregistered, unhealthy or not heard of. No request fails.
func TestRegisteredInstances(t *testing.T) {
	t.Parallel()
	covers(t, "VirtualNode.serviceDiscovery.awsCloudMap.namespaceName", "VirtualNode.serviceDiscovery.awsCloudMap.serviceName",
		"VirtualNode.serviceDiscovery.awsCloudMap.attributes")
	r := newRegistered(t)
	_, blue := r.instance("blue", "version", "v1")
	greens, green := r.instance("green", "version", "v1")
	_, silent := r.instance("silent", "version", "v1")
	_, other := r.instance("other", "version", "v2")
	_, red := r.instance("red", "version", "v1")
	r.register(blue)
	r.register(other)
	r.caller()
	r.awaitHosts(blue)
	l := r.startLoad()
	r.register(green)
	meshtest.Eventually(t, "the new instance answers", func() error {
		if l.answers("green") == 0 {
			return errors.New("it does not")
		}
		return nil
	})
	r.service.Health(t, "green", types.CustomHealthStatusUnhealthy)
	r.awaitHosts(blue)
	r.service.Health(t, "green", types.CustomHealthStatusHealthy)
	r.awaitHosts(blue, green)
	// It is never registered again, so it goes when its lease is over.
	r.register(silent, "FAIRLEAD_LEASE_SECONDS", "10")
	r.awaitHosts(blue, green, silent)
	r.imported(red)
	r.awaitHosts(blue, green, red, silent)
	r.awaitHosts(blue, green, red)
	red.Unhealthy = true
	r.imported(red)
	r.awaitHosts(blue, green)
	r.imported()
	r.service.Deregister(t, "green")
	r.awaitHosts(blue)
	l.awaitShift(t, "blue", "green", "red", "silent")
	greens.Kill()
	l.awaitMore(t, 20)
	l.end(t)
	r.noMeshFailures()
	r.noFetchTimedOut()
	if l.bodies["other"] > 0 || l.bodies["red"] == 0 {
		t.Errorf("answers came of %v", l.bodies)
	}
}
