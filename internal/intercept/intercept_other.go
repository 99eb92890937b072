//go:build !linux

package intercept

import (
	"context"
	"errors"
	"log/slog"

	"github.com/fairlead-mesh/fairlead/internal/intercept/rules"
)

var errLinuxOnly = errors.New("interception is there on Linux only")

// ErrOwnNamespace is the error of In for the namespace in which the caller is.
var ErrOwnNamespace = errLinuxOnly

// Enable is there on Linux only.
func Enable(rules.Settings) (Result, error) { return Result{}, errLinuxOnly }

// Disable is there on Linux only.
func Disable() (Result, error) { return Result{}, errLinuxOnly }

// Look is there on Linux only.
func Look(rules.Settings) (Status, error) { return Status{}, errLinuxOnly }

// Switch is there on Linux only.
func Switch(rules.Settings, bool) (Result, error) { return Result{}, errLinuxOnly }

// Run is there on Linux only.
func Run(context.Context, rules.Settings, *slog.Logger) error { return errLinuxOnly }

// In is there on Linux only.
func In(string, func() error) error { return errLinuxOnly }
