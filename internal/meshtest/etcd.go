package meshtest

import (
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Etcd is an etcd of several members, as sites run them, in the test's process.
type Etcd struct {
	// Endpoints are where the members serve clients, host:port.
	Endpoints []string
	members   []*embed.Etcd
}

// StartEtcd runs an etcd of n members until the test ends. Its elections take tenths of a
// second, and it does not wait for the disk.
func StartEtcd(t testing.TB, n int) *Etcd {
	t.Helper()
	peers, cluster := make([]url.URL, n), ""
	for i := range peers {
		peers[i] = url.URL{Scheme: "http", Host: freeAddress(t)}
		cluster += fmt.Sprintf(",m%d=%s", i, peers[i].String())
	}
	e := &Etcd{}
	for i, p := range peers {
		c := embed.NewConfig()
		c.Name, c.Dir = fmt.Sprintf("m%d", i), t.TempDir()
		c.InitialCluster, c.InitialClusterToken = cluster[1:], peers[0].Host
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{p}, []url.URL{p}
		c.ListenClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
		c.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2379"}} // nobody looks
		c.TickMs, c.ElectionMs, c.UnsafeNoFsync = 50, 500, true
		c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		member, err := embed.StartEtcd(c)
		if err != nil {
			t.Fatalf("starting member %d of an etcd: %v", i, err)
		}
		t.Cleanup(member.Close)
		e.members = append(e.members, member)
		e.Endpoints = append(e.Endpoints, member.Clients[0].Addr().String())
	}
	for i, m := range e.members {
		select {
		case <-m.Server.ReadyNotify():
		case <-time.After(wait):
			t.Fatalf("member %d of an etcd is not ready after %s", i, wait)
		}
	}
	return e
}

// RaiseAlarm has etcd take nothing but deletes, as a member does whose file has reached its
// quota.
func (e *Etcd) RaiseAlarm(t testing.TB, member uint64) {
	t.Helper()
	_, err := e.members[0].Server.Alarm(t.Context(), &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: etcdserverpb.AlarmType_NOSPACE,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// freeAddress returns a loopback address with a port that is free now, for a program that
// must know it before it listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", Address(t)+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
