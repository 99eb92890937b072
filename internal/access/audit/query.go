package audit

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/mesh"
)

// Query says which events are wanted. All conditions must hold.
type Query struct {
	// Account is whose trail is read.
	Account string
	// All reads every account's, and the calls of unknown callers. Account is not used.
	All bool
	// From and To bound the time, From included and To not; zero for no bound. Times of
	// events are whole seconds.
	From, To time.Time
	// Name is the operation, "" for any, as in the conditions below.
	Name string
	// Resource is the ARN of an object, or how it begins, with "*" behind it.
	Resource string
	// User is the name of a user, or of the role of a session.
	User string
	// ErrorCode is the code of a refusal.
	ErrorCode string
	// Limit is how many events are returned at most, 0 for 100, the most allowed.
	Limit int
	// Next is the token of an earlier answer to the same query, "" to begin with the
	// newest event.
	Next string
}

// Bounds of one call of Query.
const (
	mostEvents = 100
	// mostRead is how much of the files one call reads, in bytes.
	mostRead = 32 << 20
	// mostTime is when a call answers with what it has.
	mostTime = time.Second
	// mostAnswer is how large an answer becomes, in bytes, but for its first event.
	mostAnswer = 4 << 20
	// disorder is how far lines may lie out of the order of their times. Files, and the
	// rest of one, are passed over by the time of a line only beyond it.
	disorder = time.Hour
)

// place is a place between two lines of the log.
type place struct {
	seq uint64
	off int64
}

// Query returns events, the newest first, and a token for those behind them; "" when
// there are none. One call does a bounded amount of work: it may return few events or
// none, and a token to go on with.
//
// The tokens stay right while events are added and files rotate. Events whose file has
// been deleted in between are left out. It returns a *mesh.Error with ErrBadRequest for
// a token that does not fit, and with ErrTooManyRequests to an account that asks too
// many questions at once.
func (l *Log) Query(ctx context.Context, q Query) (events []json.RawMessage, next string, err error) {
	f, err := l.Find(ctx, q)
	return f.Events, f.Next, err
}

// Found is what one log answers.
type Found struct {
	// Events are the newest first, and Tokens those for what is behind each of them.
	Events []json.RawMessage `json:"events,omitempty"`
	Tokens []string          `json:"tokens,omitempty"`
	// Next is the token for what is behind all that was read; "" when there is nothing.
	Next string `json:"next,omitempty"`
}

// Find is Query for who merges several logs: it says for each event where to go on behind
// it.
func (l *Log) Find(ctx context.Context, q Query) (Found, error) {
	if l == nil || q.Account == "" && !q.All {
		return Found{}, nil
	}
	if q.Limit <= 0 || q.Limit > mostEvents {
		q.Limit = mostEvents
	}
	m := newMatcher(q)
	from, begun, err := parseToken(q)
	if err != nil {
		return Found{}, err
	}
	asker := q.Account
	if q.All {
		asker = "*"
	}
	done, err := l.turns.take(ctx, asker)
	if err != nil {
		return Found{}, err
	}
	defer done()
	s := &scan{log: l, match: m, limit: q.Limit, until: time.Now().Add(mostTime), budget: mostRead}
	if err := s.run(ctx, from, begun); err != nil {
		return Found{}, err
	}
	f := Found{Events: s.events, Tokens: make([]string, len(s.behind))}
	for i, at := range s.behind {
		f.Tokens[i] = at.token(q)
	}
	if !s.end {
		f.Next = s.at.token(q)
	}
	return f, nil
}

// scan is one call's way through the files.
type scan struct {
	log    *Log
	match  *matcher
	limit  int
	until  time.Time
	budget int64

	events []json.RawMessage
	behind []place // of each event, what is to be read next
	bytes  int
	at     place // behind what is still to be read
	end    bool  // there is nothing more
}

// errFull ends a scan that has done its share.
var errFull = errors.New("the answer is full")

func (s *scan) run(ctx context.Context, from place, begun bool) error {
	current, size, seq, err := s.log.reader()
	if err != nil {
		return err
	}
	if current != nil {
		defer current.Close()
	}
	old, err := s.log.files.old()
	if err != nil {
		return err
	}
	if begun && from.seq > seq {
		return errToken
	}
	if current != nil && (!begun || from.seq == seq) {
		s.at = place{seq, size}
		if begun {
			s.at = from
		}
		if err := s.file(ctx, current, size); err != nil || s.end {
			return full(err)
		}
	}
	for _, n := range old {
		if n >= seq || begun && n > from.seq {
			continue // put aside since, or read already
		}
		if err := s.old(ctx, n, from, begun); err != nil || s.end {
			return full(err)
		}
	}
	s.end = true
	return nil
}

