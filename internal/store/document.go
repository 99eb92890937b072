package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// documentFormat is the format that document describes. It is raised only when an older
// build would misread what a newer one writes; members may be added without. Whoever
// raises it adds the way to and from the format before to knownFormats.
const documentFormat = 1

// maxDocument is how many bytes a stored object may have. etcd takes requests of 1.5
// MiB by default, with the keys and the references in them.
const maxDocument = 5 << 18

// tokenLife is how long a client token is remembered.
const tokenLife = 24 * time.Hour

// document is a stored object.
type document struct {
	Format        int             `json:"format"`
	UID           string          `json:"uid"`
	ResourceOwner string          `json:"resourceOwner"`
	Version       int64           `json:"version"`
	CreatedAt     time.Time       `json:"createdAt"`
	UpdatedAt     time.Time       `json:"updatedAt"`
	Spec          json.RawMessage `json:"spec"`
	Tags          []mesh.TagRef   `json:"tags,omitzero"`
	// References are the targets that this object's reverse references were
	// written for, so that any build can remove them again.
	References []string `json:"references,omitzero"`
	// Slot is the number of the slot that the object holds of its quota.
	Slot        *int   `json:"slot,omitzero"`
	CreateToken *token `json:"createToken,omitzero"`
	UpdateToken *token `json:"updateToken,omitzero"`

	// raw is what was read, with the members that only newer builds know.
	raw []byte
}

// members are the names of the members that this build knows.
var members = []string{
	"format", "uid", "resourceOwner", "version", "createdAt", "updatedAt",
	"spec", "tags", "references", "slot", "createToken", "updateToken",
}

// parseDocument reads a stored object.
func (s *Store) parseDocument(value []byte) (*document, error) {
	d := new(document)
	value, err := readDocument(s, value, d, func(d *document) int { return d.Format })
	if err != nil {
		return nil, err
	}
	d.raw = value
	return d, nil
}

// readDocument reads a stored object into a struct that has a format. It returns the
// object in the form that the struct is of.
func readDocument[T any](s *Store, value []byte, to *T, format func(*T) int) ([]byte, error) {
	err := json.Unmarshal(value, to)
	if err == nil && format(to) == documentFormat {
		return value, nil
	}
	if value, err = s.formats.objects().decode(value); err != nil {
		return nil, fmt.Errorf("reading a stored object: %w", err)
	}
	*to = *new(T)
	if err := json.Unmarshal(value, to); err != nil {
		return nil, fmt.Errorf("reading a stored object: %w", err)
	}
	return value, nil
}

// encode writes the document. Members that were read and are not known are kept.
func (d *document) encode() ([]byte, error) {
	value, err := d.merge()
	if err == nil && len(value) > maxDocument {
		return nil, mesh.Errorf(mesh.ErrBadRequest, "the object is too large: %d bytes, at most %d are allowed", len(value), maxDocument)
	}
	return value, err
}

func (d *document) merge() ([]byte, error) {
	d.Format = documentFormat
	if d.raw == nil && len(d.Spec) > 0 && len(d.Tags) == 0 && len(d.References) == 0 && d.UpdateToken == nil {
		return d.plain(), nil
	}
	known, err := marshal(d)
	if err != nil || d.raw == nil {
		return known, err
	}
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(d.raw, &all); err != nil {
		return nil, fmt.Errorf("writing a stored object: %w", err)
	}
	for _, m := range members {
		delete(all, m)
	}
	if err := json.Unmarshal(known, &all); err != nil {
		return nil, fmt.Errorf("writing a stored object: %w", err)
	}
	return marshal(all)
}

// plain writes a new document without tags and references, as marshal would. Nothing in
// it needs to be escaped, and the spec is as Decode made it.
func (d *document) plain() []byte {
	b := make([]byte, 0, 512+len(d.Spec))
	b = append(b, `{"format":`...)
	b = strconv.AppendInt(b, int64(d.Format), 10)
	b = append(append(append(b, `,"uid":"`...), d.UID...), `","resourceOwner":"`...)
	b = append(append(b, d.ResourceOwner...), `","version":`...)
	b = strconv.AppendInt(b, d.Version, 10)
	b = append(b, `,"createdAt":"`...)
	b = d.CreatedAt.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","updatedAt":"`...)
	b = d.UpdatedAt.AppendFormat(b, time.RFC3339Nano)
	b = append(append(b, `","spec":`...), d.Spec...)
	if d.Slot != nil {
		b = strconv.AppendInt(append(b, `,"slot":`...), int64(*d.Slot), 10)
	}
	if t := d.CreateToken; t != nil {
		b = append(append(append(b, `,"createToken":{"token":"`...), t.Token...), `","parameters":"`...)
		b = append(append(b, t.Parameters...), `","at":"`...)
		b = append(t.At.AppendFormat(b, time.RFC3339Nano), `"}`...)
	}
	return append(b, '}')
}

// marshal writes JSON without escaping for HTML, so that a spec stays as it is.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("writing a stored object: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// object returns the document as the other rooms see it.
func (d *document) object(id mesh.ID, revision int64) *mesh.Object {
	return &mesh.Object{
		ID: id, ResourceOwner: d.ResourceOwner, UID: d.UID, Version: d.Version,
		CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt,
		Spec: d.Spec, Tags: d.Tags, Revision: revision,
	}
}

// token is what is remembered of a client token: hashes of it and of the
// parameters that came with it.
type token struct {
	Token      string    `json:"token"`
	Parameters string    `json:"parameters"`
	At         time.Time `json:"at"`
}

// newToken returns nil if the caller sent no token.
func newToken(clientToken string, spec json.RawMessage, tags []mesh.TagRef, now time.Time) (*token, error) {
	if clientToken == "" {
		return nil, nil
	}
	list := []byte("null")
	if tags != nil {
		var err error
		if list, err = marshal(tags); err != nil {
			return nil, err
		}
	}
	parameters := slices.Concat([]byte(`{"Spec":`), spec, []byte(`,"Tags":`), list, []byte("}"))
	return &token{Token: hash([]byte(clientToken)), Parameters: hash(parameters), At: now}, nil
}

// repeats reports whether t is a retry of the request that left before, and refuses
// it if it carries that request's token and other parameters.
func (t *token) repeats(before *token, id mesh.ID) (bool, error) {
	if t == nil || before == nil || t.Token != before.Token || t.At.Sub(before.At) >= tokenLife {
		return false, nil
	}
	if t.Parameters != before.Parameters {
		return false, tokenReused(id)
	}
	return true, nil
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
