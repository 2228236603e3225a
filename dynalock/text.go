package dynalock

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// printable makes a text that any program may have written fit for one line of a log or a terminal. What is not
// printable (line ends, escape sequences, marks that turn the direction of writing, bytes that are not UTF-8) is
// escaped as in Go.
func printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if strconv.IsPrint(r) && (r != utf8.RuneError || n > 1) {
			b.WriteRune(r)
		} else {
			quoted := strconv.Quote(s[i : i+n])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}
