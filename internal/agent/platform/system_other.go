//go:build !linux

package platform

// systemInfo is for Linux only.
func systemInfo() map[string]any { return nil }
