package restapi

import "github.com/fairlead-mesh/fairlead/internal/mesh"

// Operation is one operation of the App Mesh API, as the service model has it.
type Operation struct {
	// Name is the operation's name, for example CreateRoute. It is also the IAM
	// action behind the prefix "appmesh:".
	Name string
	// Method and Path are matched against requests. A path is made of literal
	// segments and of labels in braces, each of which stands for one segment.
	Method, Path string
	Verb         Verb
	// Kind is what the operation is about; 0 for those on tags.
	Kind mesh.Kind
	// ListKey is the member of the answer that holds the list; "" if there is none.
	ListKey string
	// Members are what a request carries, in name order.
	Members []Member
}

// Verb is what an operation does.
type Verb uint8

// The verbs. The last three are those of the operations on tags.
const (
	VerbCreate Verb = iota + 1
	VerbDescribe
	VerbUpdate
	VerbDelete
	VerbList
	VerbTag
	VerbUntag
	VerbListTags
)

// Member is one member of an operation's input.
type Member struct {
	// Name is the member's name in the path, the query or the body.
	Name     string
	In       In
	Role     Role
	Required bool
	// Min and Max bound a text's length in characters, a list's length or a
	// number's value. Max 0 is no bound.
	Min, Max int
}

// In is the part of a request that carries a member.
type In uint8

// The parts of a request.
const (
	InPath In = iota + 1
	InQuery
	InBody
)

// Role is what a member is for.
type Role uint8

// The roles. RoleName is the resource's own name, RoleParent that of the virtual
// router or gateway it is in, RoleMesh that of its mesh.
const (
	RoleName Role = iota + 1
	RoleParent
	RoleMesh
	RoleMeshOwner
	RoleSpec
	RoleTags
	RoleTagKeys
	RoleClientToken
	RoleLimit
	RoleNextToken
	RoleResourceArn
)

// member returns the member that has a role.
func (o *Operation) member(r Role) (Member, bool) {
	for _, m := range o.Members {
		if m.Role == r {
			return m, true
		}
	}
	return Member{}, false
}
