package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Process is a load client in a process of its own.
type Process struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu      sync.Mutex
	next    int64
	waiting map[int64]chan Answer
	done    chan struct{}
	closing func() error
}

// Variable tells a process of a program that it is a load client, and Role is what it does
// then. Main looks at it; so must the TestMain of tests that call Start.
const Variable = "FAIRLEAD_LOAD_CLIENT"

// Role serves standard input and output.
func Role(string) error { return Serve(os.Stdin, os.Stdout) }

// Main is the main of a program that calls Start. It runs it until that ends, with a context
// that ends when the process is told to.
func Main(run func(context.Context) error) {
	role := func() error { return Role("") }
	if os.Getenv(Variable) == "" {
		role = func() error {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return run(ctx)
		}
	}
	if err := role(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Start starts a process of this program that is a load client.
func Start() (*Process, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), Variable+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the load client: %w", err)
	}
	p := &Process{cmd: cmd, in: in, waiting: map[int64]chan Answer{}, done: make(chan struct{})}
	p.closing = sync.OnceValue(p.end)
	go p.read(out)
	return p, nil
}

func (p *Process) read(out io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 256<<20)
	for lines.Scan() {
		var a Answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			continue // whoever waits for it is told of the end
		}
		p.mu.Lock()
		c := p.waiting[a.ID]
		delete(p.waiting, a.ID)
		p.mu.Unlock()
		if c != nil {
			c <- a
		}
	}
}

// Pid returns the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Close ends all streams and the process. Closing twice is no error.
func (p *Process) Close() error { return p.closing() }

func (p *Process) end() error {
	if err := p.in.Close(); err != nil {
		return err
	}
	<-p.done
	return p.cmd.Wait()
}

// patience is how much longer than it was told to a process may take.
const patience = time.Minute

func (p *Process) do(c *command) (Answer, error) {
	answer := make(chan Answer, 1)
	p.mu.Lock()
	p.next++
	c.ID = p.next
	p.waiting[c.ID] = answer
	line, err := json.Marshal(c)
	if err == nil {
		_, err = p.in.Write(append(line, '\n'))
	}
	p.mu.Unlock()
	if err != nil {
		return Answer{}, fmt.Errorf("telling the load client: %w", err)
	}
	late := time.NewTimer(c.Wait + patience)
	defer late.Stop()
	select {
	case a := <-answer:
		if a.Error != "" {
			return a, errors.New("the load client: " + a.Error)
		}
		return a, nil
	case <-p.done:
		return Answer{}, errors.New("the load client has ended")
	case <-late.C:
		return Answer{}, fmt.Errorf("the load client did not answer %s", c.Op)
	}
}

// Open opens a group of streams and does not wait for them. It returns when they began.
func (p *Process) Open(group string, cfg Config) (at int64, err error) {
	a, err := p.do(&command{Op: "open", Group: group, Open: &cfg})
	return a.At, err
}

// Reconnect ends all connections of a group and opens them anew, all at once. It returns
// when they began.
func (p *Process) Reconnect(group string) (at int64, err error) {
	a, err := p.do(&command{Op: "reconnect", Group: group})
	return a.At, err
}

// Synced waits until all streams of a group have all that there is for them, or not
// longer than wait.
func (p *Process) Synced(group string, wait time.Duration) (State, error) {
	a, err := p.do(&command{Op: "synced", Group: group, Wait: wait})
	if err == nil && a.State.Synced < a.State.Streams {
		err = fmt.Errorf("after %s %d of %d streams have all; refused: %v, ended: %v", wait, a.State.Synced, a.State.Streams, a.State.Refused, a.State.Ended)
	}
	return a.State, err
}

// State returns how a group stands.
func (p *Process) State(group string) (State, error) {
	a, err := p.do(&command{Op: "state", Group: group})
	return a.State, err
}

// Times waits until as many streams as wanted have each of some changes, and returns
// since when they have it, in ascending order.
func (p *Process) Times(want int, wait time.Duration, changes ...uint32) ([][]int64, error) {
	a, err := p.do(&command{Op: "times", Marks: changes, Want: want, Wait: wait})
	if err != nil {
		return nil, err
	}
	for i, times := range a.Times {
		if len(times) < want {
			return a.Times, fmt.Errorf("after %s %d of %d streams have change %d", wait, len(times), want, changes[i])
		}
	}
	return a.Times, nil
}

// Pause has some streams of a group stop reading.
func (p *Process) Pause(group string, streams int) error {
	_, err := p.do(&command{Op: "pause", Group: group, Want: streams})
	return err
}

// Resume has all streams of a group read again.
func (p *Process) Resume(group string) error {
	_, err := p.do(&command{Op: "resume", Group: group})
	return err
}

// Digests returns for each stream of a group a number that is the same for streams which
// hold the same resources, to the byte; versions do not count.
func (p *Process) Digests(group string) ([]string, error) {
	a, err := p.do(&command{Op: "digests", Group: group})
	return a.Digests, err
}

// Dump writes what the first stream of a group holds as an encoded DiscoveryResponse to a
// file. The group must keep its resources.
func (p *Process) Dump(group, file string) error {
	_, err := p.do(&command{Op: "dump", Group: group, File: file})
	return err
}

// CloseGroup ends a group's streams and forgets it.
func (p *Process) CloseGroup(group string) error {
	_, err := p.do(&command{Op: "close", Group: group})
	return err
}
