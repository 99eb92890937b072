package registry

import (
	"context"
	"slices"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// maxTags is how many tags a namespace or a service can have.
const maxTags = 50

// checkTags holds the rules for the tags that something is to have.
func checkTags(name string, tags []Tag) error {
	if len(tags) > maxTags {
		return &detailed{
			mesh.Errorf(ErrTooManyTags, "%s would have %d tags, allowed are %d", name, len(tags), maxTags),
			map[string]string{"ResourceName": name},
		}
	}
	seen := map[string]bool{}
	for _, t := range tags {
		switch {
		case strings.HasPrefix(strings.ToLower(t.Key), "aws:"):
			return mesh.Errorf(ErrInvalidInput, "Tags: the key %q begins with aws:, which is not allowed", t.Key)
		case seen[t.Key]:
			return mesh.Errorf(ErrInvalidInput, "Tags: the key %q comes twice", t.Key)
		}
		seen[t.Key] = true
	}
	return nil
}

// tagged is what has tags: a namespace or a service.
type tagged struct {
	kind, id, arn string
}

// tagged reads the ARN of what has tags, and asks for it.
func (c *call) tagged(given string, q store.Question) (t tagged, tags []Tag, err error) {
	kind := namespaceKind
	if strings.Contains(given, ":"+serviceKind+"/") {
		kind = serviceKind
	}
	if !strings.HasPrefix(given, "arn:") {
		return t, nil, mesh.Errorf(ErrInvalidInput, "ResourceARN must be the ARN of a namespace or a service, %q was given", given)
	}
	id, err := c.own("ResourceARN", kind, given)
	if err != nil {
		return t, nil, err
	}
	t = tagged{kind, id, c.place.arn(kind, id)}
	c.table.mu.RLock()
	a, found := c.table.area(c.place), false
	if n := a.namespaces[id]; kind == namespaceKind && n != nil {
		tags, found = n.Tags, true
	} else if s := a.services[id]; kind == serviceKind && s != nil {
		tags, found = s.Tags, true
	}
	c.table.mu.RUnlock()
	q.Resource, q.ResourceTags = t.arn, refs(tags)
	if err := c.may(q); err != nil {
		return t, nil, err
	}
	if !found {
		return t, nil, t.missing()
	}
	return t, tags, nil
}

func (t tagged) missing() error {
	return mesh.Errorf(ErrResourceNotFound, "there is no %s with the ARN %s", t.kind, t.arn)
}

func (c *call) listTags(in *ListTagsForResourceRequest) (any, error) {
	_, tags, err := c.tagged(in.ResourceARN, store.Question{})
	return &ListTagsForResourceResponse{Tags: append([]Tag{}, tags...)}, err
}

func (c *call) tagResource(ctx context.Context, in *TagResourceRequest) (any, error) {
	t, _, err := c.tagged(in.ResourceARN, store.Question{RequestTags: refs(in.Tags)})
	if err != nil {
		return nil, err
	}
	if err := checkTags(t.arn, in.Tags); err != nil {
		return nil, err
	}
	return &TagResourceResponse{}, c.editTags(ctx, t, func(tags []Tag) ([]Tag, error) {
		for _, tag := range in.Tags {
			if i := slices.IndexFunc(tags, func(old Tag) bool { return old.Key == tag.Key }); i >= 0 {
				tags[i] = tag
			} else {
				tags = append(tags, tag)
			}
		}
		return tags, checkTags(t.arn, tags)
	})
}

func (c *call) untagResource(ctx context.Context, in *UntagResourceRequest) (any, error) {
	t, _, err := c.tagged(in.ResourceARN, store.Question{TagKeys: in.TagKeys})
	if err != nil {
		return nil, err
	}
	return &UntagResourceResponse{}, c.editTags(ctx, t, func(tags []Tag) ([]Tag, error) {
		return slices.DeleteFunc(tags, func(tag Tag) bool { return slices.Contains(in.TagKeys, tag.Key) }), nil
	})
}

// editTags changes the tags of something.
func (c *call) editTags(ctx context.Context, t tagged, edit func([]Tag) ([]Tag, error)) error {
	return c.change(ctx, func() (none store.RecordChange, err error) {
		key := c.place.own(t.kind, t.id)
		found, _, err := c.store.ReadRecords(ctx, self, key)
		if err != nil {
			return none, err
		}
		rec, ok := found[key]
		if !ok {
			return none, t.missing()
		}
		if t.kind == namespaceKind {
			return retag(rec, func(v *namespaceValue) *[]Tag { return &v.Tags }, edit)
		}
		return retag(rec, func(v *serviceValue) *[]Tag { return &v.Tags }, edit)
	})
}

// retag returns the change that edits the tags in a record's value, which stand where
// tags points.
func retag[V any](rec store.Record, tags func(*V) *[]Tag, edit func([]Tag) ([]Tag, error)) (none store.RecordChange, err error) {
	v, err := read[V](rec)
	if err != nil {
		return none, err
	}
	at := tags(&v)
	if *at, err = edit(*at); err != nil {
		return none, err
	}
	changed, err := put(rec.Key, rec.Revision, v)
	return store.RecordChange{Puts: []store.Record{changed}}, err
}
