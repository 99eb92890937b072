package envoy

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// instances registers and deregisters blue and green in turn, with the virtual node colour,
// which Cloud Map discovers: there is always one of the two, and both now and then.
func (e *edits) instances(i int) {
	e.t.Helper()
	if i == 0 {
		e.mapColour()
	}
	switch i % 4 {
	case 0:
		e.register("green")
		e.awaitAnswers(e.t, "green")
	case 1:
		e.deregister("blue")
		e.awaitShift(e.t, "green", "blue")
	case 2:
		e.register("blue")
		e.awaitAnswers(e.t, "blue")
	case 3:
		e.deregister("green")
		e.awaitShift(e.t, "blue", "green")
	}
}

// mapColour has the service lead to the virtual node colour, of which blue is an instance.
func (e *edits) mapColour() {
	e.t.Helper()
	if e.mapped == "" {
		e.mapped = path.Base(e.plane.MakeService(e.t, e.plane.MakeNamespace(e.t, "test.local"), "colour"))
		e.plane.Put(e.t, "/meshes/test/virtualNodes", `{"virtualNodeName":"colour","spec":`+mappedSpec("", "")+`}`)
	}
	e.register("blue")
	e.route(meshtest.Weights("colour", 1))
	meshtest.Eventually(e.t, "front has the cluster of instances", func() error {
		if sum(e.t, e.front, `cluster\.`+colourCluster+`\.upstream_rq_completed$`) < 20 {
			return errors.New("it has sent next to nothing there")
		}
		return nil
	})
}

func (e *edits) register(name string) {
	e.t.Helper()
	_, err := e.plane.CloudMap().RegisterInstance(e.t.Context(), &servicediscovery.RegisterInstanceInput{
		ServiceId: &e.mapped, InstanceId: &name, Attributes: map[string]string{"AWS_INSTANCE_IPV4": e.hosts[name].String()},
	})
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *edits) deregister(name string) {
	e.t.Helper()
	_, err := e.plane.CloudMap().DeregisterInstance(e.t.Context(), &servicediscovery.DeregisterInstanceInput{ServiceId: &e.mapped, InstanceId: &name})
	if err != nil {
		e.t.Fatal(err)
	}
}

// awaitAnswers waits until an instance answers that has not answered before.
func (l *load) awaitAnswers(t *testing.T, name string) {
	t.Helper()
	had := l.answers(name)
	meshtest.Eventually(t, name+" answers", func() error {
		if l.answers(name) == had {
			return errors.New("it does not")
		}
		return nil
	})
}

// Instances that register themselves are replaced one by one under load, as a deployment
// does: a new one comes up, and as soon as it is registered the old one is told to end. How
// many: -edits.
func TestRegisteredInstancesAreReplaced(t *testing.T) {
	t.Parallel()
	r := newRegistering(t, meshtest.Options{})
	r.define()
	running := []*meshtest.Proxy{r.agent("0"), r.agent("1"), r.agent("2")}
	for _, x := range running {
		r.await(x, true)
	}
	r.caller()
	r.awaitAnswer("/", http.StatusOK)
	l := r.startLoad()
	for i := range running {
		l.awaitAnswers(t, fmt.Sprint(i))
	}
	var old []*meshtest.Proxy
	for i := range *editCount {
		next := r.agent(fmt.Sprint(len(running) + i))
		r.await(next, true)
		leaving := running[i%len(running)]
		running[i%len(running)] = next
		old = append(old, leaving)
		leaving.Drain()
		l.awaitShift(t, fmt.Sprint(len(running)+i), fmt.Sprint(i))
		if t.Failed() {
			break
		}
	}
	for _, x := range old {
		<-x.Ended()
	}
	l.more(20)
	l.end(t)
	r.noMeshFailures()
	if n := sum(t, r.front, `cluster\..*\.upstream_rq_retry$`); n > 0 {
		t.Errorf("%d requests were tried again", n)
	}
	if all, _ := r.plane.Server().Registry().Instances(colours); len(all) != len(running) {
		t.Errorf("%d instances are registered, want %d: %v", len(all), len(running), all)
	}
}
