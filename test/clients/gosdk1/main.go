// Command gosdk1 is a client of App Mesh as older programs in Go have them, AWS's own
// Kubernetes controller among them: AWS's SDK for Go v1, in the version that the controller links.
//
//	gosdk1 operations SETTINGS    calls each operation, and meets each error of the model
//	gosdk1 controller SETTINGS    does what the Kubernetes controller does
//
// SETTINGS is a JSON file that says where the control plane is. What was seen is printed
// as one line of JSON for the tests in Python beside this folder. It is a module of its
// own, so that Fairlead's does not need this SDK.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/credentials"
	"github.com/aws/aws-sdk-go/aws/request"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/appmesh"
	"github.com/google/go-cmp/cmp"
)

// A login is where a client is pointed at, and who it is.
type login struct {
	Endpoint        string
	AccessKeyID     string
	SecretAccessKey string
}

// settings are what the tests pass on.
type settings struct {
	login
	Region  string
	Account string
	Mesh    string // the name that the mesh is to have
	// Provoked are the errors that the tests have prepared.
	Provoked []provoked
}

// provoked is a call that has to end with an error.
type provoked struct {
	login
	Code  string
	Call  string // "describe" or "create", of a virtual node
	Mesh  string
	Times int // how often to call at most
}

// A report is what is printed.
type report struct {
	Client string            `json:"client"`
	Model  []string          `json:"model"`  // the operations that the client has
	Called []string          `json:"called"` // those that were called
	Errors map[string]string `json:"errors"` // the type in which each error was seen, by code
	Checks int               `json:"checks"`
}

// A run carries out one command.
type run struct {
	settings
	*appmesh.AppMesh
	ctx context.Context

	mu     sync.Mutex
	called map[string]int
	errors map[string]string
	checks int
}

func main() {
	if err := start(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gosdk1:", err)
		os.Exit(1)
	}
}

func start(args []string) (err error) {
	if len(args) != 2 {
		return errors.New("give a command, operations or controller, and the file with the settings")
	}
	commands := map[string]func(*run){"operations": (*run).operations, "controller": (*run).controller}
	command := commands[args[0]]
	if command == nil {
		return fmt.Errorf("there is no command %q", args[0])
	}
	text, err := os.ReadFile(args[1])
	if err != nil {
		return fmt.Errorf("reading the settings: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r := &run{ctx: ctx, called: map[string]int{}, errors: map[string]string{}}
	if err := json.Unmarshal(text, &r.settings); err != nil {
		return fmt.Errorf("decoding the settings: %w", err)
	}
	defer func() {
		if failed, ok := recover().(failure); ok {
			err = failed
		}
	}()
	command(r)
	return json.NewEncoder(os.Stdout).Encode(report{
		Client: aws.SDKName, Model: model(), Called: slices.Sorted(maps.Keys(r.called)), Errors: r.errors, Checks: r.checks,
	})
}

// client makes a client that never tries again and notes what it calls.
func (r *run) client(l login) *appmesh.AppMesh {
	return r.noted(appmesh.New(must(session.NewSession(&aws.Config{
		Endpoint:    &l.Endpoint,
		Region:      &r.Region,
		Credentials: credentials.NewStaticCredentials(l.AccessKeyID, l.SecretAccessKey, ""),
		MaxRetries:  aws.Int(0),
	}))))
}

func (r *run) noted(client *appmesh.AppMesh) *appmesh.AppMesh {
	client.Handlers.Complete.PushBack(func(q *request.Request) {
		r.mu.Lock()
		r.called[q.Operation.Name]++
		r.mu.Unlock()
	})
	return client
}

// model returns the operations that the client has: each has a method that makes a request for it.
func model() []string {
	var names []string
	client := reflect.TypeFor[*appmesh.AppMesh]()
	for m := range client.Methods() {
		if _, ok := client.MethodByName(m.Name + "Request"); ok {
			names = append(names, m.Name)
		}
	}
	return names
}

// A failure is a check that did not hold. It ends the program.
type failure struct{ error }

func fail(format string, args ...any) {
	panic(failure{fmt.Errorf(format, args...)})
}

// must returns the answer to a call that has to succeed.
func must[T any](answer T, err error) T {
	if err != nil {
		panic(failure{err})
	}
	return answer
}

// same compares what came with what was expected.
func (r *run) same(what string, want, got any) {
	r.checks++
	if diff := cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		fail("%s (-want +got):\n%s", what, diff)
	}
}

// holds checks a condition.
func (r *run) holds(ok bool, format string, args ...any) {
	r.checks++
	if !ok {
		fail(format, args...)
	}
}
