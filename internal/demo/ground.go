package demo

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Network says where the instances of the application and their Envoys run.
type Network string

// The networks. Auto is Namespaces where this machine lets it be, else Loopback.
const (
	// Auto chooses.
	Auto Network = "auto"
	// Namespaces gives each instance a network namespace of its own, where the kernel hands
	// its connections to its Envoy. It needs root.
	Namespaces Network = "namespaces"
	// Loopback gives each instance and each Envoy a loopback address; front is told of its
	// proxy.
	Loopback Network = "loopback"
)

// Check returns an error unless n is a network.
func (n Network) Check() error {
	all := []string{string(Auto), string(Namespaces), string(Loopback)}
	if !slices.Contains(all, string(n)) {
		return fmt.Errorf("--network is %q, allowed are %s", string(n), strings.Join(all, ", "))
	}
	return nil
}

// ground is where the instances of the application and their Envoys run.
type ground interface {
	// app completes the command of an instance's process, and agent that of its agent.
	app(i instance, c *command)
	agent(i instance, c *command) error
	// way returns how one who calls front as another machine would does so: the URL, and
	// how to connect.
	way() (url string, dial dialer)
	// about says in a line where the instances are and what front knows, and in another
	// why it is no other ground; "" where nobody wanted one.
	about() (line, why string)
	// byHand is a line for a shell that calls colour as front does; "" for none.
	byHand() string
	close()
}

// dialer connects to an address, host:port.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// lay finds the ground for a network, and makes the plan for it.
func (s *stack) lay(ctx context.Context, n Network) error {
	var why error
	if n != Loopback {
		spaces, err := openNamespaces(ctx, s)
		if err == nil {
			s.ground = spaces
			return spaces.settle()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if n == Namespaces {
			return fmt.Errorf("--network is %s, which cannot be had here: %w; it needs %s", n, err, needs)
		}
		why = err
	}
	var err error
	if s.plan, err = findPlan(portChoices, false); err != nil {
		return err
	}
	s.ground = loopback{stack: s, why: why}
	return nil
}
