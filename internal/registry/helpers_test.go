package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

const (
	testAccount = "000000000001"
	testRegion  = "us-east-1"
)

var here = place{testAccount, testRegion}

func diff(t testing.TB, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// eventually polls until f returns nil, for a bounded time.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	end := time.Now().Add(60 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func openStore(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), store.Config{DataDir: dir, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openRegistry(t testing.TB, s *store.Store, cfg Config) *Registry {
	t.Helper()
	cfg.Store = s
	r, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// world calls a registry on behalf of a caller.
type world struct {
	t testing.TB
	r *Registry
	c store.Caller
}

func newWorld(t testing.TB) *world { return newWorldWith(t, Config{}) }

func newWorldWith(t testing.TB, cfg Config) *world {
	t.Helper()
	return &world{t, openRegistry(t, openStore(t, t.TempDir()), cfg), caller(testAccount)}
}

// caller may do everything in an account.
func caller(account string) store.Caller {
	return store.Caller{
		Account: account, Region: testRegion, ARN: "arn:aws:iam::" + account + ":user/test",
		Allow: func(store.Question) error { return nil },
	}
}

// asks returns a caller that writes down what it is asked, and refuses one action.
func asks(refused string) (c store.Caller, asked func() []store.Question) {
	var mu sync.Mutex
	var all []store.Question
	c = caller(testAccount)
	c.Allow = func(q store.Question) error {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, q)
		if q.Action == SigningName+":"+refused {
			return mesh.Errorf(mesh.ErrForbidden, "no")
		}
		return nil
	}
	return c, func() []store.Question {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// try does an operation with JSON that is formatted as by fmt.
func (w *world) try(operation, format string, args ...any) (map[string]any, error) {
	out, _, err := w.r.Call(w.t.Context(), w.c, operation, fmt.Appendf(nil, format, args...))
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{}
	return answer, json.Unmarshal(b, &answer)
}

// do is try for what must succeed.
func (w *world) do(operation, format string, args ...any) map[string]any {
	w.t.Helper()
	out, err := w.try(operation, format, args...)
	if err != nil {
		w.t.Fatalf("%s %s: %v", operation, fmt.Sprintf(format, args...), err)
	}
	return out
}

// refused wants a refusal, whose members it returns.
func (w *world) refused(code mesh.Code, text, operation, format string, args ...any) map[string]string {
	w.t.Helper()
	_, err := w.try(operation, format, args...)
	var refusal *mesh.Error
	if !errors.As(err, &refusal) || refusal.Code != code || !strings.Contains(refusal.Message, text) || strings.Contains(refusal.Message, "\n") {
		w.t.Errorf("%s %s: %v, want one line with %s and %q", operation, fmt.Sprintf(format, args...), err, code, text)
		return nil
	}
	_, got, members := Refusal(operation, err, refusal)
	diff(w.t, code, got)
	return members
}

// namespace makes an HTTP namespace and returns its id.
func (w *world) namespace(name string) string {
	w.t.Helper()
	op := w.do("CreateHttpNamespace", `{"Name":%q}`, name)
	done := w.do("GetOperation", `{"OperationId":%q}`, op["OperationId"])
	return done["Operation"].(map[string]any)["Targets"].(map[string]any)["NAMESPACE"].(string)
}

// service makes a service with custom health and returns its id.
func (w *world) service(namespace, name string) string {
	w.t.Helper()
	out := w.do("CreateService", `{"Name":%q,"NamespaceId":%q,"HealthCheckCustomConfig":{}}`, name, namespace)
	return out["Service"].(map[string]any)["Id"].(string)
}

// shop makes the namespace shop and its service cart, and returns the service's id.
func (w *world) shop() string {
	w.t.Helper()
	return w.service(w.namespace("shop"), "cart")
}

func (w *world) register(service, id, attributes string) {
	w.t.Helper()
	w.do("RegisterInstance", `{"ServiceId":%q,"InstanceId":%q,"Attributes":%s}`, service, id, attributes)
}

// ids returns the ids of the instances that Instances knows of shop and cart.
func (r *Registry) ids() []string {
	all, _ := r.Instances(here.instancesKey(serviceName{"shop", "cart"}))
	ids := []string{}
	for _, i := range all {
		ids = append(ids, i.ID)
	}
	return ids
}
