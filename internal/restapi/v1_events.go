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
	// The log's own token says where to go on; ours says of which search.
	scope := strings.Join([]string{
		c.x.route.name(), c.caller.Account, in.AccountID, in.StartTime.String(), in.EndTime.String(), in.EventName, in.Resource, in.UserName, in.ErrorCode,
	}, "\x00")
	var err error
	if q.Next, err = openToken(scope, in.NextToken); err != nil {
		return nil, err
	}
	events, next, err := c.events.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	out := v1.ListEventsOutput{Events: events}
	if events == nil {
		out.Events = []json.RawMessage{}
	}
	if next != "" {
		out.NextToken = sealToken(scope, next)
	}
	return out, nil
}
