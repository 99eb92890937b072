//go:build !linux

package store

import "errors"

// freeBytes says that it cannot be told.
func freeBytes(string) (int64, error) { return 0, errors.ErrUnsupported }

// allocate says that it cannot be done.
func allocate(string, int64) error { return errors.ErrUnsupported }
