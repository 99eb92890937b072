package ecs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// readOnly are the fields that ECS adds when a task definition is registered, and does not
// take back.
var readOnly = []string{
	"taskDefinitionArn", "revision", "status", "requiresAttributes", "compatibilities",
	"registeredAt", "registeredBy", "deregisteredAt", "deleteRequestedAt",
}

// document is a task definition as register-task-definition takes it, and what was beside.
type document struct {
	*node
	title   string   // family, and revision where it has one
	arn     string   // of the revision that was read; "" for none
	removed []string // what was there of readOnly
}

// read takes a task definition out of what describe-task-definition prints, or takes it as
// register-task-definition does.
func read(input []byte) (document, error) {
	root, err := parse(input)
	if err != nil {
		return document{}, err
	}
	if root.kind != object {
		return document{}, fmt.Errorf("the input is %s, allowed is a task definition as \"aws ecs describe-task-definition\" prints it", root.what())
	}
	d := document{node: root}
	if inner := root.get("taskDefinition"); inner != nil {
		if inner.kind != object {
			return d, fmt.Errorf("taskDefinition is %s, allowed is an object", inner.what())
		}
		d.node = inner
		if tags := root.get("tags"); tags != nil && len(tags.items) > 0 && inner.get("tags") == nil {
			inner.set("tags", tags)
		}
	}
	switch {
	case d.get("containerDefinitions") != nil:
	case d.get("ContainerDefinitions") != nil || root.get("Resources") != nil:
		return d, errors.New("this is a CloudFormation template; allowed is a task definition as \"aws ecs describe-task-definition\" prints it")
	default:
		return d, errors.New("containerDefinitions is missing; allowed is a task definition as \"aws ecs describe-task-definition\" prints it")
	}
	family, ok := d.get("family").string()
	if !ok {
		return d, errors.New("family is missing; it is the task definition's name")
	}
	d.title = family
	if revision, ok := d.get("revision").integer(); ok {
		d.title = fmt.Sprintf("%s:%d", family, revision)
	}
	d.arn, _ = d.get("taskDefinitionArn").string()
	for _, key := range readOnly {
		if slices.Contains(d.keys, key) {
			d.remove(key)
			d.removed = append(d.removed, key)
		}
	}
	return d, nil
}

// strings returns a list of strings, nil if it is not there.
func (d document) strings(key string) ([]string, error) {
	n := d.get(key)
	if n == nil {
		return nil, nil
	}
	return texts(key, n)
}

// texts reads a list of strings.
func texts(field string, n *node) ([]string, error) {
	if n.kind != list {
		return nil, fmt.Errorf("%s is %s, allowed is a list of strings", field, n.what())
	}
	out := []string{}
	for i, item := range n.items {
		s, ok := item.string()
		if !ok {
			return nil, fmt.Errorf("%s[%d] is %s, allowed is a string", field, i, item.what())
		}
		out = append(out, s)
	}
	return out, nil
}

// region is that of the task definition's ARN, "" if it has none.
func (d document) region() string {
	if p := strings.Split(d.arn, ":"); len(p) > 5 && p[2] == "ecs" {
		return p[3]
	}
	return ""
}

// container is one of containerDefinitions.
type container struct {
	*node
	name string
}

