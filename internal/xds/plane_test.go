package xds_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/ca"
	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/live"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/store"
	"github.com/fairlead-mesh/fairlead/internal/xds"
)

const (
	owner    = meshtest.Account
	consumer = "000000000002"
)

var testMesh = mesh.MeshID{Account: owner, Region: meshtest.Region, Name: "test"}

// plane is a discovery service and what it stands on, without the REST API.
type plane struct {
	t        *testing.T
	store    *store.Store
	access   *access.Service
	audit    *audit.Log
	ca       *ca.Service
	xds      *xds.Server
	addr     string
	owner    aws.Credentials
	consumer aws.Credentials
}

// newPlane runs a discovery service over the mesh "test" of an account, in which it has
// the virtual node front, until the test ends. There is a second account.
func newPlane(t *testing.T, change func(*xds.Config)) *plane {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	p := &plane{t: t}
	var err error
	if p.store, err = store.Open(t.Context(), store.Config{DataDir: t.TempDir(), Logger: log, Unsafe: true}); err != nil {
		t.Fatal(err)
	}
	if p.access, err = access.Open(t.Context(), access.Config{Store: p.store, Regions: []string{meshtest.Region}, Logger: log}); err != nil {
		t.Fatal(err)
	}
	if p.audit, err = audit.Open(audit.Config{Path: filepath.Join(t.TempDir(), "audit.log")}); err != nil {
		t.Fatal(err)
	}
	if p.ca, err = ca.Open(t.Context(), ca.Config{Store: p.store}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.access.Bootstrap(t.Context(), owner, func(c access.Credentials) error { p.owner = signer(c); return nil }); err != nil {
		t.Fatal(err)
	}
	_, creds, err := p.access.CreateAccount(t.Context(), store.System("test"), consumer, "consumer")
	if err != nil {
		t.Fatal(err)
	}
	p.consumer = signer(creds)
	p.create(owner, testMesh.MeshObject(), "{}")
	p.node(owner, "front")
	p.run(log, change)
	return p
}

func (p *plane) run(log *slog.Logger, change func(*xds.Config)) {
	p.t.Helper()
	p.t.Cleanup(func() {
		if err := errors.Join(p.access.Close(), p.ca.Close(), p.audit.Close(), p.store.Close()); err != nil {
			p.t.Error(err)
		}
	})
	p.replicate(log, change)
}

// replicate runs a discovery service over the plane's store, which is the plane's from then
// on. The function that it returns ends it, as the end of the test does.
func (p *plane) replicate(log *slog.Logger, change func(*xds.Config)) (end func()) {
	p.t.Helper()
	l := live.New(p.store, nil, log)
	cfg := xds.Config{
		Live: l, Access: p.access, CA: p.ca, Log: log, Audit: p.audit,
		Quotas: p.store.Quotas, Shared: p.store.Shared, SettingsChanged: p.store.SettingsChanged,
	}
	if change != nil {
		change(&cfg)
	}
	p.xds = xds.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 3)
	go func() { _ = l.Run(ctx); done <- struct{}{} }()
	go func() { _ = p.xds.Run(ctx); done <- struct{}{} }()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr = lis.Addr().String()
	g := p.xds.GRPC()
	go func() { _ = g.Serve(p.xds.Gate(lis)); done <- struct{}{} }()
	end = sync.OnceFunc(func() {
		cancel()
		g.Stop()
		for range cap(done) {
			<-done
		}
	})
	p.t.Cleanup(end)
	<-l.Ready()
	return end
}

func signer(c access.Credentials) aws.Credentials {
	return aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}
}

// as returns a caller of an account who may do everything.
func as(account string) store.Caller {
	return store.Caller{
		Account: account, Region: meshtest.Region, ARN: "arn:aws:iam::" + account + ":user/test",
		Allow: func(store.Question) error { return nil },
	}
}

func (p *plane) create(account string, id mesh.ID, spec string) {
	p.t.Helper()
	typed, stored, bad := mesh.Decode(id.Kind, "spec", []byte(spec))
	if len(bad) > 0 {
		p.t.Fatal(bad)
	}
	if _, err := p.store.Create(p.t.Context(), as(account), store.NewObject{ID: id, Spec: typed, Stored: stored}); err != nil {
		p.t.Fatalf("creating %v: %v", id.Key, err)
	}
}

// node makes a virtual node with a listener in the mesh, as an account.
func (p *plane) node(account, name string) {
	p.t.Helper()
	p.create(account, testMesh.Object(mesh.KindVirtualNode, "", name), meshtest.NodeSpec("127.0.0.9", 8080))
}

// move has a virtual node of the mesh's owner found at another host.
func (p *plane) move(name, host string) {
	p.t.Helper()
	p.update(testMesh.Object(mesh.KindVirtualNode, "", name), meshtest.NodeSpec(host, 8080))
}

