package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	killersFile = "internal/mutants/killers.json"
	listFile    = "internal/mutants/README.md"
)

// readKillers reads who killed each mutant last time.
func readKillers(root string) (map[string][]kill, error) {
	b, err := os.ReadFile(filepath.Join(root, killersFile))
	if err != nil {
		return nil, err
	}
	var killers map[string][]kill
	if err := json.Unmarshal(b, &killers); err != nil {
		return nil, fmt.Errorf("%s: %w", killersFile, err)
	}
	return killers, nil
}

// publish writes the killers, and the list made of them. What was not tried this time stays as it was, and so does what
// was killed by one of many that are known.
func publish(root string, last, now map[string][]kill, every bool) error {
	killers := map[string][]kill{}
	for _, m := range all() {
		kills, tried := now[m.name]
		if !tried || !every && slices.Contains(last[m.name], kills[0]) {
			kills = last[m.name]
		}
		if len(kills) > 0 {
			kills = slices.Clone(kills)
			slices.Sort(kills)
			killers[m.name] = kills
		}
	}
	b, err := json.MarshalIndent(killers, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, killersFile), append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, listFile), []byte(list(killers)), 0o644)
}

// list is the published list.
func list(killers map[string][]kill) string {
	var b strings.Builder
	mutants := all()
	fmt.Fprintf(&b, `# Seeded bugs, and the tests that kill them

Coverage says which lines the tests run. It does not say whether the tests would fail if a line were wrong. So
`+"`scripts/mutants`"+` seeds bugs into the library, one at a time: %d of them. Each is a mistake that another lock client
makes, or one that the protocol excludes. The fast tests have to fail on every bug: those of `+"`heartbeat`"+` and
`+"`dynalock`"+`, in virtual time on the embedded server, and a small part of the simulation where no other test fails.

`+"```"+`
scripts/mutants                  every bug, until the first test that kills it
scripts/mutants -run regexp      the bugs whose name matches
scripts/mutants -write           writes this page; with -all it names all tests that kill, not only the first
`+"```"+`

- The bugs are in `+"`internal/mutants/list_*.go`"+`: the text of the source, and the text that replaces it.
- A bug that survives shows that a test is missing.
- A test process that ends without a failed test, for example because it was killed, is an error and kills nothing.
- `+"`scripts/mutants`"+` takes minutes and is not part of `+"`.ci/run`"+`. Ordinary tests check that every bug still fits the
  source and compiles, that every killer named here is still a test, and that this page is made of the recorded
  killers. Whether they still kill is known from the last run only.

The columns:

- **breaks** names what the bug contradicts: a known failure of the established clients, by its number in
  `+"`dynalock/peers_test.go`"+`; a section of the documentation of package dynalock; or the exported name whose
  documentation promises otherwise.
- **killed by** names a test that fails on the bug; usually others fail, too. "By timeout" is a test that does not end,
  also when it runs alone. "By panic" is a test whose process dies.
`, len(mutants))
	file := ""
	for _, m := range mutants {
		if m.file != file {
			file = m.file
			fmt.Fprintf(&b, "\n## %s\n\n| bug | breaks | killed by |\n|---|---|---|\n", file)
		}
		fmt.Fprintf(&b, "| **%s**: %s | %s | %s |\n", m.name, m.bug, m.ref, shown(killers[m.name]))
	}
	return b.String()
}

// shown is the last column.
func shown(kills []kill) string {
	const most = 4
	cells := make([]string, 0, most+1)
	for _, k := range kills[:min(most, len(kills))] {
		_, name, _ := strings.Cut(k, ".")
		cells = append(cells, name)
	}
	if n := len(kills) - most; n > 0 {
		cells = append(cells, fmt.Sprintf("%d more", n))
	}
	return strings.Join(cells, "<br>")
}

// stale are the recorded names that no mutant has any more.
func stale(killers map[string][]kill) []string {
	names := slices.Collect(maps.Keys(killers))
	known := all()
	return slices.DeleteFunc(names, func(name string) bool {
		return slices.ContainsFunc(known, func(m mutant) bool { return m.name == name })
	})
}
