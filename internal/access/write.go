package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// settleTime bounds how long a change waits until this replica has seen it too.
const settleTime = 5 * time.Second

// maxTries bounds how often a change is tried again because somebody else changed
// the same record meanwhile.
const maxTries = 16

// MaxPolicies is how many policies a user or a role may have.
const MaxPolicies = 20

var policyNamePattern = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,128}$`)

// permit asks whether the caller may do an action to something of an account, which
// must be its own.
func permit(c store.Caller, action, account, arn string) error {
	if c.Account != "" && c.Account != account {
		return foreign(c, account)
	}
	return ask(c, action, arn)
}

// ask asks the caller's policies.
func ask(c store.Caller, action, arn string) error {
	if c.Allow == nil {
		return mesh.Errorf(mesh.ErrForbidden, "User: %s is not authorized to perform: %s on resource: %s", c.ARN, action, arn)
	}
	return c.Allow(store.Question{Action: action, Resource: arn})
}

func foreign(c store.Caller, account string) error {
	return mesh.Errorf(mesh.ErrForbidden, "User: %s is not authorized to manage account %s", c.ARN, account)
}

// checkPolicies refuses policy documents that cannot be kept.
func checkPolicies(policies map[string]json.RawMessage) error {
	if len(policies) > MaxPolicies {
		return mesh.Errorf(mesh.ErrBadRequest, "there are %d policies, allowed are %d", len(policies), MaxPolicies)
	}
	for name, document := range policies {
		if !policyNamePattern.MatchString(name) {
			return mesh.Errorf(mesh.ErrBadRequest, "policy name %s is not allowed: 1 to 128 letters, digits and _+=,.@-", quote(name))
		}
		if _, err := ParsePolicy(document); err != nil {
			return mesh.Errorf(mesh.ErrBadRequest, "policy %s: %v", quote(name), err)
		}
	}
	return nil
}

func absent(what string) error {
	return mesh.Errorf(mesh.ErrNotFound, "%s is not present", what)
}

func notFound(err error) bool {
	var refusal *mesh.Error
	return errors.As(err, &refusal) && refusal.Code == mesh.ErrNotFound
}

// timestamp returns the time that is written into records.
func (a *Service) timestamp() time.Time { return a.now().UTC().Truncate(time.Millisecond) }

// find returns a record as this replica knows it, or, if it knows none or fresh is
// wanted, as the store has it. The error is ErrNotFound, which names what, if there
// is none; the record is a new one to be written then.
func (a *Service) find(ctx context.Context, key, what string, fresh bool) (store.Record, error) {
	if rec, ok := a.table.Load().record(key); ok && !fresh {
		return rec, nil
	}
	records, err := a.store.Records(ctx, self, key)
	if err != nil {
		return store.Record{}, fmt.Errorf("reading %s: %w", what, err)
	}
	for _, rec := range records {
		if rec.Key == key {
			return rec, nil
		}
	}
	return store.Record{Key: key}, absent(what)
}

// read is find for what the record says.
func (a *Service) read(ctx context.Context, key, what string, fresh bool, v any) (store.Record, error) {
	rec, err := a.find(ctx, key, what, fresh)
	if err != nil {
		return rec, err
	}
	return rec, decodeRecord(rec.Value, v)
}

// retry tries a change until nobody else was quicker. After the first time try must
// read from the store itself.
func retry(what string, try func(fresh bool) error) error {
	for i := range maxTries {
		if err := try(i > 0); !errors.Is(err, store.ErrRevision) {
			return err
		}
	}
	return mesh.Errorf(mesh.ErrConflict, "%s was changed by somebody else meanwhile, try again", what)
}

// change is a set of records to be written and deleted together.
type change struct {
	puts, deletes []store.Record
}

// put adds a record with the value v, on the condition that it still is as it was
// read.
func (c *change) put(rec store.Record, v any) error {
	rec, err := encodeRecord(rec, v)
	c.puts = append(c.puts, rec)
	return err
}

// commit makes a change, and waits until this replica obeys it. Its error is
// store.ErrRevision if a record is no longer as it was read.
func (a *Service) commit(ctx context.Context, c change) error {
	if err := a.store.ChangeRecords(ctx, self, c.puts, c.deletes); err != nil {
		return fmt.Errorf("writing access records: %w", err)
	}
	a.settle(ctx, c)
	return nil
}

// settle waits until the table knows of a change. It gives up quietly after
// settleTime: what was written is written.
func (a *Service) settle(ctx context.Context, c change) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	_ = a.await(ctx, func(t *table) bool {
		for _, rec := range c.puts {
			if now, ok := t.record(rec.Key); !ok || now.Revision <= rec.Revision {
				return false
			}
		}
		for _, rec := range c.deletes {
			if now, ok := t.record(rec.Key); ok && now.Revision <= rec.Revision {
				return false
			}
		}
		return true
	})
}

// alter changes one record that is there.
func alter[T any](ctx context.Context, a *Service, key, what string, revise func(*T) error) (v T, err error) {
	err = retry(what, func(fresh bool) error {
		v = *new(T)
		rec, err := a.read(ctx, key, what, fresh, &v)
		if err == nil {
			err = revise(&v)
		}
		if err != nil {
			return err
		}
		var c change
		if err := c.put(rec, v); err != nil {
			return err
		}
		return a.commit(ctx, c)
	})
	return v, err
}
