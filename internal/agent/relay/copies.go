package relay

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead-mesh/fairlead/internal/agent/backoff"
	"github.com/fairlead-mesh/fairlead/internal/agent/private"
)

// snapshot is all that an Envoy has, by type and name. It does not change.
type snapshot map[string]map[string]*resource

// copies keeps what Envoys have accepted, in memory and in a folder.
type copies struct {
	dir string // "" for none
	log *slog.Logger

	mu    sync.Mutex
	all   map[string]snapshot
	used  map[string]bool // by an Envoy that was here
	dirty map[string]bool // to be written
	wake  chan struct{}
}

// mark begins a file, before the checksum of the rest.
const mark = "fairlead relay 1\n"

// writePause is the least time between two writes of copies, so that a mesh that is edited
// all the time does not keep the disk busy.
const writePause = time.Second

const fileSuffix = ".xds"

// copyKey returns the name of the copy for Envoys that are served the same: of one
// resource, one placement and one version.
func copyKey(node *corev3.Node) string {
	of := &corev3.Node{Id: node.GetId(), UserAgentVersionType: node.GetUserAgentVersionType()}
	h := sha256.New()
	for _, m := range []proto.Message{of, node.GetMetadata().GetFields()["fairlead"]} {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil { // a text is not UTF-8: it would not have come in a message
			raw = []byte(err.Error())
		}
		fmt.Fprintf(h, "%d:", len(raw))
		h.Write(raw)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// openCopies reads the copies of a folder.
func openCopies(dir string, log *slog.Logger) (*copies, error) {
	c := &copies{dir: dir, log: log, all: map[string]snapshot{}, used: map[string]bool{}, dirty: map[string]bool{}, wake: make(chan struct{}, 1)}
	if dir == "" {
		return c, nil
	}
	if err := private.Folder(dir); err != nil {
		return nil, fmt.Errorf("preparing for copies: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"+fileSuffix))
	if err != nil {
		return nil, fmt.Errorf("listing the relay's copies: %w", err)
	}
	for _, file := range files {
		s, err := readCopy(file)
		if err != nil {
			log.Warn("a copy cannot be read and is left out", "file", file, "error", err)
			continue
		}
		c.all[strings.TrimSuffix(filepath.Base(file), fileSuffix)] = s
	}
	return c, nil
}

func (c *copies) get(key string) snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used[key] = true
	return c.all[key]
}

func (c *copies) put(key string, s snapshot) {
	c.mu.Lock()
	c.all[key] = s
	c.dirty[key] = true
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run writes copies that have changed until ctx ends, and once more then.
func (c *copies) run(ctx context.Context) {
	if c.dir == "" {
		return
	}
	hours := time.NewTicker(time.Hour)
	defer hours.Stop()
	for ctx.Err() == nil {
		select {
		case <-c.wake:
			c.write()
			backoff.Wait(ctx, writePause)
		case now := <-hours.C:
			c.forget(now)
		case <-ctx.Done():
		}
	}
	c.write()
}

// write writes what has changed.
func (c *copies) write() {
	c.mu.Lock()
	due := map[string]snapshot{}
	for key := range c.dirty {
		due[key] = c.all[key]
	}
	clear(c.dirty)
	c.mu.Unlock()
	for key, s := range due {
		if err := writeCopy(filepath.Join(c.dir, key+fileSuffix), s); err != nil {
			c.log.Error("writing a copy of what Envoy has failed", "error", err)
		}
	}
}

// writeCopy writes a copy by rename. It may hold private keys, so nobody else may read it.
func writeCopy(path string, s snapshot) error {
	var body bytes.Buffer
	for _, typ := range slices.Sorted(maps.Keys(s)) {
		all := slices.Collect(maps.Values(s[typ]))
		sortResources(all)
		if _, err := protodelim.MarshalTo(&body, &response{TypeUrl: typ, Resources: all}); err != nil {
			return fmt.Errorf("encoding %s: %w", typ, err)
		}
	}
	sum := sha256.Sum256(body.Bytes())
	return private.WriteFile(path, append([]byte(mark+hex.EncodeToString(sum[:])+"\n"), body.Bytes()...))
}

// readCopy reads a copy. A file that is not whole is an error.
func readCopy(path string) (snapshot, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	head := len(mark) + 2*sha256.Size + 1
	if len(raw) < head || string(raw[:len(mark)]) != mark {
		return nil, errors.New("it is not a copy of this version")
	}
	body := raw[head:]
	sum := sha256.Sum256(body)
	if string(raw[len(mark):head]) != hex.EncodeToString(sum[:])+"\n" {
		return nil, errors.New("its checksum is wrong")
	}
	s := snapshot{}
	for in := bytes.NewReader(body); in.Len() > 0; {
		var of response
		if err := (protodelim.UnmarshalOptions{MaxSize: -1}).UnmarshalFrom(in, &of); err != nil {
			return nil, fmt.Errorf("decoding: %w", err)
		}
		all := make(map[string]*resource, len(of.GetResources()))
		for _, r := range of.GetResources() {
			all[r.GetName()] = r
		}
		s[of.GetTypeUrl()] = all
	}
	return s, nil
}

// keepCopies is how long a copy is kept that no Envoy uses.
const keepCopies = 30 * 24 * time.Hour

// forget removes the files of copies that no Envoy has used for a long time. The time of a
// file says when it was used.
func (c *copies) forget(now time.Time) {
	c.mu.Lock()
	used := maps.Clone(c.used)
	c.mu.Unlock()
	files, _ := filepath.Glob(filepath.Join(c.dir, "*"+fileSuffix)) // the pattern is good
	for _, file := range files {
		var err error
		if used[strings.TrimSuffix(filepath.Base(file), fileSuffix)] {
			err = os.Chtimes(file, now, now)
		} else if info, e := os.Stat(file); e == nil && now.Sub(info.ModTime()) > keepCopies {
			err = os.Remove(file)
		}
		if err != nil {
			c.log.Warn("looking after old copies", "file", file, "error", err)
		}
	}
}

func sortResources(all []*resource) {
	slices.SortFunc(all, func(x, y *resource) int { return cmp.Compare(x.GetName(), y.GetName()) })
}
