package ecs

import (
	"fmt"
	"slices"
	"strings"
)

// Ports on which Envoy takes the connections that are redirected.
const (
	ingressPort = "15000"
	egressPort  = "15001"
)

// imageUser is user and group of the image.
const imageUser = "1337"

// always are addresses that ECS leaves alone whether proxyConfiguration names them or not:
// those of the task's and the instance's metadata.
var always = []string{"169.254.170.2", "169.254.169.254"}

// initContainer is the name of the container that sets the rules.
const initContainer = "fairlead-intercept"

// enable is the command by which the agent sets the rules and ends.
var enable = []string{"intercept", "enable"}

// ruleVariables are those of the rules that proxyConfiguration has no property for. Given by
// --set they are for the container that sets the rules too.
var ruleVariables = []string{
	"APPMESH_ENABLE_IPV6", "FAIRLEAD_IGNORE_UIDS", "FAIRLEAD_IGNORE_GIDS", "FAIRLEAD_INGRESS_IGNORED_IPS",
	"FAIRLEAD_DNS_PORT", "FAIRLEAD_DNS_SERVERS", "FAIRLEAD_INTERCEPT_WHILE_AWAY", "FAIRLEAD_INTERCEPT_BACKEND",
}

// rules returns what --set says of the rules.
func (c *conversion) rules() []Variable {
	return slices.DeleteFunc(slices.Clone(c.Set), func(v Variable) bool { return !slices.Contains(ruleVariables, v.Name) })
}

