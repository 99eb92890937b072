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
	// Allow decides whether the caller may do an action, for example
	// appmesh:CreateRoute, to a resource: nil if so, else a *mesh.Error with
	// mesh.ErrForbidden. A caller without Allow may do nothing.
	Allow func(action, resourceARN string) error

	system bool
}

// System returns a caller that is part of Fairlead itself, for example "live". It
// may do everything in every account. What it creates belongs to the mesh's owner.
func System(name string) Caller {
	return Caller{
		ARN:    "fairlead:" + name,
		Allow:  func(string, string) error { return nil },
		system: true,
	}
}

// allow asks the caller's policies.
func (c Caller) allow(action, resourceARN string) error {
	if c.Allow == nil {
		return mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to perform %s on %s", c.name(), action, resourceARN)
	}
	return c.Allow(action, resourceARN)
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
