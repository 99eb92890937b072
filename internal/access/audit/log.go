package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says where a Log is kept.
type Config struct {
	// Path is the file; older ones lie beside it, under its name and a number. Required.
	Path string
	// MaxBytes is how large a file becomes before it is put aside, 0 for 100 MiB.
	MaxBytes int64
	// MaxFiles is how many files are kept, the current one included, 0 for 10.
	MaxFiles int
	// Logger is told of failures to write, at most once a minute; nil for none.
	Logger *slog.Logger
	// Metrics registers the log's counters; nil keeps them to itself.
	Metrics prometheus.Registerer
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// Log is an audit log that is open. A nil *Log is valid: it drops what is written and
// finds nothing. Its methods may be called from several goroutines.
type Log struct {
	cfg     Config
	files   files
	turns   *turns
	written prometheus.Counter
	lost    prometheus.Counter
	unlock  func() error

	nextMu sync.Mutex
	next   *batch // that the next write takes, nil for none

	mu sync.Mutex // guards what follows, and writing
	// file is the current file, nil while it cannot be opened.
	file *os.File
	// seq is the number that the current file has once it is put aside.
	seq uint64
	// size is the length of the current file that holds whole lines.
	size    int64
	checked time.Time // when the file was last seen to be in its place
	closed  bool
	// failed counts the failures since one was last logged, at complained.
	failed     int
	complained time.Time

	rangesMu sync.Mutex
	ranges   map[uint64]span // of files that were put aside
}

const (
	defaultMaxBytes = 100 << 20
	defaultMaxFiles = 10
	// complainEvery bounds how often failures are logged.
	complainEvery = time.Minute
	// checkEvery is how often it is looked whether the file has been moved away.
	checkEvery = time.Second
)

// Open opens the log and makes its file, and the directory, where there is none: with
// access for the own user alone. It fails if the file cannot be written, or if another
// process has it open as its log.
func Open(cfg Config) (*Log, error) {
	if cfg.Path == "" {
		return nil, errors.New("opening the audit log: needs the path of its file")
	}
	if cfg.MaxBytes < 0 || cfg.MaxFiles < 0 {
		return nil, fmt.Errorf("opening the audit log: size %d and number %d of files must not be negative", cfg.MaxBytes, cfg.MaxFiles)
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	if cfg.MaxFiles == 0 {
		cfg.MaxFiles = defaultMaxFiles
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := &Log{
		cfg: cfg, files: files{cfg.Path}, turns: newTurns(), ranges: map[uint64]span{},
		written: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_audit_events_total", Help: "Events written to the audit log.",
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_audit_lost_events_total", Help: "Events that could not be written to the audit log.",
		}),
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(l.written, l.lost)
	}
	return l, nil
}

func (l *Log) open() error {
	if err := os.MkdirAll(filepath.Dir(l.cfg.Path), 0o700); err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	unlock, err := lock(l.cfg.Path + ".lock")
	if err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old, err := l.files.old()
	if err == nil {
		l.seq = 1
		if len(old) > 0 {
			l.seq = old[0] + 1
		}
		l.file, l.size, err = l.files.current()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("opening the audit log: %w", err), unlock())
	}
	l.unlock, l.checked = unlock, l.cfg.Now()
	l.prune(old)
	return nil
}

// Write appends an event, and returns when it is in the file. Those that come while
// another is being written are written together. It waits for nothing but the disk. An
// event that cannot be written is counted and logged, and is no matter of the caller's.
func (l *Log) Write(e Event) {
	if l == nil {
		return
	}
	r := newRecord(&e, l.cfg.Now)
	enc := encoders.Get().(*encoder)
	defer encoders.Put(enc)
	line, err := enc.encode(&r)
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lost.Inc()
		l.complain(err)
		return
	}
	if l.mu.TryLock() {
		defer l.mu.Unlock()
		l.put(line, 1)
		return
	}
	b, first := l.join(line)
	if !first {
		<-b.done
		return
	}
	l.flush(b)
}

