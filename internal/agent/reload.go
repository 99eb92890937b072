package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// How often the reloader looks. Looking at files costs a stat each; asking Envoy for
// the names of its secrets costs a small page.
const (
	lookAtFiles   = time.Second
	askForSecrets = 5 * time.Second
	// unfitMost is how long a certificate and a key that do not fit hold a reload up,
	// when they are not written to any more: then Envoy may judge for itself, which
	// keeps what it has if it finds the same.
	unfitMost = 30 * time.Second
)

// reloader has Envoy read certificates again when their files change. Envoy by itself
// notices only that something is moved into a directory that a secret names: ours.
// What it reads then is its own affair: a content that is the same changes nothing,
// and connections go on with the certificate that they began with.
type reloader struct {
	admin  *adminClient
	dir    reloadDir
	logger *slog.Logger

	secrets map[string]secretFiles // by the secret's name
	seen    map[string]fileState   // by the file's name
	pending bool                   // what Envoy has may be old
	altered bool                   // because a file has changed
	held    time.Time              // since when unfit files hold a reload up; zero for not
}

// secretFiles are the files of one secret.
type secretFiles struct {
	Chain, Key string // of a certificate
	Trust      string // of trusted roots
}

func (s secretFiles) names() []string {
	return slices.DeleteFunc([]string{s.Chain, s.Key, s.Trust}, func(n string) bool { return n == "" })
}

// fileState tells one content of a file from the next.
type fileState struct {
	size     int64
	modified time.Time
	inode    os.FileInfo
	content  [sha256.Size]byte
}

func (r *reloader) run(ctx context.Context) {
	r.seen = map[string]fileState{}
	tick := time.NewTicker(lookAtFiles)
	defer tick.Stop()
	var asked time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if now.Sub(asked) >= askForSecrets {
				asked = now
				r.ask(ctx)
			}
			r.look(now)
		}
	}
}

// ask asks Envoy for its secrets. One that is new may have been read before we first
// saw its files, so it is read once more.
func (r *reloader) ask(ctx context.Context) {
	secrets, err := r.admin.secrets(ctx)
	if err != nil {
		return // Envoy is not up yet, or busy: the next time
	}
	for name, files := range secrets {
		if r.secrets[name] != files {
			r.pending = true
		}
	}
	r.secrets = secrets
}

// look looks at all files, and has Envoy read them if one has changed and all are
// whole.
func (r *reloader) look(now time.Time) {
	changed := false
	for _, s := range r.secrets {
		for _, name := range s.names() {
			changed = r.changed(name) || changed
		}
	}
	if changed {
		r.pending, r.altered, r.held = true, true, time.Time{}
	}
	if !r.pending {
		return
	}
	if name, err := r.unfit(); err != nil {
		if r.held.IsZero() {
			r.held = now
			r.logger.Warn("a certificate has changed and is not whole yet; Envoy goes on with the one it has", "secret", name, "reason", err)
		}
		if now.Sub(r.held) < unfitMost {
			return
		}
	}
	if err := r.dir.trigger(); err != nil {
		r.logger.Error("Envoy was not told to read certificates again", "error", err)
		return
	}
	if r.altered {
		r.logger.Info("a certificate has changed, Envoy was told to read it again")
	}
	r.pending, r.altered, r.held = false, false, time.Time{}
}

// changed notes a file's state and reports whether its content is another than before.
// Only a file whose size, time or place on the disk is another is read.
func (r *reloader) changed(name string) bool {
	before, known := r.seen[name]
	info, err := os.Stat(name) // through links: what they lead to is what counts
	if err != nil {
		r.seen[name] = fileState{} // being replaced, or not there: what comes is new
		return false
	}
	if known && before.inode != nil && before.size == info.Size() && before.modified.Equal(info.ModTime()) && os.SameFile(before.inode, info) {
		return false
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return false
	}
	now := fileState{size: info.Size(), modified: info.ModTime(), inode: info, content: sha256.Sum256(b)}
	r.seen[name] = now
	return known && before.content != now.content
}

// unfit returns a secret whose files are not whole, or do not fit together: someone is
// still writing.
func (r *reloader) unfit() (string, error) {
	for _, name := range slices.Sorted(maps.Keys(r.secrets)) {
		if err := r.secrets[name].check(); err != nil {
			return name, err
		}
	}
	return "", nil
}

func (s secretFiles) check() error {
	if s.Chain != "" && s.Key != "" {
		if _, err := tls.LoadX509KeyPair(s.Chain, s.Key); err != nil {
			return err
		}
	}
	for _, name := range s.names() {
		if err := wholePEM(name); err != nil {
			return err
		}
	}
	return nil
}

