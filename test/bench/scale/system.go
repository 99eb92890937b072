package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
	"github.com/fairlead-mesh/fairlead/test/process"
)

// system is what is measured: Fairlead, or one of the peers with the same resources.
type system interface {
	Pid() int
	// proxies says how a number of proxies that see everything reach it.
	proxies(n int) load.Config
	// change changes count services from one on, one after the other, each with the next
	// mark. It returns when it began and when the last change was accepted.
	change(ctx context.Context, kind changeKind, service, count int, mark uint32) (began, ended int64, err error)
	// heap returns the bytes in use after a collection.
	heap(ctx context.Context) (float64, error)
}

// changeKind is what is changed.
type changeKind string

const (
	endpointChange changeKind = "endpoint"
	routeChange    changeKind = "route"
)

// pingInterval is how often the Envoys of fairlead-agent ping the control plane.
const pingInterval = 10 * time.Second

// meshSystem is Fairlead with a world whose extra nodes see everything.
type meshSystem struct {
	*process.Server
	world *world
}

func (s *meshSystem) proxies(n int) load.Config {
	c := load.Config{Address: s.XDS, Streams: n, Ping: pingInterval, KeyID: s.Creds.AccessKeyID, Secret: s.Creds.SecretAccessKey, Region: process.Region}
	for _, node := range s.world.extra {
		c.Nodes = append(c.Nodes, s.world.arn(node))
	}
	return c
}

func (s *meshSystem) change(ctx context.Context, kind changeKind, service, count int, mark uint32) (began, ended int64, err error) {
	change := s.world.changeRoute
	if kind == endpointChange {
		change = s.world.changeEndpoint
	}
	began = load.Now()
	for i := range count {
		if err := change(ctx, service+i, mark+uint32(i)); err != nil { //nolint:gosec // small
			return 0, 0, err
		}
	}
	return began, load.Now(), nil
}

func (s *meshSystem) heap(ctx context.Context) (float64, error) { return s.Collected(ctx) }

// peer is one of go-control-plane's caches in a process of its own.
type peer struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Scanner
	addr  string
	nodes int
}

// startPeer starts a cache, "snapshot" or "linear", with the resources of a file.
func startPeer(program, kind, resources string, nodes int) (*peer, error) {
	p := &peer{cmd: exec.Command(program, "-cache", kind, "-nodes", fmt.Sprint(nodes), "-resources", resources), nodes: nodes}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting a peer: %w", err)
	}
	p.out = bufio.NewScanner(out)
	if !p.out.Scan() {
		return nil, errors.Join(errors.New("the peer has ended"), p.stop())
	}
	p.addr = strings.TrimSpace(p.out.Text())
	return p, nil
}

func (p *peer) stop() error {
	if err := p.in.Close(); err != nil {
		return err
	}
	return p.cmd.Wait()
}

func (p *peer) Pid() int { return p.cmd.Process.Pid }

func (p *peer) proxies(n int) load.Config {
	c := load.Config{Address: p.addr, Streams: n, Ping: pingInterval}
	for i := range p.nodes {
		c.Nodes = append(c.Nodes, fmt.Sprintf("proxy-%d", i))
	}
	return c
}

// peerAnswer is what a peer answers.
type peerAnswer struct {
	Error          string
	Started, Ended int64
	Heap           float64
}

func (p *peer) tell(command string) (peerAnswer, error) {
	var a peerAnswer
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		return a, fmt.Errorf("telling the peer: %w", err)
	}
	if !p.out.Scan() {
		return a, errors.New("the peer has ended")
	}
	if err := json.Unmarshal(p.out.Bytes(), &a); err != nil {
		return a, fmt.Errorf("reading the peer's answer: %w", err)
	}
	if a.Error != "" {
		return a, errors.New("the peer: " + a.Error)
	}
	return a, nil
}

func (p *peer) change(_ context.Context, kind changeKind, service, count int, mark uint32) (began, ended int64, err error) {
	a, err := p.tell(fmt.Sprintf(`{"Op":%q,"Index":%d,"Count":%d,"Mark":%d}`, kind, service, count, mark))
	return a.Started, a.Ended, err
}

func (p *peer) heap(context.Context) (float64, error) {
	a, err := p.tell(`{"Op":"memory"}`)
	return a.Heap, err
}
