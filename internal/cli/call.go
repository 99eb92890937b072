package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Specs go out and come back as the JSON that they are: the SDK's own types would drop what
// a newer server knows and add what was not written. All else of a call is the SDK's: its
// paths, signature, tries and errors.

// withSpec puts a spec in place of the one that the SDK has written into a request.
func withSpec(spec json.RawMessage) func(*appmesh.Options) {
	swap := middleware.SerializeMiddlewareFunc("FairleadSpec", func(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (middleware.SerializeOutput, middleware.Metadata, error) {
		fail := func(err error) (middleware.SerializeOutput, middleware.Metadata, error) {
			return middleware.SerializeOutput{}, middleware.Metadata{}, fmt.Errorf("writing the spec into the request: %w", err)
		}
		req, ok := in.Request.(*smithyhttp.Request)
		if !ok {
			return fail(errors.New("it is no HTTP request"))
		}
		body := map[string]json.RawMessage{}
		if stream := req.GetStream(); stream != nil {
			if err := json.NewDecoder(stream).Decode(&body); err != nil {
				return fail(err)
			}
		}
		body["spec"] = spec
		raw, err := json.Marshal(body)
		if err != nil {
			return fail(err)
		}
		if in.Request, err = req.SetStream(bytes.NewReader(raw)); err != nil {
			return fail(err)
		}
		return next.HandleSerialize(ctx, in)
	})
	return addMiddleware(func(stack *middleware.Stack) error {
		return stack.Serialize.Insert(swap, "OperationSerializer", middleware.After)
	})
}

// withBody keeps a copy of the answer's body, if the answer is no error.
func withBody(into *[]byte) func(*appmesh.Options) {
	keep := middleware.DeserializeMiddlewareFunc("FairleadBody", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, meta, err := next.HandleDeserialize(ctx, in)
		if err != nil {
			return out, meta, err
		}
		resp, ok := out.RawResponse.(*smithyhttp.Response)
		if !ok || resp.StatusCode/100 != 2 {
			return out, meta, nil
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return out, meta, fmt.Errorf("reading the answer: %w", err)
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		*into = body
		return out, meta, nil
	})
	return addMiddleware(func(stack *middleware.Stack) error {
		return stack.Deserialize.Insert(keep, "OperationDeserializer", middleware.After)
	})
}

func addMiddleware(add func(*middleware.Stack) error) func(*appmesh.Options) {
	return func(o *appmesh.Options) { o.APIOptions = append(o.APIOptions, add) }
}