func full(err error) error {
	if errors.Is(err, errFull) {
		return nil
	}
	return err
}

// old reads a file that was put aside.
func (s *scan) old(ctx context.Context, seq uint64, from place, begun bool) error {
	file, err := os.Open(s.log.files.name(seq))
	if errors.Is(err, os.ErrNotExist) { // deleted a moment ago
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	s.at = place{seq, info.Size()}
	if begun && seq == from.seq {
		s.at = from
	}
	switch sp := s.log.span(seq, file, info.Size()); {
	case s.match.allLater(sp.first):
		return nil
	case s.match.allEarlier(sp.last):
		s.end = true
		return nil
	}
	return s.file(ctx, file, info.Size())
}

// file reads a file from s.at to its beginning.
func (s *scan) file(ctx context.Context, file io.ReaderAt, size int64) error {
	if err := onBoundary(file, s.at.off, size); err != nil {
		return err
	}
	r := backward{file: file, off: s.at.off, block: readBlock}
	for {
		before := r.read
		line, start, err := r.prev()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if s.match.allEarlierThan(line) {
			s.end = true
			return nil
		}
		if out := s.match.event(line); out != nil {
			if len(s.events) > 0 && s.bytes+len(out) > mostAnswer {
				return errFull // and this line is the next one's
			}
			s.events, s.bytes = append(s.events, out), s.bytes+len(out)
			s.behind = append(s.behind, place{s.at.seq, start})
		}
		s.at.off = start
		if len(s.events) == s.limit {
			return errFull
		}
		if r.read > before { // once a block
			s.budget -= r.read - before
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("reading the audit log: %w", err)
			}
			if s.budget <= 0 || time.Now().After(s.until) {
				return errFull
			}
		}
	}
}

// onBoundary checks that an offset lies behind a line.
func onBoundary(file io.ReaderAt, off, size int64) error {
	if off == 0 {
		return nil
	}
	var b [1]byte
	if off < 0 || off > size {
		return errToken
	}
	if _, err := file.ReadAt(b[:], off-1); err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	if b[0] != '\n' && off != size {
		return errToken
	}
	return nil
}

// reader opens the current file for reading, and tells its length and number. The file
// is nil while there is none.
func (l *Log) reader() (file *os.File, size int64, seq uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, 0, 0, fmt.Errorf("reading the audit log: %w", os.ErrClosed)
	}
	if l.file == nil || l.size == 0 || !l.files.inPlace(l.file) {
		return nil, 0, l.seq, nil
	}
	file, err = os.Open(l.cfg.Path)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("reading the audit log: %w", err)
	}
	return file, l.size, l.seq, nil
}

// span returns the times of a file that was put aside.
func (l *Log) span(seq uint64, file io.ReaderAt, size int64) span {
	l.rangesMu.Lock()
	defer l.rangesMu.Unlock()
	s, ok := l.ranges[seq]
	if !ok {
		s = spanOf(file, size)
		l.ranges[seq] = s
	}
	return s
}

var errToken = mesh.Errorf(mesh.ErrBadRequest, "nextToken does not fit: allowed is one that the same list, with the same conditions, has returned")

const tokenLength = 8 + 8 + 8

// token returns what a query goes on with at a place. It is bound to the query.
func (p place) token(q Query) string {
	b := make([]byte, 0, tokenLength)
	b = append(b, q.fingerprint()...)
	b = binary.BigEndian.AppendUint64(b, p.seq)
	b = binary.BigEndian.AppendUint64(b, uint64(p.off))
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseToken(q Query) (p place, begun bool, err error) {
	if q.Next == "" {
		return place{}, false, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(q.Next)
	if err != nil || len(b) != tokenLength || string(b[:8]) != string(q.fingerprint()) {
		return place{}, false, errToken
	}
	p = place{binary.BigEndian.Uint64(b[8:]), int64(binary.BigEndian.Uint64(b[16:]))}
	return p, true, nil
}

// fingerprint tells queries apart, whatever the page and its length.
func (q Query) fingerprint() []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %t %d %d %q %q %q %q",
		q.Account, q.All, q.From.UnixNano(), q.To.UnixNano(), q.Name, q.Resource, q.User, q.ErrorCode))
	return sum[:8]
}
