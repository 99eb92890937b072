package store

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// DerivedKeySize is how long keys from DeriveKey are, in bytes.
const DerivedKeySize = 32

// DeriveKey returns a key for one purpose that all who have the seal key can make, and
// nobody else: HKDF with SHA-256. Keys of different purposes tell nothing of each other,
// nor of the seal key.
func (s *Store) DeriveKey(purpose string) ([]byte, error) {
	key, err := hkdf.Expand(sha256.New, s.sealRoot, "fairlead/"+purpose, DerivedKeySize)
	if err != nil {
		return nil, fmt.Errorf("deriving the key for %s: %w", purpose, err)
	}
	return key, nil
}
