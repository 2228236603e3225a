//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// documentation is every page of the repository, by its path from there.
func documentation(t *testing.T) map[string]string {
	t.Helper()
	const top = "../.."
	pages := map[string]string{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != top:
			return filepath.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		pages[strings.TrimPrefix(filepath.ToSlash(path), top+"/")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// mention is a command line of this tool in a page, without the tool's name.
type mention struct {
	args   []string
	inText bool // in a sentence, where a command may be named without its arguments
}

var inlineCode = regexp.MustCompile("`([^`\n]+(?:\n[^`\n]+)?)`")

// mentions finds the command lines of a page: in blocks of shell and in code within the text.
func mentions(page string) []mention {
	var all []mention
	var text, block strings.Builder
	add := func(code string, inText bool) {
		for _, words := range commands(code) {
			for i, word := range words {
				if word == "dynalock-admin" || strings.HasSuffix(word, "/dynalock-admin") {
					all = append(all, mention{words[i+1:], inText})
				}
			}
		}
	}
	fence, kind := false, ""
	for line := range strings.Lines(page) {
		rest, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && fence:
			if slices.Contains([]string{"", "sh", "bash", "console", "cron"}, kind) {
				add(block.String(), false)
			}
			block.Reset()
			fence = false
		case isFence:
			fence, kind = true, rest
		case fence:
			block.WriteString(line)
		default:
			text.WriteString(line)
		}
	}
	for _, code := range inlineCode.FindAllStringSubmatch(text.String(), -1) {
		add(strings.ReplaceAll(code[1], "\n", " "), true)
	}
	return all
}

// commands splits a shell's text into the words of its commands. What stands in $(...) is part of a word.
func commands(text string) [][]string {
	var all [][]string
	var words []string
	var word strings.Builder
	begun, quote, depth := false, rune(0), 0
	endWord := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	endCommand := func() {
		endWord()
		if len(words) > 0 {
			all = append(all, words)
		}
		words = nil
	}
	comment, escaped, before := false, false, ' '
	for _, r := range strings.ReplaceAll(text, "\\\n", " ") {
		switch {
		case comment:
			if r == '\n' {
				comment = false
				endCommand()
			}
		case escaped:
			escaped = false
			word.WriteRune(r)
		case r == '\\' && quote != '\'':
			escaped, begun = true, true
		case depth > 0 || r == '(' && before == '$' && quote != '\'':
			word.WriteRune(r)
			switch r {
			case '(':
				depth++
			case ')':
				depth--
			}
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '"' || r == '\'':
			quote, begun = r, true
		case r == ' ' || r == '\t':
			endWord()
		case r == '#' && !begun:
			comment = true
		case strings.ContainsRune("\n;|&<>()", r):
			endCommand()
		default:
			begun = true
			word.WriteRune(r)
		}
		before = r
	}
	endCommand()
	return all
}

var placeholder = regexp.MustCompile(`^[A-Z]+$`)

// check has cobra look at a command line as it does when it executes one. A word in capitals stands for a value.
func (m mention) check() error {
	var err error
	for _, value := range []string{"1", "1s"} {
		args := slices.Clone(m.args)
		for i, arg := range args {
			if placeholder.MatchString(arg) {
				args[i] = value
			}
		}
		if err = m.checkArgs(args); err == nil {
			return nil
		}
	}
	return err
}

func (m mention) checkArgs(args []string) error {
	cmd, rest, err := newApp(nil, nil, nil).rootCommand().Find(args)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	if err := cmd.ParseFlags(rest); err != nil && !errors.Is(err, pflag.ErrHelp) {
		return err
	}
	words := cmd.Flags().Args()
	switch {
	case cmd.Flags().Changed("help"), cmd.Flags().Changed("version"):
		return nil
	case m.inText && len(words) == 0:
		return nil
	case cmd.HasSubCommands() && cmd.HasParent() && cmd.Name() != "completion":
		return needsCommand(cmd, words)
	}
	return cmd.ValidateArgs(words)
}

func TestEveryCommandLineOfTheDocumentationIsOneThatTheToolAccepts(t *testing.T) {
	t.Parallel()
	found := map[string]int{}
	for name, text := range documentation(t) {
		for _, m := range mentions(text) {
			found[name]++
			if err := m.check(); err != nil {
				t.Errorf("%s: dynalock-admin %q: %v", name, m.args, err)
			}
		}
	}
	for name, least := range map[string]int{
		"cmd/dynalock-admin/README.md": 10, "docs/operations.md": 12, "README.md": 2, "terraform/README.md": 2,
		"examples/ecs/README.md": 2,
	} {
		if found[name] < least {
			t.Errorf("%s: only %d command lines were found", name, found[name])
		}
	}
}

func TestACommandLineIsCheckedAgainstItsOwnCommand(t *testing.T) {
	t.Parallel()
	for page, wrong := range map[string]string{
		"`dynalock-admin leader KEY --lease 1s`":                                             "unknown flag: --lease",
		"`dynalock-admin nonsense`":                                                          `unknown command "nonsense"`,
		"`dynalock-admin table drop`":                                                        `unknown command "drop" for table`,
		"`dynalock-admin list KEY`":                                                          "list takes no arguments",
		"`dynalock-admin release a b`":                                                       "release needs exactly one KEY",
		"```\nFOO=1 dynalock-admin get\n```\n":                                               "get needs exactly one KEY",
		"```sh\ntrue && dynalock-admin run k true\n```\n":                                    "run needs exactly KEY before --",
		"```\ndynalock-admin run k \\\n  --period p -- true\n```\n":                          "unknown flag: --period",
		"```go\n```\n\n```\ndynalock-admin once \"$(date -u +%F)\" -- true\n```\n":           "once needs exactly JOB PERIOD before --",
		"go run ./cmd/dynalock-admin serve\n```\ngo run ./cmd/dynalock-admin serve x\n```":   "serve takes no arguments",
		"```\n0 6 * * * dynalock-admin once j \"$(date +\\%F)\" --at-most 1h -- true\n```\n": "unknown flag: --at-most",
		"a line break in `dynalock-admin\nlist --stat held`":                                 "unknown flag: --stat",
		"`dynalock-admin get k --timeout 5`":                                                 `"--timeout" flag`,
		"`dynalock-admin run k --no-wait -- true | grep --none`":                             "",
		"`dynalock-admin run`, `dynalock-admin --help`, `dynalock-admin --table t list`":     "",
		"```\ndynalock-admin release KEY --token TOKEN # and --so on\n```\n":                 "",
		"```\ndynalock-admin run KEY --wait DURATION -- COMMAND --its-own\n```\n":            "",
	} {
		found := mentions(page)
		if len(found) == 0 {
			t.Errorf("%q: no command line was found", page)
		}
		for _, m := range found {
			switch err := m.check(); {
			case wrong == "" && err != nil:
				t.Errorf("%q: %v", page, err)
			case wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)):
				t.Errorf("%q: %v, want %s", page, err, wrong)
			}
		}
	}
}

