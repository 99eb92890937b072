package demo

import "fmt"

// loopback is the ground that needs nothing: each instance and each Envoy has a loopback
// address, and front asks by its Envoy as a proxy.
type loopback struct {
	stack *stack
	why   error // there are no namespaces, though they were wanted; may be nil
}

func (l loopback) app(i instance, c *command) {
	c.args = append(c.args, "--listen", l.stack.plan.app(i.at))
	if i.node == frontNode {
		c.args = append(c.args, "--proxy", "http://"+l.stack.plan.egress(i.at))
	}
}

func (l loopback) agent(i instance, c *command) error {
	c.env = append(c.env,
		"ENVOY_PATH="+l.stack.programs.envoy,
		"AWS_SHARED_CREDENTIALS_FILE="+l.stack.credentials(),
		"FAIRLEAD_XDS_ENDPOINT="+l.stack.plan.xds(),
		"FAIRLEAD_XDS_PLAINTEXT=1",
		"FAIRLEAD_BIND_ADDRESS="+i.at.envoy.String(),
		"FAIRLEAD_APPLICATION_ADDRESS="+i.at.app.String(),
		fmt.Sprintf("ENVOY_ADMIN_ACCESS_PORT=%d", l.stack.plan.ports.admin),
	)
	return nil
}

func (l loopback) way() (url string, dial dialer) { return l.stack.url(l.stack.plan.front), nil }

func (l loopback) about() (line, why string) {
	if l.why != nil {
		why = fmt.Sprintf("no interception: %v; it needs %s", l.why, needs)
	}
	return "loopback addresses; front is told of its Envoy, as a proxy", why
}

func (loopback) byHand() string { return "" }

func (loopback) close() {}
