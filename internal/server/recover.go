package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fairlead-mesh/fairlead/internal/access"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// RecoverConfig says whose access is recovered.
type RecoverConfig struct {
	// Store says where the data is.
	Store store.Config
	// AccountID is the account that gets a new administrator; "" for the one that the
	// first start made.
	AccountID string
	// Region is written into the credentials file.
	Region string
	// CredentialsFile is where the new access key is written. A file that is there is
	// replaced.
	CredentialsFile string
}

// Recover makes a new administrator of an account whose keys are lost, and returns the
// id of its access key. It trusts whoever can open the store. The server of an embedded
// store must have been stopped: the error says so.
func Recover(ctx context.Context, cfg RecoverConfig) (keyID string, err error) {
	if err := cfg.Store.Present(); err != nil {
		return "", err
	}
	// Better to know before than to make a key that nobody has.
	if err := writable(cfg.CredentialsFile); err != nil {
		return "", fmt.Errorf("writing credentials: %w", err)
	}
	st, err := store.Open(ctx, cfg.Store)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	a, err := access.Open(ctx, access.Config{Store: st, Regions: []string{cfg.Region}, Logger: cfg.Store.Logger})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	made, err := a.Recover(ctx, cfg.AccountID)
	if err != nil {
		return "", err
	}
	if err := access.WriteCredentials(cfg.CredentialsFile, made, cfg.Region); err != nil {
		return "", err
	}
	return made.AccessKeyID, nil
}

// writable tries whether a file can be made beside path.
func writable(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
