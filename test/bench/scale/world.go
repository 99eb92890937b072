package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
	"github.com/fairlead-mesh/fairlead/test/process"
)

const (
	root = "/v20190125/meshes"
	// port is what all nodes and routers listen on.
	port = 8080
)

// world is a mesh of services that are alike. Service i is a virtual service s-i before a
// router r-i with one route, which sends to node n-i (90) and to node n-(i+1) (10), as a
// canary does. Its instances are registered with Fairlead's own registry.
type world struct {
	api       *process.API
	account   string
	mesh      string
	services  int
	instances int             // of each service
	ids       []string        // of the registry's services
	backends  func(int) []int // of node n-i
	// prefix is what routes match at first, host where nodes without instances are.
	prefix, host string
	// extra are nodes without listeners that have all services as backends.
	extra []string
}

func (w *world) path(parts ...string) string { return root + "/" + w.mesh + strings.Join(parts, "") }

func (w *world) arn(node string) string {
	return fmt.Sprintf("arn:aws:appmesh:%s:%s:mesh/%s/virtualNode/%s", process.Region, w.account, w.mesh, node)
}

// narrow are the backends of a node that calls the ten services after its own.
func narrow(services int) func(int) []int {
	return func(i int) []int {
		var out []int
		for d := 1; d <= 10; d++ {
			out = append(out, (i+d)%services)
		}
		return out
	}
}

func none(int) []int { return nil }

// fill makes the world by the API.
func (w *world) fill(ctx context.Context) error {
	if err := w.api.Call(ctx, http.MethodPut, root, fmt.Sprintf(`{"meshName":%q}`, w.mesh), nil); err != nil {
		return err
	}
	if err := w.register(ctx); err != nil {
		return err
	}
	steps := []func(i int) (path, body string){
		func(i int) (string, string) {
			return w.path("/virtualNodes"), fmt.Sprintf(`{"virtualNodeName":"n-%d","spec":{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}}],%s,"backends":[%s]}}`,
				i, port, w.discovery(i), w.backendList(w.backends(i)))
		},
		func(i int) (string, string) {
			return w.path("/virtualRouters"), fmt.Sprintf(`{"virtualRouterName":"r-%d","spec":{"listeners":[{"portMapping":{"port":%d,"protocol":"http"}}]}}`, i, port)
		},
		func(i int) (string, string) {
			return w.path("/virtualRouter/r-", fmt.Sprint(i), "/routes"), fmt.Sprintf(`{"routeName":"all","spec":%s}`, w.route(i, w.prefix))
		},
		func(i int) (string, string) {
			return w.path("/virtualServices"), fmt.Sprintf(`{"virtualServiceName":%q,"spec":{"provider":{"virtualRouter":{"virtualRouterName":"r-%d"}}}}`, w.service(i), i)
		},
	}
	for _, step := range steps {
		err := process.Each(ctx, w.services, func(ctx context.Context, i int) error {
			path, body := step(i)
			return w.api.Call(ctx, http.MethodPut, path, body, nil)
		})
		if err != nil {
			return fmt.Errorf("making mesh %s: %w", w.mesh, err)
		}
	}
	all := make([]int, w.services)
	for i := range all {
		all[i] = i
	}
	list := w.backendList(all)
	return process.Each(ctx, len(w.extra), func(ctx context.Context, i int) error {
		return w.api.Call(ctx, http.MethodPut, w.path("/virtualNodes"), fmt.Sprintf(`{"virtualNodeName":%q,"spec":{"backends":[%s]}}`, w.extra[i], list), nil)
	})
}

func (w *world) service(i int) string { return fmt.Sprintf("s-%d.%s.local", i, w.mesh) }

func (w *world) backendList(all []int) string {
	list := make([]string, len(all))
	for n, i := range all {
		list[n] = fmt.Sprintf(`{"virtualService":{"virtualServiceName":%q}}`, w.service(i))
	}
	return strings.Join(list, ",")
}

