package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Discovery obeys its parameters.
func TestDiscover(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := w.shop()
	for _, i := range []string{"a1 1 x", "a2 1 y", "b1 2 x"} {
		f := strings.Fields(i)
		w.register(service, f[0], fmt.Sprintf(`{"v":%q,"az":%q}`, f[1], f[2]))
	}
	w.register(service, "c", `{"v":"3","AWS_INIT_HEALTH_STATUS":"UNHEALTHY"}`)
	find := func(parameters string) string {
		t.Helper()
		var ids []string
		for _, i := range w.do("DiscoverInstances", `{"NamespaceName":"shop","ServiceName":"cart"%s}`, parameters)["Instances"].([]any) {
			ids = append(ids, i.(map[string]any)["InstanceId"].(string))
		}
		slices.Sort(ids)
		return strings.Join(ids, " ")
	}
	for parameters, want := range map[string]string{
		``:                                    "a1 a2 b1",
		`,"HealthStatus":"HEALTHY"`:           "a1 a2 b1",
		`,"HealthStatus":"UNHEALTHY"`:         "c",
		`,"HealthStatus":"ALL"`:               "a1 a2 b1 c",
		`,"QueryParameters":{"v":"1"}`:        "a1 a2",
		`,"QueryParameters":{"v":"4"}`:        "",
		`,"QueryParameters":{"none":""}`:      "",
		`,"QueryParameters":{"v":"3"}`:        "c", // none is healthy: all
		`,"OptionalParameters":{"az":"y"}`:    "a2",
		`,"OptionalParameters":{"az":"none"}`: "a1 a2 b1",
		`,"QueryParameters":{"v":"3"},"HealthStatus":"HEALTHY_OR_ELSE_ALL"`: "c",
		`,"QueryParameters":{"v":"3"},"HealthStatus":"HEALTHY"`:             "",
		`,"QueryParameters":{"v":"1"},"OptionalParameters":{"az":"x"}`:      "a1",
	} {
		if got := find(parameters); got != want {
			t.Errorf("%s: %q, want %q", parameters, got, want)
		}
	}
	diff(t, 2, len(strings.Fields(find(`,"MaxResults":2`))))
	revision := func() any {
		return w.do("DiscoverInstancesRevision", `{"NamespaceName":"shop","ServiceName":"cart"}`)["InstancesRevision"]
	}
	before := revision()
	w.do("UpdateInstanceCustomHealthStatus", `{"ServiceId":%q,"InstanceId":"c","Status":"HEALTHY"}`, service)
	diff(t, before, revision())
	diff(t, "a1 a2 b1 c", find(``))
	w.register(service, "d", `{}`)
	if revision() == before {
		t.Error("the revision stays although an instance came")
	}
	// Registered anew it keeps its health.
	w.do("UpdateInstanceCustomHealthStatus", `{"ServiceId":%q,"InstanceId":"d","Status":"UNHEALTHY"}`, service)
	w.register(service, "d", `{"new":"1"}`)
	health := w.do("GetInstancesHealthStatus", `{"ServiceId":%q,"Instances":["d","c"]}`, service)["Status"]
	diff(t, any(map[string]any{"c": "HEALTHY", "d": "UNHEALTHY"}), health)
}
