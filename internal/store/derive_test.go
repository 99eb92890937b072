package store

import (
	"bytes"
	"testing"
)

// TestDeriveKey holds that replicas of one store make the same keys, and others do not.
func TestDeriveKey(t *testing.T) {
	t.Parallel()
	derive := func(seal byte, purpose string) []byte {
		t.Helper()
		s := &Store{}
		if err := s.useSealKey(bytes.Repeat([]byte{seal}, sealKeySize)); err != nil {
			t.Fatal(err)
		}
		key, err := s.DeriveKey(purpose)
		if err != nil {
			t.Fatal(err)
		}
		if len(key) != DerivedKeySize {
			t.Fatalf("the key has %d bytes, want %d", len(key), DerivedKeySize)
		}
		return key
	}
	one := derive(1, "a")
	if !bytes.Equal(one, derive(1, "a")) {
		t.Error("the same seal key and purpose give another key")
	}
	if bytes.Equal(one, derive(1, "b")) {
		t.Error("another purpose gives the same key")
	}
	if bytes.Equal(one, derive(2, "a")) {
		t.Error("another seal key gives the same key")
	}
	if bytes.Contains(one, bytes.Repeat([]byte{1}, 8)) {
		t.Error("the derived key shows the seal key")
	}
}
