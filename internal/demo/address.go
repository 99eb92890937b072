package demo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// plan says which address each process of a demo has. Every Envoy and every application
// instance has a loopback address of its own, so that all of them listen on the same
// ports, as they would on machines of their own. In namespaces they have an address there,
// and these are where the machine's own programs reach them.
type plan struct {
	control            netip.Addr // of the control plane
	front, blue, green spot
	ports              ports
	namespaces         bool

	claim net.Listener // tells other demos that the addresses are taken
}

// spot is where one instance of an application and its Envoy are.
type spot struct {
	envoy, app netip.Addr // on loopback
	inside     netip.Addr // of both, in namespaces
}

// ports are what is listened on. The egress port is the bound profile's and fixed.
type ports struct {
	http  int // of the application and of its Envoy's ingress listener
	admin int // of Envoy's admin interface
	api   int // of the control plane: then discovery and operations, the two that follow
	claim int
}

const egressPort = 15001

// portInside is the application's port in namespaces, where nobody else listens.
const portInside = 8080

// portChoices are tried in turn: a program that listens on all addresses of the machine
// blocks a port on every one of ours. All are below the range from which the system
// takes ports for outgoing connections.
var portChoices = []ports{
	{http: 8080, admin: 9901, api: 9080, claim: 9099},
	{http: 18080, admin: 19901, api: 19080, claim: 19099},
	{http: 28080, admin: 29901, api: 29080, claim: 29099},
}

// block is how many addresses in a row one demo takes.
const block = 4

// findPlan finds addresses on which the ports of one of the choices are free, and claims
// them until release is called. namespaces says whether it is for them.
func findPlan(choices []ports, namespaces bool) (*plan, error) {
	var last error
	for _, choice := range choices {
		const blocks = 250 / block
		first := rand.IntN(blocks)
		for i := range blocks {
			n := 2 + (first+i)%blocks*block
			p, err := claim(byte(n), choice, namespaces)
			if err == nil {
				return p, nil
			}
			last = err
			if errors.Is(err, syscall.EADDRNOTAVAIL) {
				return nil, fmt.Errorf("this machine has no loopback address but 127.0.0.1, and the demo gives each Envoy one: it needs Linux (%w)", err)
			}
		}
	}
	return nil, fmt.Errorf("found no free loopback addresses: another program may listen on the port on all addresses (%w)", last)
}

// claim makes the plan that begins with address 127.0.0.n if all of it is free.
func claim(n byte, choice ports, namespaces bool) (*plan, error) {
	at := func(i byte) spot {
		return spot{envoy: netip.AddrFrom4([4]byte{127, 0, 0, n + i}), app: netip.AddrFrom4([4]byte{127, 0, 1, n + i})}
	}
	p := &plan{control: at(0).envoy, front: at(1), blue: at(2), green: at(3), ports: choice, namespaces: namespaces}
	var err error
	if p.claim, err = net.Listen("tcp", join(p.control, choice.claim)); err != nil {
		return nil, err
	}
	for _, a := range p.all() {
		l, err := net.Listen("tcp", a)
		if err != nil {
			p.release()
			return nil, err
		}
		l.Close()
	}
	return p, nil
}

// release lets other demos have the addresses.
func (p *plan) release() { p.claim.Close() }

// all lists the addresses with their ports, host:port.
func (p *plan) all() []string {
	out := []string{p.api(), p.xds(), p.ops()}
	for _, s := range []spot{p.front, p.blue, p.green} {
		out = append(out, p.ingress(s), p.admin(s), p.app(s))
		if !p.namespaces {
			out = append(out, p.egress(s))
		}
	}
	return out
}

// found returns where Envoys find the instances at a spot.
func (p *plan) found(s spot) netip.Addr {
	if p.namespaces {
		return s.inside
	}
	return s.envoy
}

// port returns the port of all listeners of the mesh.
func (p *plan) port() int {
	if p.namespaces {
		return portInside
	}
	return p.ports.http
}

// colourURL is what front calls.
func (p *plan) colourURL() string { return fmt.Sprintf("http://%s:%d", serviceName, p.port()) }

func (p *plan) api() string           { return join(p.control, p.ports.api) }
func (p *plan) xds() string           { return join(p.control, p.ports.api+1) }
func (p *plan) ops() string           { return join(p.control, p.ports.api+2) }
func (p *plan) ingress(s spot) string { return join(s.envoy, p.ports.http) }
func (p *plan) egress(s spot) string  { return join(s.envoy, egressPort) }
func (p *plan) admin(s spot) string   { return join(s.envoy, p.ports.admin) }
func (p *plan) app(s spot) string     { return join(s.app, p.ports.http) }

func join(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }
