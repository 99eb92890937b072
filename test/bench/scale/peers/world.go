package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// world are the resources that all nodes have.
type world struct {
	resources map[string]map[string]types.Resource // by type and name
	endpoints []string                             // names, in order
	routes    string                               // the widest route configuration
	hosts     []int                                // the virtual hosts of that, in the order of their names
	revision  int
}

func newWorld(all *discoveryv3.DiscoveryResponse) (*world, error) {
	w := &world{resources: map[string]map[string]types.Resource{}}
	widest := -1
	for _, a := range all.GetResources() {
		m, err := a.UnmarshalNew()
		if err != nil {
			return nil, err
		}
		name := cache.GetResourceName(m)
		if w.resources[a.GetTypeUrl()] == nil {
			w.resources[a.GetTypeUrl()] = map[string]types.Resource{}
		}
		w.resources[a.GetTypeUrl()][name] = m
		switch m := m.(type) {
		case *endpointv3.ClusterLoadAssignment:
			if len(m.GetEndpoints()) > 0 {
				w.endpoints = append(w.endpoints, name)
			}
		case *routev3.RouteConfiguration:
			if n := len(m.GetVirtualHosts()); n > widest {
				widest, w.routes = n, name
			}
		}
	}
	slices.Sort(w.endpoints)
	if widest = max(widest, w.inline()); widest < 1 {
		return nil, errors.New("no route configuration has virtual hosts")
	}
	if len(w.endpoints) == 0 {
		return nil, errors.New("there are no endpoints")
	}
	for i, h := range w.routeConfiguration().GetVirtualHosts() {
		if h.GetRoutes()[0].GetMatch().GetPrefix() != "" {
			w.hosts = append(w.hosts, i)
		}
	}
	return w, nil
}

// inline puts virtual hosts that are resources of their own (VHDS) where the library can
// serve them: it does not know that a proxy asks for them by their route configuration. It
// returns how many the widest configuration has then.
func (w *world) inline() (widest int) {
	hosts := w.resources[resource.VirtualHostType]
	delete(w.resources, resource.VirtualHostType)
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		of, _, _ := strings.Cut(name, "/")
		if r, ok := w.resources[resource.RouteType][of].(*routev3.RouteConfiguration); ok {
			r.Vhds = nil
			r.VirtualHosts = append(r.VirtualHosts, hosts[name].(*routev3.VirtualHost))
			if n := len(r.GetVirtualHosts()); n > widest {
				widest, w.routes = n, of
			}
		}
	}
	return widest
}

func (w *world) routeConfiguration() *routev3.RouteConfiguration {
	return w.resources[resource.RouteType][w.routes].(*routev3.RouteConfiguration)
}

// changeEndpoint gives the first instance of a service another address, which has the
// mark in it, and returns the name of what changed.
func (w *world) changeEndpoint(index int, mark uint32) (string, error) {
	name := w.endpoints[index%len(w.endpoints)]
	changed := proto.Clone(w.resources[resource.EndpointType][name]).(*endpointv3.ClusterLoadAssignment)
	address := changed.GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetSocketAddress()
	if address == nil {
		return "", fmt.Errorf("the first of the endpoints %s has no address", name)
	}
	mark %= 1 << 17
	address.Address = fmt.Sprintf("198.%d.%d.%d", 18+mark>>16, mark>>8&255, mark&255)
	w.resources[resource.EndpointType][name] = changed
	return resource.EndpointType + " " + name, nil
}

// changeRoute gives the route of a service another prefix, which has the mark in it, and
// returns the name of what changed. What does not change is shared.
func (w *world) changeRoute(index int, mark uint32) (string, error) {
	old := w.routeConfiguration()
	changed := &routev3.RouteConfiguration{}
	old.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		changed.ProtoReflect().Set(f, v)
		return true
	})
	changed.VirtualHosts = slices.Clone(old.GetVirtualHosts())
	at := w.hosts[index%len(w.hosts)]
	host := proto.Clone(old.GetVirtualHosts()[at]).(*routev3.VirtualHost)
	host.GetRoutes()[0].GetMatch().PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: fmt.Sprintf("/zq%08d", mark)}
	changed.VirtualHosts[at] = host
	w.resources[resource.RouteType][w.routes] = changed
	return resource.RouteType + " " + w.routes, nil
}

// snapshots serves the world by a SnapshotCache. Push sets a new snapshot for all nodes.
func snapshots(w *world, nodes int) (cache.Cache, func(...string) error, error) {
	c := cache.NewSnapshotCache(true, byID{}, nil)
	push := func(...string) error {
		w.revision++
		all := map[resource.Type][]types.Resource{}
		for t, named := range w.resources {
			for _, r := range named {
				all[t] = append(all[t], r)
			}
		}
		s, err := cache.NewSnapshot(fmt.Sprint(w.revision), all)
		if err != nil {
			return err
		}
		for i := range nodes {
			if err := c.SetSnapshot(context.Background(), fmt.Sprintf("proxy-%d", i), s); err != nil {
				return err
			}
		}
		return nil
	}
	return c, push, push()
}

// byID knows nodes by their ids.
type byID struct{}

// ID returns the node's id.
func (byID) ID(n *corev3.Node) string { return n.GetId() }

// linear serves the world by a LinearCache a type. Push updates what changed.
func linear(w *world) (cache.Cache, func(...string) error, error) {
	mux := &cache.MuxCache{
		Classify:      func(r *cache.Request) string { return r.GetTypeUrl() },
		ClassifyDelta: func(r *cache.DeltaRequest) string { return r.GetTypeUrl() },
		Caches:        map[string]cache.Cache{},
	}
	caches := map[string]*cache.LinearCache{}
	for t, named := range w.resources {
		caches[t] = cache.NewLinearCache(t, cache.WithInitialResources(named))
		mux.Caches[t] = caches[t]
	}
	push := func(changed ...string) error {
		for _, key := range changed {
			var t, name string
			if _, err := fmt.Sscan(key, &t, &name); err != nil {
				return err
			}
			if err := caches[t].UpdateResource(name, w.resources[t][name]); err != nil {
				return err
			}
		}
		return nil
	}
	return mux, push, nil
}
