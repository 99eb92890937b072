package meshtest

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// Variables that make a program of tests an application that calls out as soon as it runs.
const (
	firstCallVariable = "FAIRLEAD_TEST_FIRST_CALL"
	firstCallProxy    = "FAIRLEAD_TEST_FIRST_CALL_PROXY"
)

// firstCallMain is the application of FirstCall: a process of the test's program, as Main
// tells. It does not return.
func firstCallMain(target string) error {
	transport := &http.Transport{}
	if at := os.Getenv(firstCallProxy); at != "" {
		transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: at})
	}
	fmt.Fprintln(os.Stdout, firstCall(&http.Client{Timeout: wait, Transport: transport}, target))
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end
	fmt.Fprintln(os.Stdout, firstCall(&http.Client{Timeout: wait, Transport: transport}, target))
	os.Exit(7)
	return nil
}

func firstCall(c *http.Client, target string) string {
	res, err := c.Get(target)
	if err != nil {
		return "call failed: " + err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return fmt.Sprintf("call answered: %d %s %v", res.StatusCode, body, err)
}

// FirstCall returns a command and its environment: a program that calls a URL in the first
// moment that it runs and in the last, and says each time what came of it. It ends with code
// 7 when it is told to. With proxy, host:port, it calls through that; "" for none.
func FirstCall(t testing.TB, target, proxy string) (command, env []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{self}, []string{firstCallVariable + "=" + target, firstCallProxy + "=" + proxy}
}
