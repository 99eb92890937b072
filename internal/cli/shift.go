package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// mostTargets is how many targets the API lets a route have.
const mostTargets = 10

// Shift says how the traffic of a virtual service is to be parted.
type Shift struct {
	Scope
	Service string
	// Weights are NODE=WEIGHT: the route's targets from now on. Ports that a target has stay.
	Weights []string
	// Route is required if the service's router has several.
	Route string
	// DryRun shows what would be done, and does nothing.
	DryRun bool
	// Wait is how long to wait for the mesh's connected proxies to have it; 0 does not wait.
	Wait time.Duration
}

// weight is one wanted target.
type weight struct {
	node   string
	weight int64
}

// ShiftTraffic gives the route behind a virtual service new targets, and shows what was and
// what is.
func ShiftTraffic(ctx context.Context, s *Session, term Terminal, cfg Shift) error {
	m, err := cfg.within()
	if err != nil {
		return err
	}
	wanted, err := parseWeights(cfg.Weights)
	if err != nil {
		return err
	}
	inv := newInventory(s, 0)
	route, err := inv.routeOf(ctx, m, cfg)
	if err != nil {
		return err
	}
	refs := []Ref{}
	for _, w := range wanted {
		refs = append(refs, m.in(mesh.Key{Kind: mesh.KindVirtualNode, Name: w.node}))
	}
	if err := inv.describeAll(ctx, refs); err != nil {
		return err
	}
	spec, err := mesh.ParseSpec(mesh.KindRoute, route.Spec)
	if err != nil {
		return err
	}
	before := spec.(*mesh.RouteSpec).Targets()
	targets, err := inv.targets(m, before, wanted)
	if err != nil {
		return err
	}
	changed, err := withTargets(route.Spec, targets)
	if err != nil {
		return fmt.Errorf("changing %s: %w", route, err)
	}
	if _, _, bad := mesh.Decode(mesh.KindRoute, "spec", changed); len(bad) > 0 {
		return fmt.Errorf("%s would not be valid: %w", route, bad)
	}
	same := sameSpec(route.Spec, changed)
	if !same && !cfg.DryRun {
		if _, err := s.update(ctx, route.Ref, changed); err != nil {
			return fmt.Errorf("changing %s: %w", route, err)
		}
	}
	note := map[bool]string{true: " unchanged", false: " updated"}[same]
	if cfg.DryRun && !same {
		note += " (dry run)"
	}
	term.printf("%s%s\n", printable(route.String()), note)
	shiftTable(before, targets).write(term, "  ")
	if cfg.DryRun {
		return nil
	}
	return s.await(ctx, term, []Ref{route.mesh()}, cfg.Wait)
}

func parseWeights(args []string) ([]weight, error) {
	if len(args) == 0 {
		return nil, usagef("no target is given: NODE=WEIGHT, for example cart-v1=90 cart-v2=10")
	}
	if len(args) > mostTargets {
		return nil, usagef("%d targets are given, a route has %d at most", len(args), mostTargets)
	}
	var out []weight
	var sum int64
	seen := map[string]bool{}
	for _, a := range args {
		node, text, ok := strings.Cut(a, "=")
		n, err := strconv.ParseInt(text, 10, 64)
		switch {
		case !ok || node == "":
			return nil, usagef("%q is not of the form NODE=WEIGHT", a)
		case err != nil || n < 0 || n > 100:
			return nil, usagef("the weight of %q must be a whole number from 0 to 100, %q was given", node, text)
		case seen[node]:
			return nil, usagef("node %q is given twice", node)
		}
		if err := mesh.CheckName(mesh.KindVirtualNode, node); err != nil {
			return nil, UsageError{err}
		}
		seen[node] = true
		sum += n
		out = append(out, weight{node, n})
	}
	if sum == 0 {
		return nil, usagef("all weights are 0: some node must get the traffic")
	}
	return out, nil
}

