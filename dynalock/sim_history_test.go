package dynalock_test

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// history is the time line of one schedule.
type history struct{ events []event }

type event struct {
	at     time.Duration
	who    string
	key    string // "" where it concerns all
	format string // formatted when somebody wants to read it
	args   []any
}

func (h *history) add(at time.Duration, who, key, format string, args ...any) {
	h.events = append(h.events, event{at, who, key, format, args})
}

var acquisitionID = regexp.MustCompile(`[0-9a-f]{32}`)

// print writes what happened to one key ("": to all), the last limit lines before the first violation and a few after.
// Acquisition ids are given short names in the order of their appearance: #3-7 is the seventh write of the third
// acquisition.
func (h *history) print(key string, limit int) string {
	names := map[string]string{}
	var lines []string
	first := -1
	for _, e := range h.events {
		line := fmt.Sprintf("%10.3fms  %-5s ", float64(e.at)/1e6, e.who) + fmt.Sprintf(e.format, e.args...)
		line = acquisitionID.ReplaceAllStringFunc(line, func(id string) string {
			if names[id] == "" {
				names[id] = fmt.Sprintf("#%d", len(names)+1)
			}
			return names[id]
		})
		if key == "" || e.key == "" || e.key == key || strings.HasPrefix(key, e.key+"/") { // a period's job belongs to it
			if first < 0 && e.who == violated {
				first = len(lines)
			}
			lines = append(lines, line)
		}
	}
	if first >= 0 {
		lines = lines[:min(len(lines), first+10)]
	}
	if cut := len(lines) - limit; cut > 0 {
		lines = append([]string{fmt.Sprintf("... %d lines", cut)}, lines[cut:]...)
	}
	return strings.Join(lines, "\n")
}

// violated is who tells of violations.
const violated = "!!!!"
