package examples

import (
	"regexp"
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