func TestTheREADMEHasARowForEveryCommandWithFlagsOfItsOwn(t *testing.T) {
	t.Parallel()
	_, section, _ := strings.Cut(documentation(t)["cmd/dynalock-admin/README.md"], "\n## Commands\n")
	section, _, _ = strings.Cut(section, "\nFlags or variables say where ")
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.*) \\|$").FindAllStringSubmatch(section, -1) {
		rows[m[1]] = m[2]
	}
	flag := regexp.MustCompile("`--([a-z-]+)")
	everyCommand(func(cmd *cobra.Command) {
		if cmd.HasSubCommands() || cmd.Name() == "help" || cmd.Parent().Name() == "completion" {
			return
		}
		use := strings.TrimPrefix(fmt.Sprint(cmd.Parent().CommandPath(), " ", cmd.Use), "dynalock-admin ")
		text, there := rows[use]
		if !there {
			t.Errorf("no row for %q", use)
		}
		delete(rows, use)
		for _, m := range flag.FindAllStringSubmatch(text, -1) {
			if cmd.Flag(m[1]) == nil {
				t.Errorf("%s has no flag --%s", use, m[1])
			}
		}
	})
	delete(rows, "completion SHELL") // whose shells are commands
	for use := range rows {
		t.Errorf("there is no command %q", use)
	}
}

func TestEveryFlagThatTheOperatorsPagesNameIsOneOfSomeCommand(t *testing.T) {
	t.Parallel()
	there := map[string]bool{}
	everyCommand(func(cmd *cobra.Command) {
		note := func(f *pflag.Flag) { there["--"+f.Name] = true }
		cmd.LocalFlags().VisitAll(note)
	})
	pages, flag := documentation(t), regexp.MustCompile("`(--[a-z-]+)")
	for _, name := range []string{"cmd/dynalock-admin/README.md", "docs/operations.md"} {
		named := flag.FindAllStringSubmatch(pages[name], -1)
		if len(named) == 0 {
			t.Errorf("%s names no flag", name)
		}
		for _, m := range named {
			if !there[m[1]] {
				t.Errorf("%s: no command has %s", name, m[1])
			}
		}
	}
}
