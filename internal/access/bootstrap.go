package access

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// Administrator is the name of the user that every account begins with.
const Administrator = "administrator"

// managementName is the name that the first account is given.
const managementName = "management"

// administratorPolicy allows everything within the account.
const administratorPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

// Bootstrap makes the first account on an empty store: the account, its user
// Administrator, who is allowed everything in it, and an access key, which it hands
// to write. It returns whether it has handed over a key. Where there is an account
// already it does nothing.
//
// The store remembers that a hand-over is under way until write has returned nil.
// If the process ends or write fails before, the next Bootstrap, on whichever
// replica, hands over the same key again, so write must be repeatable. Of replicas
// that start at the same time one makes the account; another may hand over the same
// key too.
//
// When it returns without an error, Verify accepts the key.
func (a *Service) Bootstrap(ctx context.Context, account string, write func(Credentials) error) (handedOver bool, err error) {
	if !mesh.ValidAccount(account) {
		return false, fmt.Errorf("making the first account: account id %s is not allowed: twelve digits", quote(account))
	}
	// Once to find nothing, once more to find what a quicker replica has made.
	there := false
	for range 3 {
		var v bootstrapValue
		rec, err := a.read(ctx, bootstrapRecord, "first account", true, &v)
		if err == nil {
			return a.handOver(ctx, rec, v, write)
		}
		if !notFound(err) {
			return false, fmt.Errorf("making the first account: %w", err)
		}
		if there {
			return false, nil // an account that was made otherwise
		}
		if there, err = a.anyAccount(ctx); err != nil {
			return false, err
		}
		if there {
			continue
		}
		if err := a.makeFirst(ctx, account); err != nil && !errors.Is(err, store.ErrRevision) {
			return false, err
		}
	}
	return false, errors.New("making the first account: the store changes under it, start again")
}

// anyAccount reports whether the store has an account.
func (a *Service) anyAccount(ctx context.Context) (bool, error) {
	records, err := a.store.Records(ctx, self, recordPrefix)
	if err != nil {
		return false, fmt.Errorf("looking for accounts: %w", err)
	}
	for _, rec := range records {
		if _, kind, _, _ := splitKey(rec.Key); kind == accountRecord {
			return true, nil
		}
	}
	return false, nil
}

// makeFirst writes the first account in one transaction. Its error is
// store.ErrRevision if another replica was quicker.
func (a *Service) makeFirst(ctx context.Context, account string) error {
	creds := newCredentials(keyPrefix)
	var c change
	_, err := a.firstRecords(&c, account, managementName, creds)
	err = errors.Join(err, c.put(store.Record{Key: bootstrapRecord},
		bootstrapValue{Format: recordFormat, Account: account, KeyID: creds.AccessKeyID, Pending: true}))
	if err != nil {
		return fmt.Errorf("making the first account: %w", err)
	}
	if err := a.commit(ctx, c); err != nil {
		return fmt.Errorf("making the first account: %w", err)
	}
	return nil
}

// handOver hands the first key to write, if that has not been done, and notes that
// it has been done. rec is the bootstrap record and v its value.
func (a *Service) handOver(ctx context.Context, rec store.Record, v bootstrapValue, write func(Credentials) error) (bool, error) {
	// The key was written with the record or before it.
	if err := a.await(ctx, func(t *table) bool { return t.revision >= rec.Revision }); err != nil {
		return false, err
	}
	if !v.Pending {
		return false, nil
	}
	creds, wanted, err := a.firstKey(ctx, v)
	if err != nil {
		return false, err
	}
	if wanted {
		if err := write(creds); err != nil {
			return false, fmt.Errorf("handing over the first access key: %w", err)
		}
	}
	v.Pending = false
	// Losing the race for this record means that another replica has noted it.
	var c change
	if err := c.put(rec, v); err != nil {
		return wanted, err
	}
	if err := a.commit(ctx, c); err != nil && !errors.Is(err, store.ErrRevision) {
		return wanted, err
	}
	return wanted, nil
}

// firstKey returns the first key. It is not wanted any more if it is gone or
// disabled: only its owner, who must have had it, can have done that.
func (a *Service) firstKey(ctx context.Context, v bootstrapValue) (creds Credentials, wanted bool, err error) {
	var k keyValue
	_, err = a.read(ctx, recordKey(v.Account, keyRecord, v.KeyID), "first access key", true, &k)
	if notFound(err) || err == nil && k.Disabled {
		return creds, false, nil
	}
	if err != nil {
		return creds, false, err
	}
	secret, err := a.store.Unseal(k.Sealed)
	if err != nil {
		return creds, false, fmt.Errorf("reading the first access key: %w", err)
	}
	return Credentials{AccessKeyID: v.KeyID, SecretAccessKey: string(secret)}, true, nil
}

// WriteCredentials writes credentials to a file in the form of AWS's shared
// credentials file, as profile default, readable by its owner only. A file that is
// there is replaced in one step, and there is never half of one. Its folder must
// exist. The region is written too: botocore, and so the AWS CLI and boto3, does not
// read AWS_REGION, and would ask for one.
func WriteCredentials(path string, c Credentials, region string) error {
	content := "# Written by Fairlead. Keep it secret: who has this key may do all that its user may.\n" +
		"[default]\n" +
		"aws_access_key_id = " + c.AccessKeyID + "\n" +
		"aws_secret_access_key = " + c.SecretAccessKey + "\n" +
		"region = " + region + "\n"
	if err := replaceFile(path, content); err != nil {
		return fmt.Errorf("writing credentials: %w", err)
	}
	return nil
}

// replaceFile writes a file of mode 0600 beside path and puts it in its place.
func replaceFile(path, content string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // made with mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

// syncDir makes a rename within a folder outlast a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
