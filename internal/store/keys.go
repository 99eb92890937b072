package store

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// The families of keys. DESIGN.md shows them whole. Within a family the account and
// the region come first, and every segment ends in a slash that no name can hold,
// so that no prefix of one object is the beginning of another's. The names of
// virtual services, which may hold slashes, only ever stand at the end of a key or
// are escaped.
const (
	rootPrefix   = "fairlead/"
	objectPrefix = rootPrefix + "object/"   // ACCOUNT/REGION/mesh/MESH, ACCOUNT/REGION/in/MESH/KIND/[PARENT/]NAME
	refPrefix    = rootPrefix + "ref/"      // ACCOUNT/REGION/MESH/KIND/NAME/REFERRER
	slotPrefix   = rootPrefix + "slot/"     // ACCOUNT/REGION/mesh/N, ACCOUNT/REGION/in/MESH/KIND/[PARENT/]N
	sharedPrefix = rootPrefix + "shared/"   // ACCOUNT/REGION/MESH!OWNER, the other way round than shares
	gonePrefix   = rootPrefix + "gone/"     // ACCOUNT, of accounts that were deleted
	recordPrefix = rootPrefix + "record/"   // as the rooms that own them say
	storeKey     = rootPrefix + "store"     // what is true of the whole store
	migrationKey = rootPrefix + "migration" // how far documents have been brought to a new format
	restoringKey = rootPrefix + "restoring" // a restore that is under way, or was cut off

	// What is about the processes that serve the store now, and means nothing without
	// them. It is in no backup.
	processPrefix = rootPrefix + "process/"
	memberPrefix  = processPrefix + "member/" // ID, with a lease
	leaderKey     = processPrefix + "leader"  // the member that does what one is enough for, with its lease
	historyKey    = processPrefix + "history" // revisions that an external etcd was at

	// What every replica keeps in memory has a family of its own, so that one watch
	// brings it.
	settingPrefix = rootPrefix + "setting/"
	quotaPrefix   = settingPrefix + "quota/" // ACCOUNT
	formatKey     = settingPrefix + "format" // that documents are written in
	sharePrefix   = settingPrefix + "share/" // OWNER/REGION/MESH/ACCOUNT
)

// The families of records of the registry of instances, which the store knows because an
// account that has of the first cannot be deleted, and takes the others with it. The
// account comes next in each.
const (
	RegistryOwned      = "registry/own/"      // namespaces, services and instances
	RegistryImported   = "registry/imported/" // instances that were found elsewhere
	RegistryOperations = "registry-operation/"
)

var regionPattern = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// region returns the part of a key that all of a region's keys of a family share.
func region(family string, m mesh.MeshID) string {
	return family + m.Account + "/" + m.Region + "/"
}

// rangeKey returns the prefix of all objects of a kind, below a parent if the kind
// has one. What follows it is the object's name.
func rangeKey(m mesh.MeshID, k mesh.Kind, parent string) string {
	return within(objectPrefix, m, k, parent)
}

// within returns what all keys of a family have in common that are about objects of a
// kind, below a parent if the kind has one.
func within(family string, m mesh.MeshID, k mesh.Kind, parent string) string {
	if k == mesh.KindMesh {
		return region(family, m) + "mesh/"
	}
	key := region(family, m) + "in/" + m.Name + "/" + k.String() + "/"
	if k.Parent() != 0 {
		key += parent + "/"
	}
	return key
}

// insideKey returns the prefix of all objects in a mesh.
func insideKey(m mesh.MeshID) string {
	return region(objectPrefix, m) + "in/" + m.Name + "/"
}

// objectKey returns the key that an object is stored under.
func objectKey(id mesh.ID) string {
	return rangeKey(id.Mesh, id.Kind, id.Parent) + id.Name
}

// parseObjectKey is the reverse of objectKey. ok is false for a key that this build
// does not know.
func parseObjectKey(key string) (id mesh.ID, ok bool) {
	rest, ok := strings.CutPrefix(key, objectPrefix)
	if !ok {
		return mesh.ID{}, false
	}
	parts := strings.SplitN(rest, "/", 4)
	if len(parts) != 4 {
		return mesh.ID{}, false
	}
	m := mesh.MeshID{Account: parts[0], Region: parts[1]}
	switch parts[2] {
	case "mesh":
		m.Name = parts[3]
		return m.MeshObject(), true
	case "in":
		name, tail, ok := strings.Cut(parts[3], "/")
		if !ok {
			return mesh.ID{}, false
		}
		m.Name = name
		k, ok := parseTail(tail)
		return mesh.ID{Mesh: m, Key: k}, ok
	}
	return mesh.ID{}, false
}

// tail returns the end of the keys that name an object within its mesh:
// KIND/[PARENT/]NAME.
func tail(k mesh.Key) string {
	if k.Kind.Parent() != 0 {
		return k.Kind.String() + "/" + k.Parent + "/" + k.Name
	}
	return k.Kind.String() + "/" + k.Name
}

