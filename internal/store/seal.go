package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	sealKeySize = 32
	// sealFormat is the first byte of what Seal returns.
	sealFormat  = 1
	makeKeyHint = "make one with: openssl rand -hex 32 > FILE && chmod 600 FILE"
)

// sealID tells seal keys apart without giving anything away about them.
type sealID [8]byte

// String returns the id as hexadecimal digits.
func (id sealID) String() string { return hex.EncodeToString(id[:]) }

// storeDocument is what is true of the whole store.
type storeDocument struct {
	Format  int    `json:"format"`
	SealKey string `json:"sealKey"` // the key's fingerprint
}

const storeFormat = 1

// Seal encrypts a secret under the seal key (AES-256-GCM), bound to the key's
// fingerprint. The same secret gives another result each time.
func (s *Store) Seal(plain []byte) ([]byte, error) {
	header := append([]byte{sealFormat}, s.sealID[:]...)
	return s.seal.Seal(header, nil, plain, header), nil
}

// Unseal decrypts what Seal returned. It is an error if it was sealed under another
// key, or changed.
func (s *Store) Unseal(sealed []byte) ([]byte, error) {
	const header = 1 + len(sealID{})
	if len(sealed) < header+s.seal.Overhead() || sealed[0] != sealFormat {
		return nil, errors.New("unsealing: this is not a sealed value that this build of Fairlead reads")
	}
	if id := sealID(sealed[1:header]); id != s.sealID {
		return nil, fmt.Errorf("unsealing: the value is sealed under key %s, the seal key is %s", id, s.sealID)
	}
	plain, err := s.seal.Open(nil, nil, sealed[header:], sealed[:header])
	if err != nil {
		return nil, fmt.Errorf("unsealing: %w", err)
	}
	return plain, nil
}

// openSeal reads or makes the seal key, and checks that it is the store's own.
func (s *Store) openSeal(ctx context.Context, cfg Config) error {
	doc, err := s.storeDocument(ctx)
	if err != nil {
		return err
	}
	path, own := cfg.sealKeyFile()
	key, err := s.readSealKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		switch {
		case doc != nil:
			return fmt.Errorf("seal key file %s is missing: put back the one with fingerprint %s, the store's secrets cannot be read without it", path, doc.SealKey)
		case !own:
			return fmt.Errorf("seal key file %s (--seal-key) is missing: %s", path, makeKeyHint)
		}
		key, err = makeSealKey(path)
	}
	if err != nil {
		return err
	}
	if err := s.useSealKey(key); err != nil {
		return err
	}
	if doc == nil {
		if doc, err = s.claim(ctx); err != nil {
			return err
		}
	}
	if doc.SealKey != s.sealID.String() {
		return fmt.Errorf("seal key file %s holds a key with fingerprint %s, the store uses %s: put back the right one", path, s.sealID, doc.SealKey)
	}
	return nil
}

func (s *Store) useSealKey(key []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("using the seal key: %w", err)
	}
	if s.seal, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return fmt.Errorf("using the seal key: %w", err)
	}
	s.sealID, s.sealHex = sealKeyID(key), hex.EncodeToString(key)
	if s.sealRoot, err = hkdf.Extract(sha256.New, key, nil); err != nil {
		return fmt.Errorf("using the seal key: %w", err)
	}
	return nil
}

// sealKeyID returns the fingerprint of a key.
func sealKeyID(key []byte) sealID {
	sum := sha256.Sum256(append([]byte("fairlead seal key\x00"), key...))
	return sealID(sum[:len(sealID{})])
}

// storeDocument returns nil if the store is new.
func (s *Store) storeDocument(ctx context.Context) (*storeDocument, error) {
	var resp *clientv3.GetResponse
	err := s.call(ctx, func(ctx context.Context) (err error) {
		resp, err = s.client.Get(ctx, storeKey)
		return err
	})
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	doc := &storeDocument{}
	if err := json.Unmarshal(resp.Kvs[0].Value, doc); err != nil {
		return nil, fmt.Errorf("reading key %s of etcd: %w", storeKey, err)
	}
	if doc.Format > storeFormat {
		return nil, fmt.Errorf("the store has format %d, this build of Fairlead reads up to %d: use a newer one", doc.Format, storeFormat)
	}
	return doc, nil
}

// claim notes the seal key's fingerprint in a new store. If another replica was
// faster, its note is returned.
func (s *Store) claim(ctx context.Context) (*storeDocument, error) {
	doc := &storeDocument{Format: storeFormat, SealKey: s.sealID.String()}
	value, err := marshal(doc)
	if err != nil {
		return nil, err
	}
	var resp *clientv3.TxnResponse
	err = s.call(ctx, func(ctx context.Context) (err error) {
		resp, err = s.client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision(storeKey), "=", 0)).
			Then(clientv3.OpPut(storeKey, string(value))).Commit()
		return err
	})
	if err != nil || resp.Succeeded {
		return doc, err
	}
	return s.storeDocument(ctx)
}

// readSealKey reads a key file. If there is none the error is fs.ErrNotExist.
func (s *Store) readSealKey(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the seal key file: %w", err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		s.log.Warn("the seal key file can be read by others than its owner, chmod 600 it", "file", path, "mode", info.Mode().Perm().String())
	}
	key, ok := parseSealKey(string(bytes.TrimSpace(text)))
	if !ok {
		return nil, fmt.Errorf("seal key file %s must hold %d bytes as hexadecimal or base64 text: %s", path, sealKeySize, makeKeyHint)
	}
	return key, nil
}

func parseSealKey(text string) ([]byte, bool) {
	if key, err := hex.DecodeString(text); err == nil && len(key) == sealKeySize {
		return key, true
	}
	text = strings.TrimRight(text, "=")
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if key, err := encoding.DecodeString(text); err == nil && len(key) == sealKeySize {
			return key, true
		}
	}
	return nil, false
}

// makeSealKey writes a new key file, and forces it to the disk: what is sealed under
// a lost key is lost.
func makeSealKey(path string) ([]byte, error) {
	key := make([]byte, sealKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("making a seal key: %w", err)
	}
	if err := writeSealKey(path, hex.EncodeToString(key)+"\n"); err != nil {
		return nil, fmt.Errorf("writing the seal key file: %w", err)
	}
	return key, nil
}

// writeSealKey writes the file under another name first, so that there is never half
// a key. The data directory is locked, so both names are ours.
func writeSealKey(path, text string) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := cmp.Or(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return cmp.Or(dir.Sync(), dir.Close())
}