// containers reads the containers and those of their fields that are looked at.
func (d document) containers() ([]container, error) {
	all := d.get("containerDefinitions")
	if all.kind != list {
		return nil, fmt.Errorf("containerDefinitions is %s, allowed is a list", all.what())
	}
	var out []container
	for i, n := range all.items {
		name, ok := n.get("name").string()
		if !ok {
			return nil, fmt.Errorf("containerDefinitions[%d]: name is missing", i)
		}
		if !nameForm.MatchString(name) {
			return nil, fmt.Errorf("containerDefinitions[%d]: name is %q, allowed are letters, digits, _ and -", i, name)
		}
		c := container{n, name}
		if slices.ContainsFunc(out, func(x container) bool { return x.name == name }) {
			return nil, c.refuse("there are two of this name")
		}
		if err := c.check(); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// refuse is a complaint about a container.
func (c container) refuse(format string, args ...any) error {
	return fmt.Errorf("container %q: %w", c.name, fmt.Errorf(format, args...))
}

// check looks at the forms of the fields that are read.
func (c container) check() error {
	if _, ok := c.get("image").string(); !ok {
		return c.refuse("image is missing")
	}
	for _, key := range []string{"environment", "secrets", "dependsOn", "mountPoints", "environmentFiles"} {
		n := c.get(key)
		if n == nil {
			continue
		}
		if n.kind != list {
			return c.refuse("%s is %s, allowed is a list", key, n.what())
		}
		for i, item := range n.items {
			if item.kind != object {
				return c.refuse("%s[%d] is %s, allowed is an object", key, i, item.what())
			}
		}
	}
	for _, pair := range [][3]string{{"environment", "name", "value"}, {"secrets", "name", "valueFrom"}, {"dependsOn", "containerName", "condition"}} {
		seen := []string{}
		for i, item := range c.list(pair[0]) {
			name, ok := item.get(pair[1]).string()
			if _, valued := item.get(pair[2]).string(); !ok || !valued {
				return c.refuse("%s[%d] lacks %s or %s, both of which are strings", pair[0], i, pair[1], pair[2])
			}
			if slices.Contains(seen, name) {
				return c.refuse("%s names %q twice", pair[0], name)
			}
			seen = append(seen, name)
		}
	}
	for _, key := range []string{"command", "entryPoint"} {
		if n := c.get(key); n != nil {
			if _, err := texts(key, n); err != nil {
				return c.refuse("%w", err)
			}
		}
	}
	return nil
}

// list returns the items of a list, none if it is not there.
func (c container) list(key string) []*node {
	if n := c.get(key); n != nil {
		return n.items
	}
	return nil
}

// image is the name of the image without registry, tag and digest.
func (c container) image() string {
	ref, _ := c.get("image").string()
	ref, _, _ = strings.Cut(ref, "@")
	ref = ref[strings.LastIndexByte(ref, '/')+1:]
	ref, _, _ = strings.Cut(ref, ":")
	return ref
}

// variable returns a variable of the environment, "" if it is not there.
func (c container) variable(name string) string {
	for _, item := range c.list("environment") {
		if n, _ := item.get("name").string(); n == name {
			v, _ := item.get("value").string()
			return v
		}
	}
	return ""
}

// has reports whether a list of the container has something of this name.
func (c container) has(key, name string) bool {
	return slices.ContainsFunc(c.list(key), func(item *node) bool {
		n, _ := item.get("name").string()
		return n == name
	})
}

// put puts an item with a name into a list of the container: in its place where it is
// there, else at the end.
func (c container) put(key, name string, item *node) {
	l := c.get(key)
	if l == nil {
		l = &node{kind: list}
		c.set(key, l)
	}
	for i, old := range l.items {
		if n, _ := old.get("name").string(); n == name {
			l.items[i] = item
			return
		}
	}
	l.items = append(l.items, item)
}

// drop takes an item with a name out of a list of the container.
func (c container) drop(key, name string) {
	l := c.get(key)
	if l == nil {
		return
	}
	l.items = slices.DeleteFunc(l.items, func(item *node) bool {
		n, _ := item.get("name").string()
		return n == name
	})
}

// setVariable sets a variable. ECS takes no name that is among the secrets too.
func (c container) setVariable(name, value string) {
	c.drop("secrets", name)
	c.put("environment", name, newObject("name", name, "value", value))
}

// setSecret has ECS set a variable from a secret.
func (c container) setSecret(name, from string) {
	c.drop("environment", name)
	c.put("secrets", name, newObject("name", name, "valueFrom", from))
}
