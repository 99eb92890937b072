package mesh

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MeshID identifies a mesh: Account is its owner, twelve digits.
type MeshID struct {
	Account, Region, Name string
}

// Key identifies an object within its mesh. Parent is the virtual router's or
// gateway's name for routes and gateway routes, else empty. The mesh itself has
// its own name as Name.
type Key struct {
	Kind         Kind
	Parent, Name string
}

// String returns the key as ARNs spell it, for example "virtualRouter/r/route/x".
func (k Key) String() string {
	if p := k.Kind.Parent(); p != 0 {
		return p.String() + "/" + k.Parent + "/" + k.Kind.String() + "/" + k.Name
	}
	return k.Kind.String() + "/" + k.Name
}

// ParentKey returns the key of the router or gateway that k lives under.
func (k Key) ParentKey() (Key, bool) {
	p := k.Kind.Parent()
	return Key{Kind: p, Name: k.Parent}, p != 0
}

// ID identifies an object in the whole store.
type ID struct {
	Mesh MeshID
	Key
}

// MeshObject returns the ID of the mesh m itself.
func (m MeshID) MeshObject() ID { return m.Object(KindMesh, "", m.Name) }

// Object returns the ID of an object in m.
func (m MeshID) Object(k Kind, parent, name string) ID {
	return ID{Mesh: m, Key: Key{Kind: k, Parent: parent, Name: name}}
}

// ParentID returns the ID of the router or gateway that id lives under, or of its
// mesh; ok is false for a mesh.
func (id ID) ParentID() (parent ID, ok bool) {
	if id.Kind == KindMesh {
		return ID{}, false
	}
	if p, ok := id.ParentKey(); ok {
		return ID{Mesh: id.Mesh, Key: p}, true
	}
	return id.Mesh.MeshObject(), true
}

// ARN returns the Amazon Resource Name of an object that resourceOwner owns. In a
// mesh of another account the mesh segment carries the owner: "mesh/NAME@OWNER".
func (id ID) ARN(resourceOwner string) string {
	meshName, rest := id.Mesh.Name, ""
	if resourceOwner != id.Mesh.Account {
		meshName += "@" + id.Mesh.Account
	}
	if id.Kind != KindMesh {
		rest = "/" + id.Key.String()
	}
	return "arn:" + Partition(id.Mesh.Region) + ":appmesh:" + id.Mesh.Region + ":" + resourceOwner + ":mesh/" + meshName + rest
}

// Partition returns the ARN partition of a region: aws, aws-cn or aws-us-gov.
func Partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// ParseARN reads a full ARN, or its part from "mesh/" on, for which account and
// region stand in. It returns the object and the account in the ARN, which is the
// account that owns the resource. The error says what is wrong in one line.
func ParseARN(s, account, region string) (id ID, resourceOwner string, err error) {
	resource := s
	if rest, ok := strings.CutPrefix(s, "arn:"); ok {
		parts := strings.SplitN(rest, ":", 5)
		if len(parts) != 5 || parts[1] != "appmesh" || parts[0] != Partition(parts[2]) {
			return ID{}, "", fmt.Errorf("ARN %q is not of the form arn:PARTITION:appmesh:REGION:ACCOUNT:mesh/NAME/…", s)
		}
		region, account, resource = parts[2], parts[3], parts[4]
	}
	id, err = parseResource(resource)
	if err != nil {
		return ID{}, "", fmt.Errorf("ARN %q %w", s, err)
	}
	if !ValidAccount(account) {
		return ID{}, "", fmt.Errorf("ARN %q has account %q, allowed are twelve digits", s, account)
	}
	id.Mesh.Region = region
	if id.Mesh.Account == "" {
		id.Mesh.Account = account
	}
	return id, account, nil
}

// parseResource reads what follows the account in an ARN.
func parseResource(resource string) (ID, error) {
	rest, ok := strings.CutPrefix(resource, "mesh/")
	if !ok {
		return ID{}, fmt.Errorf("names no mesh: %q does not begin with mesh/", resource)
	}
	meshName, rest, child := strings.Cut(rest, "/")
	meshName, owner, _ := strings.Cut(meshName, "@")
	if owner != "" && !ValidAccount(owner) {
		return ID{}, fmt.Errorf("has mesh owner %q, allowed are twelve digits", owner)
	}
	m := MeshID{Account: owner, Name: meshName}
	if !child {
		return m.MeshObject(), CheckName(KindMesh, meshName)
	}
	id, err := parseChild(m, rest)
	if err != nil {
		return ID{}, err
	}
	return id, CheckName(id.Kind, id.Name)
}

func parseChild(m MeshID, rest string) (ID, error) {
	segment, name, _ := strings.Cut(rest, "/")
	kind, ok := ParseKind(segment)
	if !ok || kind == KindMesh || kind.Parent() != 0 {
		return ID{}, fmt.Errorf("has type %q, allowed are virtualNode, virtualService, virtualRouter, virtualGateway and policy", segment)
	}
	if c := kind.Child(); c != 0 {
		if parent, own, ok := strings.Cut(name, "/"+c.String()+"/"); ok {
			return m.Object(c, parent, own), CheckName(kind, parent)
		}
	}
	return m.Object(kind, "", name), nil
}

var (
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
	namePattern    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,255}$`)
)

// ValidAccount reports whether s is an account id: twelve digits.
func ValidAccount(s string) bool { return accountPattern.MatchString(s) }

// CheckName reports what is wrong with the name of an object. The App Mesh model
// gives no pattern: names are letters, digits, dots, hyphens and underscores, up to
// 255; a virtual service's may be any host name, and so any printable text of up to
// 255 characters (docs/compatibility.md).
func CheckName(k Kind, name string) error {
	if name == "." || name == ".." {
		return fmt.Errorf("%s %q is not allowed: what stands between a client and the server may take it for a step in the path", k.NameMember(), name)
	}
	if k != KindVirtualService {
		if namePattern.MatchString(name) {
			return nil
		}
		return fmt.Errorf("%s %s is not allowed: 1 to 255 letters, digits, dots, hyphens and underscores", k.NameMember(), quote(name))
	}
	n := utf8.RuneCountInString(name)
	if n < 1 || n > 255 || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%s %s is not allowed: 1 to 255 printable characters", k.NameMember(), quote(name))
	}
	return nil
}

// quote quotes a value for a message and shortens it.
func quote(s string) string {
	const most = 60
	if len(s) > most {
		return fmt.Sprintf("%q… (%d characters)", strings.ToValidUTF8(s[:most], ""), utf8.RuneCountInString(s))
	}
	return fmt.Sprintf("%q", s)
}
