package store

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSeal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openDir(t, dir)
	info, err := os.Stat(filepath.Join(dir, "seal.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("seal key file: %v, %v", info, err)
	}
	var before []byte
	for _, plain := range []string{"", "secret", "secret", strings.Repeat("x", 10_000)} {
		sealed, err := s.Seal([]byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(sealed, before) || plain != "" && bytes.Contains(sealed, []byte(plain)) {
			t.Errorf("sealed %x", sealed)
		}
		before = sealed
		got, err := s.Unseal(sealed)
		if err != nil || string(got) != plain {
			t.Errorf("unsealed %q, %v", got, err)
		}
		for i := range min(len(sealed), 60) {
			bad := slices.Clone(sealed)
			bad[i] ^= 1
			if _, err := s.Unseal(bad); err == nil {
				t.Errorf("byte %d was changed and not noticed", i)
			}
		}
		for i := range min(len(sealed), 60) {
			if _, err := s.Unseal(sealed[:i]); err == nil {
				t.Errorf("cut to %d bytes and not noticed", i)
			}
		}
	}
	if s2 := openTemp(t); s2.sealID == s.sealID {
		t.Error("two stores have the same seal key")
	} else if _, err := s2.Unseal(before); err == nil {
		t.Error("another key unseals")
	}
}

func TestSealKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := filepath.Join(dir, "seal.key")
	s := openDir(t, dir)
	id := s.sealID.String()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	open := func() error {
		s, err := Open(t.Context(), Config{DataDir: dir, Unsafe: true})
		if err == nil {
			err = s.Close()
		}
		return err
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(key, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(first)))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		string(first), strings.ToUpper(string(first)), base64.StdEncoding.EncodeToString(raw) + "\r\n",
		base64.RawURLEncoding.EncodeToString(raw),
	} {
		write(text)
		if err := open(); err != nil {
			t.Errorf("key file %q: %v", text, err)
		}
	}
	for _, text := range []string{"", "abc", string(first[:62]), string(raw)} {
		write(text)
		wantError(t, open(), key, "must hold 32 bytes")
	}
	write(strings.Repeat("00", 32))
	wantError(t, open(), key, id, "put back the right one")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	wantError(t, open(), key, id, "is missing: put back")
	if _, err := os.Stat(key); err == nil {
		t.Error("a new key was made beside an old store")
	}
}

func TestSealKeyFileForAll(t *testing.T) {
	t.Parallel()
	key := keyFile(t, 1)
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	var l logs
	s, err := Open(t.Context(), Config{DataDir: t.TempDir(), SealKeyFile: key, Logger: slog.New(slog.NewTextHandler(&l, nil)), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if got := l.String(); !strings.Contains(got, "chmod 600") || strings.Contains(got, "0101") {
		t.Errorf("log: %s", got)
	}
}
