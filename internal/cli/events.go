package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/fairlead-mesh/fairlead/api/client"
)

// EventQuery says which events of the audit log are wanted; what is empty does not matter.
type EventQuery struct {
	Account string // "all" for every account
	// Since and Until are times (RFC 3339), or how long ago: 30m, 24h.
	Since, Until                    string
	Name, Resource, User, ErrorCode string
	Limit                           int // 0 is all
	Output                          string
}

// event is what a table shows of an event, which is in CloudTrail's form.
type event struct {
	Time      string `json:"eventTime"`
	Name      string `json:"eventName"`
	IP        string `json:"sourceIPAddress"`
	ErrorCode string `json:"errorCode"`
	Identity  struct {
		ARN       string `json:"arn"`
		AccountID string `json:"accountId"`
	} `json:"userIdentity"`
	Resources []struct {
		ARN string `json:"ARN"`
	} `json:"resources"`
}

// ListEvents prints events, newest first; as JSON one a line, as they are in the log.
func ListEvents(ctx context.Context, s *Session, term Terminal, q EventQuery) error {
	if err := checkTableOrJSON(q.Output); err != nil {
		return err
	}
	if q.Limit < 0 {
		return usagef("--limit %d is not allowed: 0 for all, or more", q.Limit)
	}
	in := &client.ListEventsInput{AccountID: q.Account, EventName: q.Name, Resource: q.Resource, UserName: q.User, ErrorCode: q.ErrorCode}
	var err error
	if in.StartTime, err = moment(term.now(), "since", q.Since); err != nil {
		return err
	}
	if in.EndTime, err = moment(term.now(), "until", q.Until); err != nil {
		return err
	}
	defer s.warnOfMissing(term)
	t := &table{head: []string{"TIME", "EVENT", "WHO", "FROM", "ERROR", "RESOURCE"}}
	n := 0
	for raw, err := range s.allEvents(ctx, in) {
		if err != nil {
			return s.explain(err)
		}
		if q.Output == FormJSON {
			term.printf("%s\n", raw)
		} else if err := t.addEvent(raw); err != nil {
			return err
		}
		if n++; n == q.Limit {
			break
		}
	}
	if q.Output == FormJSON {
		return nil
	}
	return t.printOr(term, "there are no such events")
}

func (t *table) addEvent(raw json.RawMessage) error {
	var e event
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("reading an event: %w", err)
	}
	who := shortARN(e.Identity.ARN)
	if who == "" {
		who = e.Identity.AccountID
	}
	resource := ""
	if len(e.Resources) > 0 {
		resource = shortARN(e.Resources[0].ARN)
	}
	t.add(e.Time, e.Name, who, e.IP, e.ErrorCode, resource)
	return nil
}

// moment reads a time, or how long ago it was.
func moment(now time.Time, flag, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	return time.Time{}, usagef("--%s %q is not allowed: a time such as 2026-11-23T08:00:00Z, or how long ago, such as 30m", flag, s)
}
