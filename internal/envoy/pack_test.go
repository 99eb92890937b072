package envoy

import (
	"bytes"
	"path/filepath"
	"testing"
)

// TestSameBytes translates every case several times: what an Envoy is sent is the same each
// time, byte for byte, or it would be sent again for no reason.
func TestSameBytes(t *testing.T) {
	// Not parallel: with -update the cases are written by tests that are.
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata: %v", err)
	}
	for _, file := range files {
		c := readCase(t, file)
		first := c.without(t, "")
		for range 8 {
			if !bytes.Equal(first, c.without(t, "")) {
				t.Errorf("%s: other bytes come of the same view", c.name())
				break
			}
		}
	}
}
