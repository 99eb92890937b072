package access

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
	"github.com/fairlead-mesh/fairlead/internal/store"
)

// inbox keeps what Bootstrap hands over.
type inbox struct {
	mu  sync.Mutex
	got []Credentials
	err error // what its write returns
}

func (i *inbox) write(c Credentials) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.got = append(i.got, c)
	return i.err
}

func TestBootstrap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var in inbox
	first := openStoreIn(t, dir)
	a := openService(t, first, nil)
	handedOver, err := a.Bootstrap(t.Context(), testAccount, in.write)
	if err != nil || !handedOver || len(in.got) != 1 {
		t.Fatalf("handed over %v, %d times, %v", handedOver, len(in.got), err)
	}
	caller, err := signIn(t, a, in.got[0])
	if err != nil {
		t.Fatal(err)
	}
	ok(t, caller.Allow(Question{Action: "appmesh:CreateMesh", Resource: shop}))
	if caller.Account != testAccount || caller.ARN != "arn:aws:iam::000000000001:user/administrator" {
		t.Errorf("caller is %+v", caller)
	}
	again, err := a.Bootstrap(t.Context(), "000000000002", in.write)
	if again || err != nil || len(in.got) != 1 {
		t.Errorf("second time: %v, %v, handed over %d times", again, err, len(in.got))
	}
	// The same after a restart.
	ok(t, a.Close())
	ok(t, first.Close())
	a = openService(t, openStoreIn(t, dir), nil)
	again, err = a.Bootstrap(t.Context(), testAccount, in.write)
	if again || err != nil || len(in.got) != 1 {
		t.Errorf("after a restart: %v, %v, handed over %d times", again, err, len(in.got))
	}
	_, err = signIn(t, a, in.got[0])
	ok(t, err)
}

// TestBootstrapInterrupted lets the first start end at each point of the hand-over.
func TestBootstrapInterrupted(t *testing.T) {
	t.Parallel()
	for name, interrupt := range map[string]func(t *testing.T, a *Service, in *inbox){
		"before the hand-over": func(t *testing.T, a *Service, _ *inbox) {
			ok(t, a.makeFirst(t.Context(), testAccount))
		},
		"in the hand-over": func(t *testing.T, a *Service, in *inbox) {
			in.err = errors.New("disk is full")
			if handedOver, err := a.Bootstrap(t.Context(), testAccount, in.write); handedOver || !errors.Is(err, in.err) {
				t.Errorf("got %v, %v", handedOver, err)
			}
			in.err = nil
		},
		"after the hand-over": func(t *testing.T, a *Service, in *inbox) {
			ok(t, a.makeFirst(t.Context(), testAccount))
			var v bootstrapValue
			rec, err := a.read(t.Context(), bootstrapRecord, "first account", true, &v)
			ok(t, err)
			rec.Revision = 1 // so that the note fails
			handedOver, err := a.handOver(t.Context(), rec, v, in.write)
			if err != nil || !handedOver || len(in.got) != 1 {
				t.Errorf("got %v, %v", handedOver, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			var in inbox
			interrupt(t, openService(t, s, nil), &in)
			a := openService(t, s, nil)
			handedOver, err := a.Bootstrap(t.Context(), testAccount, in.write)
			if err != nil || !handedOver {
				t.Fatalf("next start: %v, %v", handedOver, err)
			}
			for _, c := range in.got {
				if c != in.got[0] {
					t.Errorf("handed over %s and %s", in.got[0], c)
				}
			}
			_, err = signIn(t, a, in.got[len(in.got)-1])
			ok(t, err)
			if handedOver, err := a.Bootstrap(t.Context(), testAccount, in.write); handedOver || err != nil {
				t.Errorf("the start after: %v, %v", handedOver, err)
			}
		})
	}
}

// TestBootstrapKeyGone begins with a hand-over that was never noted, of a key that
// its owner has since replaced.
func TestBootstrapKeyGone(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(a *Service, keyID string) error{
		"deleted": func(a *Service, keyID string) error {
			_, err := a.DeleteKey(t.Context(), tester, testAccount, Administrator, keyID)
			return err
		},
		"disabled": func(a *Service, keyID string) error {
			_, err := a.UpdateKey(t.Context(), tester, testAccount, Administrator, keyID, false)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t)
			a := openService(t, s, nil)
			ok(t, a.makeFirst(t.Context(), testAccount))
			var v bootstrapValue
			_, err := a.read(t.Context(), bootstrapRecord, "first account", true, &v)
			ok(t, err)
			ok(t, remove(a, v.KeyID))
			var in inbox
			if handedOver, err := a.Bootstrap(t.Context(), testAccount, in.write); handedOver || err != nil || len(in.got) > 0 {
				t.Errorf("got %v, %v", handedOver, err)
			}
			_, err = a.read(t.Context(), bootstrapRecord, "first account", true, &v)
			if err != nil || v.Pending {
				t.Errorf("hand-over is still pending: %v", err)
			}
		})
	}
}

