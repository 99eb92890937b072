package agent

import (
	"errors"
	"fmt"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/lazy"
)

// Resource is the virtual node or virtual gateway whose proxy Envoy is.
type Resource struct {
	Variable string // which variable named it
	ARN      string // as it was given, full or from "mesh/" on: Envoy's node.id
	Region   string // of a full ARN, else ""
}

// parts returns the mesh, the kind ("virtualNode" or "virtualGateway") and the name; ""
// for a resource that is not one.
func (r Resource) parts() (mesh, kind, name string) {
	resource := r.ARN
	if i := strings.LastIndexByte(resource, ':'); i >= 0 {
		resource = resource[i+1:]
	}
	p := strings.Split(resource, "/")
	if len(p) != 4 {
		return "", "", ""
	}
	mesh, _, _ = strings.Cut(p[1], "@")
	return mesh, p[2], p[3]
}

// title is what App Mesh's agent calls the resource in traces: MESH/NAME.
func (r Resource) title() string {
	mesh, _, name := r.parts()
	return mesh + "/" + name
}

const resourceForms = "arn:aws:appmesh:REGION:ACCOUNT:mesh/MESH/virtualNode/NAME or mesh/MESH/virtualNode/NAME (or virtualGateway; mesh/MESH@OWNER for a shared mesh)"

func readResource(e *env) Resource {
	name, v := e.first("APPMESH_RESOURCE_ARN", "APPMESH_RESOURCE_NAME", "APPMESH_VIRTUAL_NODE_NAME")
	if v == "" {
		e.refuse("%s is not set, allowed is %s", name, resourceForms)
		return Resource{}
	}
	region, err := parseResource(v)
	if err != nil {
		e.refuse("%s is %q: %w; allowed is %s", name, v, err, resourceForms)
	}
	return Resource{Variable: name, ARN: v, Region: region}
}

var (
	accountForm  = lazy.NewRegexp(`^[0-9]{12}$`)
	resourceName = lazy.NewRegexp(`^[A-Za-z0-9._-]{1,255}$`)
)

// parseResource checks a full ARN or its part from "mesh/" on, and returns the
// region of a full one.
func parseResource(v string) (region string, err error) {
	resource := v
	if rest, ok := strings.CutPrefix(v, "arn:"); ok {
		p := strings.SplitN(rest, ":", 5)
		if len(p) != 5 || p[1] != "appmesh" && p[1] != "appmesh-preview" {
			return "", errors.New("it is not an ARN of App Mesh")
		}
		if !scopeWord.MatchString(p[2]) {
			return "", fmt.Errorf("it has region %q", p[2])
		}
		if !accountForm.MatchString(p[3]) {
			return "", fmt.Errorf("it has account %q, which is not twelve digits", p[3])
		}
		region, resource = p[2], p[4]
	}
	return region, checkResource(resource)
}

// checkResource checks what follows the account in an ARN.
func checkResource(resource string) error {
	p := strings.Split(resource, "/")
	if len(p) != 4 || p[0] != "mesh" {
		return errors.New("it does not have the four parts mesh/MESH/KIND/NAME")
	}
	if p[2] != "virtualNode" && p[2] != "virtualGateway" {
		return fmt.Errorf("it names a %q, and only virtual nodes and virtual gateways have an Envoy", p[2])
	}
	mesh, owner, shared := strings.Cut(p[1], "@")
	if shared && !accountForm.MatchString(owner) {
		return fmt.Errorf("it has mesh owner %q, which is not twelve digits", owner)
	}
	if !resourceName.MatchString(mesh) {
		return fmt.Errorf("it has mesh name %q", mesh)
	}
	if !resourceName.MatchString(p[3]) {
		return fmt.Errorf("it has name %q", p[3])
	}
	return nil
}
