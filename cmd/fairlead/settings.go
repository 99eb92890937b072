package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// settle gives each flag that was not set on the command line its value from the
// environment (FAIRLEAD_X_Y for --x-y), else from the file that --config names (key
// x-y), else its default.
func settle(flags *pflag.FlagSet, env func(string) (string, bool)) error {
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
		errs = append(errs, settleFromFile(flags, path))
	}
	return errors.Join(errs...)
}

func settleFromFile(flags *pflag.FlagSet, path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading --config: %w", err)
	}
	var settings map[string]any
	if err := yaml.Unmarshal(raw, &settings); err != nil {
		return usageError{fmt.Errorf("--config %s is not a YAML map: %w", path, err)}
	}
	for name, value := range settings {
		f := flags.Lookup(name)
		if f == nil {
			return usageError{fmt.Errorf("--config %s: unknown key %q; allowed are %s", path, name, strings.Join(flagNames(flags), ", "))}
		}
		if f.Changed {
			continue
		}
		if err := flags.Set(name, text(value)); err != nil {
			return usageError{fmt.Errorf("--config %s: key %q: %w", path, name, err)}
		}
	}
	return nil
}

// text writes a YAML value as a flag takes it; lists are joined by commas.
func text(value any) string {
	list, ok := value.([]any)
	if !ok {
		return fmt.Sprint(value)
	}
	parts := make([]string, len(list))
	for i, v := range list {
		parts[i] = fmt.Sprint(v)
	}
	return strings.Join(parts, ",")
}

func flagNames(flags *pflag.FlagSet) []string {
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && f.Name != "config" && f.Name != "version" {
			names = append(names, f.Name)
		}
	})
	slices.Sort(names)
	return names
}
