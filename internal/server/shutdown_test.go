package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/aws-sdk-go-v2/service/appmesh/types"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/fairlead-mesh/fairlead/internal/envoy"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// writer creates objects one after the other and notes which were answered.
type writer struct {
	name     string
	answered []string // those with 200
	unknown  []string // those whose connection ended instead of an answer
}

// run writes until the server is gone. What comes back is an answer that is whole, or
// an error of the connection.
func (w *writer) run(t *testing.T, p *meshtest.Plane, client *http.Client, first chan<- struct{}) {
	for i := 0; ; i++ {
		name := fmt.Sprintf("%s-%d", w.name, i)
		req := signed(t, p, http.MethodPut, "/v20190125/meshes/test/virtualNodes", `{"virtualNodeName":"`+name+`","spec":{}}`)
		resp, err := client.Do(req)
		if err != nil {
			w.unknown = append(w.unknown, name)
			return
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Errorf("%s: an answer with status %d was cut off: %v", name, resp.StatusCode, err)
			return
		}
		if resp.StatusCode == http.StatusServiceUnavailable {
			continue
		}
		var answer struct{ VirtualNodeName string }
		if err := json.Unmarshal(body, &answer); err != nil || resp.StatusCode != http.StatusOK || answer.VirtualNodeName != name {
			t.Errorf("%s: %s %s %v", name, resp.Status, body, err)
			return
		}
		w.answered = append(w.answered, name)
		if len(w.answered) == 5 {
			first <- struct{}{}
		}
	}
}

func TestNoAnsweredWriteIsLost(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %v", h2), func(t *testing.T) {
			t.Parallel()
			p := meshtest.StartWith(t, meshtest.Options{TLS: h2, Quotas: meshtest.MostQuotas()})
			p.Put(t, "/meshes", `{"meshName":"test"}`)
			rounds := 5
			if h2 { // whose clients have a second to go, each time
				rounds = 2
			}
			for round := range rounds {
				stopAndCompare(t, p, round)
			}
			if strings.Contains(p.Log.String(), "level=ERROR") {
				t.Errorf("the server's log has errors:\n%s", p.Log)
			}
		})
	}
}

// stopAndCompare ends the server under writers, starts it again and looks for what was
// answered.
func stopAndCompare(t *testing.T, p *meshtest.Plane, round int) {
	t.Helper()
	writers := make([]*writer, 8)
	busy := make(chan struct{}, len(writers))
	shared := p.HTTP()
	var wg sync.WaitGroup
	for i := range writers {
		writers[i] = &writer{name: fmt.Sprintf("r%d-w%d", round, i)}
		client := shared // half of them share their connections
		if i%2 == 0 {
			client = p.HTTP()
		}
		wg.Go(func() { writers[i].run(t, p, client, busy) })
	}
	for range writers {
		select {
		case <-busy:
		case <-time.After(patience):
			t.Fatal("the writers do not get going")
		}
	}
	p.Stop(t)
	wg.Wait()
	p.Run(t)
	stored := nodes(t, p)
	total := 0
	for _, w := range writers {
		for _, name := range w.answered {
			if !stored[name] {
				t.Errorf("%s was answered and is not there", name)
			}
			delete(stored, name)
		}
		for _, name := range w.unknown { // may be there or not
			delete(stored, name)
		}
		total += len(w.answered)
	}
	for name := range stored {
		if strings.HasPrefix(name, fmt.Sprintf("r%d-", round)) {
			t.Errorf("%s is there, and was refused", name)
		}
	}
	t.Logf("round %d: %d writes were answered", round, total)
}

// nodes lists the virtual nodes, each of which must be whole.
func nodes(t *testing.T, p *meshtest.Plane) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	pages := appmesh.NewListVirtualNodesPaginator(p.Client(p.Creds), &appmesh.ListVirtualNodesInput{MeshName: aws.String("test")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range page.VirtualNodes {
			all[aws.ToString(n.VirtualNodeName)] = true
		}
	}
	return all
}

// readyz returns what the ops address says of itself.
func readyz(p *meshtest.Plane) (status int, text string, err error) {
	client := p.HTTP()
	defer client.CloseIdleConnections()
	resp, err := client.Get(strings.Replace(p.URL(), p.Addrs.API, p.Addrs.Ops, 1) + "/readyz")
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(all), err
}

// half sends a request's headers and half its body, and waits until the server reads it.
func half(t *testing.T, p *meshtest.Plane, name string) (c net.Conn, rest string) {
	t.Helper()
	c = dial(t, p.Addrs.API)
	req := signed(t, p, http.MethodPut, "/v20190125/meshes", `{"meshName":"`+name+`"}`)
	req.Header.Set("Expect", "100-continue") // answered when the body is asked for
	headers, body := wire(t, req)
	send(t, c, headers)
	if line, err := bufio.NewReader(io.LimitReader(c, int64(len("HTTP/1.1 100 Continue\r\n\r\n")))).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("%q %v", line, err)
	}
	send(t, c, body[:5])
	return c, body[5:]
}

func TestRequestUnderWayIsFinished(t *testing.T) {
	t.Parallel()
	p := meshtest.Start(t)
	c, rest := half(t, p, "under-way")
	p.Terminate()
	meshtest.Eventually(t, "/readyz says so", func() error {
		code, text, err := readyz(p)
		if err == nil && (code != http.StatusServiceUnavailable || !strings.Contains(text, "shutting down")) {
			err = fmt.Errorf("%d %s", code, text)
		}
		return err
	})
	meshtest.Eventually(t, "new connections are refused", func() error {
		for _, addr := range []string{p.Addrs.API, p.Addrs.XDS} {
			conn, err := net.DialTimeout("tcp", addr, patience)
			if err == nil {
				_ = conn.Close()
				return fmt.Errorf("%s accepts", addr)
			}
		}
		return nil
	})
	send(t, c, rest)
	wantStatus(t, c, http.StatusOK)
	p.Stop(t)
	if _, _, err := readyz(p); err == nil {
		t.Error("the ops address answers after the end")
	}
	p.Run(t)
	_, err := p.Client(p.Creds).DescribeMesh(t.Context(), &appmesh.DescribeMeshInput{MeshName: aws.String("under-way")})
	if err != nil {
		t.Errorf("what was answered at the end: %v", err)
	}
}

