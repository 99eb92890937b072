package main

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead-mesh/fairlead/test/process"
)

const streamsMetric = "fairlead_xds_streams"

// sample looks at the server. Nothing comes and goes meanwhile.
func (s *soak) sample(ctx context.Context, n int) error {
	heap, err := s.server.Collected(ctx)
	if err != nil {
		return err
	}
	m, err := s.server.Metrics(ctx)
	if err != nil {
		return err
	}
	rss, err := process.Resident(s.server.Pid())
	if err != nil {
		return err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.server.Pid()))
	if err != nil {
		return err
	}
	records, bytes, err := s.stored(ctx)
	if err != nil {
		return err
	}
	used, err := diskUse(s.server.Data)
	if err != nil {
		return err
	}
	values := []float64{
		m[streamsMetric], m["go_goroutines"], float64(len(files)), heap, rss, records, bytes, m["fairlead_store_size_in_use_bytes"], used,
	}
	s.samples = append(s.samples, sample{at: time.Since(s.began).Seconds(), values: values, opened: s.did.get(streamsOpened)})
	if n%10 == 0 {
		line := fmt.Sprintf("%d streams opened", s.did.get(streamsOpened))
		for i, w := range all {
			line += ", " + w.name + " " + w.unit.show(values[i])
		}
		s.say("%s", line)
	}
	return nil
}

// lasting are the records that are more and more for as long as a soak lasts, on purpose:
// the registry's operations can be asked for during an hour, and go by a lease; the id of an
// account that was deleted is not given again.
var lasting = []string{"fairlead/record/registry-operation/", "fairlead/gone/", "fairlead/record/iamclosed/"}

// issued are the records of certificates, which go a minute after these end. They are more
// and more for as long.
const issued = "fairlead/record/caissued/"

// stored returns how many records are stored and how long they are, without history and
// without those that last.
func (s *soak) stored(ctx context.Context) (records, bytes float64, err error) {
	apart := lasting
	if s.time/4 < certificateLife+time.Minute { // the warm-up is too short for them
		apart = append(slices.Clone(lasting), issued)
	}
	for next := ""; ; {
		var page struct {
			Entries   []struct{ Key, Text, Base64 string }
			NextToken string
		}
		path := "/v1/backup"
		if next != "" {
			path += "?" + url.Values{"nextToken": {next}}.Encode()
		}
		if err := s.server.Call(ctx, http.MethodGet, path, "", &page); err != nil {
			return 0, 0, err
		}
		for _, e := range page.Entries {
			if slices.ContainsFunc(apart, func(prefix string) bool { return strings.HasPrefix(e.Key, prefix) }) {
				continue
			}
			records++
			bytes += float64(len(e.Key) + len(e.Text) + len(e.Base64))
		}
		if next = page.NextToken; next == "" {
			return records, bytes, nil
		}
	}
}

// diskUse is what a data directory takes on the disk without etcd's log. That comes in files
// of 64 MB which are allocated whole, of which etcd keeps five.
func diskUse(dir string) (float64, error) {
	sum := 0.0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) { // it has been put aside meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "wal" {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += float64(st.Blocks) * 512
		}
		return nil
	})
	return sum, err
}
