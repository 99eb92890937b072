package restapi

import (
	"context"
	"strconv"
	"strings"

	"github.com/fairlead-mesh/fairlead/internal/backup"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/restapi/v1"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// readBackup answers with a page of a backup. The token of the next one has the revision
// that all are read at, so any server of the store can go on.
func (c ownCall) readBackup(ctx context.Context, in *v1.ReadBackupInput) (any, error) {
	c.aimAccount(in.AccountID)
	if err := c.manages(ctx, "ReadBackup"); err != nil {
		return nil, err
	}
	resource := "*"
	if in.AccountID != "" {
		resource = c.x.resource
	}
	if err := c.may(store.Question{Action: "ReadBackup", Resource: resource}); err != nil {
		return nil, err
	}
	scope := strings.Join([]string{"ReadBackup", c.caller.Account, in.AccountID}, "\x00")
	position, err := openToken(scope, in.NextToken)
	if err != nil {
		return nil, err
	}
	digits, after, _ := strings.Cut(position, "@")
	revision, err := strconv.ParseInt(digits, 10, 64)
	if err != nil && in.NextToken != "" {
		return nil, mesh.Errorf(mesh.ErrBadRequest, "nextToken does not belong to this list: allowed is the one that its page before returned, or none")
	}
	page, err := c.store.Backup(ctx, self, in.AccountID, revision, after)
	if err != nil {
		return nil, err
	}
	out := v1.ReadBackupOutput{
		Revision: strconv.FormatInt(page.Revision, 10), SealKeyID: page.SealKeyID, StoreFormat: page.StoreFormat,
		Entries: each(page.Entries, func(e backup.Entry) v1.BackupEntry {
			return v1.BackupEntry{Key: e.Key, Text: e.Text, Base64: e.Base64, Lease: e.Lease, LeaseSeconds: int(e.LeaseSeconds)}
		}),
	}
	if page.More {
		out.NextToken = sealToken(scope, out.Revision+"@"+page.After)
	}
	return out, nil
}