// parseTail is the reverse of tail.
func parseTail(s string) (k mesh.Key, ok bool) {
	segment, name, ok := strings.Cut(s, "/")
	if !ok {
		return mesh.Key{}, false
	}
	kind, ok := mesh.ParseKind(segment)
	if !ok || kind == mesh.KindMesh {
		return mesh.Key{}, false
	}
	k = mesh.Key{Kind: kind, Name: name}
	if kind.Parent() != 0 {
		k.Parent, k.Name, ok = strings.Cut(name, "/")
	}
	return k, ok && k.Name != ""
}

// target returns how an object notes that it refers to another one: KIND/NAME.
func target(k mesh.Key) string { return k.Kind.String() + "/" + k.Name }

// referrersKey returns the prefix of the keys that say who refers to a target. What
// follows it is the referrer's tail.
func referrersKey(m mesh.MeshID, target string) string {
	kind, name, _ := strings.Cut(target, "/")
	return region(refPrefix, m) + m.Name + "/" + kind + "/" + url.PathEscape(name) + "/"
}

// refKey returns the key that says that referrer refers to target.
func refKey(referrer mesh.ID, target string) string {
	return referrersKey(referrer.Mesh, target) + tail(referrer.Key)
}

// shareRange returns the prefix of the keys that say with whom a mesh is shared. What
// follows it is the account.
func shareRange(m mesh.MeshID) string { return region(sharePrefix, m) + m.Name + "/" }

// shareKey returns the key that says that a mesh is shared with an account.
func shareKey(m mesh.MeshID, account string) string { return shareRange(m) + account }

// parseShareKey is the reverse of shareKey.
func parseShareKey(key string) (m mesh.MeshID, account string, ok bool) {
	rest, ok := strings.CutPrefix(key, sharePrefix)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 4 {
		return mesh.MeshID{}, "", false
	}
	return mesh.MeshID{Account: parts[0], Region: parts[1], Name: parts[2]}, parts[3], true
}

// sharedRange returns the prefix of the keys of the meshes that are shared with an
// account in a region. What follows it is the mesh's name, sharedMark and the owner.
func sharedRange(account, region string) string { return sharedPrefix + account + "/" + region + "/" }

// sharedMark comes before all bytes that the name of a mesh can hold, so that keys are
// in the order of the names.
const sharedMark = "!"

// sharedKey returns shareKey's counterpart that is found by the account that a mesh is
// shared with.
func sharedKey(m mesh.MeshID, account string) string {
	return sharedRange(account, m.Region) + m.Name + sharedMark + m.Account
}

// parseSharedKey is the reverse of sharedKey.
func parseSharedKey(key string) (m mesh.MeshID, account string, ok bool) {
	rest, ok := strings.CutPrefix(key, sharedPrefix)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return mesh.MeshID{}, "", false
	}
	m.Region = parts[1]
	m.Name, m.Account, ok = strings.Cut(parts[2], sharedMark)
	return m, parts[0], ok
}

// checkID refuses what no key can be made of.
func checkID(id mesh.ID) error {
	if err := checkMeshID(id.Mesh); err != nil {
		return err
	}
	if err := checkRange(id.Kind, id.Parent); err != nil {
		return err
	}
	if id.Kind == mesh.KindMesh && id.Name != id.Mesh.Name {
		return mesh.Errorf(mesh.ErrBadRequest, "meshName %q does not fit the mesh %q that it is in", id.Name, id.Mesh.Name)
	}
	return badRequest(mesh.CheckName(id.Kind, id.Name))
}

func checkMeshID(m mesh.MeshID) error {
	if err := checkPlace(m); err != nil {
		return err
	}
	return badRequest(mesh.CheckName(mesh.KindMesh, m.Name))
}

// checkPlace checks account and region alone.
func checkPlace(m mesh.MeshID) error {
	if !mesh.ValidAccount(m.Account) {
		return mesh.Errorf(mesh.ErrBadRequest, "account %q is not allowed: twelve digits", m.Account)
	}
	if !regionPattern.MatchString(m.Region) {
		return mesh.Errorf(mesh.ErrBadRequest, "region %q is not allowed: 1 to 63 lower-case letters, digits and hyphens", m.Region)
	}
	return nil
}

// checkRange checks a kind and the name of what its objects live under.
func checkRange(k mesh.Kind, parent string) error {
	if _, ok := mesh.ParseKind(k.String()); !ok {
		return mesh.Errorf(mesh.ErrBadRequest, "kind %d is not allowed: 1 to %d", k, len(mesh.Kinds))
	}
	if k.Parent() != 0 {
		return badRequest(mesh.CheckName(k.Parent(), parent))
	}
	if parent != "" {
		return mesh.Errorf(mesh.ErrBadRequest, "a %s has no parent, %q was given", k, parent)
	}
	return nil
}
