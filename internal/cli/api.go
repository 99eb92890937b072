package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/aws-sdk-go-v2/service/appmesh/types"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// object is one object as the API tells of it. From a list, it has no spec, uid and status.
type object struct {
	Ref
	ARN           string
	MeshOwner     string // account
	ResourceOwner string // account
	UID           string
	Version       int64
	CreatedAt     time.Time
	UpdatedAt     time.Time
	Status        string
	Spec          json.RawMessage
	Tags          map[string]string // nil where they were not asked for
}

// metadata are the members of that name in ...Data, and the same ones of ...Ref.
type metadata struct {
	ARN           string  `json:"arn"`
	MeshOwner     string  `json:"meshOwner"`
	ResourceOwner string  `json:"resourceOwner"`
	UID           string  `json:"uid"`
	Version       int64   `json:"version"`
	CreatedAt     apiTime `json:"createdAt"`
	UpdatedAt     apiTime `json:"lastUpdatedAt"`
}

// apiTime is a time as App Mesh's API spells it, seconds since 1970 with a fraction, or as /v1
// does, in RFC 3339.
type apiTime time.Time

// UnmarshalJSON reads either form.
func (m *apiTime) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		return (*time.Time)(m).UnmarshalJSON(b)
	}
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	*m = apiTime(time.UnixMilli(int64(math.Round(f * 1000))).UTC())
	return nil
}

func (m metadata) object(r Ref) *object {
	return &object{
		Ref: r, ARN: m.ARN, MeshOwner: m.MeshOwner, ResourceOwner: m.ResourceOwner, UID: m.UID, Version: m.Version,
		CreatedAt: time.Time(m.CreatedAt), UpdatedAt: time.Time(m.UpdatedAt),
	}
}

// readData reads a ...Data shape.
func readData(r Ref, body []byte) (*object, error) {
	var data struct {
		Metadata metadata        `json:"metadata"`
		Spec     json.RawMessage `json:"spec"`
		Status   struct {
			Status string `json:"status"`
		} `json:"status"`
	}
	if r.Kind.Own() { // its description is a member of the answer
		var members map[string]json.RawMessage
		if json.Unmarshal(body, &members) == nil {
			body = members[r.Kind.String()]
		}
	}
	if err := json.Unmarshal(body, &data); err != nil || data.Metadata.ARN == "" {
		return nil, fmt.Errorf("the answer about %s is no description of it: is the endpoint a Fairlead server?", r)
	}
	o := data.Metadata.object(r)
	o.Spec, o.Status = data.Spec, data.Status.Status
	return o, nil
}

// bounded gives a call its time.
func (s *Session) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout)
}

// describe returns an object with its spec; errors that isNotFound knows where there is none.
func (s *Session) describe(ctx context.Context, r Ref) (*object, error) {
	return s.withData(ctx, r, func(ctx context.Context, opts ...option) error {
		return ops[r.Kind].describe(ctx, s.api, r, opts...)
	})
}

func (s *Session) withData(ctx context.Context, r Ref, call func(context.Context, ...option) error) (*object, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var body []byte
	if err := call(ctx, withBody(&body)); err != nil {
		return nil, s.explain(err)
	}
	return readData(r, body)
}

// create makes an object.
func (s *Session) create(ctx context.Context, r Ref, spec json.RawMessage, tags map[string]string) (*object, error) {
	return s.withData(ctx, r, func(ctx context.Context, opts ...option) error {
		return ops[r.Kind].create(ctx, s.api, r, tagRefs(tags), append(opts, withSpec(spec), s.noting(r))...)
	})
}

// update gives an object a new spec.
func (s *Session) update(ctx context.Context, r Ref, spec json.RawMessage) (*object, error) {
	return s.withData(ctx, r, func(ctx context.Context, opts ...option) error {
		return ops[r.Kind].update(ctx, s.api, r, append(opts, withSpec(spec), s.noting(r))...)
	})
}

// remove deletes an object.
func (s *Session) remove(ctx context.Context, r Ref) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if err := ops[r.Kind].remove(ctx, s.api, r, s.noting(r)); err != nil {
		return s.explain(err)
	}
	return nil
}