// wholePEM reports whether a file ends where a block ends.
func wholePEM(name string) error {
	rest, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	blocks := 0
	for {
		block, after := pem.Decode(rest)
		if block == nil {
			break
		}
		blocks++
		rest = after
	}
	if blocks == 0 || strings.Contains(string(rest), "-----BEGIN") {
		return fmt.Errorf("%s does not end with a whole PEM block", name)
	}
	return nil
}

// secrets returns the files of the secrets that Envoy has from the control plane.
func (c *adminClient) secrets(ctx context.Context) (map[string]secretFiles, error) {
	out := map[string]secretFiles{}
	// Secrets whose files are not there yet warm until they are.
	for _, which := range []string{"dynamic_active_secrets", "dynamic_warming_secrets"} {
		body, err := c.do(ctx, http.MethodGet, "/config_dump?resource="+which+"&mask=name")
		if err != nil {
			return nil, fmt.Errorf("reading the names of Envoy's secrets: %w", err)
		}
		defer body.Close()
		found, err := parseSecrets(io.LimitReader(body, 16<<20))
		if err != nil {
			return nil, err
		}
		maps.Copy(out, found)
	}
	return out, nil
}

// parseSecrets reads Envoy's page of secrets. In it Envoy shows what stood in the files
// in place of their names, so the control plane has put these into the secrets' names:
// certificate:CHAIN:KEY and trust:ROOTS.
func parseSecrets(page io.Reader) (map[string]secretFiles, error) {
	var dump struct {
		Configs []struct {
			Name string `json:"name"`
		} `json:"configs"`
	}
	if err := json.NewDecoder(page).Decode(&dump); err != nil {
		return nil, fmt.Errorf("decoding the names of Envoy's secrets: %w", err)
	}
	out := map[string]secretFiles{}
	for _, c := range dump.Configs {
		if files, ok := strings.CutPrefix(c.Name, "certificate:"); ok {
			if s, ok := splitPair(files); ok {
				out[c.Name] = s
			}
		} else if file, ok := strings.CutPrefix(c.Name, "trust:"); ok && file != "" {
			out[c.Name] = secretFiles{Trust: file}
		}
	}
	return out, nil
}

// splitPair splits CHAIN:KEY. The names of files may hold colons, so it is the colon
// that has a file on either side; there is none while a file is not there.
func splitPair(files string) (secretFiles, bool) {
	for i := range len(files) {
		if files[i] != ':' {
			continue
		}
		s := secretFiles{Chain: files[:i], Key: files[i+1:]}
		if isFile(s.Chain) && isFile(s.Key) {
			return s, true
		}
	}
	return secretFiles{}, false
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// reloadDir is a directory that Envoy watches.
type reloadDir struct {
	base string // our own, which holds the one that Envoy watches
	lock *os.File
}

// path is what Envoy watches.
func (d reloadDir) path() string { return filepath.Join(d.base, "reload") }

// newReloadDir makes the directory. Its name comes from whose proxy this is, so that
// proxies of one node, each in a container of its own, say the same of themselves to
// the control plane, which then makes their configuration once. Where another agent
// has that name in use, or another user, it is one at random.
func newReloadDir(s Settings) (reloadDir, error) {
	temp, err := filepath.Abs(cmp.Or(s.CacheDir, os.TempDir())) // what is in a copy names it
	if err != nil {
		return reloadDir{}, err
	}
	name := sha256.Sum256([]byte(s.Resource.ARN + " " + s.Placement.Bind.String()))
	d := reloadDir{base: filepath.Join(temp, fmt.Sprintf("fairlead-agent-%x", name[:8]))}
	if d.lock, err = takeDir(d.base); err != nil {
		d.base, err = os.MkdirTemp(temp, "fairlead-agent-")
	}
	if err == nil {
		err = os.Mkdir(d.path(), 0o700)
	}
	if errors.Is(err, os.ErrExist) { // an agent that was killed has left it
		err = nil
	}
	if err != nil {
		d.remove()
		return reloadDir{}, fmt.Errorf("making a folder that Envoy watches (TMPDIR says where): %w", err)
	}
	return d, nil
}

// trigger moves a file into the directory.
func (d reloadDir) trigger() error {
	file := filepath.Join(d.base, "changed")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	return os.Rename(file, filepath.Join(d.path(), "changed"))
}

// remove takes the directory away.
func (d reloadDir) remove() {
	if d.base != "" {
		os.RemoveAll(d.base)
	}
	if d.lock != nil {
		d.lock.Close()
	}
}
