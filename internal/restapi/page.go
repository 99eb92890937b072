package restapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// list answers the list operations of the kinds. A page begins behind the name that the
// one before ended with, so that objects may come and go between pages.
func (h *handler) list(ctx context.Context, c store.Caller, in *input) (any, error) {
	s := scope(in)
	position, err := openToken(s, in.next)
	if err != nil {
		return nil, err
	}
	after, afterOwner, _ := strings.Cut(position, "\x00")
	objects, more, err := h.store.List(ctx, c, store.Query{
		Mesh: in.id.Mesh, Kind: in.op.Kind, Parent: in.id.Parent, After: after, AfterOwner: afterOwner, Limit: in.limit,
	})
	if err != nil {
		return nil, err
	}
	out := refs{key: in.op.ListKey, list: objects}
	if more && len(objects) > 0 {
		out.next = sealToken(s, listPosition(objects[len(objects)-1].ID))
	}
	return out, nil
}

// listPosition says behind which object a page begins: by its name, and among meshes,
// which other accounts may share, also by its owner.
func listPosition(id mesh.ID) string {
	if id.Kind == mesh.KindMesh {
		return id.Name + "\x00" + id.Mesh.Account
	}
	return id.Name
}

// listTags answers ListTagsForResource. Tags are in the order in which they were
// set. If one of those that earlier pages showed is gone, the list begins anew: a
// tag may be shown twice, and none is left out.
func (h *handler) listTags(ctx context.Context, c store.Caller, in *input) (any, error) {
	s := scope(in)
	position, err := openToken(s, in.next)
	if err != nil {
		return nil, err
	}
	tags, err := h.store.Tags(ctx, c, in.id)
	if err != nil {
		return nil, err
	}
	first := 0
	if n, _ := strconv.Atoi(strings.SplitN(position, " ", 2)[0]); n > 0 && n <= len(tags) && tagPosition(tags[:n]) == position {
		first = n
	}
	last := min(first+in.limit, len(tags))
	page := make([]mesh.TagRef, 0, last-first)
	out := map[string]any{in.op.ListKey: append(page, tags[first:last]...)}
	if last < len(tags) {
		out["nextToken"] = sealToken(s, tagPosition(tags[:last]))
	}
	return out, nil
}

// tagPosition says how many tags were shown, and which.
func tagPosition(shown []mesh.TagRef) string {
	h := sha256.New()
	for _, t := range shown {
		h.Write([]byte(t.Key + "\x00"))
	}
	return strconv.Itoa(len(shown)) + " " + hex.EncodeToString(h.Sum(nil)[:8])
}

// scope names the list that a page token belongs to.
func scope(in *input) string {
	m := in.id.Mesh
	return strings.Join([]string{in.op.Name, m.Account, m.Region, m.Name, in.id.Kind.String(), in.id.Parent, in.id.Name}, "\x00")
}

// sealToken returns the token of a position in a list.
func sealToken(scope, position string) string { return mesh.SealPosition(scope, position) }

// openToken returns the position that a token holds; "" without a token.
func openToken(scope, token string) (string, error) {
	position, ok := mesh.OpenPosition(scope, token)
	if !ok {
		return "", mesh.Errorf(mesh.ErrBadRequest, "nextToken does not belong to this list: allowed is the one that its page before returned, or none")
	}
	return position, nil
}
