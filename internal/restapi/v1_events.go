package restapi

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/access/audit"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// allAccounts is the accountId that stands for the events of all accounts, and of
// callers that could not be found out.
const allAccounts = "all"

func (c ownCall) listEvents(ctx context.Context, in *v1.ListEventsInput) (any, error) {
	q := audit.Query{
		Account: in.AccountID, From: time.Time(in.StartTime), To: time.Time(in.EndTime),
		Name: in.EventName, Resource: in.Resource, User: in.UserName, ErrorCode: in.ErrorCode, Limit: in.Limit,
	}
	switch in.AccountID {
	case "", c.caller.Account:
		q.Account = c.caller.Account
	default:
		if err := c.manages(ctx, "ListEvents of other accounts"); err != nil {
			return nil, err
		}
		if q.All = in.AccountID == allAccounts; q.All {
			q.Account = ""
		}
	}
	if err := c.may(store.Question{Action: "ListEvents", Resource: "*"}); err != nil {
		return nil, err
	}
	if q.Limit == 0 {
		q.Limit = defaultLimit
	}
	// Each log's own token says where to go on in it; ours says of which search.
	scope := strings.Join([]string{
		c.x.route.name(), c.caller.Account, in.AccountID, in.StartTime.String(), in.EndTime.String(), in.EventName, in.Resource, in.UserName, in.ErrorCode,
	}, "\x00")
	from, err := openTrails(scope, in.NextToken)
	if err != nil {
		return nil, err
	}
	parts, missing, err := c.trails(ctx, q, from)
	if err != nil {
		return nil, err
	}
	events, next := audit.Merge(parts, q.Limit)
	out := v1.ListEventsOutput{Events: events, MissingReplicas: missing}
	if events == nil {
		out.Events = []json.RawMessage{}
	}
	if len(next) > 0 {
		token, err := json.Marshal(next)
		if err != nil {
			return nil, err
		}
		out.NextToken = sealToken(scope, string(token))
	}
	return out, nil
}

// openTrails returns where each log goes on; nil without a token.
func openTrails(scope, token string) (map[string]string, error) {
	text, err := openToken(scope, token)
	if err != nil || token == "" {
		return nil, err
	}
	from := map[string]string{}
	if err := json.Unmarshal([]byte(text), &from); err != nil {
		_, err = openToken(scope, "-") // one that an older server made
		return nil, err
	}
	return from, nil
}

// ownTrail asks the only log that there is.
func (h *handler) ownTrail(ctx context.Context, q audit.Query, from map[string]string) ([]audit.Part, []string, error) {
	q.Next = from[""]
	found, err := h.events.Find(ctx, q)
	return []audit.Part{{From: q.Next, Found: found}}, nil, err
}
