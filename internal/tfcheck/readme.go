package tfcheck

import (
	"fmt"
	"strings"
)

// Tables are the tables of inputs and outputs in a module's README, by the marks between which they stand.
func Tables(m *Module) map[string]string {
	var in, out strings.Builder
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
	return map[string]string{"inputs": in.String(), "outputs": out.String()}
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