// batch is lines that are written together, by who came first.
type batch struct {
	lines []byte
	count int
	done  chan struct{} // closed once they are written, or lost
}

// join adds a line to the batch that is written next, and reports whether it is the
// first there: then the caller must flush it.
func (l *Log) join(line []byte) (b *batch, first bool) {
	l.nextMu.Lock()
	defer l.nextMu.Unlock()
	if first = l.next == nil; first {
		l.next = &batch{done: make(chan struct{})}
	}
	b = l.next
	b.lines = append(b.lines, line...)
	b.count++
	return b, first
}

// flush writes a batch once the one before it is written.
func (l *Log) flush(b *batch) {
	defer close(b.done)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextMu.Lock()
	l.next = nil
	l.nextMu.Unlock()
	l.put(b.lines, b.count)
}

// put writes lines and counts them. The lock is held.
func (l *Log) put(lines []byte, count int) {
	if err := l.append(lines); err != nil {
		l.lost.Add(float64(count))
		l.complain(err)
		return
	}
	l.written.Add(float64(count))
}

// append writes lines. The lock is held.
func (l *Log) append(line []byte) error {
	if l.closed {
		return os.ErrClosed
	}
	if err := l.ensure(); err != nil {
		return err
	}
	if l.size > 0 && l.size+int64(len(line)) > l.cfg.MaxBytes {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(line)
	if err != nil {
		// Half a line would spoil the next one.
		if n > 0 && l.file.Truncate(l.size) != nil {
			l.forsake()
		}
		return fmt.Errorf("writing to the audit log: %w", err)
	}
	l.size += int64(n)
	return nil
}

// ensure opens the current file if it is not open, or not in its place any more.
func (l *Log) ensure() error {
	now := l.cfg.Now()
	if l.file != nil && now.Sub(l.checked) >= 0 && now.Sub(l.checked) < checkEvery {
		return nil
	}
	if l.file != nil {
		l.checked = now
		if l.files.inPlace(l.file) {
			return nil
		}
		l.forsake()
		l.seq++ // what was read of the other file is not in this one
	}
	var err error
	if l.file, l.size, err = l.files.current(); err != nil {
		return err
	}
	l.checked = now
	return nil
}

// forsake lets go of the current file; the next event opens it anew.
func (l *Log) forsake() {
	_ = l.file.Close()
	l.file = nil
}

// rotate puts the current file aside and opens the next. If that fails, the current
// one goes on: it grows, but nothing is lost.
func (l *Log) rotate() error {
	if err := l.files.putAside(l.seq); err != nil {
		l.complain(err)
		return nil
	}
	l.forsake()
	l.seq++
	var err error
	if l.file, l.size, err = l.files.current(); err != nil {
		return err
	}
	old, err := l.files.old()
	if err != nil {
		l.complain(err)
		return nil
	}
	l.prune(old)
	return nil
}

// prune deletes the oldest files; old lists those that were put aside, the newest
// first.
func (l *Log) prune(old []uint64) {
	if len(old) < l.cfg.MaxFiles {
		return
	}
	l.rangesMu.Lock()
	defer l.rangesMu.Unlock()
	for _, seq := range old[l.cfg.MaxFiles-1:] {
		delete(l.ranges, seq)
		if err := os.Remove(l.files.name(seq)); err != nil && !errors.Is(err, os.ErrNotExist) {
			l.cfg.Logger.Error("deleting an old audit file", "error", err)
		}
	}
}

// complain logs a failure, unless that was done a moment ago. The lock is held.
func (l *Log) complain(err error) {
	l.failed++
	now := l.cfg.Now()
	if since := now.Sub(l.complained); since >= 0 && since < complainEvery && !l.complained.IsZero() {
		return
	}
	l.cfg.Logger.Error("the audit log cannot be written; calls go on", "failures", l.failed, "error", err)
	l.failed, l.complained = 0, now
}

// Close writes what the system holds back to the disk and closes the file.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var errs []error
	if l.file != nil {
		errs = append(errs, l.file.Sync(), l.file.Close())
	}
	return errors.Join(append(errs, l.unlock())...)
}
