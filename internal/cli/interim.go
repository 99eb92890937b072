package cli

import (
	"bytes"
	"encoding/json"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Specs that objects have for a moment, between what they were and what they become.

// bothListeners returns a spec with its own listeners and those of the old one on other ports.
func bothListeners(k mesh.Kind, old, spec any) (any, json.RawMessage, bool) {
	switch s := spec.(type) {
	case *mesh.VirtualNodeSpec:
		both := *s
		both.Listeners = merged(s.Listeners, old.(*mesh.VirtualNodeSpec).Listeners, func(l mesh.Listener) int64 { return l.PortMapping.Port })
		return typed(k, &both)
	case *mesh.VirtualRouterSpec:
		both := *s
		both.Listeners = merged(s.Listeners, old.(*mesh.VirtualRouterSpec).Listeners, func(l mesh.VirtualRouterListener) int64 { return l.PortMapping.Port })
		return typed(k, &both)
	case *mesh.VirtualGatewaySpec:
		both := *s
		both.Listeners = merged(s.Listeners, old.(*mesh.VirtualGatewaySpec).Listeners, func(l mesh.VirtualGatewayListener) int64 { return l.PortMapping.Port })
		return typed(k, &both)
	}
	return nil, nil, false
}

// merged returns the old listeners, as they were, and then the new ones on further ports.
func merged[L any](now, old []L, port func(L) int64) []L {
	out := append([]L(nil), old...)
	has := map[int64]bool{}
	for _, l := range old {
		has[port(l)] = true
	}
	for _, l := range now {
		if !has[port(l)] {
			out = append(out, l)
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

// withPorts returns a route's or gateway route's spec with the port of the only listener
// wherever it could be named and is not; false if there is nothing to name.
func (w *world) withPorts(r Ref, spec any) (any, json.RawMessage, bool) {
	raw, err := encode(spec)
	if err != nil {
		return nil, nil, false
	}
	copied := r.Kind.NewSpec()
	if err := json.Unmarshal(raw, copied); err != nil {
		return nil, nil, false
	}
	only := func(k mesh.Kind, name string) *int64 { return onlyPort(w.specs[r.in(mesh.Key{Kind: k, Name: name})]) }
	switch s := copied.(type) {
	case *mesh.RouteSpec:
		fill(matchPort(s), only(mesh.KindVirtualRouter, r.Parent))
		targets := s.Targets()
		for i := range targets {
			fill(&targets[i].Port, only(mesh.KindVirtualNode, targets[i].VirtualNode))
		}
	case *mesh.GatewayRouteSpec:
		provider, _ := w.provider(r, s)
		match, target := gatewayPorts(s)
		fill(match, only(mesh.KindVirtualGateway, r.Parent))
		fill(target, onlyPort(provider))
	}
	after, err := encode(copied)
	if err != nil || bytes.Equal(raw, after) {
		return nil, nil, false
	}
	return typed(r.Kind, copied)
}

func fill(port **int64, value *int64) {
	if port != nil && *port == nil {
		*port = value
	}
}

// onlyPort returns the port of a spec's listener if there is one only.
func onlyPort(spec any) *int64 {
	var ports []int64
	switch s := spec.(type) {
	case *mesh.VirtualNodeSpec:
		for _, l := range s.Listeners {
			ports = append(ports, l.PortMapping.Port)
		}
	case *mesh.VirtualRouterSpec:
		for _, l := range s.Listeners {
			ports = append(ports, l.PortMapping.Port)
		}
	case *mesh.VirtualGatewaySpec:
		for _, l := range s.Listeners {
			ports = append(ports, l.PortMapping.Port)
		}
	}
	if len(ports) != 1 {
		return nil
	}
	return &ports[0]
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
