package envoy

import (
	"bytes"
	"testing"
)

// TestSameBytes translates every case several times: what an Envoy is sent is the same each
// time, byte for byte, or it would be sent again for no reason.
func TestSameBytes(t *testing.T) {
	// Not parallel: with -update the cases are written by tests that are.
	for _, c := range readCases(t) {
		first := c.without(t, "")
		for range 8 {
			if !bytes.Equal(first, c.without(t, "")) {
				t.Errorf("%s: other bytes come of the same view", c.Name)
				break
			}
		}
	}
}
