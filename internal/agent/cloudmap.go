package agent

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/fairlead-mesh/fairlead/internal/agent/control"
)

// callTimeout bounds one call of the API.
const callTimeout = 4 * time.Second

// cloudMap calls the control plane's Cloud Map API: the four operations that are needed,
// without AWS's client, of which the agent links nothing.
type cloudMap struct {
	endpoint, region string
	key              func() (aws.Credentials, error) // asked at each call: the key may be replaced
	http             *http.Client
}

func newCloudMap(api control.API, region string, key func() (aws.Credentials, error)) (*cloudMap, error) {
	c, err := api.Client(callTimeout, nil)
	if err != nil {
		return nil, err
	}
	return &cloudMap{endpoint: api.Endpoint, region: region, key: key, http: c}, nil
}

// apiError is what the API answered in place of a result.
type apiError struct {
	status        int
	code, message string
}

// Error returns code and message.
func (e *apiError) Error() string { return e.code + ": " + e.message }

// Codes of the API that matter here.
const (
	codeNoService   = "ServiceNotFound"
	codeNoInstance  = "InstanceNotFound"
	codeNoNamespace = "NamespaceNotFound"
)

// refusal returns the refusal that err is: an answer that will be the same until somebody
// changes something. Nil for what may pass by itself.
func refusal(err error) *apiError {
	var e *apiError
	if !errors.As(err, &e) || e.status >= 500 || e.status == http.StatusTooManyRequests ||
		slices.Contains([]string{"ThrottlingException", "RequestLimitExceeded"}, e.code) {
		return nil
	}
	return e
}

// call does an operation. What is answered is read into out, unless that is nil.
func (c *cloudMap) call(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "Route53AutoNaming_v20170314."+operation)
	key, err := c.key()
	if err != nil {
		return err
	}
	if err := v4.NewSigner().SignHTTP(ctx, key, req, digest(body), "servicediscovery", c.region, time.Now()); err != nil {
		return fmt.Errorf("signing: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	switch {
	case err != nil:
		return fmt.Errorf("reading the answer to %s: %w", operation, err)
	case res.StatusCode != http.StatusOK:
		return readError(res, answer)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("reading the answer to %s: %w", operation, err)
	}
	return nil
}

// readError reads what an answer with another status than 200 says.
func readError(res *http.Response, answer []byte) *apiError {
	var said struct {
		Type    string `json:"__type"`
		Message string `json:"message"` // in any case of letters
	}
	_ = json.Unmarshal(answer, &said) // what is not JSON is not from the API, but from something before it
	code := cmp.Or(said.Type, res.Header.Get("X-Amzn-Errortype"), res.Status)
	if i := strings.LastIndexByte(code, '#'); i >= 0 {
		code = code[i+1:]
	}
	return &apiError{status: res.StatusCode, code: code, message: cmp.Or(said.Message, "the answer is not one of the Cloud Map API")}
}

// A filter of lists, and what they list.
type (
	listFilter struct {
		Name   string
		Values []string
	}
	listInput struct {
		Filters    []listFilter
		NextToken  string `json:",omitempty"`
		MaxResults int
	}
	listed struct{ ID, Name string }
)

// pageSize is the most that one answer lists.
const pageSize = 100

// findService returns the id of a service by the names.
func (c *cloudMap) findService(ctx context.Context, namespace, service string) (string, error) {
	within, err := c.find(ctx, "ListNamespaces", listFilter{"NAME", []string{namespace}}, namespace)
	if err != nil {
		return "", err
	}
	if within == "" {
		return "", &apiError{status: http.StatusBadRequest, code: codeNoNamespace, message: fmt.Sprintf("there is no namespace %q", namespace)}
	}
	id, err := c.find(ctx, "ListServices", listFilter{"NAMESPACE_ID", []string{within}}, service)
	if err == nil && id == "" {
		err = &apiError{status: http.StatusBadRequest, code: codeNoService, message: fmt.Sprintf("there is no service %q in namespace %q", service, namespace)}
	}
	return id, err
}

// find returns the id of what a list has by a name, "" if there is nothing.
func (c *cloudMap) find(ctx context.Context, list string, filter listFilter, name string) (string, error) {
	in := listInput{Filters: []listFilter{filter}, MaxResults: pageSize}
	for {
		var out struct {
			Namespaces, Services []listed
			NextToken            string
		}
		if err := c.call(ctx, list, in, &out); err != nil {
			return "", err
		}
		for _, found := range append(out.Namespaces, out.Services...) {
			if found.Name == name {
				return found.ID, nil
			}
		}
		if out.NextToken == "" {
			return "", nil
		}
		in.NextToken = out.NextToken
	}
}

// register registers an instance, or begins its lease anew.
func (c *cloudMap) register(ctx context.Context, service, id string, attributes map[string]string) error {
	return c.call(ctx, "RegisterInstance", map[string]any{"ServiceId": service, "InstanceId": id, "Attributes": attributes}, nil)
}

// deregister takes an instance out. One that is not there is no error.
func (c *cloudMap) deregister(ctx context.Context, service, id string) error {
	err := c.call(ctx, "DeregisterInstance", map[string]any{"ServiceId": service, "InstanceId": id}, nil)
	if r := refusal(err); r != nil && (r.code == codeNoService || r.code == codeNoInstance) {
		return nil
	}
	return err
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
