package quota

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

var self = store.System("quota")

// recordsPrefix is what the keys of records begin with: "quota/ACCOUNT/REGION/MESH/POLICY".
const recordsPrefix = "quota/"

func recordKey(p Policy) string {
	return recordsPrefix + strings.Join([]string{p.Mesh.Account, p.Mesh.Region, p.Mesh.Name, p.Name}, "/")
}

func policyOf(key string) (Policy, bool) {
	parts := strings.Split(strings.TrimPrefix(key, recordsPrefix), "/")
	if len(parts) != 4 {
		return Policy{}, false
	}
	return Policy{Mesh: mesh.MeshID{Account: parts[0], Region: parts[1], Name: parts[2]}, Name: parts[3]}, true
}

// record is what the store has of a policy's quota. It is sealed, as keys may be what clients
// prove themselves with.
type record struct {
	// Owner is the replica that has the buckets.
	Owner string `json:"owner"`
	// Version is the policy's.
	Version int64         `json:"version"`
	Per     time.Duration `json:"per"`
	Window  time.Time     `json:"window"`
	// Buckets are those that were used in the window, or that proxies may use.
	Buckets map[string]Kept `json:"buckets,omitempty"`

	revision int64 // of the store; 0: there is none
}

// read reads the record of a policy, an empty one if there is none or it cannot be read.
func (s *Service) read(ctx context.Context, p Policy) (record, error) {
	key := recordKey(p)
	found, _, err := s.cfg.Store.ReadRecords(ctx, self, key)
	if err != nil {
		return record{}, err
	}
	one, ok := found[key]
	if !ok {
		return record{}, nil
	}
	r := record{}
	plain, err := s.cfg.Store.Unseal(one.Value)
	if err == nil {
		err = json.Unmarshal(plain, &r)
	}
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "what was counted of a quota cannot be read, its window begins anew", "policy", p.Name, "mesh", p.Mesh.Name, "error", err)
		r = record{}
	}
	r.revision = one.Revision
	return r, nil
}

// put writes a record if it is as it was read, and returns its revision then.
func (s *Service) put(ctx context.Context, p Policy, r record) (int64, error) {
	plain, err := json.Marshal(r)
	if err != nil {
		return 0, fmt.Errorf("encoding what was counted: %w", err)
	}
	sealed, err := s.cfg.Store.Seal(plain)
	if err != nil {
		return 0, err
	}
	return s.cfg.Store.ApplyRecords(ctx, self, store.RecordChange{Puts: []store.Record{{Key: recordKey(p), Value: sealed, Revision: r.revision}}})
}
