package server_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// TestStoreMetrics checks that a server tells how large its store is.
func TestStoreMetrics(t *testing.T) {
	t.Parallel()
	p := meshtest.Start(t)
	var text string
	meshtest.Eventually(t, "a look at the store's size", func() error {
		resp, err := p.HTTP().Get("http://" + p.Addrs.Ops + "/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		text = string(raw)
		if err == nil && strings.Contains(text, "fairlead_store_size_bytes 0\n") {
			err = errors.New("it has not looked yet")
		}
		return err
	})
	for _, line := range []string{
		"fairlead_store_quota_bytes 8.589934592e+09", "fairlead_store_level 0", "fairlead_store_document_format 1",
		"fairlead_store_defragmentations_total 0", "fairlead_store_size_in_use_bytes ", "fairlead_store_migration_documents 0",
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("/metrics lacks %q", line)
		}
	}
}
