package restapi_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// TestAuthentication holds who is refused before anything is said of what is there,
// and that unknown paths are unknown to everybody.
func TestAuthentication(t *testing.T) {
	t.Parallel()
	srv, _ := newServer(t)
	createBase(t, srv, testAccount)
	for _, c := range []struct {
		authorization, path, body, code string
	}{
		{"", meshes + "/shop", "", "MissingAuthenticationTokenException"},
		{"", meshes + "/other", "", "MissingAuthenticationTokenException"},
		{"", meshes + "/a%2Fb?limit=x", "{", "MissingAuthenticationTokenException"},
		{"forged", meshes + "/shop", "", "InvalidSignatureException"},
		{"", api + "/shop", "", "UnknownOperationException"},
		{"forged", api + "/shop", "", "UnknownOperationException"},
		{"signed", api + "/shop", "", "UnknownOperationException"},
	} {
		req := request(t, srv, http.MethodGet, c.path, c.body)
		req.Header.Set("Authorization", c.authorization)
		if a := send(t, srv, req); a.code() != c.code {
			t.Errorf("%q GET %s: %d %s", c.authorization, c.path, a.Status, a.Body)
		}
	}
}

// TestVerifyIsAsked holds what the signature is checked over: the request as it was
// sent, and the hash of the body as it came.
func TestVerifyIsAsked(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []access.Request
	srv := serve(t, restapi.New(restapi.Config{Store: openStore(t), Verify: func(r access.Request) (access.Caller, error) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r)
		return access.Caller{}, mesh.Errorf(mesh.ErrUnrecognizedClient, "no")
	}}))
	do(t, srv, http.MethodGet, meshes+"/a%2Fb%20c?limit=1&meshOwner=%31", "")
	do(t, srv, http.MethodPut, meshes, "hello")
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 2 || got[0].EscapedPath != meshes+"/a%2Fb%20c" || got[0].RawQuery != "limit=1&meshOwner=%31" || got[0].Method != "GET" ||
		got[0].Host != strings.TrimPrefix(srv.URL, "http://") || got[0].Header.Get("Authorization") != "signed" {
		t.Errorf("asked about %+v", got)
	}
	const empty, hello = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	if got[0].PayloadHash != empty || got[1].PayloadHash != hello {
		t.Errorf("hashes %s and %s", got[0].PayloadHash, got[1].PayloadHash)
	}
}

// TestForbidden holds that the store is asked on behalf of the caller.
func TestForbidden(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	verify := func(r access.Request) (access.Caller, error) {
		c, err := verifyAll(r)
		c.Allow = func(q store.Question) error {
			return mesh.Errorf(mesh.ErrForbidden, "not %s on %s", q.Action, q.Resource)
		}
		return c, err
	}
	srv := serve(t, restapi.New(restapi.Config{Store: s, Verify: verify}))
	for _, c := range [][3]string{
		{"GET", meshes, "not appmesh:ListMeshes on *"},
		{"DELETE", cartNode, "not appmesh:DeleteVirtualNode on arn:aws:appmesh:us-east-1:000000000001:mesh/shop/virtualNode/cart"},
		{"GET", api + "/tags" + tagShop[4:], "not appmesh:ListTagsForResource on arn:aws:appmesh:us-east-1:000000000001:mesh/shop"},
	} {
		wantRefusal(t, do(t, srv, c[0], c[1], ""), 403, "ForbiddenException", c[2])
	}
}

