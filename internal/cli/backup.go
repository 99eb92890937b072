package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/fairlead-mesh/fairlead/api/client"
	"github.com/fairlead-mesh/fairlead/internal/backup"
)

// Backup writes what the server has stored, or what it has of one account, to a file ("-"
// for standard output), and says on standard error what that is.
func Backup(ctx context.Context, s *Session, term Terminal, file, account string) error {
	var totals backup.Totals
	var h backup.Header
	write := func(w io.Writer) (err error) {
		h, totals, err = s.writeBackup(ctx, term, w, account)
		return err
	}
	var err error
	if file == "-" {
		err = write(term.Out)
	} else {
		err = backup.WriteFile(file, write)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(term.Err, "%s\n", backup.Describe(h, totals))
	return nil
}

func (s *Session) writeBackup(ctx context.Context, term Terminal, to io.Writer, account string) (backup.Header, backup.Totals, error) {
	h := backup.Header{CreatedAt: term.now().UTC(), Account: account}
	var w *backup.Writer
	in := &client.ReadBackupInput{AccountID: account}
	for {
		page, err := s.own.ReadBackup(ctx, in)
		if err != nil {
			return h, backup.Totals{}, s.explain(err)
		}
		if w == nil {
			h.SealKeyID, h.StoreFormat = page.SealKeyID, page.StoreFormat
			if h.Revision, err = strconv.ParseInt(page.Revision, 10, 64); err != nil {
				return h, backup.Totals{}, fmt.Errorf("reading the server's answer: revision %q is no number", page.Revision)
			}
			if w, err = backup.NewWriter(to, h); err != nil {
				return h, backup.Totals{}, err
			}
		}
		for _, e := range page.Entries {
			if err := w.Write(backup.Entry{Key: e.Key, Text: e.Text, Base64: e.Base64, Lease: e.Lease, LeaseSeconds: int64(e.LeaseSeconds)}); err != nil {
				return h, backup.Totals{}, err
			}
		}
		if page.NextToken == "" {
			totals, err := w.Close()
			return h, totals, err
		}
		in.NextToken = page.NextToken
	}
}
