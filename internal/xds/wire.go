package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
)

// response is a discovery response put together from encoded parts.
type response struct {
	parts mem.BufferSlice
}

// codec is the gRPC codec of the server: responses are encoded already, everything
// else is protobuf.
type codec struct{}

// Name is the content subtype; Envoy asks for none, which means proto.
func (codec) Name() string { return "proto" }

// Marshal returns a response's parts as they are.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case *response:
		return v.parts, nil
	case proto.Message:
		b, err := proto.Marshal(v)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	return nil, fmt.Errorf("encoding a %T: not a message", v)
}

// Unmarshal reads a request.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("decoding into a %T: not a message", v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	return proto.Unmarshal(buf.ReadOnlyData(), m)
}

// deltaResponse encodes a DeltaDiscoveryResponse.
func deltaResponse(t envoy.Type, nonce string, resources []*resource, removed []string) *response {
	var head []byte
	head = appendString(head, responseTypeField, t.URL())
	head = appendString(head, responseNonceField, nonce)
	for _, name := range removed {
		head = appendString(head, responseRemovedField, name)
	}
	parts := make(mem.BufferSlice, 0, 1+len(resources))
	parts = append(parts, mem.SliceBuffer(head))
	for _, r := range resources {
		parts = append(parts, r.delta)
	}
	return &response{parts}
}

// fullResponse encodes a DiscoveryResponse.
func fullResponse(t envoy.Type, version, nonce string, resources []*resource) *response {
	var head []byte
	head = appendString(head, responseVersionField, version)
	head = appendString(head, responseTypeField, t.URL())
	head = appendString(head, responseNonceField, nonce)
	parts := make(mem.BufferSlice, 0, 1+len(resources))
	parts = append(parts, mem.SliceBuffer(head))
	for _, r := range resources {
		parts = append(parts, r.full)
	}
	return &response{parts}
}

// fullVersion returns the version of a list of resources: a hash over their names and
// hashes, the same on every replica.
func fullVersion(resources []*resource) string {
	h := sha256.New()
	var n []byte
	for _, r := range resources {
		n = protowire.AppendString(n[:0], r.key.name)
		h.Write(n)
		h.Write(r.key.hash[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