// namespaceSize is how many services of the registry are in one namespace; 5,000 may be.
const namespaceSize = 2500

func (w *world) namespace(i int) string { return fmt.Sprintf("%s-%d.local", w.mesh, i/namespaceSize) }

// discovery says where a node's instances are.
func (w *world) discovery(i int) string {
	if w.instances == 0 {
		return fmt.Sprintf(`"serviceDiscovery":{"dns":{"hostname":%q}}`, w.host)
	}
	return fmt.Sprintf(`"serviceDiscovery":{"awsCloudMap":{"namespaceName":%q,"serviceName":"s-%d"}}`, w.namespace(i), i)
}

// route is the spec of a service's route, which matches a prefix.
func (w *world) route(i int, prefix string) string {
	return fmt.Sprintf(`{"httpRoute":{"match":{"prefix":%q},"action":{"weightedTargets":[{"virtualNode":"n-%d","weight":90},{"virtualNode":"n-%d","weight":10}]},`+
		`"retryPolicy":{"maxRetries":2,"perRetryTimeout":{"unit":"s","value":2},"httpRetryEvents":["server-error"]}}}`, prefix, i, (i+1)%w.services)
}

// register makes the registry's services and their instances.
func (w *world) register(ctx context.Context) error {
	if w.instances == 0 {
		return nil
	}
	ids := map[string]string{} // of namespaces
	for i := 0; i < w.services; i += namespaceSize {
		var made struct{ OperationID string }
		if err := w.api.CloudMap(ctx, "CreateHttpNamespace", map[string]string{"Name": w.namespace(i)}, &made); err != nil {
			return err
		}
		var op struct {
			Operation struct{ Targets map[string]string }
		}
		if err := w.api.CloudMap(ctx, "GetOperation", map[string]string{"OperationId": made.OperationID}, &op); err != nil {
			return err
		}
		ids[w.namespace(i)] = op.Operation.Targets["NAMESPACE"]
	}
	w.ids = make([]string, w.services)
	return process.Each(ctx, w.services, func(ctx context.Context, i int) error {
		var service struct{ Service struct{ ID string } }
		in := map[string]string{"Name": fmt.Sprintf("s-%d", i), "NamespaceId": ids[w.namespace(i)]}
		if err := w.api.CloudMap(ctx, "CreateService", in, &service); err != nil {
			return err
		}
		w.ids[i] = service.Service.ID
		for n := range w.instances {
			if err := w.registerInstance(ctx, i, n, fmt.Sprintf("10.%d.%d.%d", n, i/250%250, 1+i%250)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) registerInstance(ctx context.Context, service, instance int, address string) error {
	return w.api.CloudMap(ctx, "RegisterInstance", struct {
		ServiceID  string `json:"ServiceId"`
		InstanceID string `json:"InstanceId"`
		Attributes map[string]string
	}{w.ids[service], fmt.Sprintf("i-%d", instance), map[string]string{"AWS_INSTANCE_IPV4": address, "AWS_INSTANCE_PORT": fmt.Sprint(port)}}, nil)
}

// changeEndpoint gives an instance of a service another address.
func (w *world) changeEndpoint(ctx context.Context, service int, mark uint32) error {
	return w.registerInstance(ctx, service%w.services, 0, load.AddressMark(mark))
}

// changeRoute gives the route of a service another prefix.
func (w *world) changeRoute(ctx context.Context, service int, mark uint32) error {
	service %= w.services
	return w.api.Call(ctx, http.MethodPut, w.path("/virtualRouter/r-", fmt.Sprint(service), "/routes/all"),
		fmt.Sprintf(`{"spec":%s}`, w.route(service, load.RouteMark(mark))), nil)
}

// describe reads a route.
func (w *world) describe(ctx context.Context, service int) error {
	var out json.RawMessage
	return w.api.Call(ctx, http.MethodGet, w.path("/virtualRouter/r-", fmt.Sprint(service%w.services), "/routes/all"), "", &out)
}
