package intercept

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// Codes of errors: the specification's own, and from 100 on ours.
const (
	codeVersion     = 1   // a version that this plugin does not speak
	codeEnvironment = 4   // a variable CNI_… is not as it should be
	codeInput       = 5   // standard input cannot be read
	codeDecoding    = 6   // the configuration is not JSON
	codeConfig      = 7   // it is not as it should be
	codeRules       = 100 // the rules could not be set or removed
	codeMissing     = 101 // CHECK found that rules are missing
)

// cniVersions are those of the specification that this plugin speaks. What it is given is
// passed on as it is, and what they differ in does not matter to it.
var cniVersions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// cniVersion is the version of answers where the question does not name one.
const cniVersion = "1.0.0"

// CNI is a call of a container runtime, by the Container Network Interface 1.0: where it
// comes from and where its answer goes. The configuration's properties have the names of
// App Mesh's own plugin (aws-appmesh).
type CNI struct {
	Lookup func(string) (string, bool) // variables, in the form of os.LookupEnv
	Stdin  io.Reader
	Stdout io.Writer
}

// cniError is an error in the form of the specification.
type cniError struct {
	Version string `json:"cniVersion"`
	Code    int    `json:"code"`
	Message string `json:"msg"`
}

func (f *cniError) Error() string { return f.Message }

func cniFail(code int, format string, args ...any) error {
	return &cniError{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Run answers the call and returns the exit code: 0, or 1 with an error on c.Stdout, as
// the specification has it.
func (c CNI) Run() int {
	answer, version, err := c.run()
	if err == nil {
		_, err = c.Stdout.Write(answer)
	}
	if err == nil {
		return 0
	}
	f := &cniError{Code: codeInput, Message: err.Error()}
	errors.As(err, &f)
	f.Version = version
	if text, err := json.Marshal(f); err == nil {
		fmt.Fprintln(c.Stdout, string(text))
	}
	return 1
}

// run returns what to write and the version to answer in.
func (c CNI) run() (answer []byte, version string, err error) {
	text, err := io.ReadAll(io.LimitReader(c.Stdin, 1<<20))
	if err != nil {
		return nil, cniVersion, cniFail(codeInput, "reading the configuration: %v", err)
	}
	command := c.variable("CNI_COMMAND")
	conf, err := decodeCNI(text)
	if command == "VERSION" {
		return versionAnswer(conf), cniVersion, nil
	}
	if err != nil {
		return nil, conf.version(), err
	}
	version = conf.version()
	if !slices.Contains(cniVersions, version) {
		return nil, cniVersion, cniFail(codeVersion, "cniVersion is %q, allowed are %s", version, strings.Join(cniVersions, ", "))
	}
	switch command {
	case "ADD":
		answer, err = c.add(conf)
	case "DEL":
		err = c.del()
	case "CHECK":
		err = c.check(conf)
	case "STATUS", "GC": // of 1.1: always ready, and nothing is left behind
	default:
		err = cniFail(codeEnvironment, "CNI_COMMAND is %q, allowed are ADD, DEL, CHECK, VERSION, STATUS and GC", command)
	}
	return answer, version, err
}

func (c CNI) variable(name string) string {
	v, _ := c.Lookup(name)
	return v
}

func versionAnswer(conf cniConfig) []byte {
	version := cniVersion
	if slices.Contains(cniVersions, conf.version()) {
		version = conf.version()
	}
	text, _ := json.Marshal(map[string]any{"cniVersion": version, "supportedVersions": cniVersions})
	return append(text, '\n')
}

// add sets the rules, and passes on what the plugins before have made.
func (c CNI) add(conf cniConfig) ([]byte, error) {
	settings, err := conf.settings()
	if err != nil {
		return nil, err
	}
	path, err := c.namespace()
	if err != nil {
		return nil, err
	}
	err = In(path, func() error { _, err := Enable(settings); return err })
	if err != nil {
		return nil, cniFailed(path, err)
	}
	return conf.result()
}

// check compares what is set with what should be.
func (c CNI) check(conf cniConfig) error {
	settings, err := conf.settings()
	if err != nil {
		return err
	}
	path, err := c.namespace()
	if err != nil {
		return err
	}
	var status Status
	err = In(path, func() (err error) { status, err = Look(settings); return err })
	if err != nil {
		return cniFailed(path, err)
	}
	if !status.Enabled {
		return cniFail(codeMissing, "interception in %s is not as configured: %s", path, strings.Join(strings.FieldsFunc(status.Text(), func(r rune) bool { return r == '\n' }), "; "))
	}
	return nil
}

// del removes the rules. A namespace that is gone has none.
func (c CNI) del() error {
	path := c.variable("CNI_NETNS")
	if path == "" {
		return nil
	}
	err := In(path, func() error { _, err := Disable(); return err })
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return cniFailed(path, err)
}

// namespace returns the path of the network namespace that is meant.
func (c CNI) namespace() (string, error) {
	path := c.variable("CNI_NETNS")
	if path == "" {
		return "", cniFail(codeEnvironment, "CNI_NETNS is not set, it is the path of the container's network namespace")
	}
	return path, nil
}

func cniFailed(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrOwnNamespace) {
		return cniFail(codeEnvironment, "CNI_NETNS is %q: %v", path, err)
	}
	return cniFail(codeRules, "interception in %s: %v", path, err)
}

// CalledAsCNI reports whether a program was called by the plugin's name, by which runtimes
// find it.
func CalledAsCNI(args []string) bool {
	if len(args) == 0 {
		return false
	}
	name := args[0][strings.LastIndexByte(args[0], os.PathSeparator)+1:]
	return name == "fairlead-cni"
}
