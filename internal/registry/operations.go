package registry

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

const (
	// operationTime is for how long an operation can be asked for, at least, and with it
	// the CreatorRequestId of the request.
	operationTime = time.Hour
	// leaseTime is for how long operations are put with the same lease of etcd.
	leaseTime = 10 * time.Minute
)

// operationLease is the lease that operations are put with, so that they go in time.
type operationLease struct {
	mu    sync.Mutex
	id    int64
	until time.Time
}

func (l *operationLease) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id = 0
}

// get returns the lease of the moment. now is a clock that the lease's age is measured by.
func (l *operationLease) get(ctx context.Context, s *store.Store, now time.Time) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id != 0 && now.Before(l.until) {
		return l.id, nil
	}
	id, err := s.GrantLease(ctx, self, int64((operationTime + leaseTime).Seconds()))
	if err != nil {
		return 0, err
	}
	l.id, l.until = id, now.Add(leaseTime)
	return id, nil
}

// pending is an operation that is being done.
type pending struct {
	id, key string
	token   string
	value   operationValue
}

// newOperation returns an operation to be done. Its id is made of the token, if there is
// one, so that a request that is repeated finds what was done.
func (c *call) newOperation(kind, token, parameters string, targets map[string]string) *pending {
	seed := rand.Text()
	if token != "" {
		seed = hash(kind, token)
	}
	sum := hash(c.place.account, c.place.region, seed)
	id := strings.ToLower(base32.StdEncoding.EncodeToString([]byte(sum))[:32]) + "-" + sum[:8]
	return &pending{id: id, key: c.place.operation(id), token: token, value: operationValue{
		Format: format, Type: kind, At: c.now().UTC(), Targets: targets, Parameters: parameters,
	}}
}

// repeated reports whether the same request was done before, and refuses another one
// with the same token.
func (p *pending) repeated(found map[string]store.Record) (bool, error) {
	rec, ok := found[p.key]
	if !ok {
		return false, nil
	}
	other, err := read[operationValue](rec)
	switch {
	case err != nil:
		return false, err
	case other.Parameters == p.value.Parameters:
		return true, nil
	}
	return false, &detailed{
		mesh.Errorf(ErrDuplicateRequest, "the request id %q was used for another request, operation %s: each request needs one of its own", p.token, p.id),
		map[string]string{"DuplicateOperationId": p.id},
	}
}

// with adds an operation to a change.
func (c *call) with(ctx context.Context, op *pending, change store.RecordChange) (store.RecordChange, error) {
	rec, err := put(op.key, 0, op.value)
	if err != nil {
		return change, err
	}
	if rec.Lease, err = c.operationLease.get(ctx, c.store, c.now()); err != nil {
		return change, err
	}
	change.Puts = append(change.Puts, rec)
	return change, nil
}

func (c *call) getOperation(ctx context.Context, in *GetOperationRequest) (any, error) {
	if err := c.may(store.Question{Resource: "*"}); err != nil {
		return nil, err
	}
	missing := mesh.Errorf(ErrOperationNotFound, "there is no operation with the id %q: operations are kept for %d minutes", in.OperationID, int(operationTime.Minutes()))
	if in.OwnerAccount != "" && in.OwnerAccount != c.account || in.OperationID == "" || strings.Contains(in.OperationID, "/") {
		return nil, missing
	}
	key := c.place.operation(in.OperationID)
	found, _, err := c.store.ReadRecords(ctx, self, key)
	if err != nil {
		return nil, err
	}
	rec, ok := found[key]
	if !ok {
		return nil, missing
	}
	v, err := read[operationValue](rec)
	if err != nil {
		return nil, err
	}
	return &GetOperationResponse{Operation: &Operation{
		CreateDate: Time(v.At), ID: in.OperationID, OwnerAccount: c.account, Status: "SUCCESS", Targets: v.Targets, Type: v.Type, UpdateDate: Time(v.At),
	}}, nil
}

// kept is an operation that is kept, for a list.
type kept struct {
	id string
	operationValue
}

func (c *call) listOperations(ctx context.Context, in *ListOperationsRequest) (any, error) {
	if err := c.may(store.Question{Resource: "*"}); err != nil {
		return nil, err
	}
	filters, from, to, err := operationFilters(in.Filters)
	if err != nil {
		return nil, err
	}
	match, err := matcher(filters, map[string]rule{
		"NAMESPACE_ID": {conditions: onlyEquals}, "SERVICE_ID": {conditions: onlyEquals}, "STATUS": {conditions: inToo}, "TYPE": {conditions: inToo},
	})
	if err != nil {
		return nil, err
	}
	records, err := c.store.Records(ctx, self, c.place.operation(""))
	if err != nil {
		return nil, err
	}
	var all []kept
	for _, rec := range records {
		v, err := read[operationValue](rec)
		if err != nil || v.At.Before(from) || v.At.After(to) {
			continue
		}
		if match(map[string]string{"NAMESPACE_ID": v.Targets["NAMESPACE"], "SERVICE_ID": v.Targets["SERVICE"], "STATUS": "SUCCESS", "TYPE": v.Type}) {
			all = append(all, kept{rec.Key[len(c.place.operation("")):], v})
		}
	}
	// The newest first, and what was done at once by its id.
	key := func(o kept) string { return fmt.Sprintf("%020d/%s", (1<<62)-o.At.UnixNano(), o.id) }
	slices.SortFunc(all, func(x, y kept) int { return strings.Compare(key(x), key(y)) })
	found, next, err := page(c, all, key, in.MaxResults, in.NextToken, hash(in.Filters))
	out := make([]OperationSummary, len(found))
	for i, o := range found {
		out[i] = OperationSummary{ID: o.id, Status: "SUCCESS"}
	}
	return &ListOperationsResponse{NextToken: next, Operations: out}, err
}

// operationFilters takes out the filters for times, which are two in seconds.
func operationFilters(in []OperationFilter) (rest []filter, from, to time.Time, err error) {
	to = time.Unix(1<<40, 0)
	for _, f := range in {
		if f.Name != "UPDATE_DATE" {
			rest = append(rest, filter(f))
			continue
		}
		bad := mesh.Errorf(ErrInvalidInput, "Filters with the name UPDATE_DATE need the condition BETWEEN and two values, in seconds since 1970")
		if f.Condition != "BETWEEN" || len(f.Values) != 2 {
			return nil, from, to, bad
		}
		for i, t := range []*time.Time{&from, &to} {
			s, err := strconv.ParseFloat(f.Values[i], 64)
			if err != nil || s < 0 || s > 1<<40 {
				return nil, from, to, bad
			}
			*t = time.UnixMilli(int64(s * 1000))
		}
	}
	return rest, from, to, nil
}

// newID returns an id such as Cloud Map's: 16 lower-case letters and digits behind a prefix.
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()[:16]) }
