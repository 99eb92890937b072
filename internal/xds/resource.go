package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"sync"
	"weak"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// resource is one encoded Envoy resource. It is never changed, and equal resources of
// different feeds are one resource.
type resource struct {
	key resourceKey
	// object is the virtual node that a cluster or endpoints lead to; the zero value for
	// what is the feed's own.
	object mesh.Key
	// version is the content hash in hexadecimal, as proxies see it.
	version string
	// delta is the resource as it stands in a DeltaDiscoveryResponse: field number,
	// length and discovery.Resource. It is as gRPC takes it, so that no response has to
	// make that of it.
	delta mem.Buffer
	// full is the part of delta that stands in a DiscoveryResponse: there, as in
	// discovery.Resource, the Any is field 2.
	full mem.Buffer
}

type resourceKey struct {
	typ  envoy.Type
	name string
	hash [16]byte
}

// Field numbers of discovery.Resource, DeltaDiscoveryResponse and DiscoveryResponse
// (envoy/service/discovery/v3/discovery.proto).
const (
	resourceVersionField = 1
	resourceBodyField    = 2
	resourceNameField    = 3
	responseVersionField = 1
	responseBodyField    = 2
	responseTypeField    = 4
	responseNonceField   = 5
	responseRemovedField = 6
	anyTypeField         = 1
	anyValueField        = 2
)

// pool keeps one copy of each resource for as long as a feed uses it.
type pool struct {
	mu        sync.Mutex
	resources map[resourceKey]weak.Pointer[resource]
}

func newPool() *pool { return &pool{resources: map[resourceKey]weak.Pointer[resource]{}} }

// encode returns the resource of a message. have is the resource that stands under
// the name now, or nil; it is returned if nothing changed. of is the cluster that
// endpoints belong to, else nil: their version includes its, so that a proxy that comes
// back with a changed cluster and old endpoints is sent them, although they are the same.
// It warms the cluster, and waits for them.
func (p *pool) encode(r envoy.Resource, of, have *resource) (*resource, error) {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.Message)
	if err != nil {
		return nil, fmt.Errorf("encoding %s %q: %w", r.Type, r.Name, err)
	}
	h := sha256.New()
	h.Write(body)
	if of != nil {
		h.Write(of.key.hash[:])
	}
	key := resourceKey{typ: r.Type, name: r.Name, hash: [16]byte(h.Sum(nil))}
	if have != nil && have.key == key {
		return have, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.resources[key].Value(); known != nil {
		return known, nil
	}
	res := newResource(key, body)
	if r.Type == envoy.TypeCluster || r.Type == envoy.TypeEndpoint { // their names hold the node's
		res.object = r.Object
	}
	p.resources[key] = weak.Make(res)
	runtime.AddCleanup(res, p.forget, key)
	return res, nil
}

// forget drops the entry of a resource that is gone, unless it has come back.
func (p *pool) forget(key resourceKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, ok := p.resources[key]; ok && w.Value() == nil {
		delete(p.resources, key)
	}
}

func newResource(key resourceKey, body []byte) *resource {
	version := hex.EncodeToString(key.hash[:])
	url := key.typ.URL()
	anySize := protowire.SizeTag(anyTypeField) + protowire.SizeBytes(len(url)) +
		protowire.SizeTag(anyValueField) + protowire.SizeBytes(len(body))
	size := protowire.SizeTag(resourceBodyField) + protowire.SizeBytes(anySize) +
		protowire.SizeTag(resourceVersionField) + protowire.SizeBytes(len(version)) +
		protowire.SizeTag(resourceNameField) + protowire.SizeBytes(len(key.name))

	b := make([]byte, 0, protowire.SizeTag(responseBodyField)+protowire.SizeBytes(size))
	b = protowire.AppendTag(b, responseBodyField, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	from := len(b)
	b = protowire.AppendTag(b, resourceBodyField, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(anySize))
	b = appendString(b, anyTypeField, url)
	b = protowire.AppendTag(b, anyValueField, protowire.BytesType)
	b = protowire.AppendBytes(b, body)
	to := len(b)
	b = appendString(b, resourceVersionField, version)
	b = appendString(b, resourceNameField, key.name)
	return &resource{key: key, version: version, delta: mem.SliceBuffer(b), full: mem.SliceBuffer(b[from:to:to])}
}

// early returns the resource with another version.
func (r *resource) early() *resource {
	key := r.key
	for i := range key.hash {
		key.hash[i] = ^key.hash[i]
	}
	early := newResource(key, r.body())
	early.object = r.object
	return early
}

// body returns the encoded message; nil if it cannot be had, which only a mistake in
// newResource could bring about.
func (r *resource) body() []byte {
	if a := r.any(); a != nil {
		return a.GetValue()
	}
	return nil
}

// any returns the message as it stands in responses: a DiscoveryResponse of nothing but
// this resource has the same bytes as full.
func (r *resource) any() *anypb.Any {
	m := new(discoveryv3.DiscoveryResponse)
	if err := proto.Unmarshal(r.full.ReadOnlyData(), m); err != nil || len(m.GetResources()) != 1 {
		return nil
	}
	return m.GetResources()[0]
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}
