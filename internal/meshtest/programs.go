package meshtest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// AgentVariable names a fairlead-agent for this package to use, in place of one that it
// builds: for a test that runs many tests.
const AgentVariable = "FAIRLEAD_TEST_AGENT"

// built are the programs that this process has asked for, in a folder of its own.
var built struct {
	sync.Mutex
	dir   string
	paths map[string]string // by the package's folder
}

// Program returns a program of the checkout, built as "make build" does: that of the package
// in a folder below the checkout's root, such as "cmd/fairlead", which may be a module of its
// own. The tests of all packages share what was built, and the linker works only where a
// source has changed. The file is this process's own: it stays as it is, whoever builds
// another, until Main ends the process. Names of folders differ in their last element.
func Program(folder string) (string, error) {
	built.Lock()
	defer built.Unlock()
	if path := built.paths[folder]; path != "" {
		return path, nil
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	if built.dir == "" {
		if built.dir, err = os.MkdirTemp("", "fairlead-programs-"); err != nil {
			return "", err
		}
		built.paths = map[string]string{}
	}
	path := filepath.Join(built.dir, filepath.Base(folder))
	if err := buildShared(filepath.Join(root, folder), filepath.Join(root, "bin", "test"), path); err != nil {
		return "", fmt.Errorf("building %s: %w", folder, err)
	}
	built.paths[folder] = path
	return path, nil
}

// Programs fills in the paths of programs, by their folders, that are empty, as Program
// returns them.
func Programs(paths map[string]*string) error {
	for folder, path := range paths {
		if *path != "" {
			continue
		}
		var err error
		if *path, err = Program(folder); err != nil {
			return err
		}
	}
	return nil
}

// RemovePrograms removes what Program has returned. Main does it at the end of tests.
func RemovePrograms() {
	built.Lock()
	defer built.Unlock()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	built.dir, built.paths = "", nil
}

// buildShared builds the program of a package in a folder that all tests of the checkout share, and
// has it at a path of the caller's too. Where the caller may not write there, nothing is shared.
func buildShared(source, shared, path string) error {
	if err := os.MkdirAll(shared, 0o755); err != nil {
		return build(source, path)
	}
	lock, err := os.OpenFile(filepath.Join(shared, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if errors.Is(err, os.ErrPermission) {
		return build(source, path)
	}
	if err != nil {
		return err
	}
	defer lock.Close() // and with that it is unlocked
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	program := filepath.Join(shared, filepath.Base(path))
	if err := build(source, program); err != nil {
		return err
	}
	// The go command replaces a program, it does not write into it: what is linked stays.
	if err := os.Link(program, path); err == nil {
		return nil
	}
	return copyProgram(program, path) // the folders are not of one file system
}

func build(source, path string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-tags=grpcnotrace", "-buildvcs=false", "-ldflags", "-s -w", "-o", path, ".")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // under the race detector too
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	syscall.ForkLock.RLock() // a process forked now would hold the file open for writing, so that nobody could run it
	defer syscall.ForkLock.RUnlock()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func agentBinary() (string, error) {
	if path := os.Getenv(AgentVariable); path != "" {
		return path, nil
	}
	return Program("cmd/fairlead-agent")
}

// Main is a package's TestMain: it runs the tests, removes what they have shared, and ends
// the process. Where a variable of roles is set, this process is not one of tests but one that
// a test has started: it does what the variable stands for, given its value, and ends. An
// error is written to standard error, and ends it with code 1.
func Main(m *testing.M, roles map[string]func(value string) error) {
	run := map[string]func(string) error{firstCallVariable: firstCallMain}
	maps.Copy(run, roles)
	for variable, role := range run {
		value := os.Getenv(variable)
		if value == "" {
			continue
		}
		if err := role(value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	RemovePrograms()
	os.Exit(code)
}
