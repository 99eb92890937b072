package meshtest

import (
	"fmt"
	"net/http"
	"time"
)

// Post calls a page of Envoy's admin interface that changes something, for example
// /reopen_logs.
func (x *Proxy) Post(path string) error {
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Post("http://"+x.Bind+":9901"+path, "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", path, resp.Status)
	}
	return nil
}
