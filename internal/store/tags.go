package store

import (
	"context"
	"slices"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// maxTags is how many tags an object may have.
const maxTags = 50

// Tag adds tags to an object, which only the account that owns the object may. A key that is there gets the new value and keeps its
// place; the version stays. Errors are *mesh.Error: ErrTooManyTags if there would be
// more than 50, and then none is added, ErrBadRequest if a key comes twice,
// ErrNotFound, ErrForbidden and ErrServiceUnavailable.
func (s *Store) Tag(ctx context.Context, c Caller, id mesh.ID, tags []mesh.TagRef) error {
	if err := checkID(id); err != nil {
		return err
	}
	q := Question{Action: "appmesh:TagResource", RequestTags: tags, TagKeys: tagKeys(tags)}
	return s.changeTags(ctx, c, id, q, func(have []mesh.TagRef) ([]mesh.TagRef, error) {
		if err := checkTags(tags); err != nil {
			return nil, err
		}
		out := slices.Clone(have)
		for _, t := range tags {
			if i := slices.IndexFunc(out, func(h mesh.TagRef) bool { return h.Key == t.Key }); i >= 0 {
				out[i].Value = t.Value
			} else {
				out = append(out, t)
			}
		}
		return out, nil
	})
}

// Untag removes the tags with the given keys from an object. Keys that it does not
// have are passed over. Only the account that owns the object may. Errors are *mesh.Error: ErrNotFound, ErrForbidden and
// ErrServiceUnavailable.
func (s *Store) Untag(ctx context.Context, c Caller, id mesh.ID, keys []string) error {
	if err := checkID(id); err != nil {
		return err
	}
	q := Question{Action: "appmesh:UntagResource", TagKeys: keys}
	return s.changeTags(ctx, c, id, q, func(have []mesh.TagRef) ([]mesh.TagRef, error) {
		var out []mesh.TagRef
		for _, t := range have {
			if !slices.Contains(keys, t.Key) {
				out = append(out, t)
			}
		}
		return out, nil
	})
}

// Tags returns an object's tags in the order in which they were added, to the account
// that owns the object. Errors are as for Untag.
func (s *Store) Tags(ctx context.Context, c Caller, id mesh.ID) ([]mesh.TagRef, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	f, err := s.read(ctx, c, id, Question{Action: "appmesh:ListTagsForResource"})
	if err != nil {
		return nil, err
	}
	return f.doc.Tags, c.mayChange(f)
}

// changeTags replaces an object's tags by what change makes of them.
func (s *Store) changeTags(ctx context.Context, c Caller, id mesh.ID, q Question, change func([]mesh.TagRef) ([]mesh.TagRef, error)) error {
	_, err := s.retry(ctx, func() (*mesh.Object, error) {
		f, err := s.read(ctx, c, id, q)
		if err != nil {
			return nil, err
		}
		if err := c.mayChange(f); err != nil {
			return nil, err
		}
		tags, err := change(f.doc.Tags)
		if err != nil {
			return nil, err
		}
		if slices.Equal(tags, f.doc.Tags) {
			return nil, nil
		}
		if len(tags) > maxTags {
			return nil, tooManyTags(len(tags))
		}
		f.doc.Tags = tags
		conditions := append(c.admitted(id.Mesh), unchanged(objectKey(id), f.revision, errChanged))
		_, err = s.put(ctx, id, f.doc, conditions, nil)
		return nil, err
	})
	return err
}

// tagKeys returns the keys of tags.
func tagKeys(tags []mesh.TagRef) []string {
	var out []string
	for _, t := range tags {
		out = append(out, t.Key)
	}
	return out
}

// checkTags checks the tags of one request.
func checkTags(tags []mesh.TagRef) error {
	if len(tags) > maxTags {
		return tooManyTags(len(tags))
	}
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		if seen[t.Key] {
			return mesh.Errorf(mesh.ErrBadRequest, "tags hold the key %q twice", t.Key)
		}
		seen[t.Key] = true
	}
	return nil
}

func tooManyTags(n int) error {
	return mesh.Errorf(mesh.ErrTooManyTags, "the resource would have %d tags, at most %d are allowed", n, maxTags)
}
