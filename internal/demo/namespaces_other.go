//go:build !linux

package demo

import (
	"context"
	"errors"
)

const needs = "Linux"

type namespaces struct{ ground }

// openNamespaces says that there are none.
func openNamespaces(context.Context, *stack) (*namespaces, error) {
	return nil, errors.New("only Linux has network namespaces")
}

func (*namespaces) settle() error { return nil }
