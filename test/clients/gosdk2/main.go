// Command gosdk2 is a client of App Mesh as programs in Go have them: AWS's SDK for Go v2, unchanged.
//
//	gosdk2 operations SETTINGS    calls each operation, and meets each error of the model
//	gosdk2 terraform SETTINGS     does what Terraform's AWS provider does
//	gosdk2 identity SETTINGS      calls by what the environment says alone
//
// SETTINGS is a JSON file that says where the control plane is. What was seen is printed
// as one line of JSON for the tests in Python beside this folder. It may import the
// SDK and the test libraries of the module, and nothing else of Fairlead.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/smithy-go/middleware"
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
	*appmesh.Client
	ctx context.Context

	mu     sync.Mutex
	called map[string]bool
	errors map[string]string
	checks int
}

func main() {
	if err := start(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gosdk2:", err)
		os.Exit(1)
	}
}

func start(args []string) (err error) {
	if len(args) != 2 {
		return errors.New("give a command, operations, terraform or identity, and the file with the settings")
	}
	commands := map[string]func(*run){"operations": (*run).operations, "terraform": (*run).terraform}
	command := commands[args[0]]
	if command == nil && args[0] != "identity" {
		return fmt.Errorf("there is no command %q", args[0])
	}
	text, err := os.ReadFile(args[1])
	if err != nil {
		return fmt.Errorf("reading the settings: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if args[0] == "identity" {
		return identity(ctx, text)
	}
	r := &run{ctx: ctx, called: map[string]bool{}, errors: map[string]string{}}
	if err := json.Unmarshal(text, &r.settings); err != nil {
		return fmt.Errorf("decoding the settings: %w", err)
	}
	r.Client = r.client(r.login)
	defer func() {
		if failed, ok := recover().(failure); ok {
			err = failed
		}
	}()
	command(r)
	return json.NewEncoder(os.Stdout).Encode(report{
		Client: "aws-sdk-go-v2", Model: model(), Called: sorted(r.called), Errors: r.errors, Checks: r.checks,
	})
}

// client makes a client that never tries again and notes what it calls.
func (r *run) client(l login) *appmesh.Client {
	return appmesh.New(appmesh.Options{
		BaseEndpoint:     aws.String(l.Endpoint),
		Region:           r.Region,
		Credentials:      credentials.NewStaticCredentialsProvider(l.AccessKeyID, l.SecretAccessKey, ""),
		RetryMaxAttempts: 1,
		APIOptions: []func(*middleware.Stack) error{func(s *middleware.Stack) error {
			return s.Initialize.Add(middleware.InitializeMiddlewareFunc("note", func(
				ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
			) (middleware.InitializeOutput, middleware.Metadata, error) {
				r.mu.Lock()
				r.called[awsmiddleware.GetOperationName(ctx)] = true
				r.mu.Unlock()
				return next.HandleInitialize(ctx, in)
			}), middleware.After)
		}},
	})
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
	r.mu.Lock()
	r.checks++
	r.mu.Unlock()
	if diff := cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		fail("%s (-want +got):\n%s", what, diff)
	}
}

// holds checks a condition.
func (r *run) holds(ok bool, format string, args ...any) {
	r.mu.Lock()
	r.checks++
	r.mu.Unlock()
	if !ok {
		fail(format, args...)
	}
}
