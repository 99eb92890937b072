package registry

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Once a deregistration is answered nobody discovers the instance, whatever goes on beside.
func TestDeregisterAgainstDiscover(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := w.shop()
	var work sync.WaitGroup
	for n := range 4 {
		work.Go(func() {
			for i := range 25 {
				id := fmt.Sprintf("i%d-%d", n, i)
				if _, err := w.try("RegisterInstance", `{"ServiceId":%q,"InstanceId":%q,"Attributes":{"n":"%d"}}`, service, id, n); err != nil {
					t.Error(err)
				}
				if got := w.discovers(n, id); !got {
					t.Errorf("%s is registered and not discovered", id)
				}
				if _, err := w.try("DeregisterInstance", `{"ServiceId":%q,"InstanceId":%q}`, service, id); err != nil {
					t.Error(err)
				}
				if got := w.discovers(n, id); got {
					t.Errorf("%s is deregistered and discovered", id)
				}
			}
		})
	}
	work.Wait()
	diff(t, []string{}, w.r.ids())
}

func (w *world) discovers(n int, id string) bool {
	out, err := w.try("DiscoverInstances", `{"NamespaceName":"shop","ServiceName":"cart","QueryParameters":{"n":"%d"}}`, n)
	if err != nil {
		w.t.Error(err)
		return false
	}
	for _, i := range out["Instances"].([]any) {
		if i.(map[string]any)["InstanceId"] == id {
			return true
		}
	}
	return false
}

// A service is deleted or gets an instance, at two servers at once: never both.
func TestDeleteServiceAgainstRegister(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	a := &world{t, openRegistry(t, s, Config{}), caller(testAccount)}
	b := &world{t, openRegistry(t, s, Config{}), caller(testAccount)}
	namespace := a.namespace("shop")
	var deleted, registered atomic.Int64
	for i := range 40 {
		service := a.service(namespace, fmt.Sprintf("s%d", i))
		eventually(t, "the service at b", func() error {
			_, err := b.try("GetService", `{"Id":%q}`, service)
			return err
		})
		var both sync.WaitGroup
		var gone, there error
		both.Go(func() { _, gone = a.try("DeleteService", `{"Id":%q}`, service) })
		both.Go(func() {
			_, there = b.try("RegisterInstance", `{"ServiceId":%q,"InstanceId":"i","Attributes":{}}`, service)
		})
		both.Wait()
		var refusal *mesh.Error
		switch {
		case gone == nil && errors.As(there, &refusal) && refusal.Code == ErrServiceNotFound:
			deleted.Add(1)
		case there == nil && errors.As(gone, &refusal) && refusal.Code == ErrResourceInUse:
			registered.Add(1)
		default:
			t.Errorf("deleting: %v; registering: %v", gone, there)
		}
	}
	t.Logf("%d deleted, %d registered", deleted.Load(), registered.Load())
	left, err := s.Records(t.Context(), self, here.own(instanceKind, ""))
	if err != nil || int64(len(left)) != registered.Load() {
		t.Errorf("%d instances are left (%v), want %d", len(left), err, registered.Load())
	}
}

// Of many who make a namespace, a service or an instance of one name at once, one does.
func TestSameNamesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var made atomic.Int64
	atOnce := func(code mesh.Code, operation, body string) {
		made.Store(0)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				_, err := w.try(operation, "%s", body)
				var refusal *mesh.Error
				switch {
				case err == nil:
					made.Add(1)
				case !errors.As(err, &refusal) || refusal.Code != code:
					t.Errorf("%s: %v", operation, err)
				}
			})
		}
		all.Wait()
	}
	atOnce(ErrNamespaceAlreadyExists, "CreateHttpNamespace", `{"Name":"shop"}`)
	diff(t, int64(1), made.Load())
	namespace := w.do("ListNamespaces", `{}`)["Namespaces"].([]any)[0].(map[string]any)["Id"].(string)
	atOnce(ErrServiceAlreadyExists, "CreateService", `{"Name":"cart","NamespaceId":"`+namespace+`"}`)
	diff(t, int64(1), made.Load())
	service := w.do("ListServices", `{}`)["Services"].([]any)[0].(map[string]any)["Id"].(string)
	atOnce("", "RegisterInstance", `{"ServiceId":"`+service+`","InstanceId":"i","Attributes":{}}`)
	diff(t, int64(8), made.Load())
	diff(t, []string{"i"}, w.r.ids())
	atOnce(ErrInstanceNotFound, "DeregisterInstance", `{"ServiceId":"`+service+`","InstanceId":"i"}`)
	diff(t, int64(1), made.Load())
}
