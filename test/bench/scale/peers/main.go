// Command peers serves resources with go-control-plane's own caches, for Fairlead to be
// measured beside: SnapshotCache with one snapshot a node, whose resources are shared, or
// LinearCache, one a type, behind a MuxCache. It is a module of its own, so that Fairlead
// does not depend on the library's caches.
//
// It reads the resources from a file (an encoded DiscoveryResponse, as Fairlead served
// them), writes the address that it listens on, and takes commands on standard input, a
// line of JSON each, until that ends.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"
)

// command is a line of the input.
type command struct {
	// Op is "endpoint" or "route" for changes, "memory".
	Op string
	// Index is which service changes, Mark what stands in it then, and Count how many
	// services do, one after the other, each with the next mark.
	Index, Count int
	Mark         uint32
}

// answer is a line of the output. Times are of the system's monotonic clock, in
// nanoseconds, sizes in bytes.
type answer struct {
	Error          string
	Started, Ended int64
	Heap           uint64
}

func main() {
	kind := flag.String("cache", "snapshot", "snapshot or linear")
	nodes := flag.Int("nodes", 1, "how many nodes there are, named proxy-0 and so on")
	file := flag.String("resources", "", "file with the resources")
	flag.Parse()
	if err := run(*kind, *nodes, *file); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kind string, nodes int, file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var all discoveryv3.DiscoveryResponse
	if err := proto.Unmarshal(raw, &all); err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	w, err := newWorld(&all)
	if err != nil {
		return err
	}
	var serves cache.Cache
	var push func(changed ...string) error
	switch kind {
	case "snapshot":
		serves, push, err = snapshots(w, nodes)
	case "linear":
		serves, push, err = linear(w)
	default:
		err = fmt.Errorf("-cache %q is not allowed: snapshot or linear", kind)
	}
	if err != nil {
		return err
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	// As the library's example has it, but for how often proxies may ping.
	g := grpc.NewServer(
		grpc.MaxConcurrentStreams(1000000),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, server.NewServer(context.Background(), serves, nil))
	go func() { _ = g.Serve(lis) }() // ends with the process
	fmt.Println(lis.Addr())
	return obey(w, push)
}

// obey does what the input says.
func obey(w *world, push func(...string) error) error {
	lines := bufio.NewScanner(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return err
		}
		a := answer{Started: now()}
		if err := do(w, push, &c, &a); err != nil {
			a.Error = err.Error()
		}
		a.Ended = now()
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return lines.Err()
}

func do(w *world, push func(...string) error, c *command, a *answer) error {
	change := w.changeRoute
	switch c.Op {
	case "memory":
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		a.Heap = m.HeapAlloc
		return nil
	case "endpoint":
		change = w.changeEndpoint
	case "route":
	default:
		return errors.New("no such command")
	}
	for i := range max(1, c.Count) {
		key, err := change(c.Index+i, c.Mark+uint32(i)) //nolint:gosec // small
		if err != nil {
			return err
		}
		if err := push(key); err != nil {
			return err
		}
	}
	return nil
}

func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // there is always such a clock
	}
	return t.Nano()
}
