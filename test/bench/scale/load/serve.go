// Package load is a client of the discovery service that stands for thousands of proxies:
// it opens as many streams as it is asked to, each a connection of its own, subscribes as
// Envoy does, acknowledges what it is sent, and notes when each stream has each change. It
// speaks HTTP/2 itself, with one goroutine and some kilobytes a stream, so that what is
// measured is the server. A process of its own serves commands on its standard input, and
// a Process is another process's hold on it. It may import internal/envoy and what signs.
package load

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"sync"
	"time"
)

// command is what a process is told, a line of JSON.
type command struct {
	ID    int64
	Op    string
	Group string
	Open  *Config       `json:",omitempty"`
	Mark  uint32        `json:",omitempty"`
	Marks []uint32      `json:",omitempty"`
	Want  int           `json:",omitempty"`
	File  string        `json:",omitempty"`
	Wait  time.Duration `json:",omitempty"`
}

// Answer is what a process answers.
type Answer struct {
	ID    int64
	Error string
	// At is when it was asked to begin, on the clock of Now.
	At int64
	// Times are when streams had a change, in ascending order, on the clock of Now.
	Times [][]int64
	// State is how a group stands.
	State State
	// Digests stand for what each stream holds.
	Digests []string
}

// State is how a group stands.
type State struct {
	// Streams are all, Open those connected, Synced those that have all.
	Streams, Open, Synced int
	// First and Last are when the first and the last of them had all.
	First, Last int64
	// Ended and Refused count streams that the server ended or did not take, by reason.
	Ended, Refused map[string]int
	// Bytes were received by all streams.
	Bytes int64
}

type server struct {
	facts   *facts
	changes *changes
	mu      sync.Mutex
	groups  map[string]*group
	next    int32
}

// Serve takes commands until in ends, and ends all streams then.
func Serve(in io.Reader, out io.Writer) error {
	s := &server{
		facts: &facts{seed: maphash.MakeSeed()}, changes: &changes{all: map[uint32]*change{}}, groups: map[string]*group{},
	}
	var mu sync.Mutex
	encode := json.NewEncoder(out)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return fmt.Errorf("reading a command: %w", err)
		}
		go func() {
			a, err := s.do(&c)
			if err != nil {
				a.Error = err.Error()
			}
			a.ID = c.ID
			mu.Lock()
			defer mu.Unlock()
			_ = encode.Encode(a) // who asked is gone if it fails
		}()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups {
		g.close()
	}
	return lines.Err()
}

func (s *server) do(c *command) (a Answer, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.Wait)
	defer cancel()
	if c.Op == "times" {
		for _, m := range append(c.Marks, c.Mark) {
			if m != 0 {
				a.Times = append(a.Times, s.changes.await(ctx, m, c.Want))
			}
		}
		return a, nil
	}
	g, err := s.group(c)
	if err != nil {
		return a, err
	}
	a.At = Now()
	switch c.Op {
	case "open":
		g.open()
	case "reconnect":
		g.close()
		a.At = Now()
		g.open()
	case "close":
		g.close()
		s.mu.Lock()
		delete(s.groups, c.Group)
		s.mu.Unlock()
	case "synced":
		g.awaitSynced(ctx)
	case "pause":
		g.pause(c.Want, true)
	case "resume":
		g.pause(len(g.streams), false)
	case "dump":
		return a, g.dump(c.File)
	case "digests":
		for _, st := range g.streams {
			a.Digests = append(a.Digests, fmt.Sprintf("%016x", st.digest()))
		}
	case "state":
	default:
		return a, fmt.Errorf("no such command: %s", c.Op)
	}
	a.State = g.tell()
	return a, nil
}

// group returns the group of a command, which "open" makes.
func (s *server) group(c *command) (*group, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[c.Group]
	switch {
	case c.Op != "open" && g == nil:
		return nil, fmt.Errorf("there is no group %q", c.Group)
	case c.Op != "open":
		return g, nil
	case g != nil:
		return nil, fmt.Errorf("group %q is open", c.Group)
	}
	g, err := newGroup(*c.Open, s.facts, s.changes, s.next)
	if err != nil {
		return nil, err
	}
	s.next += int32(c.Open.Streams) //nolint:gosec // far fewer than 2^31
	s.groups[c.Group] = g
	return g, nil
}

func (g *group) tell() State {
	var bytes int64
	for _, s := range g.streams { // before the state is locked: streams lock it while they are
		bytes += s.received()
	}
	st := &g.state
	st.mu.Lock()
	defer st.mu.Unlock()
	out := State{
		Streams: len(g.streams), Open: st.open, Synced: st.synced, First: st.first, Last: st.last,
		Ended: map[string]int{}, Refused: map[string]int{}, Bytes: bytes,
	}
	for why, n := range st.ended {
		out.Ended[why] = n
	}
	for why, n := range st.refused {
		out.Refused[why] = n
	}
	return out
}
