package store

import (
	"context"
	"slices"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// maxTags is how many tags an object may have.
const maxTags = 50

// Tag adds tags to an object. A key that is there gets the new value and keeps its
// place; the version stays. Errors are *mesh.Error: ErrTooManyTags if there would be
// more than 50, and then none is added, ErrBadRequest if a key comes twice,
// ErrNotFound, ErrForbidden and ErrServiceUnavailable.
func (s *Store) Tag(ctx context.Context, c Caller, id mesh.ID, tags []mesh.TagRef) error {
	if err := c.enterTags("TagResource", id); err != nil {
		return err
	}
	if err := checkTags(tags); err != nil {
		return err
	}
	return s.changeTags(ctx, id, func(have []mesh.TagRef) []mesh.TagRef {
		out := slices.Clone(have)
		for _, t := range tags {
			if i := slices.IndexFunc(out, func(h mesh.TagRef) bool { return h.Key == t.Key }); i >= 0 {
				out[i].Value = t.Value
			} else {
				out = append(out, t)
			}
		}
		return out
	})
}

// Untag removes the tags with the given keys from an object. Keys that it does not
// have are passed over. Errors are *mesh.Error: ErrNotFound, ErrForbidden and
// ErrServiceUnavailable.
func (s *Store) Untag(ctx context.Context, c Caller, id mesh.ID, keys []string) error {
	if err := c.enterTags("UntagResource", id); err != nil {
		return err
	}
	return s.changeTags(ctx, id, func(have []mesh.TagRef) []mesh.TagRef {
		var out []mesh.TagRef
		for _, t := range have {
			if !slices.Contains(keys, t.Key) {
				out = append(out, t)
			}
		}
		return out
	})
}

// Tags returns an object's tags in the order in which they were added. Errors are as
// for Untag.
func (s *Store) Tags(ctx context.Context, c Caller, id mesh.ID) ([]mesh.TagRef, error) {
	if err := c.enterTags("ListTagsForResource", id); err != nil {
		return nil, err
	}
	doc, _, err := s.read(ctx, id)
	if err != nil {
		return nil, err
	}
	return doc.Tags, nil
}

func (c Caller) enterTags(action string, id mesh.ID) error {
	if err := checkID(id); err != nil {
		return err
	}
	return c.enterAction("appmesh:"+action, id)
}

// changeTags replaces an object's tags by what change makes of them.
func (s *Store) changeTags(ctx context.Context, id mesh.ID, change func([]mesh.TagRef) []mesh.TagRef) error {
	_, err := s.retry(ctx, func() (*mesh.Object, error) {
		doc, revision, err := s.read(ctx, id)
		if err != nil {
			return nil, err
		}
		tags := change(doc.Tags)
		if slices.Equal(tags, doc.Tags) {
			return nil, nil
		}
		if len(tags) > maxTags {
			return nil, tooManyTags(len(tags))
		}
		doc.Tags = tags
		_, err = s.put(ctx, id, doc, []condition{unchanged(objectKey(id), revision, errChanged)}, nil)
		return nil, err
	})
	return err
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
