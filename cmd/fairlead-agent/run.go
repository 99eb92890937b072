package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/fairlead-mesh/fairlead/internal/agent"
	"github.com/fairlead-mesh/fairlead/internal/envoybin"
)

// variables reads the variables, and returns what is to be said of those that have no effect.
// With an error it has been said: one of them may be why.
func variables(stderr io.Writer) (agent.Settings, []agent.Warning, error) {
	misspelt := agent.Misspelt(os.Environ())
	s, warnings, err := agent.ReadSettings(os.LookupEnv)
	if err != nil {
		warn(newLogger(stderr), misspelt)
	}
	return s, append(misspelt, warnings...), err
}

// settled warns, and reads the files that the variables name.
func settled(s agent.Settings, warnings []agent.Warning, logger *slog.Logger) (agent.Settings, error) {
	warn(logger, warnings)
	s, err := s.Resolve()
	if err != nil {
		return s, err
	}
	return s.Locate(context.Background(), os.LookupEnv, logger), nil
}

func newLogger(to io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(to, nil)) }

func warn(logger *slog.Logger, warnings []agent.Warning) {
	for _, w := range warnings {
		logger.Warn("a variable has no effect", "variable", w.Variable, "reason", w.Effect)
	}
}

func bootstrapCommand(flags *flag.FlagSet) func(streams, []string) int {
	format := flags.String("format", "yaml", "yaml or json")
	return func(s streams, _ []string) int {
		if *format != "yaml" && *format != "json" {
			return misused(s.err, fmt.Sprintf("--format is %q, allowed are yaml and json", *format))
		}
		set, warnings, err := variables(s.err)
		if err == nil {
			set, err = settled(set, warnings, newLogger(s.err))
		}
		if err != nil {
			return failed(s.err, err)
		}
		text, err := bootstrapText(set, *format)
		if err == nil {
			_, err = s.out.Write(text)
		}
		if err != nil {
			return failed(s.err, err)
		}
		return exitDone
	}
}

// bootstrapText is the user's own file as it is, or ours.
func bootstrapText(s agent.Settings, format string) ([]byte, error) {
	if s.ConfigFile != "" {
		return os.ReadFile(s.ConfigFile)
	}
	text, err := agent.BootstrapText(s)
	if err != nil || format == "json" {
		return text, err
	}
	return agent.YAML(text)
}

func runCommand(flags *flag.FlagSet) func(streams, []string) int {
	as := flags.String("user", "", "whose process the command is")
	return func(s streams, args []string) int {
		if wanted, err := agent.RelayWanted(os.LookupEnv); err != nil {
			return failed(s.err, err)
		} else if wanted {
			return relay(s)
		}
		app, err := application(s, *as, args)
		if err != nil {
			return misused(s.err, err.Error())
		}
		signals := make(chan os.Signal, 8)
		signal.Notify(signals, agent.Signals...)
		if app != nil {
			signal.Notify(signals, agent.ApplicationSignals...)
		}
		signal.Ignore(syscall.SIGPIPE) // a log that nobody reads ends nothing
		set, warnings, err := variables(s.err)
		if err != nil {
			return failed(s.err, err)
		}
		file, err := agent.OpenLogFile(set)
		if err != nil {
			return failed(s.err, err)
		}
		logger := newLogger(s.err)
		if file != nil {
			logger = newLogger(file)
		}
		if set, err = settled(set, warnings, logger); err != nil {
			return failed(s.err, err)
		}
		envoy, err := envoybin.Find(set.EnvoyPath, envoybin.Roots()...)
		if err != nil {
			return failed(s.err, err)
		}
		code, err := agent.Run(context.Background(), agent.RunConfig{
			Settings: set, Envoy: envoy, Stdout: s.out, Stderr: s.err, LogFile: file, Application: app,
			Signals: signals, Version: versionText(), Logger: logger,
		})
		if err != nil {
			return failed(s.err, err)
		}
		return code
	}
}

// application is the command to run beside Envoy, nil for none.
func application(s streams, as string, args []string) (*agent.Application, error) {
	if len(args) == 0 {
		if as != "" {
			return nil, fmt.Errorf("--user is %q and there is no command to run as that user", as)
		}
		return nil, nil
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return nil, fmt.Errorf("the command to run: %w", err)
	}
	app := &agent.Application{Command: append([]string{path}, args[1:]...), Stdin: s.in, Stdout: s.out, Stderr: s.err}
	if as == "" {
		return app, nil
	}
	var home string
	if app.User, home, err = credential(as); err != nil {
		return nil, err
	}
	if home != "" {
		app.Environ = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HOME=") }), "HOME="+home)
	}
	return app, nil
}

// credential reads USER or USER:GROUP, names or numbers. Without a group it is the user's own,
// with the user's others; a number that is nobody's is its own group.
func credential(as string) (c *syscall.Credential, home string, err error) {
	name, group, grouped := strings.Cut(as, ":")
	u, err := user.Lookup(name)
	if err != nil {
		u, err = user.LookupId(name)
	}
	if err != nil {
		id, bad := strconv.ParseUint(name, 10, 32)
		if bad != nil {
			return nil, "", fmt.Errorf("--user is %q, allowed is a user that this system knows, or a number, and with a colon a group", as)
		}
		c = &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}
	} else {
		home = u.HomeDir
		if c, err = ofUser(u); err != nil {
			return nil, "", err
		}
	}
	if !grouped {
		return c, home, nil
	}
	id, bad := strconv.ParseUint(group, 10, 32)
	if g, err := user.LookupGroup(group); err == nil {
		id, bad = strconv.ParseUint(g.Gid, 10, 32)
	}
	if bad != nil {
		return nil, "", fmt.Errorf("--user is %q, allowed behind the colon is a group that this system knows, or a number", as)
	}
	c.Gid, c.Groups = uint32(id), nil
	return c, home, nil
}

func ofUser(u *user.User) (*syscall.Credential, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		id, err := strconv.ParseUint(g, 10, 32)
		if err != nil {
			return nil, err
		}
		c.Groups = append(c.Groups, uint32(id))
	}
	return c, nil
}