func (p *plane) update(id mesh.ID, spec string) {
	p.t.Helper()
	typed, stored, bad := mesh.Decode(id.Kind, "spec", []byte(spec))
	if len(bad) > 0 {
		p.t.Fatal(bad)
	}
	if _, err := p.store.Update(p.t.Context(), as(id.Mesh.Account), store.Change{ID: id, Spec: typed, Stored: stored}); err != nil {
		p.t.Fatalf("updating %v: %v", id.Key, err)
	}
}

func (p *plane) share() {
	p.t.Helper()
	if _, err := p.store.Share(p.t.Context(), as(owner), testMesh, consumer); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plane) unshare() {
	p.t.Helper()
	if _, err := p.store.Unshare(p.t.Context(), as(owner), testMesh, consumer); err != nil {
		p.t.Fatal(err)
	}
}

// open opens a stream of a node.id, and does not wait for anything.
func (p *plane) open(c aws.Credentials, node string, have map[envoy.Type]map[string]string) *meshtest.Delta {
	p.t.Helper()
	d, err := meshtest.OpenDelta(p.t.Context(), p.addr, c)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(d.Close)
	if err := d.Begin(&corev3.Node{Id: node}, have); err != nil {
		p.t.Fatal(err)
	}
	return d
}

// connect opens a stream and waits for its listeners.
func (p *plane) connect(c aws.Credentials, node string) *meshtest.Delta {
	p.t.Helper()
	d := p.open(c, node, nil)
	d.Await(p.t, "listeners of "+node, func() bool { return len(d.Resources(envoy.TypeListener)) > 0 })
	return d
}

// ends waits until a stream ends, and returns why.
func (p *plane) ends(d *meshtest.Delta) *status.Status {
	p.t.Helper()
	meshtest.Eventually(p.t, "the stream ends", func() error {
		if d.Err() == nil {
			return errNotYet
		}
		return nil
	})
	return status.Convert(d.Err())
}

// refused opens a stream that must end with a code, and returns the message.
func (p *plane) refused(c aws.Credentials, node string, code codes.Code) string {
	p.t.Helper()
	s := p.ends(p.open(c, node, nil))
	if s.Code() != code {
		p.t.Fatalf("%s ended with %v %q, want %v", node, s.Code(), s.Message(), code)
	}
	return s.Message()
}

// proxies waits until the number of proxies is as wanted, and returns them.
func (p *plane) proxies(want int) []xds.ProxyStatus {
	p.t.Helper()
	var all []xds.ProxyStatus
	meshtest.Eventually(p.t, fmt.Sprintf("%d proxies are connected", want), func() error {
		if all = p.xds.Proxies(owner, meshtest.Region, "test"); len(all) != want {
			return fmt.Errorf("there are %d", len(all))
		}
		return nil
	})
	return all
}

// event is what tests look at in a record of the audit.
type event struct {
	EventName, EventType, ErrorCode, SourceIPAddress, UserAgent, RecipientAccountID string
	ReadOnly                                                                        bool
	UserIdentity                                                                    struct{ Type, ARN, AccountID, UserName string }
	Resources                                                                       []struct{ ARN, AccountID, Type string }
	ServiceEventDetails                                                             struct {
		ConnectionID, NodeArn, EventStatus, FailureReason, RepetitionsLeftOut string
	}
}

// events returns the audit's records, the oldest first.
func (p *plane) events(q audit.Query) []event {
	p.t.Helper()
	raw, _, err := p.audit.Query(p.t.Context(), q)
	if err != nil {
		p.t.Fatal(err)
	}
	out := make([]event, len(raw))
	for i, r := range raw {
		if err := json.Unmarshal(r, &out[len(raw)-1-i]); err != nil {
			p.t.Fatal(err)
		}
	}
	return out
}

// awaitEvents waits until there are as many events.
func (p *plane) awaitEvents(q audit.Query, n int) []event {
	p.t.Helper()
	var all []event
	meshtest.Eventually(p.t, fmt.Sprintf("%d events are written", n), func() error {
		if all = p.events(q); len(all) < n {
			return fmt.Errorf("there are %d", len(all))
		}
		return nil
	})
	if len(all) != n {
		p.t.Fatalf("there are %d events, want %d: %+v", len(all), n, all)
	}
	return all
}

// boundAt is the node of a proxy that is bound to an address.
func boundAt(arn, bind string) *corev3.Node {
	text := structpb.NewStringValue
	return &corev3.Node{Id: arn, Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
		"fairlead": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
			"placement": text("bound"), "bindAddress": text(bind), "applicationAddress": text("127.0.1.1"),
		}}),
	}}}
}
