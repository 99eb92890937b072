package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/fairlead-mesh/fairlead/api"
)

// TestOpenAPIIsValid checks the document against the schema of OpenAPI 3.1, and that its
// references lead somewhere.
func TestOpenAPIIsValid(t *testing.T) {
	t.Parallel()
	doc, err := libopenapi.NewDocument(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	if v := doc.GetVersion(); !strings.HasPrefix(v, "3.1") {
		t.Errorf("the document is of version %s", v)
	}
	if _, err := doc.BuildV3Model(); err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, problems := v.ValidateDocument(); !ok {
		for _, p := range problems {
			t.Errorf("%s: %s %v", p.Message, p.Reason, p.SchemaValidationErrors)
		}
	}
}

// TestOpenAPIIsWhole holds that each operation of the model is in the document, at its
// path and with all its errors.
func TestOpenAPIIsWhole(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("fairlead.json")
	if err != nil {
		t.Fatal(err)
	}
	var model struct {
		Operations map[string]struct {
			HTTP struct {
				Method string `json:"method"`
				URI    string `json:"requestUri"`
			} `json:"http"`
			Errors []struct{ Shape string } `json:"errors"`
		} `json:"operations"`
		Shapes map[string]struct {
			Error struct {
				Status int `json:"httpStatusCode"`
			} `json:"error"`
		} `json:"shapes"`
	}
	if err := json.Unmarshal(raw, &model); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			ID        string         `json:"operationId"`
			Responses map[string]any `json:"responses"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(api.OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, item := range doc.Paths {
		n += len(item)
	}
	if n != len(model.Operations) {
		t.Errorf("the document has %d operations, the model %d", n, len(model.Operations))
	}
	for name, op := range model.Operations {
		got := doc.Paths[op.HTTP.URI][strings.ToLower(op.HTTP.Method)]
		if got.ID != name {
			t.Errorf("%s %s is %q, want %s", op.HTTP.Method, op.HTTP.URI, got.ID, name)
		}
		for _, e := range op.Errors {
			if status := model.Shapes[e.Shape].Error.Status; got.Responses[strconv.Itoa(status)] == nil {
				t.Errorf("%s: nothing is said of status %d", name, status)
			}
		}
	}
}

// TestOpenAPIExamples checks the examples against what they are examples of.
func TestOpenAPIExamples(t *testing.T) {
	t.Parallel()
	doc, err := libopenapi.NewDocument(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	type content map[string]struct{ Example json.RawMessage }
	var model struct {
		Paths map[string]map[string]struct {
			ID         string
			Parameters []struct {
				Name, In string
				Example  any
			}
			RequestBody struct{ Content content }
			Responses   map[string]struct{ Content content }
		}
	}
	if err := json.Unmarshal(api.OpenAPI, &model); err != nil {
		t.Fatal(err)
	}
	requests, answers := 0, 0
	for path, item := range model.Paths {
		for method, op := range item {
			query := url.Values{}
			for _, p := range op.Parameters {
				switch {
				case p.Example == nil:
				case p.In == "path":
					path = strings.ReplaceAll(path, "{"+p.Name+"}", fmt.Sprint(p.Example))
				default:
					query.Set(p.Name, fmt.Sprint(p.Example))
				}
			}
			body := op.RequestBody.Content["application/json"].Example
			req, err := http.NewRequestWithContext(t.Context(), strings.ToUpper(method), "http://127.0.0.1:9080"+path+"?"+query.Encode(), bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "AWS4-HMAC-SHA256 …")
			req.Header.Set("Content-Type", "application/json")
			if body != nil || len(query) > 0 {
				requests++
				if ok, bad := v.ValidateHttpRequest(req); !ok {
					t.Errorf("the request in the example of %s: %+v", op.ID, bad[0])
				}
			}
			answer := op.Responses["200"].Content["application/json"].Example
			if answer == nil {
				continue
			}
			answers++
			resp := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(answer)), Request: req}
			if ok, bad := v.ValidateHttpResponse(req, resp); !ok {
				t.Errorf("the answer in the example of %s: %+v", op.ID, bad[0])
			}
		}
	}
	if requests < 7 || answers < 6 {
		t.Errorf("only %d requests and %d answers have examples", requests, answers)
	}
}
