package examples

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestTheCostsOfTheOperationsGuideAreThoseOfTheREADME(t *testing.T) {
	t.Parallel()
	all := pages(t)
	row := regexp.MustCompile(`(?m)^\| (held[^|]*|waiting) \| [^|]* \| ([0-9.]+)( a month)? \|$`)
	costs := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(all["../README.md"], -1) {
		costs[m[1]] = m[2]
	}
	rows := row.FindAllStringSubmatch(all["../docs/operations.md"], -1)
	if len(rows) != 3 {
		t.Fatalf("%d rows of costs, want 3", len(rows))
	}
	for _, m := range rows {
		if costs[m[1]] != m[2] {
			t.Errorf("%s: %s USD a month, the README says %q", m[1], m[2], costs[m[1]])
		}
	}
}

var shellBlock = regexp.MustCompile("(?ms)^ *```(?:sh)?\n(.*?)^ *```")

func TestEveryCommandOfTheDocumentationIsOneThatTheToolHas(t *testing.T) {
	t.Parallel()
	sources, err := filepath.Glob("../cmd/dynalock-admin/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var tool strings.Builder
	for _, name := range sources {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tool.Write(text)
	}
	commands := 0
	for name, text := range pages(t) {
		var lines []string
		for _, block := range shellBlock.FindAllStringSubmatch(text, -1) {
			lines = append(lines, strings.Split(block[1], "\n")...)
		}
		for _, m := range regexp.MustCompile("`(dynalock-admin [^`]+)`").FindAllStringSubmatch(text, -1) {
			lines = append(lines, m[1])
		}
		for _, line := range lines {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " -- ") // the command that run runs
			words := strings.Fields(line)
			if len(words) < 2 || words[0] != "dynalock-admin" {
				continue
			}
			commands++
			if !strings.HasPrefix(words[1], "-") && !strings.Contains(tool.String(), `"`+words[1]+" ") && !strings.Contains(tool.String(), `"`+words[1]+`"`) {
				t.Errorf("%s: no command %s: %s", name, words[1], line)
			}
			for _, word := range words[1:] {
				flag, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
				if strings.HasPrefix(word, "--") && !strings.Contains(tool.String(), `, "`+flag+`", `) && !strings.Contains(tool.String(), `("`+flag+`", `) {
					t.Errorf("%s: no flag %s: %s", name, word, line)
				}
			}
		}
	}
	if commands < 15 {
		t.Errorf("only %d commands were found: is the pattern right?", commands)
	}
}
