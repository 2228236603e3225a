package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestTimesAreToldInTheirTwoLargestUnits(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for want, at := range map[string]time.Time{
		"":         {},
		"now":      now.Add(-999 * time.Millisecond),
		"1s ago":   now.Add(-time.Second),
		"59s ago":  now.Add(-59*time.Second - 999*time.Millisecond),
		"1m ago":   now.Add(-time.Minute),
		"3m5s ago": now.Add(-185 * time.Second),
		"2h ago":   now.Add(-2*time.Hour - 59*time.Second),
		"4d3h ago": now.Add(-99*time.Hour - time.Minute),
		"in 9s":    now.Add(9*time.Second + 999*time.Millisecond),
		"in 1m30s": now.Add(90 * time.Second),
		"400d ago": now.Add(-400 * 24 * time.Hour),
	} {
		if got := relative(at, now); got != want {
			t.Errorf("relative(%v) = %q, want %q", now.Sub(at), got, want)
		}
	}
}

func TestOnlyWhatIsPrintableReachesTheTerminal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":              "",
		"plain":         "plain",
		"ünïcode 日本 👍":  "ünïcode 日本 👍",
		"a\nb\tc":       `a\nb\tc`,
		"\x1b[31mred":   `\x1b[31mred`,
		"\xff\xfe":      `\xff\xfe`,
		"left\u202eert": `left\u202eert`,
		"bom\ufeff":     `bom\ufeff`,
		"\u009b31m":     `\u009b31m`,
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzCleanTextIsPrintableAndStaysAsItIs(f *testing.F) {
	for _, s := range []string{"", "plain", "ü\n\x00\x7f", "\xc3\x28", "\u2028\u202e\U000e0001", `\x1b`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		if !utf8.ValidString(got) || strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
			t.Errorf("clean(%q) = %q is not printable", s, got)
		}
		if again := clean(got); again != got {
			t.Errorf("clean(%q) = %q, and again %q", s, got, again)
		}
		if utf8.ValidString(s) && strings.IndexFunc(s, unprintable) < 0 && got != s {
			t.Errorf("clean(%q) = %q, but it was printable", s, got)
		}
	})
}

func TestColumnsAreAlignedAndRowsEndWithTheirText(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := writeTable(&b,
		[][]string{{"KEY", "OWNER", "REASON"}, {"öffnung", "", ""}, {"a\tb", "x", "why"}}); err != nil {
		t.Fatal(err)
	}
	want := "KEY      OWNER  REASON\nöffnung  -\na\\tb     x      why\n"
	if b.String() != want {
		t.Errorf("wrote\n%s, want\n%s", b.String(), want)
	}
}

func FuzzJSONIsPrintableAndSaysTheSame(f *testing.F) {
	for _, s := range []string{
		"", "plain", "ü\n\x00\x7f", "\u009b31m", "\u2028\u202e\U000e0001", `\x1b <&>`,
		"\U0001f44d",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, indent := range []string{"", "  "} {
			var b strings.Builder
			if err := encodeJSON(&b, map[string]string{"text": s}, indent); err != nil {
				t.Fatal(err)
			}
			if strings.IndexFunc(b.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) >= 0 {
				t.Errorf("%q is written as %q, which is not printable", s, b.String())
			}
			var read map[string]string
			if err := json.Unmarshal([]byte(b.String()), &read); err != nil ||
				read["text"] != strings.ToValidUTF8(s, "\ufffd") && utf8.ValidString(s) {
				t.Errorf("%q became %q: %v", s, read["text"], err)
			}
		}
	})
}