// property returns one of the properties of proxyConfiguration.
func (c *conversion) property(name string) string {
	properties := c.get("proxyConfiguration").get("properties")
	if properties == nil || properties.kind != list {
		return ""
	}
	for _, item := range properties.items {
		if n, _ := item.get("name").string(); n == name {
			v, _ := item.get("value").string()
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// checkProxy looks whether proxyConfiguration and Envoy's container fit together.
func (c *conversion) checkProxy() error {
	proxy := c.get("proxyConfiguration")
	if proxy == nil {
		return nil
	}
	if proxy.kind != object {
		return fmt.Errorf("proxyConfiguration is %s, allowed is an object", proxy.what())
	}
	if kind, ok := proxy.get("type").string(); ok && kind != "APPMESH" {
		return fmt.Errorf("proxyConfiguration.type is %q, allowed is APPMESH", kind)
	}
	if name, _ := proxy.get("containerName").string(); name != c.envoy.name {
		return fmt.Errorf("proxyConfiguration.containerName is %q, and --container is %q", name, c.envoy.name)
	}
	for _, want := range [][2]string{{"ProxyIngressPort", ingressPort}, {"ProxyEgressPort", egressPort}} {
		if got := c.property(want[0]); got != want[1] {
			return fmt.Errorf("proxyConfiguration: %s is %q, allowed is %s, where Envoy listens", want[0], got, want[1])
		}
	}
	uid, gid := c.property("IgnoredUID"), c.property("IgnoredGID")
	if uid == "" && gid == "" {
		return fmt.Errorf("proxyConfiguration: IgnoredUID and IgnoredGID are both missing, so Envoy's own connections would come back to it")
	}
	user, _ := c.envoy.get("user").string()
	if user == "" {
		switch { // the image's own is 1337
		case uid != "" && uid != imageUser:
			c.envoy.set("user", newScalar(uid))
		case uid == "" && gid != imageUser:
			c.envoy.set("user", newScalar(imageUser+":"+gid))
		}
		return nil
	}
	u, g, _ := strings.Cut(user, ":")
	if u != uid && (gid == "" || g != gid) {
		return c.envoy.refuse("user is %q, and proxyConfiguration ignores IgnoredUID %q and IgnoredGID %q, so Envoy's own connections would come back to it", user, uid, gid)
	}
	return nil
}

// routeManager has App Mesh's route manager, of the days before proxyConfiguration, replaced
// by the agent, which reads the same variables.
func (c *conversion) routeManager() error {
	for _, x := range c.all {
		if x.image() != routeManagerImage {
			continue
		}
		x.set("image", newScalar(c.Image))
		x.remove("entryPoint")
		x.set("command", newStrings(enable...))
		x.set("user", newScalar("0"))
		x.set("essential", newScalar(false))
		for _, v := range c.rules() {
			x.setVariable(v.Name, v.Value)
		}
		c.note("container %q sets the rules as App Mesh's route manager did, and ends", x.name)
	}
	return nil
}

// intercept has the rules set by a container, if that is asked for.
func (c *conversion) intercept() error {
	proxy := c.get("proxyConfiguration")
	if c.Intercept == InterceptPlatform {
		if proxy == nil && !c.hasInit() && strings.Contains(c.resource(), "/virtualNode/") {
			c.note("there is no proxyConfiguration, so nothing brings the application's connections to Envoy")
		}
		for _, v := range c.rules() {
			if proxy != nil {
				c.note("%s has no effect on the rules that ECS sets; with --intercept %s a container sets them", v.Name, InterceptInit)
			}
		}
		return nil
	}
	if err := c.mayInit(); err != nil {
		return err
	}
	if proxy == nil {
		if c.hasInit() {
			return nil
		}
		return fmt.Errorf("proxyConfiguration is missing, from which --intercept %s takes the ports", InterceptInit)
	}
	at := slices.Index(c.keys, "containerDefinitions")
	definitions := c.items[at]
	definitions.items = append([]*node{c.initContainer()}, definitions.items...)
	for _, x := range c.all {
		waits := x.get("dependsOn")
		if waits == nil {
			waits = &node{kind: list}
			x.set("dependsOn", waits)
		}
		waits.items = append(waits.items, newObject("containerName", initContainer, "condition", "SUCCESS"))
	}
	c.remove("proxyConfiguration")
	return nil
}

// hasInit reports whether a container of the task sets the rules already.
func (c *conversion) hasInit() bool {
	return slices.ContainsFunc(c.all, func(x container) bool {
		n := x.get("command")
		if n == nil {
			return false
		}
		words, err := texts("command", n)
		return err == nil && len(words) > 0 && words[0] == enable[0]
	})
}

func (c *conversion) resource() string {
	for _, name := range resourceVariables {
		if v := c.envoy.variable(name); v != "" {
			return v
		}
	}
	return ""
}

// mayInit says why the task can have no container that sets rules.
func (c *conversion) mayInit() error {
	kinds, err := c.strings("requiresCompatibilities")
	if err != nil {
		return err
	}
	for _, k := range kinds {
		if k != "EC2" {
			return fmt.Errorf("requiresCompatibilities has %q, and --intercept %s needs the capability NET_ADMIN, which ECS gives to containers of the launch type EC2 only; use --intercept %s",
				k, InterceptInit, InterceptPlatform)
		}
	}
	if mode, _ := c.get("networkMode").string(); mode != "awsvpc" {
		return fmt.Errorf("networkMode is %q, and --intercept %s needs awsvpc, where the task's containers have a network of their own and the same", mode, InterceptInit)
	}
	if len(kinds) == 0 {
		c.note("requiresCompatibilities is missing; this task runs with the launch type EC2 only, which gives containers the capability NET_ADMIN")
	}
	for _, x := range c.all {
		if x.name == initContainer && c.get("proxyConfiguration") != nil {
			return x.refuse("has the name that --intercept %s gives to its own", InterceptInit)
		}
	}
	return nil
}

// initContainer makes the container that does what ECS does with proxyConfiguration.
func (c *conversion) initContainer() *node {
	ignored := []string{}
	for a := range strings.SplitSeq(c.property("EgressIgnoredIPs"), ",") {
		if a = strings.TrimSpace(a); a != "" {
			ignored = append(ignored, a)
		}
	}
	for _, a := range always {
		if !slices.Contains(ignored, a) {
			ignored = append(ignored, a)
		}
	}
	environment := &node{kind: list}
	for _, v := range append([]Variable{
		{"APPMESH_IGNORE_UID", c.property("IgnoredUID")},
		{"APPMESH_IGNORE_GID", c.property("IgnoredGID")},
		{"APPMESH_APP_PORTS", c.property("AppPorts")},
		{"APPMESH_ENVOY_INGRESS_PORT", ingressPort},
		{"APPMESH_ENVOY_EGRESS_PORT", egressPort},
		{"APPMESH_EGRESS_IGNORED_PORTS", c.property("EgressIgnoredPorts")},
		{"APPMESH_EGRESS_IGNORED_IP", strings.Join(ignored, ",")},
	}, c.rules()...) {
		if v.Value != "" {
			environment.items = append(environment.items, newObject("name", v.Name, "value", v.Value))
		}
	}
	n := newObject("name", initContainer, "image", c.Image, "essential", false, "user", "0", "command", newStrings(enable...))
	if c.get("memory") == nil { // then each container needs a limit
		n.set("memory", newScalar(64))
	}
	n.set("environment", environment)
	n.set("linuxParameters", newObject("capabilities", newObject("add", newStrings("NET_ADMIN"), "drop", newStrings("ALL"))))
	if log := c.envoy.get("logConfiguration"); log != nil {
		n.set("logConfiguration", log.clone())
	}
	if credentials := c.envoy.get("repositoryCredentials"); credentials != nil {
		n.set("repositoryCredentials", credentials.clone())
	}
	return n
}
