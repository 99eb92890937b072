package server

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/fairlead-mesh/fairlead/internal/replica"
)

// handler returns a function as the answer to a question whose input it takes.
func handler[In, Out any](f func(context.Context, In) (Out, error)) replica.Handler {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var in In
		if err := json.Unmarshal(raw, &in); err != nil {
			return nil, fmt.Errorf("reading the question: %w", err)
		}
		return f(ctx, in)
	}
}