// list returns the objects of a kind, in the API's order: all meshes of the caller and those
// shared with it, or what is in a mesh, or under a router or gateway, that r names.
func (s *Session) list(ctx context.Context, k mesh.Kind, r Ref) ([]*object, error) {
	var out []*object
	for next := (*string)(nil); ; {
		page, token, err := s.page(ctx, k, r, next)
		if err != nil {
			return nil, err
		}
		out = append(out, page...)
		if token == "" {
			return out, nil
		}
		next = &token
	}
}

func (s *Session) page(ctx context.Context, k mesh.Kind, r Ref, next *string) ([]*object, string, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var body []byte
	if err := ops[k].list(ctx, s.api, r, next, withBody(&body)); err != nil {
		return nil, "", s.explain(err)
	}
	return readList(k, r, body)
}

// readList reads the answer of a list operation.
func readList(k mesh.Kind, r Ref, body []byte) (out []*object, token string, err error) {
	var members map[string]json.RawMessage
	var refs []json.RawMessage
	err = json.Unmarshal(body, &members)
	for name, raw := range members {
		switch {
		case err != nil:
		case name == "nextToken":
			err = json.Unmarshal(raw, &token)
		case name == kindPlural(k):
			err = json.Unmarshal(raw, &refs)
		}
	}
	for _, raw := range refs {
		var m metadata
		var names map[string]any
		if err == nil {
			err = json.Unmarshal(raw, &m)
		}
		if err == nil {
			err = json.Unmarshal(raw, &names)
		}
		name, _ := names[k.NameMember()].(string)
		one := Ref{Mesh: r.Mesh, Owner: r.Owner, Key: mesh.Key{Kind: k, Parent: r.Parent, Name: name}}
		if k == mesh.KindMesh {
			one.Mesh, one.Owner = name, ""
		}
		out = append(out, m.object(one))
	}
	if err != nil {
		return nil, "", fmt.Errorf("the list of %s is not readable: %w", kindPlural(k), err)
	}
	return out, token, nil
}

// kindPlural returns what several objects of a kind are called: "virtualNodes".
func kindPlural(k mesh.Kind) string {
	switch k {
	case mesh.KindMesh:
		return "meshes"
	case mesh.KindPolicy:
		return "policies"
	}
	return k.String() + "s"
}

// meshes returns the caller's meshes and those shared with it. The latter have an owner.
func (s *Session) meshes(ctx context.Context) ([]*object, error) {
	out, err := s.list(ctx, mesh.KindMesh, Ref{})
	if err != nil || len(out) == 0 {
		return nil, err
	}
	self, err := s.account(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range out {
		if m.MeshOwner != self {
			m.Owner = m.MeshOwner
		}
	}
	return out, nil
}

// tagsOf returns the tags of the resource with an ARN.
func (s *Session) tagsOf(ctx context.Context, arn string) (map[string]string, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	out := map[string]string{}
	pages := appmesh.NewListTagsForResourcePaginator(s.api, &appmesh.ListTagsForResourceInput{ResourceArn: &arn})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, s.explain(err)
		}
		for _, t := range page.Tags {
			out[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
	}
	return out, nil
}

// setTags makes the tags of a resource the wanted ones, in at most two calls.
func (s *Session) setTags(ctx context.Context, arn string, have, want map[string]string) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	remove, set := tagChanges(have, want)
	if len(remove) > 0 {
		if _, err := s.api.UntagResource(ctx, &appmesh.UntagResourceInput{ResourceArn: &arn, TagKeys: remove}); err != nil {
			return s.explain(err)
		}
	}
	if len(set) > 0 {
		if _, err := s.api.TagResource(ctx, &appmesh.TagResourceInput{ResourceArn: &arn, Tags: tagRefs(set)}); err != nil {
			return s.explain(err)
		}
	}
	return nil
}

// tagChanges returns the keys to remove and the tags to set.
func tagChanges(have, want map[string]string) (remove []string, set map[string]string) {
	set = map[string]string{}
	for key := range have {
		if _, ok := want[key]; !ok {
			remove = append(remove, key)
		}
	}
	for key, value := range want {
		if old, ok := have[key]; !ok || old != value {
			set[key] = value
		}
	}
	slices.Sort(remove)
	return remove, set
}

func tagRefs(tags map[string]string) []types.TagRef {
	var out []types.TagRef
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, types.TagRef{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return out
}