// routeOf returns the route behind a virtual service.
func (i *inventory) routeOf(ctx context.Context, m Ref, cfg Shift) (*object, error) {
	service := m.in(mesh.Key{Kind: mesh.KindVirtualService, Name: cfg.Service})
	o, err := i.describe(ctx, service)
	if isNotFound(err) {
		return nil, fmt.Errorf("mesh %s has no virtual service %q", m.Mesh, cfg.Service)
	}
	if err != nil {
		return nil, err
	}
	spec, err := mesh.ParseSpec(mesh.KindVirtualService, o.Spec)
	if err != nil {
		return nil, err
	}
	p := spec.(*mesh.VirtualServiceSpec).Provider
	switch {
	case p == nil:
		return nil, fmt.Errorf("virtual service %q has no provider: there is nothing to shift", cfg.Service)
	case p.VirtualRouter == nil:
		return nil, fmt.Errorf("virtual service %q is provided by the virtual node %s: only a virtual router's routes have weights", cfg.Service, p.VirtualNode.VirtualNodeName)
	}
	router := p.VirtualRouter.VirtualRouterName
	routes, err := i.list(ctx, mesh.KindRoute, m.in(mesh.Key{Kind: mesh.KindRoute, Parent: router}))
	if err != nil {
		return nil, err
	}
	var names []string
	var found Ref
	for _, r := range routes {
		names = append(names, r.Name)
		if r.Name == cfg.Route || cfg.Route == "" {
			found = r.Ref
		}
	}
	switch {
	case len(names) == 0:
		return nil, fmt.Errorf("virtual router %s, which provides %q, has no route", router, cfg.Service)
	case cfg.Route == "" && len(names) > 1:
		return nil, usagef("--route is required, as virtual router %s has several: %s", router, joined(names))
	case found.Name == "":
		return nil, fmt.Errorf("virtual router %s has no route %q: there are %s", router, cfg.Route, joined(names))
	}
	return i.describe(ctx, found)
}

// targets returns the wanted targets with their ports.
func (i *inventory) targets(m Ref, before []mesh.WeightedTarget, wanted []weight) ([]mesh.WeightedTarget, error) {
	var out []mesh.WeightedTarget
	for _, w := range wanted {
		r := m.in(mesh.Key{Kind: mesh.KindVirtualNode, Name: w.node})
		if i.found[r] == nil {
			return nil, fmt.Errorf("mesh %s has no virtual node %q", m.Mesh, w.node)
		}
		port, err := targetPort(before, w.node, i.world.specs[r])
		if err != nil {
			return nil, err
		}
		out = append(out, mesh.WeightedTarget{VirtualNode: w.node, Weight: w.weight, Port: port})
	}
	return out, nil
}

// targetPort returns the port that a target has, or that a new one gets: none if its node has
// one listener, else the one that the other targets agree on.
func targetPort(before []mesh.WeightedTarget, node string, spec any) (*int64, error) {
	for _, t := range before {
		if t.VirtualNode == node {
			return t.Port, nil
		}
	}
	if !mesh.SeveralListeners(spec) {
		return nil, nil
	}
	var port *int64
	for _, t := range before {
		if t.Port == nil || port != nil && *t.Port != *port {
			port = nil
			break
		}
		port = t.Port
	}
	if port != nil {
		for _, m := range nodeMappings(spec.(*mesh.VirtualNodeSpec)) {
			if m.Port == *port {
				return port, nil
			}
		}
	}
	return nil, fmt.Errorf("virtual node %q has several listeners, and the route's other targets do not say which one: add it to the route by 'fairlead apply', with a port", node)
}

// withTargets returns a route's spec with other targets, and all else as it is.
func withTargets(raw json.RawMessage, targets []mesh.WeightedTarget) (json.RawMessage, error) {
	var spec map[string]json.RawMessage
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, err
	}
	for _, name := range []string{"httpRoute", "http2Route", "grpcRoute", "tcpRoute"} {
		if spec[name] == nil {
			continue
		}
		var route, action map[string]json.RawMessage
		if err := json.Unmarshal(spec[name], &route); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(route["action"], &action); err != nil {
			return nil, err
		}
		var err error
		if action["weightedTargets"], err = encode(targets); err != nil {
			return nil, err
		}
		if route["action"], err = encode(action); err != nil {
			return nil, err
		}
		if spec[name], err = encode(route); err != nil {
			return nil, err
		}
		return encode(spec)
	}
	return nil, errors.New("it is of a kind that is not known here")
}

// shiftTable shows the targets of a route before and after.
func shiftTable(before, after []mesh.WeightedTarget) *table {
	t := &table{head: []string{"NODE", "BEFORE", "AFTER"}}
	cell := func(all []mesh.WeightedTarget, node string) string {
		var sum, own int64
		found := false
		for _, w := range all {
			sum += w.Weight
			if w.VirtualNode == node {
				own, found = own+w.Weight, true
			}
		}
		if !found {
			return "-"
		}
		return fmt.Sprintf("%d (%s)", own, share(own, sum))
	}
	seen := map[string]bool{}
	for _, w := range append(append([]mesh.WeightedTarget(nil), before...), after...) {
		if !seen[w.VirtualNode] {
			seen[w.VirtualNode] = true
			t.add(w.VirtualNode, cell(before, w.VirtualNode), cell(after, w.VirtualNode))
		}
	}
	return t
}