// TestBootstrapRace starts replicas with different settings at the same time.
func TestBootstrapRace(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	var in inbox
	var replicas []*Service
	for range 8 {
		replicas = append(replicas, openService(t, s, nil))
	}
	var running sync.WaitGroup
	for i, a := range replicas {
		running.Go(func() {
			if _, err := a.Bootstrap(t.Context(), "00000000000"+string(rune('1'+i)), in.write); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	records, err := s.Records(t.Context(), tester, recordPrefix)
	ok(t, err)
	if len(records) != 4 {
		t.Errorf("%d records, want one account, user, key and note", len(records))
	}
	if len(in.got) == 0 {
		t.Fatal("nobody has handed over the key")
	}
	for _, c := range in.got {
		if c != in.got[0] {
			t.Errorf("handed over %s and %s", in.got[0], c)
		}
	}
	for _, a := range replicas {
		if _, err := signIn(t, a, in.got[0]); err != nil {
			t.Error(err)
		}
	}
}

// TestBootstrapKeepsOut checks that an account from elsewhere is left alone.
func TestBootstrapKeepsOut(t *testing.T) {
	t.Parallel()
	a := openService(t, openStore(t), nil)
	var in inbox
	if _, err := a.Bootstrap(t.Context(), "12", in.write); err == nil || !strings.Contains(err.Error(), `"12" is not allowed: twelve digits`) {
		t.Errorf("got %v", err)
	}
	_, _, err := a.CreateAccount(t.Context(), tester, "000000000007", "seven")
	ok(t, err)
	if handedOver, err := a.Bootstrap(t.Context(), testAccount, in.write); handedOver || err != nil {
		t.Errorf("got %v, %v", handedOver, err)
	}
	if _, err := a.CreateUser(t.Context(), tester, User{Account: testAccount, Name: "x"}); codeOf(t, err) != mesh.ErrNotFound {
		t.Errorf("an account was made: %v", err)
	}
}

func TestWriteCredentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "credentials")
	ok(t, os.WriteFile(path, []byte("[default]\nold = one\n"), 0o644))
	want := newCredentials(keyPrefix)
	ok(t, WriteCredentials(path, want, "eu-west-1"))
	info, err := os.Stat(path)
	ok(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode is %v", info.Mode())
	}
	profile, err := config.LoadSharedConfigProfile(t.Context(), "default", func(o *config.LoadSharedConfigOptions) {
		o.CredentialsFiles, o.ConfigFiles = []string{path}, []string{}
	})
	ok(t, err)
	got := Credentials{AccessKeyID: profile.Credentials.AccessKeyID, SecretAccessKey: profile.Credentials.SecretAccessKey}
	if got != want || profile.Region != "eu-west-1" {
		t.Errorf("the AWS SDK reads %s and region %q, want %s and eu-west-1", got, profile.Region, want)
	}
	left, err := os.ReadDir(dir)
	ok(t, err)
	if len(left) != 1 {
		t.Errorf("%d files are left", len(left))
	}
	if err := WriteCredentials(filepath.Join(dir, "no", "credentials"), want, "eu-west-1"); err == nil || !strings.HasPrefix(err.Error(), "writing credentials: ") {
		t.Errorf("into no folder: %v", err)
	}
	if err := WriteCredentials(dir, want, "eu-west-1"); err == nil {
		t.Error("over a folder: no error")
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
		t.Errorf("beside the folder: %v, %v", left, err)
	}
}

func TestRecordKeys(t *testing.T) {
	t.Parallel()
	type parts struct {
		Account, Kind, Name string
		OK                  bool
	}
	for key, want := range map[string]parts{
		"iam/000000000001/account":  {"000000000001", "account", "", true},
		"iam/000000000001/user/ann": {"000000000001", "user", "ann", true},
		"iam/000000000001/key/FLAK": {"000000000001", "key", "FLAK", true},
		"iam/bootstrap":             {},
		"iam/000000000001/role/x":   {"000000000001", "role", "x", true},
		"iam/000000000001/group/x":  {},
		"iam/000000000001/user":     {},
		"iam/000000000001/user/a/b": {},
	} {
		var got parts
		got.Account, got.Kind, got.Name, got.OK = splitKey(key)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", key, d)
		}
	}
	var rec store.Record
	if _, err := encodeRecord(store.Record{Value: []byte("{")}, rec); err == nil {
		t.Error("a broken record can be changed")
	}
}
