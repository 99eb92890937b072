package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fairlead-mesh/fairlead/internal/agent/backoff"
	"github.com/fairlead-mesh/fairlead/internal/agent/private"
)

const (
	// firstPause and longestPause bound the pauses between exchanges that fail: a random
	// part of a time that doubles.
	firstPause   = time.Second
	longestPause = time.Minute
	// spread is by which part of its time a renewal may be earlier, so that agents that
	// started together do not renew together.
	spread = 0.1
	// askedPause is the least time between renewals that Renew asks for.
	askedPause = 5 * time.Second
)

// Config is what a Source is made of. Settings and Logger are required.
type Config struct {
	Settings Settings
	// Dir is the folder for the credentials file; "" for a private one that Close removes.
	Dir string
	// Text returns a variable's value, "" if it is not set. It is asked for AWS's keys.
	Text   func(string) string
	Logger *slog.Logger
	// Now is the clock, and Wait waits for a time, or until ctx or early ends; nil for the
	// real ones. They are for tests.
	Now  func() time.Time
	Wait func(ctx context.Context, d time.Duration, early <-chan struct{})
}

// Source keeps a credentials file fresh. Its methods may be called from several
// goroutines.
type Source struct {
	cfg   Config
	dir   string // "" if nothing is exchanged
	own   bool   // the folder is the Source's own
	now   func() time.Time
	first chan struct{} // closed when the first exchange has ended, well or not
	early chan struct{} // has a message when a renewal is asked for

	mu     sync.Mutex
	status Status
	ended  bool
}

// Status says how it stands with the credentials.
type Status struct {
	Source Kind
	// Identity is the ARN of the session; "" if nothing is exchanged, or nothing was yet.
	Identity string
	// Renewed is when the credentials were got last, and Expires when they end; zero for
	// long-lived keys.
	Renewed, Expires time.Time
	// Error says why the last exchange failed, "" if it did not; since FailingSince.
	Error        string
	FailingSince time.Time
}

// New returns a Source. If credentials are to be exchanged, it makes the file that they
// are to be in, still without any. Close must follow.
func New(cfg Config) (*Source, error) {
	s := &Source{cfg: cfg, now: cfg.Now, first: make(chan struct{}), early: make(chan struct{}, 1), status: Status{Source: cfg.Settings.Kind}}
	if s.now == nil {
		s.now = time.Now
	}
	if s.cfg.Wait == nil {
		s.cfg.Wait = wait
	}
	if s.cfg.Text == nil {
		s.cfg.Text = os.Getenv
	}
	if !cfg.Settings.Kind.Exchanges() {
		s.done()
		return s, nil
	}
	s.dir = cfg.Dir
	if s.dir == "" {
		var err error
		if s.dir, err = os.MkdirTemp("", "fairlead-agent-identity-"); err != nil {
			return nil, fmt.Errorf("making a folder for credentials (TMPDIR says where): %w", err)
		}
		s.own = true
	}
	if err := s.write(aws.Credentials{}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Profile is the section of the credentials file.
const Profile = "default"

// Path returns the credentials file, in the form of AWS's shared credentials files; "" if
// nothing is exchanged. It is replaced by a rename when it changes, in a folder in which
// nothing else is. Until there are credentials it holds none.
func (s *Source) Path() string {
	if s.dir == "" {
		return ""
	}
	return filepath.Join(s.dir, "credentials")
}

// Close removes the credentials file, and the folder if it is the Source's own.
func (s *Source) Close() error {
	switch {
	case s.own:
		return os.RemoveAll(s.dir)
	case s.dir != "":
		if err := os.Remove(s.Path()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing credentials: %w", err)
		}
	}
	return nil
}

// First is closed when the first exchange has ended, well or not.
func (s *Source) First() <-chan struct{} { return s.first }

// Status returns how it stands.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Renew asks for other credentials before it is time: those that there are have been
// refused. It returns at once.
func (s *Source) Renew() {
	select {
	case s.early <- struct{}{}:
	default:
	}
}

// Run exchanges credentials, again and again, until ctx ends.
func (s *Source) Run(ctx context.Context) {
	if s.dir == "" {
		<-ctx.Done()
		return
	}
	for failures := 0; ctx.Err() == nil; {
		pause := s.round(ctx, &failures)
		early := s.early
		if least := min(pause, askedPause); failures == 0 && least > 0 {
			s.cfg.Wait(ctx, least, nil)
			pause -= least
		} else {
			early = nil
		}
		s.cfg.Wait(ctx, pause, early)
	}
}

// wait waits for a time, or until ctx or early ends.
func wait(ctx context.Context, d time.Duration, early <-chan struct{}) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-early:
	case <-ctx.Done():
	}
}

// round exchanges once, and returns how long until the next time.
func (s *Source) round(ctx context.Context, failures *int) time.Duration {
	defer s.done()
	select { // what was asked for until now is done by this
	case <-s.early:
	default:
	}
	c, err := s.exchange(ctx)
	if err == nil {
		err = s.write(c.Key)
	}
	if ctx.Err() != nil {
		return 0
	}
	if err != nil {
		s.failed(err)
		*failures++
		return backoff.Policy{First: firstPause, Most: longestPause}.After(*failures)
	}
	*failures = 0
	return s.renewed(c)
}

func (s *Source) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		close(s.first)
	}
}

// renewed notes new credentials, and returns how long they are used.
func (s *Source) renewed(c Credentials) time.Duration {
	now := s.now()
	s.mu.Lock()
	s.status = Status{Source: s.cfg.Settings.Kind, Identity: c.ARN, Renewed: now, Expires: c.Expires}
	s.mu.Unlock()
	life := c.Expires.Sub(now) * 2 / 3
	if after := s.cfg.Settings.RenewAfter; after > 0 {
		life = min(life, after)
	}
	life = backoff.Part(max(life, firstPause), 1-spread)
	s.cfg.Logger.Info("got credentials of a role", "identity", s.cfg.Settings.Kind, "arn", c.ARN, "accessKey", c.Key.AccessKeyID,
		"expires", c.Expires.UTC().Format(time.RFC3339), "renewal", now.Add(life).UTC().Format(time.RFC3339))
	return life
}

// failed notes why an exchange failed. The log has a line when that changes.
func (s *Source) failed(err error) {
	now := s.now()
	s.mu.Lock()
	before := s.status
	s.status.Error = err.Error()
	if before.Error == "" {
		s.status.FailingSince = now
	}
	s.mu.Unlock()
	if before.Error == err.Error() {
		return
	}
	log := s.cfg.Logger.With("identity", s.cfg.Settings.Kind, "role", s.cfg.Settings.RoleARN, "error", err)
	if !before.Expires.IsZero() {
		log = log.With("expires", before.Expires.UTC().Format(time.RFC3339))
	}
	var refused *Refusal
	if errors.As(err, &refused) && refused.Status < 500 {
		log.Error("the control plane refuses credentials of the role; trying on")
		return
	}
	log.Warn("credentials of the role cannot be had just now; trying on")
}

// write replaces the credentials file.
func (s *Source) write(k aws.Credentials) error {
	text := "[" + Profile + "]\n"
	if k.AccessKeyID != "" {
		text += "aws_access_key_id = " + k.AccessKeyID + "\naws_secret_access_key = " + k.SecretAccessKey + "\naws_session_token = " + k.SessionToken + "\n"
	}
	if err := private.WriteFile(s.Path(), []byte(text)); err != nil {
		return fmt.Errorf("writing credentials: %w", err)
	}
	return nil
}