// TestFaults holds that what goes wrong inside is logged under the request id and
// not shown, and that the server goes on.
func TestFaults(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	fault := errors.New("secret detail")
	verify := func(r access.Request) (access.Caller, error) {
		switch r.Header.Get("X-Fault") {
		case "panic":
			panic(fault)
		case "error":
			return access.Caller{}, fault
		case "late":
			return access.Caller{}, fmt.Errorf("asking: %w", context.DeadlineExceeded)
		}
		return verifyAll(r)
	}
	s := openStore(t)
	srv := serve(t, restapi.New(restapi.Config{Store: s, Verify: verify, Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	for what, want := range map[string]string{
		"panic": "500 InternalServerErrorException", "error": "500 InternalServerErrorException", "late": "503 ServiceUnavailableException",
	} {
		req := request(t, srv, http.MethodGet, meshes, "")
		req.Header.Set("X-Fault", what)
		a := send(t, srv, req)
		if got := fmt.Sprint(a.Status, " ", a.code()); got != want || strings.Contains(a.Body, "secret") {
			t.Errorf("%s: %s %s, want %s", what, got, a.Body, want)
		}
		id := a.Header.Get("x-amzn-RequestId")
		if logged := strings.Contains(log.String(), id); logged != (a.Status == 500) || logged != strings.Contains(a.Body, id) {
			t.Errorf("%s: request id %s, answer %s, log %s", what, id, a.Body, log.String())
		}
	}
	if !strings.Contains(log.String(), "secret detail") || !strings.Contains(log.String(), "stack=") {
		t.Errorf("the log does not say what happened: %s", log.String())
	}
	must(t, srv, http.MethodGet, meshes, "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, do(t, srv, http.MethodGet, meshes, ""), 503, "ServiceUnavailableException", "")
}

// syncBuffer is a buffer for a log that several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestBodySize holds the bound on bodies, declared or chunked, and that clients
// that send too much still get the answer.
func TestBodySize(t *testing.T) {
	t.Parallel()
	srv, s := newServer(t)
	before := dump(t, s)
	body := func(size int) string {
		head := `{"meshName":"big","pad":"`
		return head + strings.Repeat("x", size-len(head)-2) + `"}`
	}
	const most = 1 << 20
	for _, chunked := range []bool{false, true} {
		for _, size := range []int{most + 1, 4 << 20} {
			req := request(t, srv, http.MethodPut, meshes, body(size))
			if chunked {
				req.ContentLength = -1
			}
			wantRefusal(t, send(t, srv, req), 413, "RequestEntityTooLargeException", "at most 1048576 bytes")
		}
	}
	if dump(t, s) != before {
		t.Error("a body that was refused has been obeyed")
	}
	req := request(t, srv, http.MethodPut, meshes, body(most))
	req.ContentLength = -1
	if a := send(t, srv, req); a.Status != http.StatusOK {
		t.Errorf("a chunked body of 1 MiB: %d %s", a.Status, a.Body)
	}
}

// TestEncodedBody holds that compressed bodies are refused in so many words.
func TestEncodedBody(t *testing.T) {
	t.Parallel()
	srv, _ := newServer(t)
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(`{"meshName":"a"}`)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	req := request(t, srv, http.MethodPut, meshes, b.String())
	req.Header.Set("Content-Encoding", "gzip")
	wantRefusal(t, send(t, srv, req), 400, "BadRequestException", `header Content-Encoding is "gzip", allowed is no encoding`)
	req = request(t, srv, http.MethodPut, meshes, `{"meshName":"a"}`)
	req.Header.Set("Content-Encoding", "identity")
	if a := send(t, srv, req); a.Status != http.StatusOK {
		t.Errorf("identity: %d %s", a.Status, a.Body)
	}
}

// raw sends bytes and returns all that comes back until the server closes.
func raw(t *testing.T, srv *httptest.Server, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// TestWire looks at the bytes: how headers are spelt, and what a client that waits
// for "100 Continue" gets.
func TestWire(t *testing.T) {
	t.Parallel()
	srv, _ := newServer(t)
	head := "PUT " + meshes + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: signed\r\n"
	const body = `{"meshName":"wire"}`
	got := raw(t, srv, head+"Expect: 100-continue\r\nContent-Length: 19\r\n\r\n"+body)
	if !strings.HasPrefix(got, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n") || !strings.Contains(got, "\r\nx-amzn-RequestId: ") {
		t.Errorf("with Expect:\n%s", got)
	}
	got = raw(t, srv, head+"Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 413 ") || !strings.Contains(got, "\r\nx-amzn-ErrorType: RequestEntityTooLargeException\r\n") {
		t.Errorf("with Expect and too much to come:\n%s", got)
	}
	got = raw(t, srv, head+"Transfer-Encoding: chunked\r\n\r\n5\r\n{\"mes\r\nf\r\nhName\":\"wire2\"}\r\n0\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
		t.Errorf("chunked:\n%s", got)
	}
	got = raw(t, srv, "GET http://elsewhere"+meshes+"/wire HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: signed\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
		t.Errorf("with a whole URL:\n%s", got)
	}
}

// TestCanceled holds that a caller who leaves ends the work.
func TestCanceled(t *testing.T) {
	t.Parallel()
	h := restapi.New(restapi.Config{Store: openStore(t), Verify: verifyAll, Logger: testLogger(t)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, meshes, nil)
	req.Header.Set("Authorization", "signed")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
