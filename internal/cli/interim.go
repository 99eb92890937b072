package cli

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Specs that objects have for a moment, between what they were and what they become.

// bothListeners returns a spec with the listeners of the old one, and beside them its own on
// further ports. On the port turned (0 for none) it has its own listener already.
func bothListeners(k mesh.Kind, old, spec any, turned int64) (any, json.RawMessage, bool) {
	switch s := spec.(type) {
	case *mesh.VirtualNodeSpec:
		both := *s
		both.Listeners = merged(s.Listeners, old.(*mesh.VirtualNodeSpec).Listeners, turned, func(l mesh.Listener) int64 { return l.PortMapping.Port })
		return typed(k, &both)
	case *mesh.VirtualRouterSpec:
		both := *s
		both.Listeners = merged(s.Listeners, old.(*mesh.VirtualRouterSpec).Listeners, turned, func(l mesh.VirtualRouterListener) int64 { return l.PortMapping.Port })
		return typed(k, &both)
	case *mesh.VirtualGatewaySpec:
		both := *s
		both.Listeners = merged(s.Listeners, old.(*mesh.VirtualGatewaySpec).Listeners, turned, func(l mesh.VirtualGatewayListener) int64 { return l.PortMapping.Port })
		return typed(k, &both)
	}
	return nil, nil, false
}

// merged returns the old listeners, as they were but for that on the port turned, and then
// the new ones on further ports.
func merged[L any](now, old []L, turned int64, port func(L) int64) []L {
	out := append([]L(nil), old...)
	at := map[int64]int{}
	for i, l := range old {
		at[port(l)] = i
	}
	for _, l := range now {
		i, has := at[port(l)]
		switch {
		case !has:
			out = append(out, l)
		case port(l) == turned:
			out[i] = l
		}
	}
	return out
}

// reached is where a virtual node, router or gateway is reached.
type reached struct {
	port     int64
	protocol string
}

// listenersOf returns the listeners of a spec that has some.
func listenersOf(spec any) []reached {
	var out []reached
	switch s := spec.(type) {
	case *mesh.VirtualNodeSpec:
		for _, l := range s.Listeners {
			out = append(out, reached{l.PortMapping.Port, l.PortMapping.Protocol})
		}
	case *mesh.VirtualRouterSpec:
		for _, l := range s.Listeners {
			out = append(out, reached{l.PortMapping.Port, l.PortMapping.Protocol})
		}
	case *mesh.VirtualGatewaySpec:
		for _, l := range s.Listeners {
			out = append(out, reached{l.PortMapping.Port, l.PortMapping.Protocol})
		}
	}
	return out
}

// typed returns a spec as the server will read it; false if it would be refused.
func typed(k mesh.Kind, spec any) (any, json.RawMessage, bool) {
	raw, err := encode(spec)
	if err != nil {
		return nil, nil, false
	}
	out, stored, bad := mesh.Decode(k, "spec", raw)
	return out, stored, len(bad) == 0
}

// encode writes JSON without escaping what HTML would have escaped.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// copied returns a copy of a spec that can be changed by itself; nil if there is none.
func copied(k mesh.Kind, spec any) any {
	raw, err := encode(spec)
	if err != nil {
		return nil
	}
	out := k.NewSpec()
	if err := json.Unmarshal(raw, out); err != nil {
		return nil
	}
	return out
}

// use is a place where a route or gateway route can name a port, and what it chooses from.
type use struct {
	port     **int64
	from     []reached
	protocol string // that a listener must have, "" for any
}

// uses returns the places of a spec, in an order that is the same in all worlds.
func (w *world) uses(r Ref, spec any) []use {
	at := func(k mesh.Kind, name string) []reached {
		return listenersOf(w.specs[r.in(mesh.Key{Kind: k, Name: name})])
	}
	switch s := spec.(type) {
	case *mesh.RouteSpec:
		out := []use{{matchPort(s), at(mesh.KindVirtualRouter, r.Parent), protocol(s)}}
		targets := s.Targets()
		for i := range targets {
			out = append(out, use{&targets[i].Port, at(mesh.KindVirtualNode, targets[i].VirtualNode), protocol(s)})
		}
		return out
	case *mesh.GatewayRouteSpec:
		provider, _ := w.provider(r, s)
		match, target := gatewayPorts(s)
		return []use{{match, at(mesh.KindVirtualGateway, r.Parent), protocol(s)}, {target, listenersOf(provider), ""}}
	}
	return nil
}

// takes reports whether a port, or none, names one listener.
func (u use) takes(port *int64) bool {
	if len(u.from) == 0 {
		return true
	}
	if port == nil {
		return len(u.from) == 1 && u.fits(u.from[0])
	}
	return slices.ContainsFunc(u.from, func(l reached) bool { return l.port == *port && u.fits(l) })
}

func (u use) fits(l reached) bool { return u.protocol == "" || u.protocol == l.protocol }

// aim names ports that are right now and later wherever those that are named are not, if
// there are any that mean the same where they are meant: the port of the only listener is
// named, or not named any more.
func aim(now, later, meant []use) bool {
	for i, u := range now {
		if u.port == nil {
			continue
		}
		own, other := *u.port, (*int64)(nil)
		only := len(meant[i].from) == 1
		if own == nil && only {
			other = &meant[i].from[0].port
		}
		same := own == nil || only && meant[i].from[0].port == *own
		switch {
		case u.takes(own) && later[i].takes(own):
		case same && u.takes(other) && later[i].takes(other):
			*u.port = other
		default:
			return false
		}
	}
	return true
}

// matchPort returns where a route's match has its port.
func matchPort(s *mesh.RouteSpec) **int64 {
	switch {
	case s.HttpRoute != nil:
		return &s.HttpRoute.Match.Port
	case s.Http2Route != nil:
		return &s.Http2Route.Match.Port
	case s.GrpcRoute != nil:
		return &s.GrpcRoute.Match.Port
	case s.TcpRoute != nil:
		if s.TcpRoute.Match == nil {
			s.TcpRoute.Match = new(mesh.TcpRouteMatch)
		}
		return &s.TcpRoute.Match.Port
	}
	return nil
}

// gatewayPorts returns where a gateway route's match and target have their ports.
func gatewayPorts(s *mesh.GatewayRouteSpec) (match, target **int64) {
	switch {
	case s.HttpRoute != nil:
		return &s.HttpRoute.Match.Port, &s.HttpRoute.Action.Target.Port
	case s.Http2Route != nil:
		return &s.Http2Route.Match.Port, &s.Http2Route.Action.Target.Port
	case s.GrpcRoute != nil:
		return &s.GrpcRoute.Match.Port, &s.GrpcRoute.Action.Target.Port
	}
	return nil, nil
}

// protocol returns what a route or gateway route is for: "http", "http2", "grpc" or "tcp".
func protocol(spec any) string {
	switch s := spec.(type) {
	case *mesh.RouteSpec:
		kind, _, _ := routeText(s)
		return kind
	case *mesh.GatewayRouteSpec:
		kind, _, _ := gatewayRouteText(s)
		return kind
	}
	return ""
}
