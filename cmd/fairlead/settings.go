package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// settle gives each flag that was not set on the command line its value from the
// environment (FAIRLEAD_X_Y for --x-y), else from the file that --config names (key
// x-y), else its default. One file can be for several commands: known says whether a
// key that this command has no flag for is another's.
func settle(flags *pflag.FlagSet, known func(name string) bool, env func(string) (string, bool)) error {
	var errs []error
	fromEnv := func(f *pflag.Flag) {
		name := "FAIRLEAD_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value, ok := env(name); ok && !f.Changed {
			if err := flags.Set(f.Name, value); err != nil {
				errs = append(errs, usageError{fmt.Errorf("variable %s: %w", name, err)})
			}
		}
	}
	flags.VisitAll(fromEnv)
	if path, err := flags.GetString("config"); err == nil && path != "" && len(errs) == 0 {
		errs = append(errs, settleFromFile(flags, known, path))
	}
	return errors.Join(errs...)
}

func settleFromFile(flags *pflag.FlagSet, known func(string) bool, path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading --config: %w", err)
	}
	var settings map[string]yaml.Node
	if err := yaml.Unmarshal(raw, &settings); err != nil {
		return usageError{fmt.Errorf("--config %s is not a YAML map: %w", path, err)}
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		f := flags.Lookup(name)
		switch {
		case f == nil && known(name):
			continue
		case f == nil || !settable(f):
			return usageError{fmt.Errorf("--config %s: unknown key %q; allowed are %s", path, name, strings.Join(flagNames(flags), ", "))}
		case f.Changed:
			continue
		}
		node := settings[name]
		value, err := text(&node)
		if err == nil {
			err = flags.Set(name, value)
		}
		if err != nil {
			return usageError{fmt.Errorf("--config %s: key %q: %w", path, name, err)}
		}
	}
	return nil
}

// commandFlags returns whether any command below root has a flag of a name.
func commandFlags(root *cobra.Command) func(name string) bool {
	var names []string
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		names = append(names, flagNames(c.Flags())...)
		names = append(names, flagNames(c.PersistentFlags())...)
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
	return func(name string) bool { return slices.Contains(names, name) }
}

// settable reports whether a flag is a setting: not one that stands for a command.
func settable(f *pflag.Flag) bool {
	return f.Name != "help" && f.Name != "config" && f.Name != "version"
}

// text returns a YAML value as a flag takes it: as it is written, so that 000000000001
// stays what it is, and lists joined by commas.
func text(value *yaml.Node) (string, error) {
	switch value.Kind {
	case yaml.ScalarNode:
		if value.Tag == "!!null" {
			return "", nil
		}
		return value.Value, nil
	case yaml.AliasNode:
		return text(value.Alias)
	case yaml.SequenceNode:
		parts := make([]string, len(value.Content))
		for i, v := range value.Content {
			if v.Kind != yaml.ScalarNode {
				return "", errors.New("allowed is a list of single values")
			}
			parts[i] = v.Value
		}
		return strings.Join(parts, ","), nil
	}
	return "", errors.New("allowed is a single value, or a list of them")
}

func flagNames(flags *pflag.FlagSet) []string {
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if settable(f) {
			names = append(names, f.Name)
		}
	})
	slices.Sort(names)
	return names
}
