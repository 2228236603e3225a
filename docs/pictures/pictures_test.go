package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

func drawn(t *testing.T) map[string]string {
	t.Helper()
	all, err := pictures()
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for name, svg := range all {
		texts[name] = string(svg)
	}
	return texts
}

func TestTheCommittedPicturesAreThoseThatTheCommandDraws(t *testing.T) {
	t.Parallel()
	for name, svg := range drawn(t) {
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		} else if string(committed) != svg {
			t.Errorf("%s is out of date: go -C docs/pictures run .", name)
		}
	}
}

func TestEveryColourOfAPictureHasAValueInBothThemes(t *testing.T) {
	t.Parallel()
	light, dark, found := strings.Cut(style, "@media (prefers-color-scheme: dark)")
	dark, _, _ = strings.Cut(dark, "text {")
	if !found {
		t.Fatal("there is one theme")
	}
	used := regexp.MustCompile(`var\(--(\w+)\)`)
	for name, svg := range drawn(t) {
		_, body, _ := strings.Cut(svg, "</style>")
		colours := used.FindAllStringSubmatch(body+style, -1)
		if len(colours) < 10 {
			t.Errorf("%s: only %d colours were found", name, len(colours))
		}
		for _, m := range colours {
			for theme, text := range map[string]string{"light": light, "dark": dark} {
				if !strings.Contains(text, "--"+m[1]+": #") {
					t.Errorf("%s: %s has no value on a %s page", name, m[1], theme)
				}
			}
		}
		if fixed := regexp.MustCompile(`#[0-9a-fA-F]{6}`).FindString(body); fixed != "" {
			t.Errorf("%s: %s is the same on a light and on a dark page", name, fixed)
		}
	}
}

func TestThePagesStateTheFiguresOfThePictures(t *testing.T) {
	t.Parallel()
	page := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	runs, err := readRuns("held.csv")
	if err != nil || len(runs) < 4 {
		t.Fatal(len(runs), err)
	}
	figures := page("../figures.md")
	for _, r := range runs {
		if row := fmt.Sprintf("| %s | %s | %s |", r.library, thousands(r.locks),
			thousands(r.lost)); !strings.Contains(figures, row) {
			t.Errorf("docs/figures.md has no row %q", row)
		}
	}
	_, waited, err := readWaits("waits.json")
	if err != nil || len(waited) < 4 {
		t.Fatal(len(waited), err)
	}
	for _, w := range waited {
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| %s \| %.2f \| .* \| %.2f \|$`, regexp.QuoteMeta(w.Label),
			w.Median.OverBest, w.Median.Unfair))
		if !row.MatchString(figures) {
			t.Errorf("docs/figures.md has no row like %v", row)
		}
	}
	costs := page("../costs.md")
	for _, l := range leases {
		name, _, _ := strings.Cut(l.name, " (")
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| held, with [a-z ]*%s \| .* \| %.2f a month \|$`, name, usd(l.seconds)))
		if !row.MatchString(costs) {
			t.Errorf("docs/costs.md has no row like %v", row)
		}
	}
}

func TestWaitsThatAreNotThoseOfThePictureAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"scenarios": [{"name": "2x1ms"}]}`:                                                   "has no scenario 8x20ms",
		`{"scenarios": [{"name": "8x20ms", "contenders": [{"label": "etcd", "median": {}}]}]}`: "0 quantiles of etcd",
		`[]`: "cannot unmarshal",
	} {
		name := t.TempDir() + "/waits.json"
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readWaits(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}

func TestAStoryWithoutALateWriteIsRefused(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("quickstart.txt")
	if err != nil {
		t.Fatal(err)
	}
	cut := t.TempDir() + "/cut.txt"
	short, _, found := strings.Cut(string(text), "REFUSED by DynamoDB")
	if !found {
		t.Fatal("the story has no late write")
	}
	if err := os.WriteFile(cut, []byte(short), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := readStory(cut); err == nil {
		t.Errorf("a story without its end was read: %+v", s)
	}
}
