package ecs

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Result is a task definition that runs with Fairlead.
type Result struct {
	// JSON is what register-task-definition takes.
	JSON string
	// Diff is the difference to what came in, in the unified form, with the values of secrets
	// hidden; "" if nothing has changed. ECS's own read-only fields are in neither.
	Diff string
	// Notes are what a person should know, a line each.
	Notes []string
	// Container is the name of Envoy's, Environment are its variables, and Secrets the names of
	// those that ECS takes from secrets. Whole says that there are no others: no
	// environmentFiles.
	Container   string
	Environment map[string]string
	Secrets     []string
	Whole       bool
}

// The names of App Mesh's images.
const (
	envoyImage        = "aws-appmesh-envoy"
	routeManagerImage = "aws-appmesh-proxy-route-manager"
)

// resourceVariables name whose proxy an Envoy is.
var resourceVariables = []string{"APPMESH_RESOURCE_ARN", "APPMESH_RESOURCE_NAME", "APPMESH_VIRTUAL_NODE_NAME"}

// conversion is one task definition on its way.
type conversion struct {
	Options
	document
	all   []container
	envoy container
	notes []string
}

// Convert turns a task definition for App Mesh into one for Fairlead. The input is the JSON
// that "aws ecs describe-task-definition" prints, or that register-task-definition takes. The
// error is one line that names the container and field, or the flag, what is there and what
// is allowed. What has been converted can be converted again.
func Convert(input []byte, o Options) (*Result, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	d, err := read(input)
	if err != nil {
		return nil, err
	}
	before := d.clone()
	c := &conversion{Options: o, document: d}
	if c.all, err = d.containers(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{c.findEnvoy, c.checkProxy, c.program, c.variables, c.credentials, c.health, c.cache, c.stopTime, c.routeManager, c.intercept} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	r := &Result{JSON: d.json(), Notes: c.notes, Container: c.envoy.name, Environment: map[string]string{}, Whole: len(c.envoy.list("environmentFiles")) == 0}
	for _, item := range c.envoy.list("environment") {
		name, _ := item.get("name").string()
		r.Environment[name], _ = item.get("value").string()
	}
	for _, item := range c.envoy.list("secrets") {
		name, _ := item.get("name").string()
		r.Secrets = append(r.Secrets, name)
	}
	r.Diff = unified(d.title, d.title+" with Fairlead", mask(before, nil).json(), mask(d.node, before).json())
	return r, nil
}

func (c *conversion) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// findEnvoy finds the container that is the proxy.
func (c *conversion) findEnvoy() error {
	byName := func(name, from string) error {
		for _, x := range c.all {
			if x.name == name {
				c.envoy = x
				return nil
			}
		}
		return fmt.Errorf("%s is %q, allowed are the task definition's containers: %s", from, name, c.names())
	}
	if c.Container != "" {
		return byName(c.Container, "--container")
	}
	if name, ok := c.get("proxyConfiguration").get("containerName").string(); ok {
		return byName(name, "proxyConfiguration.containerName")
	}
	for _, is := range []func(container) bool{
		func(x container) bool { return x.image() == envoyImage },
		func(x container) bool {
			return slices.ContainsFunc(resourceVariables, func(v string) bool { return x.has("environment", v) || x.has("secrets", v) })
		},
	} {
		var found []string
		for _, x := range c.all {
			if is(x) {
				c.envoy, found = x, append(found, x.name)
			}
		}
		if len(found) > 1 {
			return fmt.Errorf("containers %s all look like App Mesh's Envoy; say by --container which one is", strings.Join(found, ", "))
		}
		if len(found) == 1 {
			return nil
		}
	}
	return fmt.Errorf("none of the containers (%s) is App Mesh's Envoy: by proxyConfiguration, by an image %s, or by a variable %s; say by --container which one is",
		c.names(), envoyImage, resourceVariables[0])
}

func (c *conversion) names() string {
	var names []string
	for _, x := range c.all {
		names = append(names, x.name)
	}
	return strings.Join(names, ", ")
}

// program gives Envoy's container the agent's image, in which there are other programs.
func (c *conversion) program() error {
	for _, key := range []string{"entryPoint", "command"} {
		n := c.envoy.get(key)
		if n == nil || len(n.items) == 0 {
			continue
		}
		words, err := texts(key, n)
		if err != nil {
			return c.envoy.refuse("%w", err)
		}
		switch {
		case len(words) == 1 && path.Base(words[0]) == "agent":
			c.envoy.remove(key)
		case key == "command" && slices.Equal(words, []string{"run"}):
		default:
			return c.envoy.refuse("%s runs %q, which is not in the new image; take it out, and the image runs the agent", key, words[0])
		}
	}
	c.envoy.set("image", newScalar(c.Image))
	return nil
}

// variables adds where the control plane is.
func (c *conversion) variables() error {
	e := c.envoy
	resource := ""
	for _, name := range resourceVariables {
		if resource = e.variable(name); resource != "" {
			break
		}
	}
	known := slices.ContainsFunc(resourceVariables, func(v string) bool { return e.has("secrets", v) }) || len(e.list("environmentFiles")) > 0
	if resource == "" && !known && !slices.ContainsFunc(c.Set, func(v Variable) bool { return slices.Contains(resourceVariables, v.Name) }) {
		return e.refuse("environment has none of %s, so nothing says whose proxy it is", strings.Join(resourceVariables, ", "))
	}
	if err := c.region(resource, known); err != nil {
		return err
	}
	e.setVariable(xdsVariable, c.XDSEndpoint)
	if c.CAFile != "" {
		e.setVariable(caVariable, c.CAFile)
	}
	if c.APIEndpoint != "" {
		e.setVariable(apiVariable, c.APIEndpoint)
	}
	for _, v := range c.Set {
		e.setVariable(v.Name, v.Value)
	}
	return nil
}

// region sets the region where Envoy's container does not know it. App Mesh's agent asked the
// platform.
func (c *conversion) region(resource string, known bool) error {
	e := c.envoy
	region := c.Region
	if p := strings.SplitN(resource, ":", 6); len(p) == 6 && p[0] == "arn" {
		if region != "" && region != p[3] {
			return e.refuse("the ARN of its resource is of region %q, and --region is %q", p[3], region)
		}
		region = p[3]
	}
	if region == "" && e.has("environment", regionVariable) {
		return nil
	}
	if region == "" {
		region = c.document.region()
	}
	if region == "" && !known {
		return e.refuse("environment has no %s, and nothing else says which region the mesh is in; give --region", regionVariable)
	}
	if region != "" {
		e.setVariable(regionVariable, region)
	}
	return nil
}

// credentials says how the agent comes to credentials that Fairlead takes.
func (c *conversion) credentials() error {
	e := c.envoy
	switch c.Identity {
	case IdentityAWSRole:
		if c.get("taskRoleArn") == nil {
			return fmt.Errorf("taskRoleArn is missing; with --identity %s it is the role in AWS by which the task proves who it is", IdentityAWSRole)
		}
		e.setVariable(identityVariable, "aws")
		e.setVariable(roleVariable, c.RoleARN)
		if c.Audience != "" {
			e.setVariable(audienceVariable, c.Audience)
		}
		for _, name := range []string{keyIDVariable, secretVariable, "AWS_SESSION_TOKEN"} {
			if e.has("environment", name) || e.has("secrets", name) {
				e.drop("environment", name)
				e.drop("secrets", name)
				c.note("container %q: %s is taken out; the task's role takes its place", e.name, name)
			}
		}
	case IdentitySecrets:
		if c.get("executionRoleArn") == nil {
			return fmt.Errorf("executionRoleArn is missing; with --credentials-secret it is the role in AWS by which ECS reads the secret")
		}
		id, secret := c.keySecrets()
		for _, name := range []string{identityVariable, roleVariable, audienceVariable, "AWS_SESSION_TOKEN"} {
			e.drop("environment", name)
		}
		e.setSecret(keyIDVariable, id)
		e.setSecret(secretVariable, secret)
	}
	return nil
}

// readyCommand is the health check: the new image has neither a shell nor curl.
var readyCommand = []string{"CMD", "fairlead-agent", "ready"}

// health has Envoy's health check ask the agent.
func (c *conversion) health() error {
	check := c.envoy.get("healthCheck")
	if check == nil {
		if waiter := c.waiter(); waiter != "" {
			return c.envoy.refuse("healthCheck is missing, and container %q waits for it to be HEALTHY", waiter)
		}
		c.note("container %q has no healthCheck, so nothing can wait until Envoy serves; add one with the command %q, and a dependsOn HEALTHY to the application",
			c.envoy.name, readyCommand)
		return nil
	}
	if check.kind != object || check.get("command") == nil {
		return c.envoy.refuse("healthCheck.command is missing")
	}
	words, err := texts("healthCheck.command", check.get("command"))
	if err != nil {
		return c.envoy.refuse("%w", err)
	}
	if len(words) > 1 && words[0] == "CMD" && words[1] == readyCommand[1] {
		return nil
	}
	if !asksEnvoy(strings.Join(words, " ")) {
		c.note("container %q: healthCheck.command did not ask Envoy; now it asks the agent", c.envoy.name) // it may hold a secret
	}
	check.set("command", newStrings(readyCommand...))
	return nil
}

// asksEnvoy reports whether a health check is one of those that App Mesh's users had.
func asksEnvoy(command string) bool {
	return slices.ContainsFunc([]string{"9901", "9902", "server_info", "/ready", "envoyReadiness"}, func(s string) bool { return strings.Contains(command, s) })
}

// waiter returns a container that waits for Envoy to be healthy, "" for none.
func (c *conversion) waiter() string {
	for _, x := range c.all {
		for _, item := range x.list("dependsOn") {
			name, _ := item.get("containerName").string()
			condition, _ := item.get("condition").string()
			if name == c.envoy.name && condition == "HEALTHY" {
				return x.name
			}
		}
	}
	return ""
}

// cache gives Envoy's container a volume for what it keeps.
func (c *conversion) cache() error {
	if c.CacheVolume == "" {
		return nil
	}
	e := c.envoy
	mounted := false
	for i, item := range e.list("mountPoints") {
		at, _ := item.get("containerPath").string()
		volume, _ := item.get("sourceVolume").string()
		if at == CacheDir && volume != c.CacheVolume {
			return e.refuse("mountPoints[%d] has volume %q at %s, where --cache-volume puts %q", i, volume, CacheDir, c.CacheVolume)
		}
		mounted = mounted || at == CacheDir
	}
	if !mounted {
		points := e.get("mountPoints")
		if points == nil {
			points = &node{kind: list}
			e.set("mountPoints", points)
		}
		points.items = append(points.items, newObject("sourceVolume", c.CacheVolume, "containerPath", CacheDir, "readOnly", false))
	}
	e.setVariable(cacheVariable, CacheDir)
	volumes := c.get("volumes")
	if volumes == nil {
		volumes = &node{kind: list}
		c.set("volumes", volumes)
	}
	if volumes.kind != list {
		return fmt.Errorf("volumes is %s, allowed is a list", volumes.what())
	}
	if !slices.ContainsFunc(volumes.items, func(n *node) bool { name, _ := n.get("name").string(); return name == c.CacheVolume }) {
		volumes.items = append(volumes.items, newObject("name", c.CacheVolume))
	}
	return nil
}

// Times in seconds: what ECS and the agent do unless told otherwise, and how much longer than
// the drain time the agent may take to end.
const (
	defaultStop  = 30
	defaultDrain = 20
	endTime      = 10
	mostStop     = 120 // on Fargate
)

// stopTime leaves Envoy the time to drain.
func (c *conversion) stopTime() error {
	drain := defaultDrain
	if v := c.envoy.variable("LISTENER_DRAIN_WAIT_TIME_S"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			return c.envoy.refuse("LISTENER_DRAIN_WAIT_TIME_S is %q, allowed are whole numbers from 5 to 110", v)
		}
		drain = n
	}
	stop := defaultStop
	if n := c.envoy.get("stopTimeout"); n != nil {
		given, ok := n.integer()
		if !ok {
			return c.envoy.refuse("stopTimeout is %s, allowed is a whole number of seconds", n.what())
		}
		stop = given
	}
	if need := min(drain+endTime, mostStop); stop < need {
		c.envoy.set("stopTimeout", newScalar(need))
		c.note("container %q: stopTimeout is %d s now, because Envoy drains for %d s and the agent takes up to %d s more", c.envoy.name, need, drain, endTime)
	}
	return nil
}
