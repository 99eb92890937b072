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
	// Anywhere reports whether Allow says yes to an action whatever the resource and
	// the tags are, so that they need not be looked up to be asked about. It may be
	// nil, which is no.
	Anywhere func(action string) bool

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

// ask asks the caller's policies.
func (c Caller) ask(q Question) error {
	if c.Allow == nil {
		return mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to perform %s on %s", c.name(), q.Action, q.Resource)
	}
	return c.Allow(q)
}

// anywhere reports whether the caller may do an action to whatever there is.
func (c Caller) anywhere(action string) bool {
	return c.system || c.Anywhere != nil && c.Anywhere(action)
}

// action returns the name of what is done to objects of a kind, for example "Create".
func action(verb string, k mesh.Kind) string { return service(k) + verb + k.Title() }

// listAction returns the name of listing objects of a kind.
func listAction(k mesh.Kind) string { return service(k) + "List" + plural(k) }

// service returns the prefix of the actions on objects of a kind.
func service(k mesh.Kind) string {
	if k.Own() {
		return "fairlead:"
	}
	return "appmesh:"
}

// guest reports whether the caller is of another account than a mesh's owner, so that
// the mesh must be shared with it.
func (c Caller) guest(m mesh.MeshID) bool { return !c.system && c.Account != m.Account }

// notShared refuses a guest. It says the same of meshes that are not shared and of
// meshes that do not exist, so that nothing is learnt of other accounts.
func (c Caller) notShared(m mesh.MeshID) error {
	return mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to use mesh %s of account %s: only meshes that their owner shares with account %s can be used",
		c.name(), m.Name, m.Account, c.Account)
}

// admitted holds if the caller may enter a mesh.
func (c Caller) admitted(m mesh.MeshID) []condition {
	if !c.guest(m) {
		return nil
	}
	return []condition{exists(shareKey(m, c.Account), func() error { return c.notShared(m) })}
}

// mayChange refuses to change what another account made.
func (c Caller) mayChange(f *found) error {
	if c.system || c.Account == f.doc.ResourceOwner {
		return nil
	}
	name, _ := present(f.id)
	return mesh.Errorf(mesh.ErrForbidden, "%s is not authorized to change %s: it belongs to account %s", c.name(), name, f.doc.ResourceOwner)
}

// mayDelete refuses to delete what another account made, unless the mesh is the
// caller's.
func (c Caller) mayDelete(f *found) error {
	if !c.guest(f.id.Mesh) {
		return nil
	}
	return c.mayChange(f)
}

// mayOwn refuses what only the owner of a mesh may do.
func (c Caller) mayOwn(m mesh.MeshID) error {
	if c.guest(m) {
		return c.notShared(m)
	}
	return nil
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
