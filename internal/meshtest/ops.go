package meshtest

import (
	"fmt"
	"net/http"
	"strings"
)

// Ops asks the ops address of a server that runs anywhere.
type Ops struct {
	// Addr is host:port, and Client how it is reached; it should keep no connections.
	Addr   string
	Client *http.Client
}

// Ready returns nil if the server says that it is.
func (o Ops) Ready() error {
	status, body, err := Get(o.Client, "http://"+o.Addr+"/readyz")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("readyz answers %d %s", status, body)
	}
	return err
}

// Metric returns a figure of the server's, "" if it has none or does not answer.
func (o Ops) Metric(name string) string {
	_, body, err := Get(o.Client, "http://"+o.Addr+"/metrics")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(body) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
