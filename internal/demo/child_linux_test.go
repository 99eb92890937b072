package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
)

// parentVariable tells a process of this test's program that it is a demo that starts a child and
// waits to be killed, for TestChildrenDieWithTheDemo, and where its files are.
const parentVariable = "DEMO_TEST_PARENT"

func TestMain(m *testing.M) {
	meshtest.Main(m, map[string]func(string) error{parentVariable: beParent})
}

func beParent(dir string) error {
	f := newFamily(dir, nil)
	c, err := f.start(shell("sleeper", "exec sleep 600"))
	if err != nil {
		return err
	}
	fmt.Println(c.cmd.Process.Pid)
	<-c.done
	return nil
}

func shell(name, script string) command {
	return command{name: name, path: "/bin/sh", args: []string{"-c", script}, stop: syscall.SIGTERM}
}

// TestCloseEndsAll has a child that ends when told, one that does not, and one that has
// started another process.
func TestCloseEndsAll(t *testing.T) {
	t.Parallel()
	f := newFamily(t.TempDir(), func(c *child) { t.Errorf("%s is said to have ended by itself", c.name) })
	var pids []int
	for name, script := range map[string]string{
		"obedient": "echo $$; exec sleep 600",
		"stubborn": "trap '' TERM; echo $$; while :; do sleep 600; done",
		"parent":   "trap '' TERM; sh -c 'echo $$; while :; do sleep 600; done' & wait; wait",
	} {
		c, err := f.start(shell(name, script))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, c.cmd.Process.Pid, printedPID(t, c))
	}
	f.close(100 * time.Millisecond)
	for _, pid := range pids {
		awaitGone(t, pid)
	}
}

// TestDeathIsTold has a child that ends by itself.
func TestDeathIsTold(t *testing.T) {
	t.Parallel()
	died := make(chan *child, 1)
	f := newFamily(t.TempDir(), func(c *child) { died <- c })
	defer f.close(time.Second)
	if _, err := f.start(shell("poor", "echo one; echo two; echo three; exit 3")); err != nil {
		t.Fatal(err)
	}
	c := <-died
	if got, want := c.ended().Error(), "poor ended by itself: exit status 3"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	if got := strings.Join(c.logTail(2), ","); got != "two,three" {
		t.Errorf("the end of its log is %q, want two,three", got)
	}
	var fault *childError
	if err := blame(c, c.ended()); !errors.As(err, &fault) || fault.child != c {
		t.Errorf("the error does not lead to the child: %v", err)
	}
	if _, err := f.start(command{name: "nothing", path: "/does/not/exist"}); err == nil || !strings.Contains(err.Error(), "starting nothing") {
		t.Errorf("starting what is not there: %v", err)
	}
}

// TestChildrenDieWithTheDemo kills a process that has a family.
func TestChildrenDieWithTheDemo(t *testing.T) {
	t.Parallel()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentVariable+"="+t.TempDir())
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if err := parent.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = parent.Wait() // it was killed
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the demo said %q instead of its child's process id", line)
	}
	awaitGone(t, pid)
}

// printedPID returns the process id that a child prints first.
func printedPID(t *testing.T, c *child) (pid int) {
	t.Helper()
	err := await(t.Context(), "a process id in "+c.log, testLimit, func(context.Context) error {
		lines := c.logTail(1)
		if len(lines) == 0 {
			return errors.New("it is empty")
		}
		var err error
		pid, err = strconv.Atoi(lines[0])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// awaitGone waits until a process is gone, or is a zombie whose parent has not noticed.
func awaitGone(t *testing.T, pid int) {
	t.Helper()
	err := await(t.Context(), fmt.Sprintf("the end of process %d", pid), testLimit, func(context.Context) error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return nil
		}
		if err != nil {
			return err
		}
		// The state follows the name, which is in parentheses.
		if fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])); fields[0] == "Z" || fields[0] == "X" {
			return nil
		}
		return errors.New("it lives")
	})
	if err != nil {
		t.Error(err)
	}
}
