package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// disk makes a disk of some bytes for the host, which no other sees, and returns its folder.
func (h *host) disk(size int) string {
	h.t.Helper()
	folder, err := h.Folder("disk", 0)
	if err != nil {
		h.t.Fatal(err)
	}
	err = h.Do(func() error { return unix.Mount("none", folder, "tmpfs", 0, fmt.Sprintf("size=%d", size)) })
	if err != nil {
		h.t.Fatalf("making a disk for %s: %v", h.name, err)
	}
	return folder
}

// ballast is the file that fills a disk.
const ballast = "/run/disk/ballast"

// fill leaves nothing of the host's disk.
func (h *host) fill() {
	h.t.Helper()
	err := h.Do(func() error {
		f, err := os.Create(ballast)
		if err != nil {
			return err
		}
		defer f.Close()
		for block := make([]byte, 1<<16); len(block) > 0; {
			if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
				block = block[:len(block)/2]
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		h.t.Fatalf("filling the disk of %s: %v", h.name, err)
	}
}

// room takes away what filled the host's disk.
func (h *host) room() {
	h.t.Helper()
	if err := h.Do(func() error { return os.Remove(ballast) }); err != nil {
		h.t.Fatal(err)
	}
}

// read reads a file of the host's disk.
func (h *host) read(name string) (raw []byte, err error) {
	err = h.Do(func() error {
		raw, err = os.ReadFile(filepath.Join("/run/disk", name))
		return err
	})
	return raw, err
}
