package server_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/server"
)

// future is a request that waits for a revision that does not come.
const future = "/v1/meshes/shop/propagation?revision=9007199254740991&wait="

// A call that is asked to wait may take longer than others.
func TestWaitingForPropagationIsNotCutOff(t *testing.T) {
	t.Parallel()
	for _, tls := range []bool{false, true} { // and HTTP/2
		p := meshtest.StartWith(t, meshtest.Options{TLS: tls, Change: patient(func(to *server.Timeouts) { to.Request, to.Answer = short, short })})
		p.Put(t, "/meshes", `{"meshName":"shop"}`)
		begin := time.Now()
		p.Signed(t).Want(t, http.MethodGet, future+"1", "", nil)
		if took := time.Since(begin); took < time.Second {
			t.Errorf("over TLS %t: answered after %s", tls, took)
		}
	}
}

// A server that ends does not keep who waits, and does not tell that there are no proxies.
func TestWaitingForPropagationEndsWithTheServer(t *testing.T) {
	t.Parallel()
	p := meshtest.Start(t)
	p.Put(t, "/meshes", `{"meshName":"shop"}`)
	p.CloseIdle()
	wantMetric(t, p, openConnections, "0")
	answer := make(chan error, 1)
	req := signed(t, p, http.MethodGet, future+"60", "")
	go func() {
		client := p.HTTP()
		defer client.CloseIdleConnections()
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if code := resp.Header.Get("X-Amzn-Errortype"); resp.StatusCode != http.StatusServiceUnavailable || code != "ServiceUnavailableException" {
				err = fmt.Errorf("answered with %s %s", resp.Status, code)
			}
		}
		answer <- err
	}()
	wantMetric(t, p, openConnections, "1") // a request on its way is answered, too
	p.Stop(t)
	if err := <-answer; err != nil {
		t.Error(err)
	}
}
