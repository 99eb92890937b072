package main

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/aws-sdk-go-v2/service/appmesh/types"
	"github.com/google/go-cmp/cmp"
)

// A resource is one of the configuration, with the calls that the provider makes for its kind.
type resource struct {
	// id is the resource's type and what "terraform import" takes for it.
	id   string
	spec any
	tags map[string]string

	create func(spec any, tags []types.TagRef, owner *string) error
	find   func(owner *string) (found, error)
	update func(spec any, owner *string) error
	remove func(owner *string) error
}

// found is what a describe call tells of an object of any kind.
type found struct {
	metadata *types.ResourceMetadata
	spec     any
	status   string
}

// An entry is what Terraform's state holds of a resource.
type entry struct {
	ARN, UID, Created, Updated, MeshOwner, ResourceOwner string
	Spec                                                 any
	Tags                                                 map[string]string
}

// A workspace is a state and what changes it, as Terraform with the AWS provider does.
type workspace struct {
	*run
	state map[string]entry
	calls int // those that changed something
}

// read is the provider's read function: describe, then the tags. ok is false if the object is gone.
func (w *workspace) read(r *resource, owner *string) (entry, bool) {
	f, err := r.find(owner)
	var gone *types.NotFoundException
	if errors.As(err, &gone) || err == nil && f.status == "DELETED" {
		return entry{}, false
	}
	must(0, err)
	tags := map[string]string{}
	for _, tag := range must(w.ListTagsForResource(w.ctx, &appmesh.ListTagsForResourceInput{ResourceArn: f.metadata.Arn})).Tags {
		tags[*tag.Key] = *tag.Value
	}
	m := f.metadata
	return entry{
		ARN: *m.Arn, UID: *m.Uid, Created: m.CreatedAt.UTC().String(), Updated: m.LastUpdatedAt.UTC().String(),
		MeshOwner: *m.MeshOwner, ResourceOwner: *m.ResourceOwner, Spec: flatten(f.spec), Tags: tags,
	}, true
}

// owner is what the provider sends as meshOwner: nothing until the state knows it.
func (w *workspace) owner(id string) *string {
	if known, ok := w.state[id]; ok {
		return &known.MeshOwner
	}
	return nil
}

// refresh reads everything anew.
func (w *workspace) refresh(config []*resource) {
	for _, r := range config {
		known, ok := w.state[r.id]
		if !ok {
			continue
		}
		now, there := w.read(r, &known.MeshOwner)
		if there {
			w.state[r.id] = now
		} else {
			delete(w.state, r.id)
		}
	}
}

// plan tells what an apply would do to a resource: "", "create", or what differs.
func (w *workspace) plan(r *resource) string {
	known, ok := w.state[r.id]
	if !ok {
		return "create"
	}
	return cmp.Diff(fill(flatten(r.spec), known.Spec), known.Spec) + cmp.Diff(r.tags, known.Tags)
}

// settled checks that a plan finds nothing to do, and that reading has changed nothing.
func (w *workspace) settled(config []*resource) {
	before := maps.Clone(w.state)
	for range 2 {
		w.refresh(config)
		for _, r := range config {
			w.holds(w.plan(r) == "", "a plan right after the apply would change %s (-configuration +state):\n%s", r.id, w.plan(r))
		}
	}
	w.same("the state after a refresh", before, w.state)
}

// apply refreshes, plans and carries the plan out, in the order of the configuration.
// What is no longer configured is removed first, in reverse, unless late says that it comes last (create_before_destroy).
func (w *workspace) apply(config, old []*resource, late bool) error {
	w.refresh(slices.Concat(old, config))
	removed := slices.DeleteFunc(slices.Clone(old), func(r *resource) bool {
		return slices.ContainsFunc(config, func(c *resource) bool { return c.id == r.id })
	})
	if !late {
		if err := w.destroy(removed); err != nil {
			return err
		}
	}
	for _, r := range config {
		switch w.plan(r) {
		case "":
			continue
		case "create":
			w.create(r)
		default:
			w.change(r)
		}
		now, there := w.read(r, w.owner(r.id))
		w.holds(there, "%s cannot be found right after it was written", r.id)
		w.state[r.id] = now
	}
	if late {
		return w.destroy(removed)
	}
	return nil
}

func (w *workspace) create(r *resource) {
	// Terraform's tags are a map: their order means nothing.
	var all []types.TagRef
	for key, value := range r.tags {
		all = append(all, tags(key, value)...)
	}
	w.calls++
	must(0, r.create(r.spec, all, nil))
}

