package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fairlead-mesh/fairlead/internal/meshtest"
	"github.com/fairlead-mesh/fairlead/internal/meshtest/golden"
)

var (
	codeBlock = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")
	fileName  = regexp.MustCompile("^# ([\\w.]+)\n")
	savedAs   = regexp.MustCompile("(?ms)^```json\n(.*?)^```\n\nSaved as `([\\w.]+)`")
)

// TestGuide runs the commands of the guide. A YAML block that begins with a file's name is
// that file.
func TestGuide(t *testing.T) {
	const guide = "../../docs/guide/cli.md"
	raw, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	s := newScript(t, meshtest.Start(t))
	for _, m := range savedAs.FindAllStringSubmatch(string(raw), -1) {
		s.write(m[2], m[1])
	}
	t.Chdir(s.dir)
	ran := 0
	for _, m := range codeBlock.FindAllStringSubmatch(string(raw), -1) {
		if name := fileName.FindStringSubmatch(m[2]); m[1] == "yaml" && name != nil {
			s.write(name[1], m[2])
		}
		if m[1] != "sh" {
			continue
		}
		for line := range strings.Lines(m[2]) {
			command, ok := strings.CutPrefix(strings.TrimSpace(line), "fairlead ")
			if !ok {
				continue
			}
			ran++
			command, note, _ := strings.Cut(command, " # ")
			exit := ""
			if strings.HasPrefix(note, "exit code 1") {
				exit = "? 1\n"
			}
			if out := s.command(command); !strings.HasSuffix(out, exit) || exit == "" && strings.Contains("\n"+out, "\n? ") {
				t.Errorf("%s: fairlead %s: want %q at the end of\n%s", guide, command, exit, out)
			}
		}
	}
	if ran < 20 {
		t.Errorf("the guide has %d commands only: are they read?", ran)
	}
}

// TestCertificatesGuide checks what the guide on certificates has people write: the YAML is
// valid, and the commands have their flags.
func TestCertificatesGuide(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/guide/certificates.md")
	if err != nil {
		t.Fatal(err)
	}
	s := newScript(t, meshtest.Start(t))
	commands := 0
	for _, m := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$").FindAllStringSubmatch(string(raw), -1) {
		if m[1] == "yaml" {
			s.write("spec.yaml", m[2])
			if out := s.command("validate -f DIR/spec.yaml"); strings.Contains(out, "? ") {
				t.Errorf("%s\n%s", m[2], out)
			}
		}
	}
	for _, m := range regexp.MustCompile("(?m)(?:^|`)(?:fairlead )(ca [^`#\n]+)").FindAllStringSubmatch(string(raw), -1) {
		commands++
		command := strings.NewReplacer(`"`, "", "the host was broken into", "theft").Replace(strings.TrimSpace(m[1]))
		if out := s.command(command + " --help"); !strings.Contains(out, "Usage:") || strings.Contains(out, "? ") {
			t.Errorf("fairlead %s:\n%s", command, out)
		}
	}
	if commands < 10 {
		t.Errorf("the guide has %d commands only: are they read?", commands)
	}
}

// TestReference compares the reference with the commands' own help.
func TestReference(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# Commands\n\nWhat `fairlead` can be called with; the server's own flags are on a [page of theirs](server.md), and a guide with examples is [here](../guide/cli.md). " +
		"This page is made from the commands' help: `go test ./cmd/fairlead -run TestReference -update`.\n\n" +
		"Every flag `--x-y` can be given as the variable `FAIRLEAD_X_Y`, and as the key `x-y` of the YAML file that `--config` names, in this order of strength.\n" +
		"Exit codes: 0 done, 1 refused or failed, 2 wrong usage.\n\n## Which server, and as whom\n\nAll commands but `validate` have these flags:\n")
	var c connection
	shared := &cobra.Command{}
	c.flags(shared)
	writeFlags(&b, shared.PersistentFlags(), nil)
	root := newRoot()
	for _, g := range root.Groups() {
		if g.ID == groupServer {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n", strings.TrimSuffix(g.Title, ":"))
		for _, cmd := range root.Commands() {
			if cmd.GroupID == g.ID {
				writeCommand(&b, cmd, shared.PersistentFlags())
			}
		}
	}
	path := filepath.Join("..", "..", "docs", "reference", "cli.md")
	golden.File(t, path, b.String())
}

// writeCommand writes one command and those below it, without the flags that many share.
func writeCommand(b *strings.Builder, cmd *cobra.Command, shared *pflag.FlagSet) {
	fmt.Fprintf(b, "\n### `%s`\n\n%s.\n", cmd.CommandPath(), strings.TrimSuffix(cmd.Short, "."))
	if !cmd.HasSubCommands() {
		fmt.Fprintf(b, "\n```\n%s\n", cmd.UseLine())
		if cmd.Long != "" {
			fmt.Fprintf(b, "\n%s\n", strings.TrimSpace(cmd.Long))
		}
		if cmd.Example != "" {
			fmt.Fprintf(b, "\nExamples:\n%s\n", cmd.Example)
		}
		b.WriteString("```\n")
	}
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if cmd.InheritedFlags().Lookup(f.Name) == nil {
			own.AddFlag(f)
		}
	})
	writeFlags(b, own, shared)
	for _, sub := range cmd.Commands() {
		if sub.Name() != "help" {
			writeCommand(b, sub, shared)
		}
	}
}

// writeFlags writes a table of flags, without those that are in but.
func writeFlags(b *strings.Builder, flags, but *pflag.FlagSet) {
	first := true
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || but != nil && but.Lookup(f.Name) != nil {
			return
		}
		if first {
			b.WriteString("\n| flag | meaning |\n|---|---|\n")
			first = false
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		text := strings.ReplaceAll(f.Usage, "|", `\|`)
		if d := f.DefValue; !slices.Contains([]string{"", "false", "[]", "0", "0s"}, d) {
			text += " (default `" + d + "`)"
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", name, text)
	})
}
