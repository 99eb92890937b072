//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// memberVariable tells a process of this test's program that it is a member of etcd, and
// its settings.
const memberVariable = "FAIRLEAD_CHAOS_MEMBER"

// memberSettings are those of one member.
type memberSettings struct{ Name, Address, Dir, Cluster string }

// runMember runs a member of etcd with etcd's own times, which waits for its disk.
func runMember(settings string) error {
	var s memberSettings
	if err := json.Unmarshal([]byte(settings), &s); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	// Its log is put on the disk ahead in pieces, which are 64 MB; the disks here are small.
	wal.SegmentSizeBytes = 4 << 20
	at := func(port int) []url.URL {
		return []url.URL{{Scheme: "http", Host: fmt.Sprintf("%s:%d", s.Address, port)}}
	}
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster = s.Name, s.Dir, s.Cluster
	c.ListenPeerUrls, c.AdvertisePeerUrls = at(2380), at(2380)
	c.ListenClientUrls, c.AdvertiseClientUrls = at(2379), at(2379)
	c.LogLevel, c.LogOutputs = "warn", []string{"stderr"}
	etcd, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	defer etcd.Close()
	select {
	case <-ctx.Done():
		return nil
	case <-etcd.Server.StopNotify():
		return errors.New("etcd has stopped by itself")
	}
}

// host is one of the hosts that are broken: a process on it, a disk of its own and a wire.
type host struct {
	t    *testing.T
	name string
	*meshtest.Host
	wire *meshtest.Wire
	log  *meshtest.Log
	// command returns the host's process, to be started.
	command func() *exec.Cmd

	cmd  *exec.Cmd // nil while none runs
	over chan struct{}
}

func newHost(t *testing.T, hosts *meshtest.Hosts, name string) *host {
	t.Helper()
	h := &host{t: t, name: name, log: &meshtest.Log{}}
	h.Host, h.wire = hosts.AddWired(name)
	t.Cleanup(func() {
		h.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", name, last(h.log.String(), 6000))
		}
	})
	return h
}

func last(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// start starts the host's process.
func (h *host) start() {
	h.t.Helper()
	h.cmd = h.command()
	h.cmd.Stdout, h.cmd.Stderr = h.log, h.log
	if err := h.Start(h.cmd); err != nil {
		h.t.Fatalf("starting %s: %v", h.name, err)
	}
	h.over = make(chan struct{})
	cmd, over := h.cmd, h.over
	go func() { _ = cmd.Wait(); close(over) }() // how it ends does not matter
}

// kill ends the host's process at once.
func (h *host) kill() {
	if h.cmd == nil {
		return
	}
	_ = h.cmd.Process.Kill() // it may have ended
	<-h.over
	h.cmd = nil
}

// ended reports whether the host's process has ended by itself.
func (h *host) ended() bool {
	select {
	case <-h.over:
		return true
	default:
		return false
	}
}

// member is a member of etcd.
type member struct {
	*host
	client *http.Client
}

// newMembers starts an etcd of three members, each on a host and a disk of its own.
func newMembers(t *testing.T, hosts *meshtest.Hosts) []*member {
	t.Helper()
	var all []*member
	var cluster []string
	for i := range 3 {
		m := &member{host: newHost(t, hosts, fmt.Sprintf("etcd-%d", i))}
		m.client = m.HTTP("tcp")
		m.client.Transport.(*http.Transport).DisableKeepAlives = true
		all = append(all, m)
		cluster = append(cluster, fmt.Sprintf("%s=http://%s:2380", m.name, m.V4))
	}
	for _, m := range all {
		settings, err := json.Marshal(memberSettings{
			Name: m.name, Address: m.V4.String(), Dir: m.disk(64<<20) + "/etcd", Cluster: strings.Join(cluster, ","),
		})
		if err != nil {
			t.Fatal(err)
		}
		m.command = func() *exec.Cmd {
			cmd := m.Command(os.Args[0])
			cmd.Env = append(os.Environ(), memberVariable+"="+string(settings))
			return cmd
		}
		m.start()
	}
	for _, m := range all {
		meshtest.Eventually(t, m.name+" is well", m.well)
	}
	return all
}

// well returns nil if the member takes part.
func (m *member) well() error {
	status, body, err := meshtest.Get(m.client, m.url()+"/health")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("health is %d %s", status, body)
	}
	return err
}

func (m *member) url() string { return fmt.Sprintf("http://%s:2379", m.V4) }

// leads reports whether the member is the leader, by what it says itself.
func (m *member) leads() bool {
	_, body, err := meshtest.Get(m.client, m.url()+"/metrics")
	return err == nil && strings.Contains(body, "\netcd_server_is_leader 1\n")
}

// leader waits until one of the members leads, and returns it.
func leader(t *testing.T, of []*member) *member {
	t.Helper()
	var found *member
	meshtest.Eventually(t, "a member of etcd leads", func() error {
		for _, m := range of {
			if m.leads() {
				found = m
				return nil
			}
		}
		return errors.New("none does")
	})
	return found
}