// change updates the spec in place, then takes tags away, then sets those that are new or different.
func (w *workspace) change(r *resource) {
	known := w.state[r.id]
	if !cmp.Equal(fill(flatten(r.spec), known.Spec), known.Spec) {
		w.calls++
		must(0, r.update(r.spec, &known.MeshOwner))
	}
	var removed []string
	var set []types.TagRef
	for key := range known.Tags {
		if _, ok := r.tags[key]; !ok {
			removed = append(removed, key)
		}
	}
	for key, value := range r.tags {
		if old, ok := known.Tags[key]; !ok || old != value {
			set = append(set, tags(key, value)...)
		}
	}
	if len(removed) > 0 {
		must(w.UntagResource(w.ctx, &appmesh.UntagResourceInput{ResourceArn: &known.ARN, TagKeys: removed}))
	}
	if len(set) > 0 {
		must(w.TagResource(w.ctx, &appmesh.TagResourceInput{ResourceArn: &known.ARN, Tags: set}))
	}
}

// destroy removes resources in the reverse of the order in which they were made. What is not there any more is removed.
func (w *workspace) destroy(config []*resource) error {
	for _, r := range slices.Backward(config) {
		if _, ok := w.state[r.id]; !ok {
			continue
		}
		w.calls++
		err := r.remove(w.owner(r.id))
		if gone := (*types.NotFoundException)(nil); err != nil && !errors.As(err, &gone) {
			return err
		}
		_, there := w.read(r, w.owner(r.id))
		w.holds(!there, "%s is still there after it was deleted", r.id)
		delete(w.state, r.id)
	}
	return nil
}

// terraform takes a mesh with every kind through what people do with Terraform.
func (r *run) terraform() {
	w := &workspace{run: r, state: map[string]entry{}}
	first := w.configuration(false)
	must(0, w.apply(first, nil, false))
	w.settled(first)
	made := maps.Clone(w.state)

	// Import: the state that comes of the objects is the one that creating them left.
	imported := &workspace{run: r, state: map[string]entry{}}
	for _, one := range first {
		now, there := imported.read(one, nil)
		r.holds(there, "%s cannot be imported", one.id)
		imported.state[one.id] = now
	}
	r.same("the imported state", made, imported.state)

	// Everything is changed in place: objects keep their uid, and nothing is made anew.
	second := w.configuration(true)
	w.calls = 0
	must(0, w.apply(second, first, false))
	w.settled(second)
	r.same("updates", len(second), w.calls)
	for id, one := range w.state {
		r.same("uid of "+id, made[id].UID, one.UID)
		r.same("creation of "+id, made[id].Created, one.Created)
	}
	w.calls = 0
	must(0, w.apply(second, second, false))
	r.same("calls of an apply without changes", 0, w.calls)

	w.replace(second)
	w.drift(second)
	must(0, w.destroy(second))
	r.same("state after a destroy", 0, len(w.state))
}

// replace renames a route, and a node that routes lead to.
func (w *workspace) replace(config []*resource) {
	// A name cannot be changed: the provider deletes the one and creates the other.
	renamed := slices.Clone(config)
	i := slices.IndexFunc(renamed, func(r *resource) bool { return strings.HasSuffix(r.id, "/http") && strings.Contains(r.id, "/router/") })
	renamed[i] = w.route("router", "renamed", config[i].spec.(*types.RouteSpec), config[i].tags)
	must(0, w.apply(renamed, config, false))
	w.settled(renamed)

	// By default the old is deleted before the new is there, which is refused for what is in use, and nothing is lost.
	i = slices.IndexFunc(renamed, func(r *resource) bool { return strings.HasSuffix(r.id, "/green") })
	moved := slices.Clone(renamed)
	moved[i] = w.node("emerald", renamed[i].spec.(*types.VirtualNodeSpec), renamed[i].tags)
	for n, r := range moved {
		if spec, ok := r.spec.(*types.RouteSpec); ok {
			moved[n] = w.routeOf(r, retarget(spec, "green", "emerald"))
		}
	}
	err := w.apply(moved, renamed, false)
	w.holds(as[*types.ResourceInUseException](err) != nil, "a node in use was deleted: %v", err)
	w.settled(renamed)
	// With create_before_destroy it works.
	must(0, w.apply(moved, renamed, true))
	w.settled(moved)
	// And back, so that the configuration is as it was.
	must(0, w.apply(config, moved, true))
	w.settled(config)
}

// drift deletes and changes objects behind Terraform's back.
func (w *workspace) drift(config []*resource) {
	gone := config[len(config)-1]
	must(0, gone.remove(nil))
	w.refresh(config)
	w.same("the plan for what was deleted", "create", w.plan(gone))
	changed := config[0]
	must(0, changed.update(&types.MeshSpec{EgressFilter: &types.EgressFilter{Type: types.EgressFilterTypeAllowAll}}, nil))
	w.refresh(config)
	w.holds(w.plan(changed) != "", "a change by somebody else is not seen")
	must(0, w.apply(config, config, false))
	w.settled(config)
	// Terraform may be told to destroy what somebody else has deleted since the refresh.
	must(0, gone.remove(nil))
}
