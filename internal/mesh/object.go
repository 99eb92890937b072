package mesh

import (
	"encoding/json"
	"time"
)

// Object is one stored object with its metadata (API: ResourceMetadata).
type Object struct {
	ID            ID
	ResourceOwner string // the account that created it
	UID           string
	Version       int64 // from 1, one more with each update
	CreatedAt     time.Time
	UpdatedAt     time.Time
	// Spec is what was sent, cleaned by Decode, with the two defaults that App
	// Mesh writes back. A field that this build does not know is kept.
	Spec json.RawMessage
	Tags []TagRef // in insertion order
	// Revision is the store's revision of the object's last change.
	Revision int64
}

// ARN returns the object's Amazon Resource Name.
func (o *Object) ARN() string { return o.ID.ARN(o.ResourceOwner) }
