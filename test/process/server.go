package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Server is a server as users start it: a process of its own, its store embedded and
// forced to the disk.
type Server struct {
	// API calls it as the administrator of its first account.
	*API
	// Data is its data directory.
	Data string
	// XDS and Ops are the addresses that it listens on, beside that of the API.
	XDS, Ops string

	cmd    *exec.Cmd
	errors *tail
	done   chan struct{} // closed once the process has ended and all it wrote was read
}

var listening = regexp.MustCompile(`listening .*api=(\S+) xds=(\S+) ops=(\S+)`)

// Start starts a server on a data directory, on ports of its own and with profiles, and
// waits until it listens. More flags may be given.
func Start(program, data string, flags ...string) (*Server, error) {
	s := &Server{Data: data, errors: &tail{}, done: make(chan struct{})}
	s.cmd = exec.Command(program, append([]string{
		"server", "--data-dir", data, "--pprof",
		"--api-listen", "127.0.0.1:0", "--xds-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0",
	}, flags...)...)
	out, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		s.errors.add(lines.Text())
		m := listening.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		go func() { // ends with the process
			defer close(s.done)
			for lines.Scan() {
				if !strings.Contains(lines.Text(), " level=INFO ") { // of each stream there is a line
					s.errors.add(lines.Text())
				}
			}
			_, _ = io.Copy(io.Discard, out)
		}()
		creds, err := readCredentials(filepath.Join(data, "credentials"))
		if err != nil {
			return nil, errors.Join(err, s.Stop())
		}
		s.API, s.XDS, s.Ops = NewAPI("http://"+m[1], creds), m[2], m[3]
		return s, nil
	}
	_ = s.cmd.Wait() // what it wrote says more
	return nil, fmt.Errorf("fairlead has ended: %s", s.errors)
}

// Stop tells the server to end and waits for it.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-s.done
	return s.cmd.Wait()
}

// Ended is closed when the process has ended.
func (s *Server) Ended() <-chan struct{} { return s.done }

// Wrote returns the last lines that it wrote.
func (s *Server) Wrote() string { return s.errors.String() }

// AwaitReady waits until the server says that it serves.
func (s *Server) AwaitReady(ctx context.Context) error {
	return Poll(ctx, time.Minute, 2*time.Millisecond, func() error {
		_, err := s.Get(ctx, "/readyz")
		return err
	})
}

// Get reads a page of the ops address.
func (s *Server) Get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Ops+path, nil)
	if err != nil {
		return nil, err
	}
	c := &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", path, resp.Status, b)
	}
	return b, err
}

// Metrics returns the values of metrics without labels.
func (s *Server) Metrics(ctx context.Context) (map[string]float64, error) {
	b, err := s.Get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			out[name] = v
		}
	}
	return out, nil
}

// Collected returns the bytes in use on the heap after a collection.
func (s *Server) Collected(ctx context.Context) (float64, error) {
	for range 2 { // what has a finalizer goes with the second
		if _, err := s.Get(ctx, "/debug/pprof/heap?gc=1"); err != nil {
			return 0, err
		}
	}
	m, err := s.Metrics(ctx)
	return m["go_memstats_heap_alloc_bytes"], err
}

// Profile keeps a profile of the server for as long as f runs, and one of its heap
// afterwards, in files of a directory; "" for none.
func (s *Server) Profile(ctx context.Context, dir, name string, seconds int) (wait func() error) {
	if dir == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		b, err := s.Get(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+".cpu.pprof"), b, 0o600)
		}
		done <- err
	}()
	return func() error {
		err := <-done
		if err != nil {
			return err
		}
		b, err := s.Get(ctx, "/debug/pprof/heap")
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name+".heap.pprof"), b, 0o600)
	}
}

// Pid returns the id of the process.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// CPU returns how long a process has run.
func CPU(pid int) (time.Duration, error) {
	// The clock of another process's CPU time, as clock_getcpuclockid makes it.
	const sched = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &t); err != nil { //nolint:gosec // process ids are below 2^22
		return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// Settled waits until a process has little to do, and returns how long it has run.
func Settled(ctx context.Context, pid int) (time.Duration, error) {
	var last time.Duration
	var bad error
	calm := 0
	err := Poll(ctx, 2*time.Minute, 25*time.Millisecond, func() error {
		now, err := CPU(pid)
		if err != nil {
			bad = err
			return nil
		}
		if calm++; now-last > time.Millisecond {
			calm = 0
		}
		last = now
		if calm < 3 {
			return errors.New("it is busy")
		}
		return nil
	})
	if bad != nil {
		err = bad
	}
	return last, err
}

// Resident returns the resident memory of a process in bytes.
func Resident(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("process %d does not say how much memory it has", pid)
}

// Poll tries until f returns nil.
func Poll(ctx context.Context, most, every time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s: %w", most, err)
		case <-tick.C:
		}
	}
}
