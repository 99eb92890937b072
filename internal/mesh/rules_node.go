package mesh

// node checks a virtual node's spec.
func (r *rules) node(path string, s *VirtualNodeSpec) {
	if len(s.Listeners) > 0 && s.ServiceDiscovery == nil {
		r.fail(path+".serviceDiscovery", "is required when there are listeners")
	}
	if len(s.Listeners) == 0 && s.ServiceDiscovery != nil && r.known(path+".listeners") {
		r.fail(path+".serviceDiscovery", "is allowed only with a listener, none was given")
	}
	var ports portSet
	for i, l := range s.Listeners {
		at := at(path+".listeners", i)
		ports.add(r, at, l.PortMapping.Port)
		r.pool(at, l.PortMapping.Protocol, nodePool(l.ConnectionPool))
		r.listenerTimeout(at, l.PortMapping.Protocol, l.Timeout)
		if l.HealthCheck != nil {
			r.healthCheckPort(at, l.PortMapping.Port, l.HealthCheck.Port)
		}
	}
	r.backends(path+".backends", s.Backends)
}

// backends checks that each backend can be a virtual service and is named once.
func (r *rules) backends(path string, backends []Backend) {
	seen := map[string]int{}
	for i, b := range backends {
		field := at(path, i) + ".virtualService.virtualServiceName"
		if !r.known(field) {
			continue
		}
		name := b.VirtualService.VirtualServiceName
		if id, _, err := ParseARN(name, "", ""); err == nil && id.Kind == KindVirtualService {
			name = id.Name // a full ARN
		}
		r.name(field, KindVirtualService, name)
		if first, ok := seen[name]; ok {
			r.fail(field, "must differ from the other backends, %s is also %s's", quote(name), at(path, first))
			continue
		}
		seen[name] = i
	}
}

// router checks a virtual router's spec.
func (r *rules) router(path string, s *VirtualRouterSpec) {
	var ports portSet
	for i, l := range s.Listeners {
		ports.add(r, at(path+".listeners", i), l.PortMapping.Port)
	}
}

// service checks a virtual service's spec.
func (r *rules) service(path string, s *VirtualServiceSpec) {
	switch p := s.Provider; {
	case p == nil:
	case p.VirtualNode != nil:
		r.name(path+".provider.virtualNode.virtualNodeName", KindVirtualNode, p.VirtualNode.VirtualNodeName)
	case p.VirtualRouter != nil:
		r.name(path+".provider.virtualRouter.virtualRouterName", KindVirtualRouter, p.VirtualRouter.VirtualRouterName)
	}
}

// gateway checks a virtual gateway's spec.
func (r *rules) gateway(path string, s *VirtualGatewaySpec) {
	var ports portSet
	for i, l := range s.Listeners {
		at := at(path+".listeners", i)
		ports.add(r, at, l.PortMapping.Port)
		r.pool(at, l.PortMapping.Protocol, gatewayPool(l.ConnectionPool))
		if l.HealthCheck != nil {
			r.healthCheckPort(at, l.PortMapping.Port, l.HealthCheck.Port)
		}
	}
}

// portSet notes which listener has which port.
type portSet map[int64]string

// add reports a port that an earlier listener has. One address has one listener on
// a port, whatever their protocols.
func (p *portSet) add(r *rules, listener string, port int64) {
	if *p == nil {
		*p = portSet{}
	}
	if first, ok := (*p)[port]; ok {
		r.fail(listener+".portMapping.port", "must differ from the other listeners' ports, %d is also %s's", port, first)
		return
	}
	(*p)[port] = listener
}

// pool checks that a connection pool is of the listener's protocol.
func (r *rules) pool(listener, protocol, member string) {
	if member != "" && member != protocol && r.known(listener+".portMapping.protocol") {
		r.fail(listener+".connectionPool", "must have the member %s, the listener's protocol, %s was given", protocol, member)
	}
}

// listenerTimeout checks that timeouts are of the listener's protocol.
func (r *rules) listenerTimeout(listener, protocol string, t *ListenerTimeout) {
	member := ""
	switch {
	case t == nil:
	case t.Grpc != nil:
		member = "grpc"
	case t.Http != nil:
		member = "http"
	case t.Http2 != nil:
		member = "http2"
	case t.Tcp != nil:
		member = "tcp"
	}
	if member != "" && member != protocol && r.known(listener+".portMapping.protocol") {
		r.fail(listener+".timeout", "must have the member %s, the listener's protocol, %s was given", protocol, member)
	}
}

// healthCheckPort checks that a listener is health-checked on its own port.
func (r *rules) healthCheckPort(listener string, port int64, check *int64) {
	if check != nil && *check != port && r.known(listener+".portMapping.port") {
		r.fail(listener+".healthCheck.port", "must be the listener's port %d or absent, %d was given", port, *check)
	}
}

// nodePool returns which member of the union was given, "" for none.
func nodePool(p *VirtualNodeConnectionPool) string {
	switch {
	case p == nil:
		return ""
	case p.Grpc != nil:
		return "grpc"
	case p.Http != nil:
		return "http"
	case p.Http2 != nil:
		return "http2"
	}
	return "tcp"
}

// gatewayPool returns which member of the union was given, "" for none.
func gatewayPool(p *VirtualGatewayConnectionPool) string {
	switch {
	case p == nil:
		return ""
	case p.Grpc != nil:
		return "grpc"
	case p.Http != nil:
		return "http"
	}
	return "http2"
}
