package store

import (
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Caller is on whose behalf a call to the store is made.
type Caller struct {
	// Account is the caller's account: twelve digits. Empty for System.
	Account string
	// Region is the region that the caller's credential scope names.
	Region string
	// ARN names the caller, for example arn:aws:iam::000000000001:user/administrator.
	ARN string
	// Allow answers a question: nil if the caller may, else a *mesh.Error with
	// mesh.ErrForbidden. A caller without Allow may do nothing.
	Allow func(Question) error

	system bool
}

// Question is what a caller's policies are asked.
type Question struct {
	// Action is what the caller wants to do, for example appmesh:CreateRoute.
	Action string
	// Resource is the ARN of what it is done to, or "*" for actions without one.
	Resource string
	// ResourceTags are the tags that the resource has, for conditions on
	// aws:ResourceTag/KEY.
	ResourceTags []mesh.TagRef
	// RequestTags are the tags that the request brings, and TagKeys the keys of
	// tags that it names, for conditions on aws:RequestTag/KEY and aws:TagKeys.
	RequestTags []mesh.TagRef
	TagKeys     []string
}

// System returns a caller that is part of Fairlead itself, for example "live". It
// may do everything in every account. What it creates belongs to the mesh's owner.
func System(name string) Caller {
	return Caller{
		ARN:    "fairlead:" + name,
		Allow:  func(Question) error { return nil },
		system: true,
	}
}

// allow asks the caller's policies.
func (c Caller) allow(action, resourceARN string) error {
	if c.Allow == nil {
		return mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to perform %s on %s", c.name(), action, resourceARN)
	}
	return c.Allow(Question{Action: action, Resource: resourceARN})
}

// enter checks that the caller may do a verb, for example "Create", to an object.
// It reads nothing.
func (c Caller) enter(verb string, id mesh.ID) error {
	return c.enterAction("appmesh:"+verb+id.Kind.Title(), id)
}

func (c Caller) enterAction(action string, id mesh.ID) error {
	if err := c.inAccount(id.Mesh.Account); err != nil {
		return err
	}
	return c.allow(action, id.ARN(c.owner(id.Mesh)))
}

// inAccount refuses callers of another account.
func (c Caller) inAccount(account string) error {
	if c.system || c.Account == account {
		return nil
	}
	return mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to use the meshes of account %s", c.name(), account)
}

// owner returns the account that owns what the caller makes in a mesh.
func (c Caller) owner(m mesh.MeshID) string {
	if c.Account == "" {
		return m.Account
	}
	return c.Account
}

// internal refuses callers that are not part of Fairlead itself.
func (c Caller) internal(what string) error {
	if c.system {
		return nil
	}
	return mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to use %s", c.name(), what)
}

func (c Caller) name() string {
	if strings.TrimSpace(c.ARN) == "" {
		return "An unnamed caller"
	}
	return c.ARN
}
