package main

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"
)

func TestTheOperatorsCommandsCallNoMoreThanTheirPolicyAllows(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../terraform/library.json")
	if err != nil {
		t.Fatal(err)
	}
	var library struct {
		Actions map[string]map[string][]string `json:"actions"`
	}
	if err := json.Unmarshal(b, &library); err != nil {
		t.Fatal(err)
	}
	for role, lines := range map[string][][]string{
		"observer": {{"list"}, {"get", "held"}, {"runs", "paused"}, {"leader", "held"}, {"leader", "held", "--watch"}},
		"operator": {
			{"list"},
			{"get", "held"},
			{"runs", "paused"},
			{"leader", "held"},
			{"release", "held", "--yes"},
			{"pause", "job"},
			{"unpause", "job"},
			{"unpause", "other"},
			{"table", "check"},
			{"rerun", "job", "failed", "--yes"},
			{"hand-over", "once/busy/p", "me"},
		},
	} {
		var allowed []string
		for _, actions := range library.Actions[role] {
			allowed = append(allowed, actions...)
		}
		if len(allowed) == 0 {
			t.Fatalf("the module has no role %q", role)
		}
		srv := furnished(t)
		for _, line := range lines {
			before := srv.Usage()
			limit := patienceOfTests
			if slices.Contains(line, "--watch") || line[0] == "hand-over" { // which go on until then
				limit = 2 * time.Second
			}
			got := invoker(t, srv, limit)(append(line, "--table", "locks"))
			if got.code != exitOK && limit == patienceOfTests {
				t.Errorf("%q: exit code %d, %s", line, got.code, got.err)
			}
			calls := 0
			for op, after := range srv.Usage().Requests {
				if after > before.Requests[op] {
					if calls++; !slices.Contains(allowed, "dynamodb:"+op) {
						t.Errorf("%q calls %s, which the %s may not", line, op, role)
					}
				}
			}
			if calls == 0 {
				t.Errorf("%q calls nothing", line)
			}
		}
	}
}
