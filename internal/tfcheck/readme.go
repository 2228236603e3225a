package tfcheck

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Tables are the tables in a module's README, by the marks between which they stand: inputs, outputs, and the actions
// that each role is allowed.
func Tables(m *Module, l Library) map[string]string {
	var in, out, actions strings.Builder
	in.WriteString("| Name | Type | Default | What it is |\n|---|---|---|---|\n")
	for _, v := range m.Variables() {
		value := "required"
		if !v.Required {
			value = "`" + v.Default + "`"
		}
		fmt.Fprintf(&in, "| `%s` | `%s` | %s | %s |\n", v.Name, v.Type, value, v.Description)
	}
	out.WriteString("| Name | What it is |\n|---|---|\n")
	for _, o := range m.Outputs() {
		fmt.Fprintf(&out, "| `%s` | %s |\n", o.Name, o.Description)
	}
	actions.WriteString("| Role | On single items | On all items | On the table |\n|---|---|---|---|\n")
	for _, role := range slices.Sorted(maps.Keys(l.Actions)) {
		a := l.Actions[role]
		fmt.Fprintf(&actions, "| %s | %s | %s | %s |\n", role, code(a.Item), code(a.Scan), code(a.Table))
	}
	return map[string]string{"inputs": in.String(), "outputs": out.String(), "actions": actions.String()}
}

// code is a list of actions as the table has it.
func code(actions []string) string {
	var list []string
	for _, a := range actions {
		list = append(list, "`"+strings.TrimPrefix(a, "dynamodb:")+"`")
	}
	return strings.Join(list, ", ")
}

// Fill puts the tables between their marks.
func Fill(readme string, tables map[string]string) (string, error) {
	for name, table := range tables {
		begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->\n"
		before, rest, ok := strings.Cut(readme, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			return "", fmt.Errorf("the marks %q and %q are missing", strings.TrimSpace(begin), strings.TrimSpace(end))
		}
		readme = before + begin + "\n" + table + "\n" + end + after
	}
	return readme, nil
}
