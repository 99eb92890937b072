package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/fairlead-mesh/fairlead/internal/backup"
	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/zipped"
)

// stored is a key as a test compares it.
type stored struct {
	Value string
	Lease int64
}

// keys returns all that is stored, but for what is about processes.
func keys(t testing.TB, s *Store) map[string]stored {
	t.Helper()
	_, all, err := s.listAll(t.Context(), rootPrefix)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]stored{}
	for _, kv := range all {
		if !transient(string(kv.Key)) {
			out[string(kv.Key)] = stored{string(kv.Value), kv.Lease}
		}
	}
	return out
}

// furnish puts something of each family of keys into a store, for two accounts.
func furnish(t testing.TB, s *Store) {
	t.Helper()
	for _, account := range []string{"000000000001", "000000000002"} {
		w := world{t: t, s: s, c: caller(account)}
		w.makeAll("m")
		w.makeAll("other")
		m := w.mesh("m")
		if err := s.Tag(t.Context(), w.c, m.MeshObject(), []mesh.TagRef{{Key: "team", Value: "<ä>\u2028"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Share(t.Context(), w.c, m, "000000000003"); err != nil {
			t.Fatal(err)
		}
		sealed, err := s.Seal([]byte("secret of " + account))
		if err != nil {
			t.Fatal(err)
		}
		lease, err := s.GrantLease(t.Context(), System("test"), 3600)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.ApplyRecords(t.Context(), System("test"), RecordChange{Puts: []Record{
			{Key: "iam/" + account + "/key/K", Value: sealed},
			{Key: "iamused/" + account + "/K", Value: []byte(`{"format":1}`)},
			{Key: "ca/" + account + "/us-east-1/m", Value: []byte(`{"format":1}`)},
			{Key: "caanchor/" + account + "root", Value: []byte(`{"format":1,"mesh":"` + account + `/us-east-1/m"}`)},
			{Key: "caissued/" + account + "/us-east-1/m/n/1", Value: []byte(`{"format":1}`), Lease: lease},
			{Key: RegistryOwned + account + "/us-east-1/revision/1"},
			{Key: RegistryOwned + account + "/us-east-1/beat/1/2", Value: []byte("x"), Lease: lease},
			{Key: RegistryImported + account + "/us-east-1/service/a/b", Value: []byte("x")},
			{Key: RegistryOperations + account + "/us-east-1/o", Value: []byte("x"), Lease: lease},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteAccount(t.Context(), System("test"), "000000000009", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.PutRecords(t.Context(), System("test"), []Record{{Key: "iam/bootstrap", Value: []byte(`{"format":1}`)}}); err != nil {
		t.Fatal(err)
	}
}

// backUp writes a backup of a store into a file.
func backUp(t testing.TB, s *Store, account string, withKey bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup")
	err := backup.WriteFile(path, func(w io.Writer) error {
		_, _, err := s.WriteBackup(t.Context(), System("test"), w, account, withKey)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func closed(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func restore(t testing.TB, cfg RestoreConfig) Restored {
	t.Helper()
	out, err := Restore(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBackupRoundTrip(t *testing.T) {
	t.Parallel()
	from := openTemp(t)
	furnish(t, from)
	want := keys(t, from)
	file := backUp(t, from, "", true)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}

	dir := t.TempDir()
	out := restore(t, RestoreConfig{Store: Config{DataDir: dir, Unsafe: true}, File: file})
	if out.Entries != int64(len(want)) || out.Entries != out.Totals.Entries || out.Kept != "" || out.SealKeyFile == "" {
		t.Errorf("%+v for %d keys", out, len(want))
	}
	to := openDir(t, dir)
	diff(t, want, keys(t, to))
	for key, value := range want {
		if value.Lease == 0 {
			continue
		}
		if there, err := to.RenewLease(t.Context(), System("test"), value.Lease); err != nil || !there {
			t.Errorf("the lease of %s: %v, %v", key, there, err)
		}
	}
	sealed := want[recordPrefix+"iam/000000000002/key/K"].Value
	if plain, err := to.Unseal([]byte(sealed)); err != nil || string(plain) != "secret of 000000000002" {
		t.Errorf("unsealing: %q, %v", plain, err)
	}
	// What was restored is a store like any other.
	w := world{t: t, s: to, c: caller("000000000001")}
	for _, p := range slices.Backward(w.all("other")) {
		w.delete(p.id)
	}
	w.makeAll("other")
}

// TestBackupKeepsLeases checks that a key goes with its restored lease.
func TestBackupKeepsLeases(t *testing.T) {
	t.Parallel()
	from := openTemp(t)
	furnish(t, from)
	file := backUp(t, from, "", true)
	dir := t.TempDir()
	restore(t, RestoreConfig{Store: Config{DataDir: dir, Unsafe: true}, File: file})
	to := openDir(t, dir)
	leased := map[int64][]string{}
	for key, value := range keys(t, to) {
		if value.Lease != 0 {
			leased[value.Lease] = append(leased[value.Lease], key)
		}
	}
	diff(t, 2, len(leased))
	for lease, with := range leased {
		left, err := to.client.TimeToLive(t.Context(), clientv3.LeaseID(lease))
		if err != nil || left.GrantedTTL != 3600 {
			t.Errorf("%s: %+v, %v", with, left, err)
		}
		if _, err := to.client.Revoke(t.Context(), clientv3.LeaseID(lease)); err != nil {
			t.Error(err)
		}
		for _, key := range with {
			if _, there := keys(t, to)[key]; there {
				t.Errorf("%s outlives its lease", key)
			}
		}
	}
}

// TestBackupIsConsistent backs up while objects come and go.
func TestBackupIsConsistent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.makeNodes("m", 200)
	page, err := w.s.Backup(t.Context(), System("test"), "", 0, "")
	if err != nil {
		t.Fatal(err)
	}
	want := keys(t, w.s)
	for i := range 20 {
		w.delete(m.Object(mesh.KindVirtualNode, "", fmt.Sprintf("n%d", i)))
		w.create(m.Object(mesh.KindVirtualNode, "", "new"+fmt.Sprintf("n%d", i)), specNode)
	}
	got, pages := map[string]stored{}, 0
	page, err = w.s.Backup(t.Context(), System("test"), "", page.Revision, "")
	for {
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			value, err := e.Value()
			if err != nil {
				t.Fatal(err)
			}
			got[e.Key] = stored{Value: string(value)}
		}
		if pages++; !page.More {
			break
		}
		page, err = w.s.Backup(t.Context(), System("test"), "", page.Revision, page.After)
	}
	diff(t, want, got)
	if _, err := w.s.client.Compact(t.Context(), page.Revision+1); err != nil {
		t.Fatal(err)
	}
	_, err = w.s.Backup(t.Context(), System("test"), "", page.Revision, "")
	wantCode(t, err, "BadRequestException", "begin the backup again")
	_, err = w.s.Backup(t.Context(), w.c, "", 0, "")
	wantCode(t, err, "ForbiddenException")
}

// TestBackupPages checks that pages of large documents are small, and that none is lost.
func TestBackupPages(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	large := bytes.Repeat([]byte("x"), 1<<20)
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"} {
		if err := s.PutRecords(t.Context(), System("test"), []Record{{Key: key, Value: large}}); err != nil {
			t.Fatal(err)
		}
	}
	file := backUp(t, s, "", false)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, totals, err := backup.Check(f)
	if err != nil || totals.Entries != 10 || totals.Families["store"] != 1 || h.SealKey != "" {
		t.Errorf("%+v %+v %v", h, totals, err)
	}
}

// TestRestoreOneAccount brings back what one account lost, and leaves the other alone.
func TestRestoreOneAccount(t *testing.T) {
	t.Parallel()
	for name, account := range map[string]string{"from its own backup": "000000000001", "from a backup of all": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := openDir(t, dir)
			furnish(t, s)
			want := keys(t, s)
			file := backUp(t, s, account, false)
			w := world{t: t, s: s, c: caller("000000000001")}
			for _, p := range slices.Backward(w.all("m")) {
				w.delete(p.id)
			}
			w.makeAll("new")
			other := world{t: t, s: s, c: caller("000000000002")}
			other.makeAll("later")
			now := keys(t, s)
			closed(t, s)

			cfg := RestoreConfig{Store: Config{DataDir: dir, Unsafe: true}, File: file, Account: "000000000001"}
			_, err := Restore(t.Context(), cfg)
			wantError(t, err, "has account 000000000001 already: say --replace")
			cfg.Replace = true
			out := restore(t, cfg)
			if out.Kept == "" {
				t.Error("the store before was not kept")
			}
			for key, value := range now {
				if !(formats{}).inScope(key, []byte(value.Value), "000000000001") {
					want[key] = value
				}
			}
			diff(t, want, keys(t, openDir(t, dir)))
		})
	}
}

// TestScope checks that a backup of an account has all that a backup of everything has of
// it.
func TestScope(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	furnish(t, s)
	w := world{t: t, s: s, c: caller("000000000001")}
	if err := s.SetQuotas(t.Context(), System("test"), w.c.Account, map[mesh.Quota]int{mesh.QuotaReadRate: 7}); err != nil {
		t.Fatal(err)
	}
	page, err := s.Backup(t.Context(), System("test"), w.c.Account, 0, "")
	if err != nil || page.More {
		t.Fatal(page.More, err)
	}
	got := map[string]bool{}
	for _, e := range page.Entries {
		got[e.Key] = true
	}
	for key := range keys(t, s) {
		if of := strings.Contains(key, w.c.Account) && !strings.Contains(key, "000000000002"); of != got[key] {
			t.Errorf("%s: in the backup %v, want %v", key, got[key], of)
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	from := openTemp(t)
	furnish(t, from)
	good, err := os.ReadFile(backUp(t, from, "", true))
	if err != nil {
		t.Fatal(err)
	}
	noKey, err := os.ReadFile(backUp(t, from, "", false))
	if err != nil {
		t.Fatal(err)
	}
	one, err := os.ReadFile(backUp(t, from, "000000000001", true))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 0x10
	for name, c := range map[string]struct {
		file    []byte
		account string
		key     byte // of the target, 0 for none
		want    []string
	}{
		"empty":             {file: nil, want: []string{"not a file that fairlead backup wrote"}},
		"something else":    {file: []byte("hello"), want: []string{"not a file that fairlead backup wrote"}},
		"cut off":           {file: good[:len(good)-40], want: []string{"cut off", "damaged"}},
		"cut off early":     {file: good[:200], want: []string{"damaged"}},
		"damaged":           {file: flipped, want: []string{"damaged"}},
		"newer file":        {file: newerFormat(t, func(h *backup.Header) {}, 2), want: []string{"its format is 2, this build of Fairlead reads 1 to 1: use a newer one"}},
		"newer documents":   {file: newerFormat(t, func(h *backup.Header) { h.StoreFormat = 7 }, 1), want: []string{"formats up to 7", "use a newer one"}},
		"no key":            {file: noKey, want: []string{"seal key file", "is missing", from.sealID.String()}},
		"wrong key":         {file: noKey, key: 7, want: []string{"holds a key with fingerprint", from.sealID.String()}},
		"wrong key, stored": {file: good, key: 7, want: []string{"holds a key with fingerprint", from.sealID.String()}},
		"wrong account":     {file: one, account: "000000000002", want: []string{"is a backup of account 000000000001"}},
		"no such account":   {file: good, account: "000000000004", want: []string{"holds nothing of account 000000000004"}},
		"nowhere to go":     {file: one, want: []string{"holds no store that account 000000000001 could be put into"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			file := filepath.Join(t.TempDir(), "backup")
			if err := os.WriteFile(file, c.file, 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := RestoreConfig{Store: Config{DataDir: dir}, File: file, Account: c.account}
			if c.key != 0 {
				cfg.Store.SealKeyFile = keyFile(t, c.key)
			}
			_, err := Restore(t.Context(), cfg)
			wantError(t, err, c.want...)
			for _, name := range []string{etcdDir, readyDir, buildDir, "seal.key"} {
				if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
					t.Errorf("%s was made", name)
				}
			}
		})
	}
}

// newerFormat returns a backup with another header.
func newerFormat(t testing.TB, change func(*backup.Header), format int) []byte {
	t.Helper()
	var b bytes.Buffer
	h := backup.Header{StoreFormat: 1}
	change(&h)
	w, err := backup.NewWriter(&b, h)
	if err == nil {
		_, err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if format == backup.Format {
		return b.Bytes()
	}
	return zipped.Replace(t, b.Bytes(), `"format":1`, `"format":2`)
}

func TestRestoreInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openDir(t, dir)
	furnish(t, s)
	file := backUp(t, s, "", false)
	cfg := RestoreConfig{Store: Config{DataDir: dir, Unsafe: true}, File: file, Replace: true}
	_, err := Restore(t.Context(), cfg)
	wantError(t, err, "is in use by another server")
	want := keys(t, s)
	closed(t, s)
	cfg.Replace = false
	_, err = Restore(t.Context(), cfg)
	wantError(t, err, "holds a store already: say --replace")
	cfg.CheckOnly, cfg.Replace = true, true
	restore(t, cfg)
	diff(t, want, keys(t, openDir(t, dir)))
}

// TestRestoreCutOff checks each moment at which a restore into a data directory can end.
func TestRestoreCutOff(t *testing.T) {
	t.Parallel()
	from := openTemp(t)
	furnish(t, from)
	file := backUp(t, from, "", true)
	newer := keys(t, from)

	dir := t.TempDir()
	s := openDir(t, dir)
	older := keys(t, s)
	closed(t, s)
	// While it is made nothing counts.
	r := &restoration{RestoreConfig: RestoreConfig{Store: Config{DataDir: dir, Unsafe: true}, File: file}}
	if err := r.build(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	s = openDir(t, dir)
	diff(t, older, keys(t, s))
	closed(t, s)

	// Once it is ready it counts, whether what was there has been put away or not.
	other := t.TempDir()
	restore(t, RestoreConfig{Store: Config{DataDir: other, Unsafe: true}, File: file})
	for _, putAway := range []bool{false, true} {
		dir := t.TempDir()
		if err := os.CopyFS(filepath.Join(dir, readyDir), os.DirFS(filepath.Join(other, etcdDir))); err != nil {
			t.Fatal(err)
		}
		if !putAway {
			if err := os.CopyFS(filepath.Join(dir, etcdDir), os.DirFS(filepath.Join(dir, readyDir))); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "seal.key"), []byte(from.sealHex), 0o600); err != nil {
			t.Fatal(err)
		}
		diff(t, newer, keys(t, openDir(t, dir)))
		if _, err := os.Stat(filepath.Join(dir, keptDir)); (err == nil) == putAway {
			t.Errorf("put away before %v: %v", putAway, err)
		}
	}
}

// sealKeyOf returns a file with the seal key of a store.
func sealKeyOf(t *testing.T, s *Store) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(s.sealHex), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRestoreExternal(t *testing.T) {
	t.Parallel()
	from := openTemp(t)
	furnish(t, from)
	want, keyPath := keys(t, from), sealKeyOf(t, from)
	file := backUp(t, from, "", false)
	e := serveEtcd(t)
	cfg := RestoreConfig{Store: Config{Endpoints: []string{e.endpoint}, SealKeyFile: keyPath}, File: file}
	restore(t, cfg)
	s := openExternal(t, e.endpoint, keyPath)
	diff(t, want, keys(t, s))

	_, err := Restore(t.Context(), cfg)
	wantError(t, err, "say --replace")
	cfg.Replace = true
	_, err = Restore(t.Context(), cfg)
	wantError(t, err, "1 servers are using the store: stop them first")
	world{t: t, s: s, c: caller("000000000004")}.makeAll("lost")
	closed(t, s)
	restore(t, cfg)
	diff(t, want, keys(t, openExternal(t, e.endpoint, keyPath)))
}

// TestRestoreExternalCutOff checks that no server starts on half of a restore.
func TestRestoreExternalCutOff(t *testing.T) {
	t.Parallel()
	from := openTemp(t)
	furnish(t, from)
	want, keyPath := keys(t, from), sealKeyOf(t, from)
	file := backUp(t, from, "", false)
	e := serveEtcd(t)
	storeCfg := Config{Endpoints: []string{e.endpoint}, SealKeyFile: keyPath}

	s := newRaw(storeCfg)
	if err := s.dial(t.Context(), storeCfg); err != nil {
		t.Fatal(err)
	}
	r := &restoration{RestoreConfig: RestoreConfig{Store: storeCfg, File: file}}
	if err := r.mark(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	l, n, cut := newLoader(s), 0, errors.New("cut off")
	err := r.each(func(e backup.Entry, value []byte) error {
		if n++; n == 50 {
			return errors.Join(l.flush(t.Context()), cut)
		}
		return l.add(t.Context(), e, value)
	})
	if !errors.Is(err, cut) {
		t.Errorf("%d entries, %v", n, err)
	}
	closed(t, s)
	_, err = Open(t.Context(), storeCfg)
	wantError(t, err, "a restore of all accounts", "was not finished", "run the same command again")

	restore(t, RestoreConfig{Store: storeCfg, File: file})
	diff(t, want, keys(t, openExternal(t, e.endpoint, keyPath)))
}