func TestRequestThatDoesNotEndIsCut(t *testing.T) {
	t.Parallel()
	p := meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) { c.Timeouts.Shutdown = 50 * time.Millisecond }})
	c, _ := half(t, p, "cut")
	p.Stop(t)
	if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("after the end: %v", err)
	}
	if !strings.Contains(p.Log.String(), "requests under way were cut") {
		t.Errorf("the log does not say so:\n%s", p.Log)
	}
	p.Run(t)
	_, err := p.Client(p.Creds).DescribeMesh(t.Context(), &appmesh.DescribeMeshInput{MeshName: aws.String("cut")})
	var missing *types.NotFoundException
	if !errors.As(err, &missing) {
		t.Errorf("half a request: %v", err)
	}
}

func TestHTTP2ClientsAreToldToGo(t *testing.T) {
	t.Parallel()
	p := meshtest.StartWith(t, meshtest.Options{TLS: true})
	f := dialFrames(t, p)
	req := signed(t, p, http.MethodPut, "/v20190125/meshes", `{"meshName":"test"}`)
	body, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatal(err)
	}
	f.open(t, 1, req, false)
	// A second stream whose answer says that the first has been accepted too.
	f.open(t, 3, signed(t, p, http.MethodGet, "/v20190125/meshes", ""), true)
	f.until(t, "the second answer", func(x http2.Frame) bool { return f.status(t, x) == "200" })
	p.Terminate()
	f.until(t, "GOAWAY", func(x http2.Frame) bool { return x.Header().Type == http2.FrameGoAway })
	if err := f.WriteData(1, true, body); err != nil {
		t.Fatal(err)
	}
	var got string
	f.until(t, "the first answer", func(x http2.Frame) bool { got = f.status(t, x); return got != "" && x.Header().StreamID == 1 })
	if got != "200" {
		t.Errorf("the request under way is answered with %s", got)
	}
	p.Stop(t)
}

func TestProxiesAreTold(t *testing.T) {
	t.Parallel()
	p := meshtest.Start(t)
	p.Put(t, "/meshes", `{"meshName":"test"}`)
	p.Node(t, "test", "front", "10.0.0.1", 8080)
	d := p.Delta(t, &corev3.Node{Id: meshtest.ARN("test", "front")})
	d.Await(t, "a first configuration", func() bool { return len(d.Resources(envoy.TypeListener)) > 0 })
	p.Stop(t)
	meshtest.Eventually(t, "the stream ends", func() error {
		if d.Err() == nil {
			return errors.New("it has not")
		}
		return nil
	})
	if s := grpcstatus.Convert(d.Err()); s.Code() != codes.Unavailable || !strings.Contains(s.Message(), "shutting down") {
		t.Errorf("the stream ended with %v", d.Err())
	}
	if strings.Contains(p.Log.String(), "streams were cut") {
		t.Errorf("streams were cut:\n%s", p.Log)
	}
}

// Streams are ended one after the other, and those that are left are served until then.
func TestStreamsAreEndedOverAWhile(t *testing.T) {
	t.Parallel()
	const drain, n = 2 * time.Second, 10
	p := meshtest.StartWith(t, meshtest.Options{Change: func(c *server.Config) { c.Timeouts.Drain = drain }})
	p.Put(t, "/meshes", `{"meshName":"test"}`)
	p.Node(t, "test", "front", "10.0.0.1", 8080)
	all := make([]*meshtest.Delta, n)
	for i := range all {
		all[i] = p.Delta(t, &corev3.Node{Id: meshtest.ARN("test", "front")})
		all[i].Await(t, "a first configuration", func() bool { return len(all[i].Resources(envoy.TypeListener)) > 0 })
	}
	st, before := p.Server().Store(), all[0].Versions()
	begun := time.Now()
	p.Terminate()
	front := mesh.MeshID{Account: meshtest.Account, Region: meshtest.Region, Name: "test"}.Object(mesh.KindVirtualNode, "", "front")
	typed, stored, bad := mesh.Decode(front.Kind, "spec", []byte(meshtest.NodeSpec("10.0.0.1", 8081)))
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	if _, err := st.Update(t.Context(), store.System("test"), store.Change{ID: front, Spec: typed, Stored: stored}); err != nil {
		t.Fatal(err)
	}
	served := 0
	for _, d := range all {
		meshtest.Eventually(t, "each stream ends", func() error {
			if d.Err() == nil {
				return errors.New("it has not")
			}
			return nil
		})
		if code := grpcstatus.Code(d.Err()); code != codes.Unavailable {
			t.Errorf("a stream ended with %v", d.Err())
		}
		if !cmp.Equal(d.Versions(), before) {
			served++
		}
	}
	if took := time.Since(begun); took < drain*(n-1)/n {
		t.Errorf("all had ended after %v, though that was to take %v", took, drain)
	}
	if served == 0 {
		t.Error("no stream was served any more")
	}
	t.Logf("%d of %d streams had a change that came after the beginning of the end", served, n)
	p.Stop(t)
}

// A server that is told to end before it is ready ends too.
func TestEndBeforeTheStart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	s, err := server.Open(ctx, config(t))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
}
