package restapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// data is the body of an answer about one object. The API sends it bare.
type data struct {
	names
	Metadata metadata        `json:"metadata"`
	Spec     json.RawMessage `json:"spec"`
	Status   status          `json:"status"`
}

// names are the members that say which object is meant: its mesh's name, its
// parent's if it has one, and its own.
type names struct {
	MeshName           string `json:"meshName"`
	VirtualGatewayName string `json:"virtualGatewayName,omitempty"`
	VirtualNodeName    string `json:"virtualNodeName,omitempty"`
	VirtualRouterName  string `json:"virtualRouterName,omitempty"`
	VirtualServiceName string `json:"virtualServiceName,omitempty"`
	GatewayRouteName   string `json:"gatewayRouteName,omitempty"`
	RouteName          string `json:"routeName,omitempty"`
}

type metadata struct {
	ARN           string `json:"arn"`
	UID           string `json:"uid"`
	Version       int64  `json:"version"`
	CreatedAt     epoch  `json:"createdAt"`
	LastUpdatedAt epoch  `json:"lastUpdatedAt"`
	MeshOwner     string `json:"meshOwner"`
	ResourceOwner string `json:"resourceOwner"`
}

// ref is an object in a list.
type ref struct {
	names
	ARN           string `json:"arn"`
	Version       int64  `json:"version"`
	CreatedAt     epoch  `json:"createdAt"`
	LastUpdatedAt epoch  `json:"lastUpdatedAt"`
	MeshOwner     string `json:"meshOwner"`
	ResourceOwner string `json:"resourceOwner"`
}

// status is the state of an object; INACTIVE is never sent.
type status struct {
	Status string `json:"status"`
}

var (
	active  = status{"ACTIVE"}
	deleted = status{"DELETED"}
)

// errorBody is the body of every refusal.
type errorBody struct {
	Message string `json:"message"`
}

// newData returns the answer about an object, or err.
func newData(o *mesh.Object, s status, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return data{
		names: namesOf(o.ID),
		Metadata: metadata{
			ARN: o.ARN(), UID: o.UID, Version: o.Version,
			CreatedAt: epoch(o.CreatedAt), LastUpdatedAt: epoch(o.UpdatedAt),
			MeshOwner: o.ID.Mesh.Account, ResourceOwner: o.ResourceOwner,
		},
		Spec: o.Spec, Status: s,
	}, nil
}

func newRef(o *mesh.Object) ref {
	return ref{
		names: namesOf(o.ID), ARN: o.ARN(), Version: o.Version,
		CreatedAt: epoch(o.CreatedAt), LastUpdatedAt: epoch(o.UpdatedAt),
		MeshOwner: o.ID.Mesh.Account, ResourceOwner: o.ResourceOwner,
	}
}

func namesOf(id mesh.ID) names {
	n := names{MeshName: id.Mesh.Name}
	n.set(id.Kind, id.Name)
	if id.Kind.Parent() != 0 {
		n.set(id.Kind.Parent(), id.Parent)
	}
	return n
}

func (n *names) set(k mesh.Kind, name string) {
	switch k {
	case mesh.KindMesh:
		n.MeshName = name
	case mesh.KindVirtualNode:
		n.VirtualNodeName = name
	case mesh.KindVirtualRouter:
		n.VirtualRouterName = name
	case mesh.KindRoute:
		n.RouteName = name
	case mesh.KindVirtualService:
		n.VirtualServiceName = name
	case mesh.KindVirtualGateway:
		n.VirtualGatewayName = name
	case mesh.KindGatewayRoute:
		n.GatewayRouteName = name
	}
}

// epoch is a time as the API spells it: seconds since 1970 with milliseconds, as a
// JSON number. Some clients take nothing else.
type epoch time.Time

// MarshalJSON writes the number.
func (e epoch) MarshalJSON() ([]byte, error) {
	ms := time.Time(e).UnixMilli()
	if ms < 0 {
		return nil, fmt.Errorf("writing a time: %s is before 1970", time.Time(e))
	}
	return fmt.Appendf(nil, "%d.%03d", ms/1000, ms%1000), nil
}

// encode writes the body of an answer. Nothing is escaped for HTML: a spec comes
// back as it was sent.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("writing an answer: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
