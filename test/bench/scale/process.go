package main

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

// fairlead is a server as users start it: a process of its own, its store embedded and
// forced to the disk.
type fairlead struct {
	cmd  *exec.Cmd
	data string
	*api
	xds, ops string
	errors   *tail
}

var listening = regexp.MustCompile(`listening .*api=(\S+) xds=(\S+) ops=(\S+)`)

// startFairlead starts a server on a data directory and waits until it listens.
func startFairlead(program, data string) (*fairlead, error) {
	s := &fairlead{data: data, errors: &tail{}}
	s.cmd = exec.Command(program, "server", "--data-dir", data, "--pprof",
		"--api-listen", "127.0.0.1:0", "--xds-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0")
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
			for lines.Scan() {
				s.errors.add(lines.Text())
			}
			_, _ = io.Copy(io.Discard, out)
		}()
		creds, err := readCredentials(filepath.Join(data, "credentials"))
		if err != nil {
			return nil, errors.Join(err, s.stop())
		}
		s.api, s.xds, s.ops = newAPI("http://"+m[1], creds), m[2], m[3]
		return s, nil
	}
	_ = s.cmd.Wait() // what it wrote says more
	return nil, fmt.Errorf("fairlead has ended: %s", s.errors)
}

// stop tells the server to end and waits for it.
func (s *fairlead) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.cmd.Wait()
}

// awaitReady waits until the server says that it serves.
func (s *fairlead) awaitReady(ctx context.Context) error {
	return poll(ctx, time.Minute, 2*time.Millisecond, func() error {
		_, err := s.get(ctx, "/readyz")
		return err
	})
}

// get reads a page of the ops address.
func (s *fairlead) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.ops+path, nil)
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

// metrics returns the values of metrics without labels.
func (s *fairlead) metrics(ctx context.Context) (map[string]float64, error) {
	b, err := s.get(ctx, "/metrics")
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

// collected returns the bytes in use on the heap after a collection.
func (s *fairlead) collected(ctx context.Context) (float64, error) {
	for range 2 { // what has a finalizer goes with the second
		if _, err := s.get(ctx, "/debug/pprof/heap?gc=1"); err != nil {
			return 0, err
		}
	}
	m, err := s.metrics(ctx)
	return m["go_memstats_heap_alloc_bytes"], err
}

// profile keeps a profile of the server for as long as f runs, and one of its heap
// afterwards, in files of a directory; "" for none.
func (s *fairlead) profile(ctx context.Context, dir, name string, seconds int) (wait func() error) {
	if dir == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		b, err := s.get(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds))
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
		b, err := s.get(ctx, "/debug/pprof/heap")
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name+".heap.pprof"), b, 0o600)
	}
}

func (s *fairlead) pid() int { return s.cmd.Process.Pid }

// cpu returns how long a process has run.
func cpu(pid int) (time.Duration, error) {
	// The clock of another process's CPU time, as clock_getcpuclockid makes it.
	const sched = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &t); err != nil { //nolint:gosec // process ids are below 2^22
		return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// settled waits until a process has little to do, and returns how long it has run.
func settled(ctx context.Context, pid int) (time.Duration, error) {
	var last time.Duration
	var bad error
	calm := 0
	err := poll(ctx, 2*time.Minute, 25*time.Millisecond, func() error {
		now, err := cpu(pid)
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

// resident returns the resident memory of a process in bytes.
func resident(pid int) (float64, error) {
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

// poll tries until f returns nil.
func poll(ctx context.Context, most, every time.Duration, f func() error) error {
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
