package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/fairlead-mesh/fairlead/test/bench/scale/load"
	"github.com/fairlead-mesh/fairlead/test/process"
)

// comeAndGo opens proxies, waits until they have all there is and lets them go. They speak
// either protocol, say much of themselves or little, and leave in three ways.
func (s *soak) comeAndGo(ctx context.Context, t *tenant, c *load.Process) error {
	n := int(s.ids.Add(1))
	cfg := t.proxies(s.server.XDS, s.cohort, n%2 == 1)
	cfg.Extensions = n / 2 % 2 * 400
	cfg.Leave = []load.Leave{load.LeaveClosing, load.LeaveSaying, load.LeaveResetting}[n%3]
	at := n * s.cohort % len(cfg.Nodes)
	cfg.Nodes = slices.Concat(cfg.Nodes[at:], cfg.Nodes[:at])
	return s.visit(c, fmt.Sprintf("come-%d", n), cfg, func() error { return s.pace(ctx, 200*time.Millisecond) })
}

// visit opens a group, waits until it is in sync, does something and closes it.
func (s *soak) visit(c *load.Process, group string, cfg load.Config, f func() error) error {
	if _, err := c.Open(group, cfg); err != nil {
		return err
	}
	if _, err := c.Synced(group, patience); err != nil {
		return err
	}
	s.did.add(streamsOpened, cfg.Streams)
	if f != nil {
		if err := f(); err != nil {
			return err
		}
	}
	return c.CloseGroup(group)
}

// nodeGoes deletes a node that has proxies, which hear of it.
func (s *soak) nodeGoes(ctx context.Context, t *tenant, c *load.Process) error {
	n := s.ids.Add(1)
	node := fmt.Sprintf("gone-%d", n)
	if err := t.put(ctx, "/virtualNodes", "virtualNodeName", node, t.node(int(n), true)); err != nil {
		return err
	}
	cfg := t.proxies(s.server.XDS, 2, n%2 == 1, node)
	if err := s.visit(c, node, cfg, func() error { return t.remove(ctx, meshPath+"/virtualNodes/"+node) }); err != nil {
		return err
	}
	return s.pace(ctx, 200*time.Millisecond)
}

// keyGoes takes away the key that proxies have signed with: their streams end.
func (s *soak) keyGoes(ctx context.Context, t *tenant, c *load.Process) error {
	user := fmt.Sprintf("proxy-%d", s.ids.Add(1))
	u, err := s.newUser(ctx, t, user, "appmesh:StreamAggregatedResources")
	if err != nil {
		return err
	}
	defer u.Close()
	cfg := u.proxies(s.server.XDS, 2, false)
	err = s.visit(c, user, cfg, func() error {
		if err := t.remove(ctx, "/v1/users/"+user+"/accessKeys/"+u.Creds.AccessKeyID); err != nil {
			return err
		}
		s.did.add("keys revoked", 1)
		return process.Poll(ctx, patience, 10*time.Millisecond, func() error {
			st, err := c.State(user)
			if err == nil && len(st.Ended) == 0 {
				err = errors.New("the streams of a key that is gone go on")
			}
			return err
		})
	})
	return errors.Join(err, t.remove(ctx, "/v1/users/"+user), s.pace(ctx, 500*time.Millisecond))
}

// killed kills a client with its streams.
func (s *soak) killed(ctx context.Context) error {
	c, err := load.Start()
	if err != nil {
		return err
	}
	t := s.tenants[int(s.ids.Add(1))%len(s.tenants)]
	err = s.visit(c, "killed", t.proxies(s.server.XDS, s.cohort, false), func() error {
		return syscall.Kill(c.Pid(), syscall.SIGKILL)
	})
	if ctx.Err() == nil && err == nil {
		return errors.New("a client that was killed has answered")
	}
	if c.Close() == nil {
		return fmt.Errorf("a client was to be killed, and ended well: %w", err)
	}
	s.did.add("clients killed", 1)
	return nil
}

// silent lets proxies fall silent: they read nothing and answer no pings, until the server
// has enough of them.
func (s *soak) silent(ctx context.Context) error {
	c, err := load.Start()
	if err != nil {
		return err
	}
	t := s.tenants[int(s.ids.Add(1))%len(s.tenants)]
	cfg := t.proxies(s.server.XDS, s.cohort, false)
	err = s.visit(c, "silent", cfg, func() error {
		if err := c.Pause("silent", cfg.Streams); err != nil {
			return err
		}
		// A read that is under way still takes one thing: this.
		for i := range t.services {
			if _, err := t.editRoute(ctx, i, int(s.ids.Add(1))); err != nil {
				return err
			}
		}
		return process.Poll(ctx, silenceTime, time.Second, func() error {
			m, err := s.server.Metrics(ctx)
			if err == nil && m[streamsMetric] > s.streams {
				err = fmt.Errorf("there are %.0f streams, %.0f should be", m[streamsMetric], s.streams)
			}
			return err
		})
	})
	s.did.add("silent proxies", cfg.Streams)
	return errors.Join(err, c.Close())
}

// silenceTime is how long the server takes to find out, and something more: two intervals
// of its pings.
const silenceTime = 90 * time.Second
